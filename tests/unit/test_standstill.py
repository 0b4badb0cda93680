"""The first line of ``draftd status``: what the daemons' death changes of it."""

from typing import Any

import pytest

from draftd.cli.standstill import Reason, reason

ALIVE = {"alive": True, "state": "running"}
DRAINING = {"alive": True, "state": "draining"}
LOST = {"alive": False, "state": "running"}
STUCK = "no daemon is running: start `draftd run`; {} stuck in processing, which `draftd reap-stale` requeues"


def reason_of(*workers: dict[str, Any], pending: int = 0, processing: int = 0) -> Reason:
    empty: dict[str, Any] = {name: [] for name in ("pauses", "pending", "limited", "budgets", "ceilings")}
    return reason(empty | {"workers": workers, "requests": {"pending": pending, "processing": processing}})


@pytest.mark.parametrize("pending", [0, 3])
@pytest.mark.parametrize("workers", [(), (LOST,), (LOST, LOST)])
def test_requests_that_dead_daemons_left_are_stuck(workers: tuple[dict[str, Any], ...], pending: int) -> None:
    found = reason_of(*workers, pending=pending, processing=16)
    assert (found.code, found.message) == ("no_worker", STUCK.format("16 requests"))
    assert reason_of(*workers, pending=pending, processing=1).message == STUCK.format("1 request")


@pytest.mark.parametrize("alive", [ALIVE, DRAINING])
def test_requests_are_being_drafted_while_any_daemon_lives(alive: dict[str, Any]) -> None:
    found = reason_of(LOST, alive, pending=3, processing=16)
    assert (found.code, found.message) == ("running", "16 requests being drafted")


def test_without_requests_nothing_is_pending_whether_daemons_live_or_not() -> None:
    assert [reason_of(*workers).code for workers in ((), (LOST,), (ALIVE,))] == ["idle"] * 3
