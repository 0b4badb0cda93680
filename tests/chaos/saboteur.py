"""Starts a draftd command in a process that suffers: ``python saboteur.py KIND[,KIND…] run …``.

Nothing of draftd's own files is changed; each kind replaces something inside this one process before the command begins.

    deaf             goes on as if it had never heard that its leases are lost, so that only the fence can stop it
    blocked=S        SIGUSR1 blocks the event loop for S seconds, asleep
    spinning=S       SIGUSR1 blocks the event loop for S seconds, computing
    clock=S          the wall clock is S seconds ahead (behind, if negative)
    poison           a request that says POISON kills the process in its model call
    merged=N         the first N settlements meet in one statement
    unstorable       a result that says UNSTORABLE slips past the filter before the database
    probes=S         the listener probes its connection every S seconds
"""
# ruff: noqa: PLC0415 - what is imported before the clock is shifted has the true one

import asyncio
import datetime as dt
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

POISON = "POISON"
UNSTORABLE = "UNSTORABLE"
NUL = "\\u0000"
"""As JSON writes it; jsonb refuses it."""


def tell(event: str, **facts: Any) -> None:
    """Write a line into the daemon's log."""
    sys.stderr.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stderr.flush()


def replace(owner: Any, name: str, by: Any) -> None:
    """Put something else in a module's or a class's place of this name."""
    setattr(owner, name, by)


def deafen(_value: float) -> None:
    """Take away every way but the fence to learn that a lease is lost."""
    from draftd.daemon.worker import Worker
    from draftd.errors import LeaseLost
    from draftd.queue.attempts import AttemptWriter
    from draftd.queue.settlements import Settled, Settler

    publish, settle = AttemptWriter.publish, Settler.settle

    def not_heard(_worker: Worker, lost: set[Any]) -> None:
        if lost:
            tell("renewals refused", rows=len(lost))

    async def publish_anyway(writer: AttemptWriter, claim: Any, partial_result: dict[str, Any]) -> None:
        try:
            await publish(writer, claim, partial_result)
        except LeaseLost:
            tell("progress refused", request_id=str(claim.id))

    async def settle_loudly(settler: Settler, claim: Any, outcome: Any, trail: Any = None, **rest: Any) -> Settled:
        try:
            return await settle(settler, claim, outcome, trail, **rest)
        except LeaseLost:
            tell("outcome refused", request_id=str(claim.id), outcome=type(outcome).__name__)
            raise

    replace(Worker, "abort_lost", not_heard)
    replace(Worker, "abort_cancelled", lambda _worker, _cancelled: None)
    replace(AttemptWriter, "publish", publish_anyway)
    replace(Settler, "settle", settle_loudly)


def block(seconds: float, *, spin: bool = False) -> None:
    """Block the event loop at SIGUSR1."""
    from draftd.daemon import composition

    stop_on_signals = composition._stop_on_signals

    def suffer() -> None:
        tell("blocked", seconds=seconds)
        ends_at = time.monotonic() + seconds
        while spin and time.monotonic() < ends_at:
            pass
        time.sleep(max(0.0, ends_at - time.monotonic()))
        tell("unblocked")

    def stop_and_suffer() -> asyncio.Event:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, suffer)
        return stop_on_signals()

    replace(composition, "_stop_on_signals", stop_and_suffer)


def spin(seconds: float) -> None:
    """Keep the event loop and the interpreter's lock busy at SIGUSR1."""
    block(seconds, spin=True)


def shift_clock(seconds: float) -> None:
    """Set the wall clock of this process wrong; the monotonic one stays, as on a machine with a wrong date.

    To be called before anything of draftd is imported: what reads the clock takes it from here by name.
    """
    real_time, real_datetime = time.time, dt.datetime
    by = dt.timedelta(seconds=seconds)

    class Shifted(real_datetime):  # type: ignore[valid-type,misc]  # a class that is looked up at run time
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return real_datetime.now(tz) + by

        @classmethod
        def utcnow(cls) -> Any:
            return real_datetime.now(dt.UTC).replace(tzinfo=None) + by

    replace(time, "time", lambda: real_time() + seconds)
    replace(dt, "datetime", Shifted)
    tell("clock", says=time.time())


def poison(_value: float) -> None:
    """Die in the model call of a request with the mark."""
    from draftd.providers.llm import Llm

    complete = Llm.complete

    async def complete_or_die(llm: Llm, target: Any, messages: list[dict[str, Any]], **rest: Any) -> Any:
        if POISON in str(messages):
            os.kill(os.getpid(), signal.SIGKILL)
        return await complete(llm, target, messages, **rest)

    replace(Llm, "complete", complete_or_die)


def let_unstorable_pass(_value: float) -> None:
    """Spoil a result with the mark after the filter, and tell how settlements are merged."""
    from draftd.queue.settlements import Settlement, Settler

    as_json, write = Settlement.as_json, Settler._write

    def spoilt(row: Settlement) -> str:
        return as_json(row).replace(UNSTORABLE, NUL)

    async def write_loudly(settler: Settler, items: Sequence[Any]) -> Any:
        tell("settlements", rows=len(items), spoilt=sum(NUL in text for _, text in items))
        return await write(settler, items)

    replace(Settlement, "as_json", spoilt)
    replace(Settler, "_write", write_loudly)


def merge(count: float) -> None:
    """Begin to settle once so many settlements are there, and from then on as usual."""
    from draftd.queue.group_commit import GroupCommit

    settle = GroupCommit._run
    met = False

    async def settle_when_met(group: GroupCommit[Any, Any]) -> None:
        nonlocal met
        while not met and len(group._queue) < count:  # noqa: ASYNC110  # nobody tells when one more is queued
            await asyncio.sleep(0.01)
        met = True
        await settle(group)

    replace(GroupCommit, "_run", settle_when_met)


def probe_often(seconds: float) -> None:
    """Let the listener probe its connection more often than every 15 s."""
    from draftd.queue import wakeup

    replace(wakeup, "PROBE_INTERVAL_S", seconds)
    replace(wakeup, "PROBE_TIMEOUT_S", seconds)


KINDS: dict[str, Callable[[float], None]] = {
    "deaf": deafen,
    "blocked": block,
    "spinning": spin,
    "clock": shift_clock,
    "poison": poison,
    "merged": merge,
    "unstorable": let_unstorable_pass,
    "probes": probe_often,
}


def run(sabotage: Iterable[str], arguments: Sequence[str]) -> None:
    """Sabotage, then run a draftd command; ends with ``SystemExit``."""
    for one in sabotage:
        kind, _, value = one.partition("=")
        KINDS[kind](float(value or 0))
    from draftd import __main__

    # As under `python -m draftd`.
    sys.argv = [__main__.__file__, *arguments]
    __main__.main()


if __name__ == "__main__":
    run(sys.argv[1].split(","), sys.argv[2:])
