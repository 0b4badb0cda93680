"""Whose fault a refusal is, and what is done without the row that it belongs to."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from structlog.testing import capture_logs

from draftd import db
from draftd.db.sqlstate import is_exhausted, is_loss, is_misfit, is_passing
from draftd.queue import isolation, trials
from draftd.queue.isolation import Aside, Refusals, Verdict, apart
from draftd.queue.leases import Held
from draftd.queue.trials import Before, Trial


def refusal(sqlstate: str, *, context: str | None = "PL/pgSQL function refuse() line 1 at RAISE") -> psycopg.Error:
    """Return an error as the server sends it: with a context, a trigger raised it."""

    class Raised(psycopg.errors.lookup(sqlstate) if sqlstate != "P0001" else psycopg.errors.RaiseException):  # type: ignore[misc]  # a class made for its SQLSTATE
        diag = SimpleNamespace(context=context)

    return cast("psycopg.Error", Raised("refused"))


def refusing(*bad: int, error: psycopg.Error | None = None) -> Callable[[Sequence[int]], Any]:
    """Return a statement that is refused for any of these, and counts how often it is sent."""

    async def carry_out(some: Sequence[int]) -> list[int]:
        carry_out.count += 1  # type: ignore[attr-defined]  # a counter on the statement itself
        if set(bad) & set(some):
            raise error or refusal("P0001")
        return list(some)

    carry_out.count = 0  # type: ignore[attr-defined]  # as above
    return carry_out


async def test_what_nobody_refuses_is_carried_out_at_once() -> None:
    statement = refusing()
    parts = await apart(range(50), statement)
    assert (parts.answered, statement.count) == ([(list(range(50)), list(range(50)))], 1)  # type: ignore[attr-defined]  # as above


@pytest.mark.parametrize("bad", [(0,), (49,), (17, 18), tuple(range(0, 50, 7)), tuple(range(50))])
async def test_all_are_carried_out_but_those_that_are_refused_alone(bad: tuple[int, ...]) -> None:
    parts = await apart(range(50), refusing(*bad))
    assert sorted(one for one, _ in parts.refused) == list(bad)
    assert sorted(one for some, _ in parts.answered for one in some) == sorted(set(range(50)) - set(bad))


async def test_one_of_fifty_costs_a_dozen_statements() -> None:
    statement = refusing(31)
    await apart(range(50), statement)
    assert statement.count <= 13  # type: ignore[attr-defined]  # as above


async def test_what_is_refused_slowly_is_not_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on everything: each statement takes ten seconds to be refused, and all wait for it."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(isolation, "time", SimpleNamespace(monotonic=lambda: clock.now))

    async def carry_out(_some: Sequence[int]) -> None:
        clock.now += 10.0
        raise refusal("55P03", context=None)

    parts = await apart(range(50), carry_out)
    assert (clock.now, len(parts.untried), parts.refused) == (10.0, 50, [])


async def test_a_schema_that_does_not_fit_is_no_rows_fault() -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        await apart(range(50), refusing(3, error=refusal("42P01", context=None)))


class Server:
    """A link to a server that refuses to end some rows."""

    def __init__(self, *, ends: bool = True, others: Sequence[bool] = ()) -> None:
        self.ends = ends
        self.others = [*others]
        """Of each other row that can be tried: whether this change of it is accepted."""
        self.trials = 0
        self.ended: list[UUID] = []

    async def try_out(self, _statement: str, _params: db.Row) -> list[Any]:
        return self._ending()

    async def rehearse(self, _play: Any) -> bool:
        self.trials += 1
        if not self.others.pop(0):
            raise refusal("P0001")
        return True

    async def run(self, statement: str, params: db.Row) -> list[Any]:
        if statement == Before.HELD.value[0]:
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


async def never(_execute: db.Execute, _another: Held) -> bool:
    raise NotImplementedError


TRIAL = Trial(before=Before.HELD, change=never)
SERVERS_OWN = ["53100", "53200", "58030"]


async def judged(
    judge: Refusals, server: Server, *rows: Held, sqlstate: str = "P0001", passed: bool = False, **over: Any
) -> list[Verdict]:
    verdicts = await judge.judge(
        cast("db.Link", server),
        [(row, refusal(sqlstate, **over)) for row in rows],
        passed=[ANOTHER] if passed else [],
        trial=TRIAL,
    )
    return [verdicts[row] for row in rows]


@pytest.fixture
def judge() -> Refusals:
    return Refusals(verb="claim", aside=Aside())


async def test_what_another_row_does_not_meet_is_the_rows_own(judge: Refusals) -> None:
    server = Server()
    assert await judged(judge, server, ROW, passed=True) == [Verdict.ENDED]
    assert server.ended == [ROW[0]]


async def test_what_another_row_meets_too_is_the_servers(judge: Refusals) -> None:
    server = Server()
    assert await judged(judge, server, ROW, OTHER) == [Verdict.UNDECIDED] * 2
    assert await judged(judge, server, ROW) == [Verdict.UNDECIDED], "nothing has got through since"
    judge.accepted([ANOTHER])
    assert await judged(judge, server, ROW) == [Verdict.ENDED]


async def test_what_the_plain_ending_does_not_meet_is_the_rows_own(judge: Refusals) -> None:
    assert await judged(judge, Server(), ROW) == [Verdict.ENDED]


@pytest.mark.parametrize("others", [[], [False], [False, False]])
async def test_what_the_plain_ending_and_every_other_row_meet_is_the_servers(
    judge: Refusals, others: list[bool]
) -> None:
    assert await judged(judge, Server(ends=False, others=others), ROW) == [Verdict.UNDECIDED]


async def test_what_another_row_meets_in_a_trial_is_the_servers_although_the_plain_ending_passes(
    judge: Refusals,
) -> None:
    server = Server(others=[False])
    assert await judged(judge, server, ROW) == [Verdict.UNDECIDED]
    assert server.ended == []


async def test_many_suspects_end_once_another_row_gets_through_in_a_trial(judge: Refusals) -> None:
    assert await judged(judge, Server(others=[False, False, True]), ROW, OTHER) == [Verdict.ENDED] * 2
    assert await judged(judge, Server(), (UUID(int=100), 1)) == [Verdict.ENDED], "tried beside the one that got through"


async def test_trials_that_prove_nothing_are_rare(judge: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(trials, "time", SimpleNamespace(monotonic=lambda: clock.now))
    server = Server(others=[False] * 10)
    for _ in range(10):
        assert await judged(judge, server, ROW, OTHER) == [Verdict.UNDECIDED] * 2
    assert server.trials == 10
    clock.now += trials.REST_S
    server.others = [True]
    assert await judged(judge, server, ROW, OTHER) == [Verdict.ENDED] * 2


async def test_what_only_this_row_meets_whatever_is_done_to_it_is_set_aside(judge: Refusals) -> None:
    assert await judged(judge, Server(ends=False, others=[True]), ROW) == [Verdict.ASIDE]
    assert judge.aside.ids() == [ROW[0]]


@pytest.mark.parametrize("sqlstate", ["53100", "55P03", "57014", "58030", "40001"])
async def test_what_passes_is_tried_once_more_before_a_row_is_blamed(judge: Refusals, sqlstate: str) -> None:
    server = Server()
    assert await judged(judge, server, ROW, sqlstate=sqlstate, passed=True) == [Verdict.UNDECIDED]
    assert await judged(judge, server, ROW, sqlstate=sqlstate, passed=True) == [Verdict.ENDED]


@pytest.mark.parametrize("sqlstate", SERVERS_OWN)
async def test_a_server_that_has_run_out_of_something_blames_no_row(judge: Refusals, sqlstate: str) -> None:
    server = Server()
    for _ in range(5):
        assert await judged(judge, server, ROW, sqlstate=sqlstate, passed=True, context=None) == [Verdict.UNDECIDED]
    assert server.ended == []


@pytest.mark.parametrize("sqlstate", ["22003", "22P02", "54000"])
async def test_values_that_the_server_refuses_are_judged_like_any_other_refusal(judge: Refusals, sqlstate: str) -> None:
    server = Server()
    assert await judged(judge, server, ROW, OTHER, sqlstate=sqlstate, context=None) == [Verdict.UNDECIDED] * 2
    assert server.ended == []
    verdicts = await judged(judge, server, ROW, OTHER, sqlstate=sqlstate, context=None, passed=True)
    assert verdicts == [Verdict.ENDED] * 2


async def test_rows_that_another_row_gets_past_end_at_their_next_refusal_each_by_itself(judge: Refusals) -> None:
    assert await judged(judge, Server(), ROW, OTHER) == [Verdict.UNDECIDED] * 2
    judge.accepted([ANOTHER])
    assert await judged(judge, Server(), ROW, OTHER) == [Verdict.ENDED] * 2


async def test_rows_that_another_row_got_past_are_kept_while_the_server_refuses_everything(judge: Refusals) -> None:
    await judged(judge, Server(), ROW, OTHER)
    judge.accepted([ANOTHER])
    server = Server(ends=False, others=[False])
    assert await judged(judge, server, ROW, OTHER) == [Verdict.UNDECIDED] * 2


async def test_a_row_that_gets_through_after_all_is_held_against_nothing_later(judge: Refusals) -> None:
    await judged(judge, Server(), ROW, OTHER)
    judge.accepted([ANOTHER])
    judge.accepted([ROW[0], OTHER[0]])
    assert await judged(judge, Server(), ROW, OTHER) == [Verdict.UNDECIDED] * 2


async def test_a_server_that_refuses_rows_one_after_the_other_ends_the_first_of_them_only(judge: Refusals) -> None:
    assert await judged(judge, Server(), ROW) == [Verdict.ENDED]
    for number in range(10, 13):
        assert await judged(judge, Server(), (UUID(int=number), 1)) == [Verdict.UNDECIDED]


async def test_a_row_is_named_once(judge: Refusals) -> None:
    server = Server(ends=False, others=[True])
    with capture_logs() as logs:
        for _ in range(3):
            await judged(judge, server, ROW, passed=True)
    (line,) = logs
    assert (line["event"], line["request_id"], line["to"], line["sqlstate"], line["ended"]) == (
        "row refused", ROW[0], "claim", "P0001", False,
    )  # fmt: skip


def test_a_row_is_left_alone_for_longer_each_time() -> None:
    clock = SimpleNamespace(now=0.0)
    aside = Aside(clock=lambda: clock.now)
    waits = []
    for _ in range(12):
        aside.put(ROW[0])
        assert aside.ids() == [ROW[0]]
        waits.append(aside.next_in_s())
        clock.now += waits[-1]
        assert aside.ids() == []
    assert waits[0] <= isolation.FIRST_ASIDE_S
    assert all(wait <= isolation.LONGEST_ASIDE_S for wait in waits)
    assert waits[-1] >= isolation.LONGEST_ASIDE_S / 2


def test_what_may_be_the_servers_is_left_alone_for_a_moment_only() -> None:
    aside = Aside()
    for _ in range(20):
        aside.put_briefly(ROW[0])
        assert aside.next_in_s() <= isolation.UNDECIDED_S
    assert not aside.knows(ROW[0])


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "MAX_REMEMBERED", 10)
    aside = Aside()
    for number in range(30):
        aside.put(UUID(int=number))
    assert len(aside.ids()) <= 10


@pytest.mark.parametrize("sqlstate", ["08006", "57P01", "57P02", "57P03", "25006"])
def test_what_a_trigger_raises_is_no_lost_connection(sqlstate: str) -> None:
    assert is_loss(refusal(sqlstate, context=None))
    assert not is_loss(refusal(sqlstate))


@pytest.mark.parametrize("sqlstate", ["55P03", "57014", "53100", "53200", "54001", "40001", "58030"])
def test_an_operational_error_of_a_server_that_is_well_is_no_lost_connection(sqlstate: str) -> None:
    assert not is_loss(refusal(sqlstate, context=None))


def test_the_classes_do_not_overlap() -> None:
    assert is_passing(refusal("53100"))
    assert not is_exhausted(refusal("53100")), "raised by a trigger"
    assert not is_misfit(refusal("42703")), "a trigger that names a column that is not there"
