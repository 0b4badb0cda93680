"""Whose fault a refusal is, and what is done without the row that it belongs to."""

import uuid
from collections.abc import Callable, Sequence
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from structlog.testing import capture_logs

from draftd import db
from draftd.db.sqlstate import is_connection_loss, is_out_of_resources, is_schema_mismatch, is_transient
from draftd.queue import refused_rows, trials
from draftd.queue.leases import LeaseKey
from draftd.queue.refused_rows import PARTS, Quarantine, Refusals, Resolution, execute_in_parts
from draftd.queue.trials import Precondition, Trial
from tables import per_row


def refusal(sqlstate: str, *, context: str | None = "PL/pgSQL function refuse() line 1 at RAISE") -> psycopg.Error:
    """Return an error as the server sends it: with a context, a trigger raised it."""

    class Raised(psycopg.errors.lookup(sqlstate) if sqlstate != "P0001" else psycopg.errors.RaiseException):  # type: ignore[misc]  # a class made for its SQLSTATE
        diag = SimpleNamespace(context=context)

    return cast("psycopg.Error", Raised("refused"))


def refusing(*bad: int, error: psycopg.Error | None = None) -> Callable[[Sequence[int]], Any]:
    """Return a statement that is refused for any of these, and counts how often it is sent."""

    async def execute(some: Sequence[int]) -> list[int]:
        execute.count += 1  # type: ignore[attr-defined]  # a counter on the statement itself
        if set(bad) & set(some):
            raise error or refusal("P0001")
        return list(some)

    execute.count = 0  # type: ignore[attr-defined]  # as above
    return execute


async def test_what_nobody_refuses_is_carried_out_at_once() -> None:
    statement = refusing()
    parts = await execute_in_parts(range(50), statement)
    assert (parts.answered, statement.count) == ([(list(range(50)), list(range(50)))], 1)  # type: ignore[attr-defined]  # as above


@per_row("bad", [(0,), (49,), (17, 18), tuple(range(0, 50, 7)), tuple(range(50))])
async def test_all_are_carried_out_but_those_that_are_refused_alone(bad: tuple[int, ...]) -> None:
    parts = await execute_in_parts(range(50), refusing(*bad))
    assert sorted(one for one, _ in parts.refused) == list(bad)
    assert sorted(one for some, _ in parts.answered for one in some) == sorted(set(range(50)) - set(bad))


async def test_one_of_fifty_costs_a_dozen_statements() -> None:
    statement = refusing(31)
    await execute_in_parts(range(50), statement)
    assert statement.count <= 13  # type: ignore[attr-defined]  # as above


async def test_fifty_of_fifty_cost_hardly_more_than_one_statement_each() -> None:
    statement = refusing(*range(50))
    await execute_in_parts(range(50), statement)
    assert statement.count <= 50 * PARTS / (PARTS - 1) + PARTS  # type: ignore[attr-defined]  # as above


async def test_what_was_refused_before_anything_was_accepted_is_retried_once_it_is_to_be_confirmed() -> None:
    """A trigger that is dropped in the middle refuses the first two and nothing after that."""
    tries: list[int] = []

    async def execute(some: Sequence[int]) -> None:
        tries.extend(some if len(some) == 1 else [])
        if len(tries) < 3:
            raise refusal("P0001")

    parts = await execute_in_parts(range(4), execute, refusal=refusal("P0001"), confirm=True)
    assert (parts.refused, sorted(tries)) == ([], [0, 0, 1, 1, 2, 3])
    statement = refusing(0, 3)
    parts = await execute_in_parts(range(4), statement, confirm=True)
    assert sorted(one for one, _ in parts.refused) == [0, 3]
    assert statement.count == 6, "3 was refused after 1 was accepted"  # type: ignore[attr-defined]  # as above


async def test_what_is_refused_slowly_is_not_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on everything: each statement takes ten seconds to be refused, and all wait for it."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(refused_rows, "time", SimpleNamespace(monotonic=lambda: clock.now))

    async def execute(_some: Sequence[int]) -> None:
        clock.now += 10.0
        raise refusal("55P03", context=None)

    parts = await execute_in_parts(range(50), execute)
    assert (clock.now, len(parts.untried), parts.refused) == (10.0, 50, [])


