"""Which model answers, and how a fleet shares what is on hold."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from structlog.testing import capture_logs

from draftd import db
from draftd.errors import (
    ContextTooLong,
    Kind,
    ModelError,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    OutputInvalid,
)
from draftd.holds import FIRST_PAUSE_S, LIST_HOLDS, LONGEST_PAUSE_S, PROBE_S, Holds
from draftd.models import SET, Choice, Models
from draftd.queue.claims import Probe
from draftd.queue.leases import RENEW
from fix_database import make_request

AGENT = "comment_generator"
FIRST, SECOND = "openai/first", "anthropic/second"
LATER = 1e12
"""A moment of the monotonic clock that no success lies after."""


class Process(Models):
    """The models and holds of one process, with a connection of its own."""

    def __init__(self, link: db.Link, **over: Any) -> None:
        self.link = link
        self.shared = Holds(link=link)
        defaults: dict[str, Any] = {
            "agents": [AGENT],
            "default": Choice(models=(FIRST,), params={}),
            "variable": {}.get,
        }
        super().__init__(holds=self.shared, **defaults | over)
        self.failed = self.shared.failed
        self.succeeded = self.shared.succeeded
        self.holds = self.shared.codes

    async def probe(self) -> Probe | None:
        return await self.take_probe(self.link)


Make = Callable[..., Process]
Beat = Callable[..., Awaitable[bool]]


@pytest.fixture
async def make(database: str) -> AsyncIterator[Make]:
    """Models of one more process, each with a connection of its own."""
    links: list[db.Link] = []

    def make(**over: Any) -> Process:
        links.append(db.Link(url=database, name=f"draftd test {len(links)}"))
        return Process(links[-1], **over)

    yield make
    for link in links:
        await link.close()


@pytest.fixture
def beat(link: db.Link) -> Beat:
    """Let models take in what a heartbeat reads."""

    async def beat(*several: Process) -> bool:
        params = dict.fromkeys(("hostname", "version"), "t") | {
            "ids": [],
            "tokens": [],
            "lease_s": 10,
            "worker_id": "00000000-0000-0000-0000-000000000001",
            "pid": 1,
            "state": "running",
            "agents": [AGENT],
            "concurrency": 1,
            "in_flight": 0,
        }
        began = time.monotonic()
        (row,) = await link.run(RENEW, params)
        return [models.update(row["configs"], row["holds"], as_of=began) for models in several][-1]

    return beat


async def configure(link: db.Link, **over: Any) -> None:
    row: dict[str, Any] = {
        "agent": AGENT,
        "model": FIRST,
        "fallback_models": [],
        "params": {},
        "api_base": None,
        "api_key_env": None,
        "price_in": None,
        "price_out": None,
    } | over
    await link.run(SET, row | {"params": Jsonb(row["params"])})


async def hold(models: Process, error: ModelError | None = None, *, probe: str | None = None) -> None:
    await models.failed(error or ModelUnavailable("down", model=FIRST), began=LATER, probe=probe)


async def pause_s(link: db.Link, model: str = FIRST) -> float:
    """Return how long a model is still held, in seconds."""
    (row,) = await link.run(
        "SELECT extract(epoch FROM until - now())::float8 AS s FROM model_holds WHERE model = %s", [model]
    )
    return float(row["s"])


async def lapse(link: db.Link) -> None:
    await link.run("UPDATE model_holds SET until = now()")


def names(models: Process) -> list[str]:
    return [target.model for target in models.targets(AGENT)]


async def test_models_are_asked_in_their_order_with_what_was_configured(make: Make, beat: Beat, link: db.Link) -> None:
    await configure(
        link,
        fallback_models=[SECOND],
        params={"temperature": 0.3},
        api_base="http://gateway/v1",
        api_key_env="GATEWAY_KEY",
        price_in=Decimal("2.5"),
        price_out=Decimal("0.1"),
    )
    models = make(variable={"GATEWAY_KEY": "k"}.get)
    await beat(models)
    targets = models.targets(AGENT)
    assert [target.model for target in targets] == [FIRST, SECOND]
    for target in targets:
        assert (target.params, target.api_base, target.api_key) == ({"temperature": 0.3}, "http://gateway/v1", "k")
        assert (target.price_in, target.price_out) == (Decimal("2.5"), Decimal("0.1"))


async def test_without_a_row_of_its_own_an_agent_has_the_default(make: Make) -> None:
    assert names(make()) == [FIRST]
    nobody = make(default=None)
    assert nobody.targets(AGENT) == []
    assert nobody.agents_without_model() == [AGENT]
    assert nobody.claimable_agents() == []


async def test_a_change_of_model_is_noticed_and_said_once(make: Make, beat: Beat, link: db.Link) -> None:
    models = make()
    with capture_logs() as logged:
        await beat(models)
        await configure(link, model=SECOND)
        await beat(models)
        await beat(models)
        await beat(make())
    assert [(one["agent"], one["models"]) for one in logged if one["event"] == "model changed"] == [(AGENT, SECOND)]
    assert names(models) == [SECOND]


async def test_a_model_for_an_agent_that_had_none_makes_more_claimable(make: Make, beat: Beat, link: db.Link) -> None:
    models = make(default=None)
    assert not await beat(models)
    await configure(link)
    assert await beat(models)
    assert not await beat(models)
    assert models.claimable_agents() == [AGENT]


async def test_a_hold_of_one_daemon_stops_the_claims_of_all(make: Make, beat: Beat, link: db.Link) -> None:
    mine, other = make(), make()
    await beat(mine, other)
    await hold(mine, ModelUnavailable("down for sk-proj-q7Zt9xVb3Lm5", model=FIRST))
    assert mine.claimable_agents() == []
    assert other.claimable_agents() == [AGENT]
    await beat(other)
    assert other.claimable_agents() == []
    assert other.held_agents() == [AGENT]
    assert other.holds() == {FIRST: "model_unavailable"}
    (row,) = await link.run(LIST_HOLDS)
    assert (row["model"], row["code"], row["reason"]) == (FIRST, "model_unavailable", "down for [redacted]")
    assert FIRST_PAUSE_S - 1 < await pause_s(link) < FIRST_PAUSE_S + 1.1


async def test_a_held_model_gives_way_to_its_fallback(make: Make) -> None:
    models = make(default=Choice(models=(FIRST, SECOND), params={}))
    await hold(models)
    assert models.claimable_agents() == [AGENT]
    assert names(models) == [SECOND]
    await hold(models, ModelUnavailable("down", model=SECOND))
    assert models.claimable_agents() == []
    assert names(models) == [FIRST], "a row that was claimed before the hold"


@pytest.mark.parametrize("error", [ModelTimeout("slow", model=FIRST), ModelRefused("no", model=FIRST)])
async def test_an_error_of_one_request_holds_nothing(make: Make, link: db.Link, error: ModelError) -> None:
    models = make()
    await models.failed(error, began=LATER)
    assert models.claimable_agents() == [AGENT]
    assert await link.run(LIST_HOLDS) == []


async def test_a_hold_counts_as_a_retry_if_another_request_succeeded_since_the_call_began(
    make: Make, link: db.Link
) -> None:
    models = make()
    await models.succeeded(FIRST)
    error = ModelUnavailable("down", model=FIRST)
    await models.failed(error, began=0.0)
    assert error.kind is Kind.RETRY
    assert await link.run(LIST_HOLDS) == []
    later = ModelUnavailable("down", model=FIRST)
    await models.failed(later, began=LATER)
    assert later.kind is Kind.HOLD
    assert len(await link.run(LIST_HOLDS)) == 1


async def test_the_success_of_another_model_says_nothing_about_this_one(make: Make) -> None:
    models = make()
    await models.succeeded(SECOND)
    error = ModelUnavailable("down", model=FIRST)
    await models.failed(error, began=0.0)
    assert error.kind is Kind.HOLD


async def test_one_of_many_wins_the_probe(make: Make, beat: Beat, link: db.Link, connection: db.Connection) -> None:
    await make_request(connection)
    fleet = [make() for _ in range(5)]
    await beat(*fleet)
    await hold(fleet[0])
    await lapse(link)
    await beat(*fleet)
    won = await asyncio.gather(*(models.probe() for models in fleet))
    (probe,) = [one for one in won if one]
    assert probe == Probe(model=FIRST, agents=[AGENT])
    winner = fleet[won.index(probe)]
    assert [target.model for target in winner.targets(AGENT, probe=FIRST)] == [FIRST]
    assert PROBE_S - 1 < await pause_s(link) <= PROBE_S
    assert [models.claimable_agents() for models in fleet] == [[]] * 5
    assert await winner.probe() is None


async def test_there_is_no_probe_before_the_pause_is_over_nor_a_statement_for_it(
    make: Make, beat: Beat, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_request(connection)
    models = make()
    await hold(models)
    await beat(models)
    monkeypatch.setattr(models, "link", None)
    assert await models.probe() is None


async def test_there_is_no_probe_without_a_row_that_is_due(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    await make_request(connection, available_at="2100-01-01")
    await make_request(connection, agent="another")
    models = make()
    await hold(models)
    await lapse(link)
    await beat(models)
    assert await models.probe() is None


async def probing(make: Make, beat: Beat, link: db.Link, connection: db.Connection) -> Process:
    """Return models that have won the probe of a held model."""
    await make_request(connection)
    models = make()
    await hold(models)
    await lapse(link)
    await beat(models)
    assert await models.probe() == Probe(model=FIRST, agents=[AGENT])
    return models


async def test_a_failing_probe_doubles_the_pause_up_to_the_cap(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    models = await probing(make, beat, link, connection)
    pauses_s: list[float] = []
    for _ in range(8):
        await hold(models, probe=FIRST)
        pauses_s.append(await pause_s(link))
        await lapse(link)
        await beat(models)
        assert await models.probe() == Probe(model=FIRST, agents=[AGENT])
    for number, found_s in enumerate(pauses_s, start=1):
        bound_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**number)
        assert bound_s - 1 < found_s < min(LONGEST_PAUSE_S, bound_s * 1.21) + 0.1


async def test_the_many_failures_of_one_outage_are_one_pause(make: Make, link: db.Link) -> None:
    fleet = [make() for _ in range(3)]
    for _ in range(4):
        await asyncio.gather(*(hold(models) for models in fleet))
    assert await pause_s(link) < FIRST_PAUSE_S + 1.1
    (row,) = await link.run("SELECT failures FROM model_holds")
    assert row["failures"] == 1


async def test_retry_after_is_honoured_up_to_an_hour(make: Make, link: db.Link) -> None:
    models = make()
    await hold(models, ModelRateLimited("429", model=FIRST, retry_after_s=90))
    assert 89 < await pause_s(link) <= 90
    await hold(models, ModelRateLimited("429", model=FIRST, retry_after_s=10))
    assert 88 < await pause_s(link) <= 90, "a shorter word does not shorten the pause"
    await hold(models, ModelRateLimited("429", model=FIRST, retry_after_s=86_400))
    assert 3_598 < await pause_s(link) <= 3_600


async def test_a_probe_that_is_told_to_wait_longer_waits_longer(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    models = await probing(make, beat, link, connection)
    await hold(models, ModelRateLimited("429", model=FIRST, retry_after_s=1_000), probe=FIRST)
    assert 998 < await pause_s(link) <= 1_000


async def test_a_success_ends_the_hold_for_all(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    models, other = await probing(make, beat, link, connection), make()
    await beat(other)
    await models.succeeded(FIRST)
    assert models.claimable_agents() == [AGENT]
    assert await link.run(LIST_HOLDS) == []
    assert await beat(other), "there is more to claim than before"
    assert other.claimable_agents() == [AGENT]


async def test_only_the_probe_may_ask_a_held_model_beside_its_fallback(make: Make, beat: Beat, link: db.Link) -> None:
    await configure(link, fallback_models=[SECOND])
    models = make()
    await beat(models)
    await hold(models)
    assert names(models) == [SECOND]
    assert [target.model for target in models.targets(AGENT, probe=FIRST)] == [FIRST, SECOND]


@pytest.mark.parametrize("error", [ModelRefused, OutputInvalid, ContextTooLong])
async def test_an_answer_that_cannot_be_used_ends_a_hold_all_the_same(
    make: Make, link: db.Link, error: type[ModelError]
) -> None:
    models = make()
    await hold(models)
    await models.failed(error(model=FIRST), began=LATER, probe=FIRST)
    assert await link.run(LIST_HOLDS) == []


async def test_a_timeout_of_the_probe_says_nothing(make: Make, link: db.Link) -> None:
    models = make()
    await hold(models)
    await models.failed(ModelTimeout(model=FIRST), began=LATER, probe=FIRST)
    assert len(await link.run(LIST_HOLDS)) == 1


async def test_an_agent_whose_key_is_not_set_here_is_left_to_others(make: Make, beat: Beat, link: db.Link) -> None:
    await configure(link, api_key_env="GATEWAY_KEY", fallback_models=[SECOND])
    here, elsewhere = make(), make(variable={"GATEWAY_KEY": "k"}.get)
    await beat(here, elsewhere)
    assert (here.claimable_agents(), elsewhere.claimable_agents()) == ([], [AGENT])
    with pytest.raises(ModelMisconfigured, match="GATEWAY_KEY") as caught:
        here.targets(AGENT)
    assert caught.value.kind is Kind.RETRY
    assert await link.run(LIST_HOLDS) == [], "one machine's gap is no hold for the fleet"


async def test_a_beat_that_began_before_a_hold_does_not_undo_it(make: Make) -> None:
    models = make()
    began = time.monotonic()
    await hold(models)
    assert not models.update([], [], as_of=began)
    assert models.claimable_agents() == []
    assert models.update([], [], as_of=time.monotonic())


async def test_agents_with_the_same_held_model_are_probed_together(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    await make_request(connection, agent="another")
    models = make(agents=[AGENT, "another", "third"])
    await configure(link, agent="third", model=SECOND)
    await hold(models)
    await lapse(link)
    await beat(models)
    assert models.claimable_agents() == ["third"]
    assert await models.probe() == Probe(model=FIRST, agents=[AGENT, "another"])
