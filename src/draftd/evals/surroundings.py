"""What an evaluation starts around itself: the stand-in if one is wanted, a database, a daemon.

Invariants: it leaves nothing behind; of the operator's settings, only those in ``KEPT`` and the providers' keys reach it.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from draftd.db import schema_version
from draftd.demo import daemon
from draftd.demo.embedded import EmbeddedPostgres
from draftd.evals.plan import Plan
from draftd.evals.stand_in import JUDGE, MODEL, StandIn
from draftd.settings import DIRECTLY, Settings

LOG = "draftd.log"
PROMPTS = "prompts"
KEPT = (
    "model_api_bases",
    "model_key_variables",
    "attempt_timeout_s",
    "model_timeout_s",
    "image_max_bytes",
    "image_max_pixels",
    "image_long_edge_px",
)
"""The operator's settings that the evaluation's daemon gets; the others are about a database and a host of their own."""
_STAND_IN_TOKENS_PER_S = 4_000.0
_NOT_INHERITED = ("LANGFUSE_", "NOTIFY_SOCKET", "WATCHDOG_")
"""An evaluation leaves no traces among those of requests, and does not speak for a service."""


@contextmanager
def stand_in(plan: Plan) -> Iterator[str | None]:
    """Run the stand-in if the model or the judge is one; yield its address."""
    if plan.model != MODEL and plan.judge != JUDGE:
        yield None
        return
    from draftd.stand_in.threaded import run_in_thread  # noqa: PLC0415 - brings aiohttp, which a real model does without

    canned = StandIn(plan.cases)
    with run_in_thread(content=canned.answer, tokens_per_s=_STAND_IN_TOKENS_PER_S) as server:
        yield server.url


@contextmanager
def drafting_daemon(
    plan: Plan, settings: Settings, folder: Path, stand_in_url: str | None
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run a database and a daemon; yield the database's URL and the daemon's process."""
    with EmbeddedPostgres() as postgres:
        schema_version.upgrade(postgres.url)
        variables = daemon_variables(
            plan, settings, os.environ, prompts=folder / PROMPTS, url=postgres.url, stand_in_url=stand_in_url
        )
        concurrency = ("--concurrency", str(plan.concurrency))
        with daemon.running(variables, folder / LOG, *concurrency) as process:
            yield postgres.url, process


def daemon_variables(
    plan: Plan, settings: Settings, inherited: Mapping[str, str], *, prompts: Path, url: str, stand_in_url: str | None
) -> dict[str, str]:
    """Return the environment of an evaluation's daemon.

    Args:
        plan: what is evaluated.
        settings: the operator's.
        inherited: this process's environment, with the providers' keys.
        prompts: the folder of the prompts.
        url: the database.
        stand_in_url: the stand-in's address, if there is one.
    """
    own = {f"DRAFTD_{name.upper()}": _as_variable(getattr(settings, name)) for name in KEPT}
    own |= {
        "DRAFTD_DATABASE_URL": url,
        "DRAFTD_MODEL": plan.model,
        "DRAFTD_PROMPTS_DIR": str(prompts),
        "DRAFTD_LOG_LEVEL": "warning",
        # What is in flight when the evaluation ends is thrown away with the database.
        "DRAFTD_SHUTDOWN_GRACE_S": "0",
    }
    if plan.model == MODEL:
        base = {"OPENAI_BASE_URL": str(stand_in_url), "OPENAI_API_KEY": MODEL}
        own |= DIRECTLY | base | {"DRAFTD_MODEL": f"openai/{MODEL}"}
    kept = {name: value for name, value in inherited.items() if not name.startswith(_NOT_INHERITED)}
    return daemon.environment(kept, own)


def _as_variable(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