async def test_a_schema_that_does_not_fit_is_no_rows_fault() -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        await execute_in_parts(range(50), refusing(3, error=refusal("42P01", context=None)))


class Server:
    """A link to a server that refuses to end some rows."""

    def __init__(self, *, ends: bool = True, others: Sequence[bool] = ()) -> None:
        self.ends = ends
        self.others = [*others]
        """Of each other row that can be tried: whether this change of it is accepted."""
        self.trials = 0
        self.ended: list[UUID] = []

    async def dry_run(self, _statement: str, _params: db.Row) -> list[Any]:
        return self._ending()

    async def run_rolled_back(self, _play: Any) -> bool:
        self.trials += 1
        if not self.others.pop(0):
            raise refusal("P0001")
        return True

    async def run(self, statement: str, params: db.Row) -> list[Any]:
        if statement == Precondition.HELD.value[0]:
            return [{"id": UUID(int=100 + number)} for number, _ in enumerate(self.others)]
        answer = self._ending()
        self.ended.append(params["id"])
        return answer

    def _ending(self) -> list[Any]:
        if not self.ends:
            raise refusal("P0001")
        return [{}]


ROW, OTHER = (UUID(int=1), 1), (UUID(int=2), 1)
ANOTHER = UUID(int=3)


async def never(_execute: db.Execute, _another: LeaseKey) -> bool:
    raise NotImplementedError


TRIAL = Trial(before=Precondition.HELD, change=never)
SERVERS_OWN = ["53100", "53200", "58030"]


async def resolved(
    refusals: Refusals,
    server: Server,
    *rows: LeaseKey,
    sqlstate: str = "P0001",
    passed: bool = False,
    proven: bool = False,
    **over: Any,
) -> list[Resolution]:
    resolutions = await refusals.resolve(
        cast("db.Link", server),
        [(row, refusal(sqlstate, **over)) for row in rows],
        passed=[ANOTHER] if passed else [],
        trial=TRIAL,
        proven=proven,
    )
    return [resolutions[row] for row in rows]


@pytest.fixture
def refusals() -> Refusals:
    return Refusals(verb="claim", quarantine=Quarantine())


async def test_what_another_row_does_not_meet_is_the_rows_own(refusals: Refusals) -> None:
    server = Server()
    assert await resolved(refusals, server, ROW, passed=True) == [Resolution.ENDED]
    assert server.ended == [ROW[0]]


@pytest.mark.parametrize("sqlstate", ["P0001", "55P03", "40001"])
async def test_a_refusal_after_another_row_was_accepted_is_the_rows_own_at_once(
    refusals: Refusals, sqlstate: str
) -> None:
    server = Server(others=[False])
    assert await resolved(refusals, server, ROW, OTHER, sqlstate=sqlstate, proven=True) == [Resolution.ENDED] * 2
    assert server.trials == 0


@pytest.mark.parametrize("others", [[True], [False], []])
async def test_the_server_is_cleared_only_by_another_row_that_it_accepts(
    refusals: Refusals, others: list[bool]
) -> None:
    link = cast("db.Link", Server(others=others))
    assert await refusals.accepts_another(link, TRIAL, but=[ROW[0]]) == (others == [True])


async def test_what_another_row_meets_too_is_the_servers(refusals: Refusals) -> None:
    server = Server()
    assert await resolved(refusals, server, ROW, OTHER) == [Resolution.UNDECIDED] * 2
    assert await resolved(refusals, server, ROW) == [Resolution.UNDECIDED], "nothing has got through since"
    refusals.accepted([ANOTHER])
    assert await resolved(refusals, server, ROW) == [Resolution.ENDED]


async def test_what_the_plain_ending_does_not_meet_is_the_rows_own(refusals: Refusals) -> None:
    assert await resolved(refusals, Server(), ROW) == [Resolution.ENDED]


@pytest.mark.parametrize("others", [[], [False], [False, False]])
async def test_what_the_plain_ending_and_every_other_row_meet_is_the_servers(
    refusals: Refusals, others: list[bool]
) -> None:
    assert await resolved(refusals, Server(ends=False, others=others), ROW) == [Resolution.UNDECIDED]


