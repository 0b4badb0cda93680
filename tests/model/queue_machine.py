"""The machine that drives the real queue in any order and compares it with the model after each step.

``Bench`` owns the event loop and the one connection; ``QueueMachine`` owns the steps. Every claim ever delivered stays in its
list, so that whoever lost a row goes on believing that it holds it, and renews, publishes, settles and releases with the
old token. What the model cannot foresee (which of the due rows a claim takes) it learns from the answer, once that is legal.
"""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, LiteralString, Self, TypeVar
from uuid import UUID

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from psycopg.types.json import Jsonb

from draftd import db
from draftd.errors import LeaseLost
from draftd.queue import admin, attempts, claiming, leases, reaping, settlements
from draftd.queue.outcome import Done, Draft, Fail, GiveBack, Outcome, Retry
from draftd.queue.refused_rows import Quarantine
from draftd.reply.platforms import Platform
from draftd.reply.result import (
    Confidence,
    ContentType,
    Expects,
    Length,
    Option,
    ReplyingTo,
    ReplyNeeded,
    Result,
    Stance,
)
from draftd.request import Claim
from fix_database import URL
from model import queue_model
from model.queue_model import SERVED, SLACK_S, STEP_S, UNSERVED, Key, Kind, QueueModel, Row

WORKERS = [UUID(int=0xA), UUID(int=0xB), UUID(int=0xC)]
MAX_OPEN = 3
Answer = TypeVar("Answer")

INSERT = """
INSERT INTO draft_requests (id, agent, image_urls, max_attempts, available_at, expires_at)
VALUES (%(id)s, %(agent)s, %(image_urls)s, %(max_attempts)s,
        now() + make_interval(secs => %(delay_s)s), now() + make_interval(secs => %(expires_in_s)s))
"""

MOVE_TIME = """
UPDATE draft_requests AS r SET
    available_at = r.available_at - s, expires_at = r.expires_at - s, lease_until = r.lease_until - s,
    deadline_at = r.deadline_at - s
  FROM make_interval(secs => %(by_s)s) AS s
"""

# As long as a daemon was seen in the last day, a request for an agent that none has is refused.
FORGET_WORKERS = "UPDATE draft_workers SET heartbeat_at = heartbeat_at - interval '2 d'"
REMEMBER_WORKERS = "UPDATE draft_workers SET heartbeat_at = heartbeat_at + interval '2 d'"

PIN = """
UPDATE draft_requests SET available_at = now() + make_interval(secs => %(delay_s)s)
 WHERE id = ANY (%(ids)s) AND available_at BETWEEN now() - interval '40 s' AND now() + interval '300 s'
"""

STANDING = """
SELECT id, status, attempt, lease_token, given_back, worker_id, error_code, errors,
       result ->> 'summary' AS result, partial_result ->> 'summary' AS partial,
       extract(epoch FROM available_at - now())::float8 AS available_in_s,
       extract(epoch FROM expires_at - now())::float8 AS expires_in_s,
       extract(epoch FROM lease_until - now())::float8 AS lease_s,
       extract(epoch FROM deadline_at - now())::float8 AS deadline_s
  FROM draft_requests
"""

RESULT = Result(
    platform=Platform.SLACK,
    platform_name="Slack",
    content_type=ContentType.THREAD,
    language="en",
    summary="",
    me="",
    replying_to=ReplyingTo(author="Ada", gist="asks for the date", expects=Expects.QUESTION),
    reply_needed=ReplyNeeded.YES,
    options=[Option(length=length, angle="says yes", stance=Stance.NONE, text="yes") for length in Length],
    missing=[],
    confidence=Confidence.HIGH,
    warnings=[],
)


@dataclass(frozen=True, slots=True)
class Grip:
    """What a worker believes: that this claim is its own."""

    worker_id: UUID
    claim: Claim

    @property
    def key(self) -> Key:
        return self.claim.id, self.claim.lease_token

    @property
    def mark(self) -> str:
        """What this claim's result says, so that an accepted one shows whose it is."""
        return f"worker {self.worker_id.int:X}, token {self.claim.lease_token}"


