"""Which model answers, and how a fleet shares what is on hold."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb
from structlog.testing import capture_logs

from draftd import db
from draftd.errors import (
    ConnectionLost,
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
from draftd.providers.catalog import READ, SET_AGENT, SET_MODEL, AgentModels, Catalog
from draftd.providers.failure_policy import BURSTS_UNTIL_HOLD, MAX_GIVEN_BACK, Action, Facts, ModelState, judge
from draftd.providers.holds import (
    FIRST_PAUSE_S,
    LIST_HOLDS,
    MAX_OLD_PAUSE_S,
    MAX_PAUSE_S,
    TAKE_PROBE,
    Holds,
    max_pause_s,
)
from draftd.providers.models import Models
from draftd.providers.permits import Address, Permits
from draftd.providers.throttles import LIST_THROTTLES, RECOVERY_S, Throttles
from draftd.queue.claims import ClaimGroup, Probe
from draftd.queue.leases import RENEW_AND_BEAT
from draftd.queue.wakeup import CHANNEL, listen
from draftd.request import Claim
from fix_database import beat as parameters_of_a_beat
from fix_database import make_request

AGENT = "comment_generator"
FIRST, SECOND = "openai/first", "anthropic/second"
GATEWAY = Address(scheme="http", host="gateway", port=80, path=("v1",))
PERMITS = Permits(bases=[GATEWAY], variables=["GATEWAY_KEY"])
PROBE_S = 15.0
CLAIM = Claim(
    id=UUID(int=1),
    agent=AGENT,
    requester_id="",
    attempt=1,
    lease_token=1,
    attempt_s=120,
    image_bytes=0,
)


class Process(Models):
    """The models and holds of one process, with a connection of its own."""

    def __init__(self, link: db.Link, **over: Any) -> None:
        self.link = link
        self.throttles = Throttles(link=link)
        self.shared = Holds(link=link, throttles=self.throttles, probe_s=PROBE_S, write_wait_s=60)
        defaults: dict[str, Any] = {
            "throttles": self.throttles,
            "agents": [AGENT],
            "default": AgentModels(models=(FIRST,)),
            "permits": PERMITS,
            "getenv": {}.get,
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
        params = parameters_of_a_beat(worker_id=UUID(int=1), agents=[AGENT])
        began = time.monotonic()
        (row,) = await link.run(RENEW_AND_BEAT, params)
        read = (Catalog.read(row["agents"], row["models"]), row["holds"], row["throttles"])
        return [models.update(*read, as_of=began) for models in several][-1]

    return beat


async def configure(link: db.Link, **over: Any) -> None:
    row: dict[str, Any] = {"agent": AGENT, "model": FIRST, "fallback_models": [], "params": {}} | over
    await link.run(SET_AGENT, row | {"params": Jsonb(row["params"])})


async def define(link: db.Link, name: str, **over: Any) -> None:
    row: dict[str, Any] = {
        "name": name,
        "model": None,
        "api_base": None,
        "api_key_env": None,
        "params": {},
        "input_usd_per_mtok": None,
        "output_usd_per_mtok": None,
        "cached_input_usd_per_mtok": None,
        "rpm": None,
        "tpm": None,
        "max_in_flight": None,
    } | over
    await link.run(SET_MODEL, row | {"params": Jsonb(row["params"])})


HELD = (ModelState.HELD, Action.GIVE_BACK)
THROTTLED = (ModelState.THROTTLED, Action.GIVE_BACK)
OWN_FAULT = (ModelState.WORKING, Action.RETRY)
Failed = tuple[ModelState, Action]


async def fail(models: Process, error: ModelError, *, elapsed_s: float = 5.0, **over: Any) -> Failed:
    """Let a request fail with this error, whose call took so long; return what is known of the model, and what comes next."""
    facts = {"id": uuid.uuid4()} | over
    claim, before = replace(CLAIM, **facts), dict(vars(error))
    began = time.monotonic() - elapsed_s
    state = await models.failed(error, model=str(error.model), claim=claim, began=began)
    assert vars(error) == before, "an error is a fact"
    return state, judge(error, claim, Facts(model=state)).action


async def hold(models: Process, error: ModelError | None = None, *, probe: str | None = None) -> None:
    await fail(models, error or ModelUnavailable("down", model=FIRST), probe=probe)


async def answered(link: db.Link, model: str = FIRST, *, request_id: UUID | None = None, ago_s: float = 0.0) -> None:
    """Enter a model call that was answered."""
    await link.run(
        "INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model, created_at) "
        "VALUES (%s, '', 1, 1, 1, %s, now() - make_interval(secs => %s))",
        [request_id or uuid.uuid4(), model, ago_s],
    )


async def rate_limit(models: Process, link: db.Link, times: int = 1) -> list[Failed]:
    """Let so many bursts of rate limits follow each other, and return what came of each."""
    failed = []
    for _ in range(times):
        failed.append(await fail(models, ModelRateLimited("429", model=FIRST), elapsed_s=1.0))
        await link.run("UPDATE draft_throttles SET changed_at = changed_at - interval '2 s'")
    return failed


async def pause_s(link: db.Link, model: str = FIRST) -> float:
    """Return how long a model is still held, in seconds."""
    (row,) = await link.run(
        "SELECT extract(epoch FROM until - now())::float8 AS s FROM draft_holds WHERE model = %s", [model]
    )
    return float(row["s"])


async def lapse(link: db.Link) -> None:
    await link.run("UPDATE draft_holds SET until = now()")


def names(models: Process) -> list[str]:
    return [target.name for target in models.targets(AGENT)]


async def test_each_model_is_asked_with_what_its_own_name_means(make: Make, beat: Beat, link: db.Link) -> None:
    await configure(link, model="cheap", fallback_models=[SECOND])
    await define(
        link,
        "cheap",
        model="openai/small",
        api_base="http://gateway/v1",
        api_key_env="GATEWAY_KEY",
        input_usd_per_mtok=Decimal("2.5"),
        output_usd_per_mtok=Decimal("0.1"),
        cached_input_usd_per_mtok=Decimal("0.25"),
    )
    models = make(getenv={"GATEWAY_KEY": "k"}.get)
    await beat(models)
    first, second = models.targets(AGENT)
    assert (first.name, first.model, first.api_base, first.api_key) == (
        "cheap",
        "openai/small",
        "http://gateway/v1",
        "k",
    )
    assert (first.input_usd_per_mtok, first.output_usd_per_mtok) == (Decimal("2.5"), Decimal("0.1"))
    assert first.cached_input_usd_per_mtok == Decimal("0.25")
    assert (second.name, second.model, second.api_base, second.api_key) == (SECOND, SECOND, None, None)
    assert (second.input_usd_per_mtok, second.output_usd_per_mtok) == (None, None)
    assert second.cached_input_usd_per_mtok is None


async def test_the_agents_parameters_go_before_the_models(make: Make, beat: Beat, link: db.Link) -> None:
    await define(link, FIRST, params={"temperature": 0.3, "max_tokens": 900, "seed": 1})
    await configure(link, params={"temperature": 0.9, "max_completion_tokens": 800})
    models = make()
    await beat(models)
    assert models.targets(AGENT)[0].params == {"temperature": 0.9, "max_completion_tokens": 800, "seed": 1}


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"api_base": "http://evil.example"}, "evil.example: DRAFTD_MODEL_API_BASES does not name it"),
        ({"api_key_env": "DRAFTD_DATABASE_URL"}, "DRAFTD_DATABASE_URL may never be sent"),
        ({"api_key_env": "APP_SECRET"}, "DRAFTD_MODEL_KEY_VARIABLES does not name it"),
        ({"params": {"base_url": "http://evil.example"}}, "'base_url' is not allowed"),
        ({"model": "huggingface/https://evil.example"}, "not a litellm name"),
    ],
)
async def test_a_row_that_may_not_be_used_is_named_and_its_agent_not_claimed(
    make: Make, beat: Beat, link: db.Link, over: dict[str, Any], said: str
) -> None:
    await configure(link)
    await define(link, FIRST, **over)
    models = make(getenv=lambda name: f"secret of {name}", agents=[AGENT, "another"])
    with capture_logs() as logged:
        await beat(models)
        await beat(models)
    (entry,) = [one for one in logged if one["event"] == "model skipped" and one["agent"] == AGENT]
    assert (entry["log_level"], entry["code"], entry["model"]) == ("error", "model_misconfigured", FIRST)
    assert said in entry["reason"]
    assert models.claimable_agents() == []
    with pytest.raises(ModelMisconfigured, match="openai/first: ") as caught:
        models.targets(AGENT)
    assert caught.value.kind is Kind.RETRY
    assert await link.run(LIST_HOLDS) == []


async def test_a_fallback_that_may_not_be_used_is_skipped_and_named(make: Make, beat: Beat, link: db.Link) -> None:
    await configure(link, fallback_models=[SECOND])
    await define(link, SECOND, api_base="http://evil.example")
    models = make()
    with capture_logs() as logged:
        await beat(models)
    assert names(models) == [FIRST]
    assert models.claimable_agents() == [AGENT]
    assert [one["model"] for one in logged if one["event"] == "model skipped"] == [SECOND]
    assert models.names() == {FIRST}


async def test_two_names_of_one_litellm_model_are_held_apart(make: Make, beat: Beat, link: db.Link) -> None:
    await define(link, "here", model=FIRST, api_base="http://gateway/v1")
    await configure(link, model="here", fallback_models=[FIRST])
    models = make()
    await beat(models)
    await hold(models, ModelUnavailable("down", model="here"))
    assert names(models) == [FIRST]
    assert [target.model for target in models.targets(AGENT)] == [FIRST]


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
    assert 1 < await pause_s(link) < FIRST_PAUSE_S + 1.1


async def test_a_held_model_gives_way_to_its_fallback(make: Make) -> None:
    models = make(default=AgentModels(models=(FIRST, SECOND)))
    await hold(models)
    assert models.claimable_agents() == [AGENT]
    assert names(models) == [SECOND]
    await hold(models, ModelUnavailable("down", model=SECOND))
    assert models.claimable_agents() == []
    assert names(models) == [FIRST], "a row that was claimed before the hold"


@pytest.mark.parametrize("error", [ModelTimeout("slow", model=FIRST), ModelRefused("no", model=FIRST)])
async def test_an_error_of_one_request_holds_nothing(make: Make, link: db.Link, error: ModelError) -> None:
    models = make()
    await fail(models, error)
    assert models.claimable_agents() == [AGENT]
    assert await link.run(LIST_HOLDS) == []


async def test_a_hold_counts_as_a_retry_if_another_request_succeeded_since_the_call_began(
    make: Make, link: db.Link
) -> None:
    await answered(link, ago_s=10)
    assert await fail(make(), ModelUnavailable("down", model=FIRST), elapsed_s=60) == OWN_FAULT
    assert await link.run(LIST_HOLDS) == []
    assert await fail(make(), ModelUnavailable("down", model=FIRST), elapsed_s=5) == HELD
    assert len(await link.run(LIST_HOLDS)) == 1


async def test_a_hold_that_the_database_refuses_spends_no_attempt(make: Make, connection: db.Connection) -> None:
    await connection.execute("ALTER TABLE draft_holds ADD CONSTRAINT none CHECK (false)")
    models = make()
    assert await fail(models, ModelUnavailable("down", model=FIRST)) == (ModelState.UNKNOWN, Action.GIVE_BACK)
    assert models.claimable_agents() == [AGENT]


async def test_nobody_waits_long_for_a_hold_to_be_written(make: Make, link: db.Link, connection: db.Connection) -> None:
    models = make()
    models.shared._write_wait_s = 0.05
    async with connection.transaction():
        await connection.execute("LOCK TABLE draft_holds")
        assert await fail(models, ModelUnavailable("down", model=FIRST)) == (ModelState.UNKNOWN, Action.GIVE_BACK)
    await asyncio.gather(*models.shared._writes)
    assert [row["model"] for row in await link.run(LIST_HOLDS)] == [FIRST], "it was written all the same"
    assert models.holds() == {FIRST: "model_unavailable"}


async def test_a_success_of_its_own_or_of_another_model_says_nothing(make: Make, link: db.Link) -> None:
    await answered(link, SECOND)
    await answered(link, request_id=CLAIM.id)
    assert await fail(make(), ModelUnavailable("down", model=FIRST), elapsed_s=60, id=CLAIM.id) == HELD


async def test_a_row_that_came_back_ten_times_holds_nobody(make: Make, link: db.Link) -> None:
    models = make()
    _, action = await fail(models, ModelUnavailable("down", model=FIRST), given_back=MAX_GIVEN_BACK)
    assert action is Action.RETRY
    assert await link.run(LIST_HOLDS) == []
    assert await fail(models, ModelUnavailable("down", model=FIRST), given_back=MAX_GIVEN_BACK - 1) == HELD


async def test_a_rate_limit_halves_the_concurrency_of_the_fleet_before_it_holds(
    make: Make, beat: Beat, link: db.Link
) -> None:
    mine, other = make(), make()
    await beat(mine, other)
    assert await rate_limit(mine, link, BURSTS_UNTIL_HOLD - 1) == [THROTTLED] * 2
    assert mine.claim_groups() == [ClaimGroup(agents=[AGENT], share=0.25)]
    assert other.claim_groups() == [ClaimGroup(agents=[AGENT])]
    await beat(other)
    assert other.claim_groups() == [ClaimGroup(agents=[AGENT], share=0.25)]
    assert await rate_limit(mine, link) == [HELD]
    assert mine.holds() == {FIRST: "model_rate_limited"}


async def test_the_many_rate_limits_of_one_burst_halve_once(make: Make, link: db.Link) -> None:
    fleet = [make() for _ in range(3)]
    for models in fleet * 4:
        await fail(models, ModelRateLimited("429", model=FIRST), elapsed_s=30)
    (row,) = await link.run(LIST_THROTTLES)
    assert (row["share"], row["bursts"]) == (0.5, 1)


async def test_a_success_between_two_bursts_starts_the_count_anew(make: Make, link: db.Link) -> None:
    models = make()
    await rate_limit(models, link, BURSTS_UNTIL_HOLD - 1)
    await answered(link)
    assert await rate_limit(models, link) == [OWN_FAULT], "another request succeeded since its call began"
    (row,) = await link.run(LIST_THROTTLES)
    assert (row["share"], row["bursts"]) == (0.125, 1)


@pytest.mark.parametrize(
    ("age_s", "share"), [(1, 0.25), (RECOVERY_S + 1, 0.5), (2 * RECOVERY_S + 1, None), (1e9, None)]
)
async def test_the_share_doubles_by_itself(
    make: Make, beat: Beat, link: db.Link, age_s: float, share: float | None
) -> None:
    models = make()
    await rate_limit(models, link, 2)
    await link.run("UPDATE draft_throttles SET changed_at = now() - make_interval(secs => %s)", [age_s])
    assert [row["share"] for row in await link.run(LIST_THROTTLES)] == ([share] if share else [])
    other = make()
    await beat(other)
    assert [group.share for group in other.claim_groups()] == [share or 1.0]


async def test_an_exhausted_quota_holds_at_once(make: Make, link: db.Link) -> None:
    assert await fail(make(), ModelRateLimited("429", model=FIRST, is_quota=True)) == HELD
    assert await link.run(LIST_THROTTLES) == []


async def test_an_agent_of_another_model_is_not_throttled(make: Make, link: db.Link) -> None:
    models = make(agents=[AGENT, "another"])
    await configure(link, agent="another", model=SECOND)
    models.apply(Catalog(agents={"another": AgentModels(models=(SECOND,))}))
    await rate_limit(models, link)
    assert models.claim_groups() == [ClaimGroup(agents=[AGENT], share=0.5), ClaimGroup(agents=["another"])], (
        "the small room first"
    )


async def test_an_agent_whose_model_has_a_ceiling_is_claimed_within_it(make: Make, link: db.Link) -> None:
    models = make(agents=[AGENT, "another"])
    await define(link, FIRST, rpm=7)
    await configure(link, agent="another", model=SECOND)
    (row,) = await link.run(READ)
    models.apply(Catalog.read(row["agents"], row["models"]))
    assert models.claim_groups() == [ClaimGroup(agents=[AGENT], ceiling=FIRST), ClaimGroup(agents=["another"])]


async def test_what_costs_nothing_is_claimed_when_the_budget_is_used_up(make: Make, link: db.Link) -> None:
    used_up = True
    models = make(agents=[AGENT, "another"], is_budget_used_up=lambda: used_up)
    free = {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}
    await define(link, SECOND, **free)
    await configure(link, agent="another", model=SECOND)
    (row,) = await link.run(READ)
    models.apply(Catalog.read(row["agents"], row["models"]))
    assert models.claim_groups() == [ClaimGroup(agents=["another"])]
    assert models.unpayable_agents() == [AGENT]
    used_up = False
    assert models.claimable_agents() == [AGENT, "another"]
    assert models.unpayable_agents() == []


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
    assert [target.name for target in winner.targets(AGENT, probe=FIRST)] == [FIRST]
    assert PROBE_S / 2 < await pause_s(link) <= PROBE_S
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


async def test_a_hold_that_ends_while_its_probe_is_taken_harms_nobody(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_request(connection)
    models = make()
    await hold(models)
    await lapse(link)
    await beat(models)
    run = models.link.run

    async def end_it_meanwhile(statement: str, params: db.Params = None) -> list[Any]:
        rows = await run(statement, params)
        if statement is TAKE_PROBE:
            await models.succeeded(FIRST)
        return rows

    monkeypatch.setattr(models.link, "run", end_it_meanwhile)
    assert await models.probe() == Probe(model=FIRST, agents=[AGENT])


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


@pytest.mark.parametrize(("age_s", "longest_s"), [(0, MAX_PAUSE_S), (1_800, 30), (86_400, MAX_OLD_PAUSE_S)])
async def test_a_failing_probe_doubles_the_pause_up_to_a_cap_that_grows_with_the_hold(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection, age_s: float, longest_s: float
) -> None:
    models = await probing(make, beat, link, connection)
    await link.run("UPDATE draft_holds SET since = now() - make_interval(secs => %s)", [age_s])
    pauses_s: list[float] = []
    for _ in range(8):
        with capture_logs() as logs:
            await hold(models, probe=FIRST)
        # As the statement itself had it: later some of it is over.
        pauses_s += [line["for_s"] for line in logs if line["event"] == "model on hold"]
        await lapse(link)
        await beat(models)
        assert await models.probe() == Probe(model=FIRST, agents=[AGENT])
    assert len(pauses_s) == 8
    for number, found_s in enumerate(pauses_s, start=1):
        bound_s = min(longest_s, FIRST_PAUSE_S * 2**number)
        assert bound_s - 1 < found_s < min(longest_s, bound_s * 1.21) + 0.1


def test_a_row_alone_survives_a_quarter_of_an_hour_without_an_attempt_spent() -> None:
    pauses_s = [min(FIRST_PAUSE_S * 2**given_back, max_pause_s(given_back)) for given_back in range(MAX_GIVEN_BACK)]
    assert sum(pauses_s) >= 900
    assert [max_pause_s(given_back) for given_back in range(4)] == [MAX_PAUSE_S] * 4


async def test_a_probe_that_has_come_back_often_makes_the_pause_longer(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    models = await probing(make, beat, link, connection)
    await link.run("UPDATE draft_holds SET failures = 8")
    await fail(models, ModelUnavailable("down", model=FIRST), probe=FIRST, given_back=6)
    assert 70 < await pause_s(link) <= 80


async def test_a_probe_that_will_be_retried_keeps_the_hold_all_the_same(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    models = await probing(make, beat, link, connection)
    down = ModelUnavailable("down", model=FIRST)
    assert await fail(models, down, probe=FIRST, given_back=MAX_GIVEN_BACK) == (ModelState.HELD, Action.RETRY)
    (row,) = await link.run("SELECT failures, probing FROM draft_holds")
    assert (row["failures"], row["probing"]) == (2, False)


async def test_a_rate_limit_halves_once_however_often_it_is_said(
    make: Make, link: db.Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = make()
    await rate_limit(models, link)
    await link.run("UPDATE draft_throttles SET changed_at = changed_at - interval '20 s'")
    run = models.link.run
    lost: list[str] = []

    async def lose_the_answer(statement: str, params: db.Params = None) -> list[Any]:
        rows = await run(statement, params)
        if not lost:
            lost.append(statement)
            raise ConnectionLost
        return rows

    monkeypatch.setattr(models.link, "run", lose_the_answer)
    await fail(models, ModelRateLimited("429", model=FIRST), elapsed_s=10.0)
    (row,) = await link.run(LIST_THROTTLES)
    assert (row["share"], row["bursts"], len(lost)) == (0.25, 2, 1)


async def test_one_failing_probe_doubles_the_pause_once_however_often_it_is_said(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    models = await probing(make, beat, link, connection)
    for _ in range(3):
        await hold(models, probe=FIRST)
    (row,) = await link.run("SELECT failures, probing FROM draft_holds")
    assert (row["failures"], row["probing"]) == (2, False)


async def test_the_many_failures_of_one_outage_are_one_pause(make: Make, link: db.Link) -> None:
    fleet = [make() for _ in range(3)]
    for _ in range(4):
        await asyncio.gather(*(hold(models) for models in fleet))
    assert await pause_s(link) < FIRST_PAUSE_S + 1.1
    (row,) = await link.run("SELECT failures FROM draft_holds")
    assert row["failures"] == 1


async def test_retry_after_is_honoured_up_to_an_hour(make: Make, link: db.Link) -> None:
    models = make()
    await hold(models, ModelUnavailable("529", model=FIRST, retry_after_s=90))
    assert 80 < await pause_s(link) <= 90
    await hold(models, ModelUnavailable("529", model=FIRST, retry_after_s=10))
    assert 70 < await pause_s(link) <= 90, "a shorter word does not shorten the pause"
    await hold(models, ModelUnavailable("529", model=FIRST, retry_after_s=86_400))
    assert 3_500 < await pause_s(link) <= 3_600


async def test_a_probe_that_is_told_to_wait_longer_waits_longer(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    models = await probing(make, beat, link, connection)
    await hold(models, ModelUnavailable("529", model=FIRST, retry_after_s=1_000), probe=FIRST)
    assert 900 < await pause_s(link) <= 1_000


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


async def test_the_end_of_a_hold_is_rung_and_seen_without_a_beat(
    make: Make, beat: Beat, connection: db.Connection
) -> None:
    models, other = make(), make()
    await hold(models)
    await beat(other)
    await listen(connection, CHANNEL)
    await models.succeeded(FIRST)
    assert [notice.channel async for notice in connection.notifies(timeout=20, stop_after=1)] == [CHANNEL]
    assert other.claimable_agents() == []
    await other.refresh(other.link)
    assert other.claimable_agents() == [AGENT]


async def test_nothing_is_looked_at_where_nothing_is_held(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    models = make()
    monkeypatch.setattr(models, "link", None)
    await models.refresh(models.link)
    assert models.claimable_agents() == [AGENT]


async def test_only_the_probe_may_ask_a_held_model_beside_its_fallback(make: Make, beat: Beat, link: db.Link) -> None:
    await configure(link, fallback_models=[SECOND])
    models = make()
    await beat(models)
    await hold(models)
    assert names(models) == [SECOND]
    assert [target.name for target in models.targets(AGENT, probe=FIRST)] == [FIRST, SECOND]


@pytest.mark.parametrize("error", [ModelRefused, OutputInvalid, ContextTooLong])
async def test_an_answer_that_cannot_be_used_ends_a_hold_all_the_same(
    make: Make, link: db.Link, error: type[ModelError]
) -> None:
    models = make()
    await hold(models)
    await fail(models, error(model=FIRST), probe=FIRST)
    assert await link.run(LIST_HOLDS) == []


async def test_a_probe_without_an_answer_gives_way_also_after_one_that_had_failed(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    models = await probing(make, beat, link, connection)
    await hold(models, probe=FIRST)
    await lapse(link)
    await beat(models)
    assert await models.probe()
    await models.return_probe(FIRST)
    assert await pause_s(link) <= 0


async def test_an_attempt_whose_probe_has_failed_ends_nobody_elses(
    make: Make, beat: Beat, link: db.Link, connection: db.Connection
) -> None:
    models, other = await probing(make, beat, link, connection), make()
    await hold(models, probe=FIRST)
    await lapse(link)
    await beat(other)
    assert await other.probe()
    await models.return_probe(FIRST)
    assert await pause_s(link) > PROBE_S / 2


async def test_a_timeout_of_the_probe_says_nothing(make: Make, link: db.Link) -> None:
    models = make()
    await hold(models)
    await fail(models, ModelTimeout(model=FIRST), probe=FIRST)
    assert len(await link.run(LIST_HOLDS)) == 1


async def test_an_agent_whose_key_is_not_set_here_is_left_to_others(make: Make, beat: Beat, link: db.Link) -> None:
    await configure(link)
    await define(link, FIRST, api_base="http://gateway/v1", api_key_env="GATEWAY_KEY")
    here, elsewhere = make(), make(getenv={"GATEWAY_KEY": "k"}.get)
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
    assert not models.update(Catalog(), [], [], as_of=began)
    assert models.claimable_agents() == []
    assert models.update(Catalog(), [], [], as_of=time.monotonic())


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