async def test_what_another_row_meets_in_a_trial_is_the_servers_although_the_plain_ending_passes(
    refusals: Refusals,
) -> None:
    server = Server(others=[False])
    assert await resolved(refusals, server, ROW) == [Resolution.UNDECIDED]
    assert server.ended == []


async def test_many_suspects_end_once_another_row_gets_through_in_a_trial(refusals: Refusals) -> None:
    assert await resolved(refusals, Server(others=[False, False, True]), ROW, OTHER) == [Resolution.ENDED] * 2
    assert await resolved(refusals, Server(), (UUID(int=100), 1)) == [Resolution.ENDED], (
        "tried beside the one that got through"
    )


async def test_trials_that_prove_nothing_are_rare(refusals: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(trials, "time", SimpleNamespace(monotonic=lambda: clock.now))
    server = Server(others=[False] * 10)
    for _ in range(10):
        assert await resolved(refusals, server, ROW, OTHER) == [Resolution.UNDECIDED] * 2
    assert server.trials == 10
    clock.now += trials.PAUSE_S
    server.others = [True]
    assert await resolved(refusals, server, ROW, OTHER) == [Resolution.ENDED] * 2


async def test_what_only_this_row_meets_whatever_is_done_to_it_is_set_aside(refusals: Refusals) -> None:
    assert await resolved(refusals, Server(ends=False, others=[True]), ROW) == [Resolution.QUARANTINED]
    assert refusals.quarantine.ids() == [ROW[0]]


@pytest.mark.parametrize("sqlstate", ["53100", "55P03", "57014", "58030", "40001"])
async def test_what_passes_is_tried_once_more_before_a_row_is_blamed(refusals: Refusals, sqlstate: str) -> None:
    server = Server()
    assert await resolved(refusals, server, ROW, sqlstate=sqlstate, passed=True) == [Resolution.UNDECIDED]
    assert await resolved(refusals, server, ROW, sqlstate=sqlstate, passed=True) == [Resolution.ENDED]


async def test_a_lock_that_ends_between_a_refusal_and_its_proof_blames_no_row(
    refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it was refused before: that others are accepted now says nothing about a refusal of a moment ago."""
    monkeypatch.setattr(trials, "PAUSE_S", -1.0)
    server = Server()
    for is_accepted in (False, False, True):
        server.others = [is_accepted]
        assert await resolved(refusals, server, ROW, sqlstate="55P03") == [Resolution.UNDECIDED]
    assert server.ended == []


@pytest.mark.parametrize("sqlstate", SERVERS_OWN)
async def test_a_server_that_has_run_out_of_something_blames_no_row(refusals: Refusals, sqlstate: str) -> None:
    server = Server()
    for _ in range(5):
        assert await resolved(refusals, server, ROW, sqlstate=sqlstate, passed=True, context=None) == [
            Resolution.UNDECIDED
        ]
    assert server.ended == []


@pytest.mark.parametrize("sqlstate", ["22003", "22P02", "54000"])
async def test_values_that_the_server_refuses_are_resolved_like_any_other_refusal(
    refusals: Refusals, sqlstate: str
) -> None:
    server = Server()
    assert await resolved(refusals, server, ROW, OTHER, sqlstate=sqlstate, context=None) == [Resolution.UNDECIDED] * 2
    assert server.ended == []
    resolutions = await resolved(refusals, server, ROW, OTHER, sqlstate=sqlstate, context=None, passed=True)
    assert resolutions == [Resolution.ENDED] * 2


async def test_rows_that_another_row_gets_past_end_at_their_next_refusal_each_by_itself(refusals: Refusals) -> None:
    assert await resolved(refusals, Server(), ROW, OTHER) == [Resolution.UNDECIDED] * 2
    refusals.accepted([ANOTHER])
    assert await resolved(refusals, Server(), ROW, OTHER) == [Resolution.ENDED] * 2


async def test_rows_that_another_row_got_past_are_kept_while_the_server_refuses_everything(refusals: Refusals) -> None:
    await resolved(refusals, Server(), ROW, OTHER)
    refusals.accepted([ANOTHER])
    server = Server(ends=False, others=[False])
    assert await resolved(refusals, server, ROW, OTHER) == [Resolution.UNDECIDED] * 2


async def test_a_row_that_gets_through_after_all_is_held_against_nothing_later(refusals: Refusals) -> None:
    await resolved(refusals, Server(), ROW, OTHER)
    refusals.accepted([ANOTHER])
    refusals.accepted([ROW[0], OTHER[0]])
    assert await resolved(refusals, Server(), ROW, OTHER) == [Resolution.UNDECIDED] * 2


async def test_a_server_that_refuses_rows_one_after_the_other_ends_the_first_of_them_only(refusals: Refusals) -> None:
    assert await resolved(refusals, Server(), ROW) == [Resolution.ENDED]
    for number in range(10, 13):
        assert await resolved(refusals, Server(), (UUID(int=number), 1)) == [Resolution.UNDECIDED]


async def test_a_row_is_named_once(refusals: Refusals) -> None:
    server = Server(ends=False, others=[True])
    with capture_logs() as logs:
        for _ in range(3):
            await resolved(refusals, server, ROW, passed=True)
    (line,) = logs
    assert (line["event"], line["request_id"], line["to"], line["sqlstate"], line["ended"]) == (
        "row refused", ROW[0], "claim", "P0001", False,
    )  # fmt: skip


def test_a_row_is_left_alone_for_longer_each_time() -> None:
    clock = SimpleNamespace(now=0.0)
    quarantine = Quarantine(clock=lambda: clock.now)
    waits = []
    for _ in range(12):
        quarantine.add(ROW[0])
        assert quarantine.ids() == [ROW[0]]
        waits.append(quarantine.next_in_s())
        clock.now += waits[-1]
        assert quarantine.ids() == []
    assert waits[0] <= refused_rows.FIRST_QUARANTINE_S
    assert all(wait <= refused_rows.MAX_QUARANTINE_S for wait in waits)
    assert waits[-1] >= refused_rows.MAX_QUARANTINE_S / 2


def test_what_may_be_the_servers_is_left_alone_for_a_moment_only() -> None:
    quarantine = Quarantine()
    for _ in range(20):
        quarantine.add_briefly(ROW[0])
        assert quarantine.next_in_s() <= refused_rows.UNDECIDED_S
    assert not quarantine.was_added(ROW[0])


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused_rows, "MAX_KEYS", 10)
    quarantine = Quarantine()
    for number in range(30):
        quarantine.add(UUID(int=number))
    assert len(quarantine.ids()) <= 10


@per_row("sqlstate", ["08006", "57P01", "57P02", "57P03", "25006"])
def test_what_a_trigger_raises_is_no_lost_connection(sqlstate: str) -> None:
    assert is_connection_loss(refusal(sqlstate, context=None))
    assert not is_connection_loss(refusal(sqlstate))


@per_row("sqlstate", ["55P03", "57014", "53100", "53200", "54001", "40001", "58030"])
def test_an_operational_error_of_a_server_that_is_well_is_no_lost_connection(sqlstate: str) -> None:
    assert not is_connection_loss(refusal(sqlstate, context=None))


def test_the_classes_do_not_overlap() -> None:
    assert is_transient(refusal("53100"))
    assert not is_out_of_resources(refusal("53100")), "raised by a trigger"
    assert not is_schema_mismatch(refusal("42703")), "a trigger that names a column that is not there"


def test_one_thread_at_a_time_sets_rows_aside() -> None:
    """The heartbeat's thread shares them with the event loop."""
    meanwhile: list[Thread] = []

    def clock() -> float:
        if not meanwhile:
            meanwhile.append(Thread(target=quarantine.add, args=[uuid.uuid4()]))
            meanwhile[0].start()
            meanwhile[0].join(0.2)
            assert meanwhile[0].is_alive(), "it waits"
        return 0.0

    quarantine = Quarantine(clock=clock)
    quarantine.add(uuid.uuid4())
    meanwhile[0].join()
    assert len(quarantine.ids()) == 2
