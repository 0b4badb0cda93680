"""The state machine of the queue: the real SQL against a model of it, and against itself with one fence taken out."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from draftd.queue import admin, attempts, claiming, leases, reaping, settlements
from model.queue_machine import ACTIONS, Bench, QueueMachine

STEPS = 50
EXAMPLES = 30
"""Of a usual run."""
LONG_EXAMPLES = 300
MUTANT_EXAMPLES = 500
"""A mutant dies long before; the number only bounds how long a survivor lives."""


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Bench(database) as opened:
        yield opened


def run(
    bench: Bench, *, examples: int, first: int = 0, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)
) -> set[str]:
    """Play so many examples, others for each ``first``, and return which actions they took."""
    how = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        phases=phases,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

    @seed(first)
    class Machine(QueueMachine):
        def __init__(self) -> None:
            super().__init__(bench)

    run_state_machine_as_test(Machine, settings=how)
    return bench.steps


def test_the_queue_does_what_its_model_says_in_any_order(bench: Bench) -> None:
    assert run(bench, examples=EXAMPLES) == set(ACTIONS)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_queue_does_what_its_model_says_however_long_one_looks(bench: Bench) -> None:
    """``DRAFTD_TEST_MODEL_EXAMPLES=2000`` looks for longer, ``DRAFTD_TEST_MODEL_SEED=2`` elsewhere."""
    examples = int(os.environ.get("DRAFTD_TEST_MODEL_EXAMPLES", LONG_EXAMPLES))
    assert run(bench, examples=examples, first=int(os.environ.get("DRAFTD_TEST_MODEL_SEED", "1"))) == set(ACTIONS)


@dataclass(frozen=True, slots=True)
class Cut:
    """A fence to take out: wherever its text stands in a statement, or in a function of the database."""

    where: ModuleType | None
    name: str
    fence: str
    instead: str = ""

    def apply(self, text: str) -> str:
        assert self.fence in text, f"{self.name} has no {self.fence!r} any more: cut the fence that it has now"
        return text.replace(self.fence, self.instead)


PROCESSING = "r.status = 'processing'"
PENDING = "r.status = 'pending'"
CHOSEN_AS = " AND r.status = c.was"
UNFINISHED = "r.status IN ('pending', 'processing')"

CUTS: dict[str, list[Cut]] = {
    "claim: only pending": [Cut(claiming, "CLAIM", PENDING, "true")],
    "claim a probe: only pending": [Cut(claiming, "CLAIM_PROBE", PENDING, "true")],
    "claim: a new token": [Cut(claiming, "CLAIM", "lease_token = r.lease_token + 1", "lease_token = r.lease_token")],
    "release_strays: only processing": [Cut(claiming, "RELEASE_STRAYS", PROCESSING, "true")],
    "release_strays: only its own": [Cut(claiming, "RELEASE_STRAYS", "r.worker_id = %(worker_id)s", "true")],
    "release_strays: not what is held": [
        Cut(claiming, "RELEASE_STRAYS", "h.id = r.id AND h.lease_token = r.lease_token", "false")
    ],
    "release_strays: held with this token": [
        Cut(claiming, "RELEASE_STRAYS", " AND h.lease_token = r.lease_token"),
    ],
    "renew: only processing": [Cut(leases, "RENEW_AND_BEAT", PROCESSING, "true")],
    "renew: this token": [Cut(leases, "RENEW_AND_BEAT", " AND r.lease_token = h.lease_token")],
    "read: only processing": [Cut(attempts, "READ_REQUEST", PROCESSING, "true")],
    "read: this token": [Cut(attempts, "READ_REQUEST", " AND r.lease_token = %(lease_token)s")],
    "publish: only processing": [Cut(attempts, "PUBLISH", PROCESSING, "true")],
    "publish: this token": [Cut(attempts, "PUBLISH", " AND r.lease_token = %(lease_token)s")],
    "settle: only processing": [Cut(settlements, "SETTLE", PROCESSING, "true")],
    "settle: this token": [Cut(settlements, "SETTLE", " AND r.lease_token = v.lease_token")],
    "settle: repeated only with this token": [
        Cut(settlements, "SETTLE", "locked.lease_token = v.lease_token AND locked", "locked")
    ],
    # The end of an attempt clears its lease, so the statement's own check is the second fence of two.
    "reap: only processing": [
        Cut(reaping, "REAP", PROCESSING, "true"),
        Cut(reaping, "REAP", CHOSEN_AS),
        *(
            Cut(None, function, f"NEW.{column} := NULL;")
            for function in ("draft_requests_finish", "draft_requests_requeue")
            for column in ("lease_until", "deadline_at")
        ),
    ],
    "reap: only what ran out": [
        Cut(
            reaping,
            "REAP",
            "coalesce(least(r.lease_until, r.deadline_at), 'infinity') <= pass.lapsed",
            "true",
        )
    ],
    "reap: expires only pending": [
        Cut(reaping, "REAP", f"{PENDING} AND r.expires_at", "r.expires_at"),
        Cut(reaping, "REAP", CHOSEN_AS),
    ],
    "reap: refuses only pending": [
        Cut(reaping, "REAP", f"{PENDING} AND NOT r.limited AND r.agent = unserved.agent", "r.agent = unserved.agent"),
        Cut(reaping, "REAP", CHOSEN_AS),
    ],
    "cancel: only unfinished": [Cut(None, "cancel_draft_request", f" AND {UNFINISHED}")],
    "cancel: only this one": [Cut(None, "cancel_draft_request", "r.id = $1", "true")],
    "cancel by update: only unfinished": [
        Cut(None, "draft_requests_finish", "OLD.status NOT IN ('pending', 'processing')", "false")
    ],
    "cancel by admin: only unfinished": [Cut(admin, "CANCEL", UNFINISHED, "true")],
    "retry: only failed or cancelled": [Cut(admin, "RETRY", "r.status IN ('failed', 'cancelled')", "true")],
}


def cut(bench: Bench, monkeypatch: pytest.MonkeyPatch, one: Cut) -> None:
    if one.where is not None:
        statement = getattr(one.where, one.name)
        without = (
            admin.BulkChange(find=one.apply(statement.find), apply=one.apply(statement.apply))
            if isinstance(statement, admin.BulkChange)
            else one.apply(statement)
        )
        monkeypatch.setattr(one.where, one.name, without)
        return
    (row,) = bench.sql("SELECT pg_get_functiondef(%(name)s::regproc) AS body", name=one.name)
    bench.sql(one.apply(row["body"]))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fence", CUTS)
def test_without_its_fence_a_statement_is_found_out(bench: Bench, monkeypatch: pytest.MonkeyPatch, fence: str) -> None:
    for one in CUTS[fence]:
        cut(bench, monkeypatch, one)
    with pytest.raises(AssertionError):
        run(bench, examples=MUTANT_EXAMPLES, phases=(Phase.generate,))