def outcome(kind: Kind, mark: str) -> Outcome:
    code = queue_model.ERROR_CODES.get(kind, "")
    match kind:
        case "done":
            result = RESULT.model_copy(update={"summary": mark})
            return Done(draft=Draft(result=result.as_json(), reading=[]), model="m", prompt_version="1")
        case "retry":
            return Retry(code=code, message=mark, delay_s=queue_model.RETRY_DELAY_S, model="m")
        case "fail":
            return Fail(code=code, message=mark)
        case "hold":
            return GiveBack(code=code, message=mark, model="m")
        case "release":
            return GiveBack()


def terms(worker_id: UUID) -> claiming.ClaimTerms:
    return claiming.ClaimTerms(
        worker_id=worker_id,
        lease_s=queue_model.LEASE_S,
        attempt_s=queue_model.ATTEMPT_S,
    )


class Bench:
    """A database, the event loop and the connection on which everything happens, and what was announced there."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self.examples = 0
        self.steps: set[str] = set()
        """Which actions have been carried out."""
        self.link = db.Link(url=url, name="draftd model")
        self.settler = settlements.Settler(link=self.link, quarantine=Quarantine())
        self.writer = attempts.AttemptWriter(link=self.link, quarantine=Quarantine())
        self.heard: list[tuple[UUID, str]] = []

    def __enter__(self) -> Self:
        self.sql("SET synchronous_commit = off")
        self.sql(f"UPDATE draft_settings SET default_expiry_s = {queue_model.DEFAULT_EXPIRY_S}")
        assert self.link._connection is not None
        self.connection = self.link._connection
        self.connection.add_notify_handler(self._hear)
        self.sql("LISTEN draft_results")
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self.link.close())
        self._runner.close()

    def _hear(self, notify: psycopg.Notify) -> None:
        payload = json.loads(notify.payload)
        if payload["status"] != "processing":
            self.heard.append((UUID(payload["id"]), payload["status"]))

    def run(self, step: Coroutine[Any, Any, Answer]) -> Answer:
        """Do one step; what the server refuses as against its rules is a finding, what it cannot read is not."""
        try:
            return self._runner.run(step)
        except psycopg.IntegrityError as error:
            raise AssertionError(f"the server refuses: {error}") from error

    def sql(self, statement: str, **params: Any) -> list[dict[str, Any]]:
        return self.run(self.link.run(statement, params or None))

    def unless_lost(self, step: Coroutine[Any, Any, Answer]) -> Answer | None:
        """Do one step; None when it answers that the lease is lost."""
        try:
            return self.run(step)
        except LeaseLost:
            return None

    def settle(self, *wanted: tuple[Grip, Kind]) -> list[str | None]:
        """Settle all in one statement."""
        return self.run(self._settle_merged(wanted))

    async def _settle_merged(self, wanted: tuple[tuple[Grip, Kind], ...]) -> list[str | None]:
        return await asyncio.gather(*(self._settle(grip, kind) for grip, kind in wanted))

    async def _settle(self, grip: Grip, kind: Kind) -> str | None:
        try:
            return (await self.settler.settle(grip.claim, outcome(kind, grip.mark), retry_refusals=False)).status
        except LeaseLost:
            return None
        except settlements.NotSettledYet as refused:
            raise AssertionError("a settlement was refused: a fence is missing") from refused

    def clear(self) -> None:
        self.examples += 1
        self.sql("DELETE FROM draft_requests")
        self.heard.clear()


Action = tuple[str, dict[str, Any]]

kinds = st.sampled_from(["done", "fail", "fail", "retry", "hold", "release", "release"])
workers = st.sampled_from([*WORKERS, WORKERS[0]])
recent = st.integers(0, 3)
numbers = st.integers(0, MAX_OPEN)

ACTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "insert": {
        "agent": st.sampled_from([SERVED, SERVED, SERVED, UNSERVED]),
        "max_attempts": st.integers(1, 3),
        "delay_s": st.sampled_from([0, 0, 50]),
        "expires_in_s": st.sampled_from([None, 50, 350]),
    },
    "claim": {"worker_id": workers, "limit": st.integers(1, 3)},
    "claim_a_probe": {"worker_id": workers},
    "claim_and_lose_the_answer": {"worker_id": workers, "releases": st.booleans()},
    "renew": {"worker_id": workers, "notices": st.booleans()},
    "release_strays": {"worker_id": workers},
    "publish": {"which": recent},
    "read": {"which": recent},
    "settle": {"which": recent, "kind": kinds, "forgets": st.sampled_from([False, False, True])},
    "settle_together": {"which": recent, "other": recent, "kind": kinds, "other_kind": kinds},
    "cancel": {"number": numbers},
    "cancel_by_admin": {"number": numbers},
    "cancel_by_update": {"number": numbers},
    "retry": {"number": numbers},
    "pass_time": {"steps": st.integers(0, 2), "older_than_s": st.sampled_from([0, 0, 100, None])},
}
"""What may happen, with its arguments."""
MORE_OFTEN = ("settle", "pass_time")
actions: st.SearchStrategy[Action] = st.one_of(
    *(st.tuples(st.just(name), st.fixed_dictionaries(ACTIONS[name])) for name in sorted([*ACTIONS, *MORE_OFTEN]))
)


class QueueMachine(RuleBasedStateMachine):
    """Three workers, their zombies, clients, operators, the reaper and time."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.model = QueueModel()
        self.held: dict[UUID, set[Key]] = {worker_id: set() for worker_id in WORKERS}
        self.grips: list[Grip] = []
        self.published = 0
        bench.clear()
        # Without one beat nobody would know which agents are served.
        self._beat(WORKERS[0])

    @initialize(agents=st.sampled_from([[SERVED] * 2, [SERVED] * 2, [SERVED, UNSERVED, UNSERVED]]))
    def open_the_day(self, agents: list[str]) -> None:
        for agent in agents:
            self.insert(agent, max_attempts=3, delay_s=0, expires_in_s=None)

    @rule(action=actions)
    def step(self, action: Action) -> None:
        """Do anything; one rule, because hypothesis leaves half of many out of each example, and a zombie takes several."""
        name, arguments = action
        if "which" in arguments and not self.grips:
            return
        getattr(self, name)(**arguments)
        self.bench.steps.add(name)

    def _grip(self, which: int) -> Grip:
        """Return one of the claims, the newest first."""
        return self.grips[-1 - which % len(self.grips)]

    def _request_id(self, number: int) -> UUID:
        return UUID(int=len(self.model.rows) - number % len(self.model.rows))

    def insert(self, agent: str, **wish: Any) -> None:
        if self.model.count_open() >= MAX_OPEN:
            return
        request_id = UUID(int=len(self.model.rows) + 1)
        if agent == UNSERVED:
            wish["delay_s"] = queue_model.UNSERVED_DELAY_S
            self.bench.sql(FORGET_WORKERS)
        self.bench.sql(INSERT, id=request_id, image_urls=[URL], agent=agent, **wish)
        if agent == UNSERVED:
            self.bench.sql(REMEMBER_WORKERS)
        self.model.insert(request_id, agent=agent, **wish)

    def claim(self, worker_id: UUID, limit: int) -> None:
        self._deliver(self._claim(worker_id, claiming.CLAIM, limit))

    def claim_a_probe(self, worker_id: UUID) -> None:
        self._deliver(self._claim(worker_id, claiming.CLAIM_PROBE, 1))

    def claim_and_lose_the_answer(self, worker_id: UUID, *, releases: bool) -> None:
        """Claim on a connection that breaks; the worker gives back what it never heard of, or dies before."""
        self._claim(worker_id, claiming.CLAIM, 3)
        if releases:
            self.release_strays(worker_id)

    def _claim(self, worker_id: UUID, statement: LiteralString, limit: int) -> list[Grip]:
        due = self.model.due()
        claimed = self.bench.run(
            claiming.claim(self.bench.link, terms=terms(worker_id), agents=[SERVED], limit=limit, statement=statement)
        )
        assert {one.id for one in claimed} <= due
        assert len({one.id for one in claimed}) == len(claimed) == min(limit, len(due))
        for one in claimed:
            row = self.model.claim(one.id, worker_id)
            assert (one.lease_token, one.attempt, one.given_back) == (row.lease_token, row.attempt, row.given_back)
            self._is_about(one.expires_in_s, row.expires_at)
        return [Grip(worker_id, one) for one in claimed]

    def _deliver(self, grips: list[Grip]) -> None:
        self.grips += grips
        for grip in grips:
            self.held[grip.worker_id].add(grip.key)

    def release_strays(self, worker_id: UUID) -> None:
        held = self.held[worker_id]
        released = self.bench.run(claiming.release_strays(self.bench.link, worker_id=worker_id, held=sorted(held)))
        assert sorted(released) == sorted(self.model.release_strays(worker_id, held))

    def renew(self, worker_id: UUID, *, notices: bool) -> None:
        """Renew all that a worker believes to hold; it may or may not take notice of what it has lost."""
        keys = self.held[worker_id]
        row = self._beat(worker_id)
        kept = {key for key in sorted(keys) if self.model.renew(key)}
        assert sorted(row["renewed"]) == sorted(request_id for request_id, _ in kept)
        assert {(UUID(request_id), token) for request_id, token, _ in row["lost"]} == keys - kept
        if notices:
            self.held[worker_id] = kept

    def _beat(self, worker_id: UUID) -> dict[str, Any]:
        keys = sorted(self.held[worker_id])
        (row,) = self.bench.sql(
            leases.RENEW_AND_BEAT,
            ids=[request_id for request_id, _ in keys],
            tokens=[token for _, token in keys],
            lease_s=queue_model.LEASE_S,
            worker_id=worker_id,
            hostname="h",
            pid=1,
            version="0",
            state="running",
            agents=[SERVED],
            concurrency=1,
            beat_s=queue_model.LEASE_S / 3,
            attempt_s=queue_model.ATTEMPT_S,
            models=Jsonb({}),
            in_flight=len(keys),
        )
        return row

    def publish(self, which: int) -> None:
        grip = self._grip(which)
        self.published += 1
        partial = f"{grip.mark}, part {self.published}"
        published = self.bench.unless_lost(self._publish(grip, partial))
        assert (published is not None) == self.model.publish(grip.key, partial)

    def read(self, which: int) -> None:
        grip = self._grip(which)
        request = self.bench.unless_lost(attempts.read_request(self.bench.link, grip.claim))
        assert (request is not None) == self.model.holds(grip.key)

    async def _publish(self, grip: Grip, partial: str) -> bool:
        await self.bench.writer.publish(grip.claim, {"summary": partial})
        return True

    def settle(self, which: int, kind: Kind, *, forgets: bool) -> None:
        """Settle a claim; the worker may go on believing that it holds it."""
        grip = self._grip(which)
        self._settle((grip, kind))
        if forgets:
            self.held[grip.worker_id].discard(grip.key)

    def settle_together(self, which: int, other: int, kind: Kind, other_kind: Kind) -> None:
        """Settle two claims in one statement, maybe of the same row."""
        if self._grip(which) != self._grip(other):
            self._settle((self._grip(which), kind), (self._grip(other), other_kind))

    def _settle(self, *wanted: tuple[Grip, Kind]) -> None:
        answers = self.bench.settle(*wanted)
        standing = [self.model.holds(grip.key) for grip, _ in wanted]
        # The statement sees all rows as they stood before it; a lost claim changes nothing, so the order does not matter.
        expected = {
            index: self.model.settle(wanted[index][0].key, wanted[index][1], wanted[index][0].mark)
            for index in sorted(range(len(wanted)), key=lambda index: standing[index])
        }
        assert answers == [expected[index] for index in range(len(wanted))]

    def cancel(self, number: int) -> None:
        request_id = self._request_id(number)
        (row,) = self.bench.sql("SELECT cancel_draft_request(%(id)s) AS cancelled", id=request_id)
        assert row["cancelled"] == self.model.cancel(request_id)

    def cancel_by_admin(self, number: int) -> None:
        request_id = self._request_id(number)
        changed = self._change(admin.CANCEL, request_id)
        assert changed == [(request_id, "cancelled")] * self.model.cancel(request_id)

    def cancel_by_update(self, number: int) -> None:
        """Cancel as a client without the function does; to cancel what is cancelled changes nothing, and nobody is told."""
        request_id = self._request_id(number)
        is_refused = self.model.rows[request_id].status in ("completed", "failed")
        assert self._is_update_refused(request_id) == is_refused
        self.model.cancel(request_id)

    def retry(self, number: int) -> None:
        request_id = self._request_id(number)
        changed = self._change(admin.RETRY, request_id)
        assert changed == [(request_id, "pending")] * self.model.retry(request_id)
        row = self.model.rows[request_id]
        if changed and row.agent == UNSERVED:
            self.bench.sql(PIN, ids=[request_id], delay_s=queue_model.UNSERVED_DELAY_S)
            row.available_at += queue_model.UNSERVED_DELAY_S

    def _is_update_refused(self, request_id: UUID) -> bool:
        try:
            self.bench.sql("UPDATE draft_requests SET status = 'cancelled' WHERE id = %(id)s", id=request_id)
        except AssertionError:
            return True
        return False

    def _change(self, wanted: admin.BulkChange, request_id: UUID) -> list[tuple[UUID, str]]:
        rows = self.bench.run(admin.change(self.bench.connection, wanted, request_id=request_id)).rows
        return [(row["id"], row["status"]) for row in rows]

    def pass_time(self, steps: int, older_than_s: int | None) -> None:
        self.bench.sql(MOVE_TIME, by_s=steps * STEP_S)
        self.model.now_s += steps * STEP_S
        if older_than_s is not None:
            self._reap(older_than_s)

    def _reap(self, older_than_s: int) -> None:
        """Reap on a connection that has been up for long: the reaper's ``lease_s`` bounds nothing else."""
        reaped = self.bench.run(
            reaping.reap(
                self.bench.link,
                lease_s=0,
                older_than_s=older_than_s,
            )
        )
        taken, waiting = self.model.reap(older_than_s)
        assert sorted((one.id, one.code, one.status) for one in reaped) == sorted(taken)
        if waiting:
            self.bench.sql(PIN, ids=sorted(waiting), delay_s=queue_model.SECOND_LOSS_S)

    @invariant()
    def the_rows_stand_as_the_model_says(self) -> None:
        real = {row["id"]: row for row in self.bench.sql(STANDING)}
        assert real.keys() == self.model.rows.keys()
        for request_id, row in self.model.rows.items():
            self._compare(real[request_id], row)
        assert sorted(self.bench.heard) == sorted(self.model.announced), "each end is announced exactly once"
        self.bench.heard.clear()
        self.model.announced.clear()

    def _compare(self, real: dict[str, Any], row: Row) -> None:
        names = ["status", "attempt", "lease_token", "given_back", "result", "partial"]
        assert {name: real[name] for name in names} == {name: getattr(row, name) for name in names}
        assert [(error["attempt"], error["code"]) for error in real["errors"]] == row.errors
        self._is_about(real["expires_in_s"], row.expires_at)
        if row.status == "processing":
            assert real["worker_id"] == row.holder
            self._is_about(real["lease_s"], row.lease_until)
            self._is_about(real["deadline_s"], row.deadline_at)
        if row.status == "pending":
            self._is_about(real["available_in_s"], row.available_at)
        if row.status in ("completed", "failed"):
            assert real["error_code"] == row.error_code

    def _is_about(self, in_s: float | None, moment: int | None) -> None:
        assert (in_s is None) == (moment is None)
        if in_s is not None and moment is not None:
            assert -SLACK_S < in_s - (moment - self.model.now_s) <= 0
