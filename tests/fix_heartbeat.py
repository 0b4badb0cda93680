"""Heartbeats for tests, and for processes that tests start: those import nothing heavier than this."""

import os
import uuid
from typing import Any

from draftd.daemon.heartbeat import Heartbeat, Identity
from draftd.queue.leases import Leases
from draftd.queue.refused_rows import Quarantine

LEASE_S = 0.6


def make_heartbeat(database: str, leases: Leases, **over: Any) -> Heartbeat:
    identity = Identity(
        worker_id=uuid.uuid4(),
        hostname="h",
        pid=os.getpid(),
        version="0",
        agents=("a",),
        concurrency=1,
        attempt_s=120.0,
    )
    defaults: dict[str, Any] = {
        "url": database,
        "session": True,
        "identity": identity,
        "leases": leases,
        "quarantine": Quarantine(),
        "lease_s": LEASE_S,
        "on_beat": lambda _beat: None,
        "on_death": lambda _error: None,
    }
    return Heartbeat(**defaults | over)
