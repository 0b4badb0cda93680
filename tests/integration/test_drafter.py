"""From a claimed row to a draft: which model is asked how often, what is recorded, and what is held meanwhile."""

import asyncio
import gc
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, cast
from unittest.mock import Mock
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from draftd import db
from draftd.errors import DatabaseUnavailable, Expired, ImageBudgetExhausted, LeaseLost, ModelUnavailable, first_line
from draftd.images import ByteBudget, ImageLoader, Part, Picture
from draftd.providers import failure_policy
from draftd.providers.catalog import AgentModels, Catalog, ModelDefinition
from draftd.providers.holds import RETURN_PROBE, Holds
from draftd.providers.llm import Completion, Llm
from draftd.providers.models import Models
from draftd.providers.parameters import LIMITS
from draftd.providers.permits import Address, Permits
from draftd.providers.reservations import Reservations
from draftd.providers.target import Target
from draftd.providers.throttles import Throttles
from draftd.queue import attempts
from draftd.queue.attempts import AttemptWriter
from draftd.queue.outcome import Done, Fail, GiveBack, Outcome, Retry
from draftd.queue.refused_rows import Quarantine
from draftd.queue.settlements import Settler, Trail
from draftd.reply import progress
from draftd.reply.agents import load_agents, packaged_directory
from draftd.reply.attempt import MARGIN_S, MIN_CALL_S
from draftd.reply.drafter import AttemptResult, Drafter
from draftd.reply.fallback import ModelFallback
from draftd.reply.inputs import InputReader
from draftd.reply.kept_pictures import AttemptPictures, PictureStore
from draftd.reply.metered_call import MeteredCalls
from draftd.reply.prompts import render
from draftd.request import Claim, Request
from draftd.stand_in.server import StandIn
from draftd.telemetry.metrics import Metrics
from draftd.telemetry.tracing import Tracing
from fix_database import claim_one, make_request, overwrite, read_row
from fix_images import encoded, make_picture

# litellm reads a pydantic attribute in a deprecated way at every chunk.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

BUDGET_BYTES = 1_000_000
JPEG = encoded(make_picture(), "JPEG")
FIRST, SECOND = "openai/first", "openai/second"
LENGTHS = ("short", "medium", "detailed")
REWRITTEN = {
    "short": "Rewritten: yes.",
    "medium": "Quite another reply than the first ones, and a bit longer, so that none of it is taken for a repetition.",
    "detailed": "Something else entirely: bring the list on Monday, have every open point named with the person who knows it "
    "best, and leave half an hour at the end in which nobody presents anything, because that is when people talk.",
}
BAD = {"placeholder": True}


class Loader:
    """An image loader without network; ``look`` is called while it loads."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.holds = False
        self.look: Callable[[], None] = lambda: None

    async def load(
        self, urls: Sequence[str], *, kept: AttemptPictures, reservations: AsyncExitStack, time_s: float
    ) -> list[Picture]:
        assert time_s >= 0
        self.loaded += urls
        self.look()
        part = Part(data=JPEG, width_px=64, height_px=48)
        self.holds = True
        reservations.callback(setattr, self, "holds", False)
        picture = Picture(host="h", sha256="a" * 64, width_px=64, height_px=48, parts=(part,), truncated=False)
        for index in range(len(urls)):
            kept.add(index, picture)
        return [picture] * len(urls)


class CountingWriter(AttemptWriter):
    """A writer that remembers what was published."""

    def __init__(self, *, link: db.Link) -> None:
        super().__init__(link=link, quarantine=Quarantine())
        self.published: list[dict[str, Any]] = []

    async def publish(self, claim: Claim, partial_result: dict[str, Any]) -> None:
        self.published.append(partial_result)
        await super().publish(claim, partial_result)


@dataclass
class Rig:
    """A drafter with everything real but the pictures and the model."""

    drafter: Drafter
    calls: MeteredCalls
    llm: Llm
    standin: StandIn
    models: Models
    holds: Holds
    writer: CountingWriter
    settler: Settler
    loader: Loader
    metrics: Metrics
    budget: ByteBudget
    links: list[db.Link]

    async def run(self, claim: Claim, *, time_s: float | None = None) -> AttemptResult:
        """Run an attempt and wait for its usage, as a claim loop does."""
        if time_s is not None:
            claim = replace(claim, attempt_s=MARGIN_S + time_s)
        try:
            return await self.drafter.draft(claim)
        finally:
            await self.writer.wait_until_recorded(claim)

    async def draft(self, claim: Claim) -> Done:
        """Run an attempt that ends with a draft."""
        outcome, _ = await self.run(claim)
        assert isinstance(outcome, Done), outcome
        return outcome

    async def fail(self, claim: Claim, *, time_s: float | None = None) -> Fail | Retry | GiveBack:
        """Run an attempt that ends without one."""
        outcome, _ = await self.run(claim, time_s=time_s)
        assert isinstance(outcome, Fail | Retry | GiveBack), outcome
        return outcome

    def asked(self) -> list[str]:
        """Which models were asked, in order."""
        return [call["model"] for call in self.standin.log]

    def choose(self, *models: str, **over: Any) -> None:
        params = over.pop("params", {})
        definition: dict[str, Any] = {"api_base": self.standin.url, "api_key_env": "KEY"} | over
        self.models.apply(
            Catalog(
                agents={"comment_generator": AgentModels(models=models, params=params)},
                definitions={name: ModelDefinition(**{"model": name, **definition}) for name in models},
            )
        )


@pytest.fixture
async def rig(database: str, llm: Llm, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(failure_policy, "REPEAT_DELAY_S", (0.0, 0.0))
    standin = StandIn()
    await standin.start()
    links = [db.Link(url=database, name=f"rig {name}") for name in ("read", "settle")]
    loader, metrics, budget, writer = Loader(), Metrics(), ByteBudget(BUDGET_BYTES), CountingWriter(link=links[1])
    throttles = Throttles(link=links[0])
    holds = Holds(link=links[0], throttles=throttles, probe_s=40)
    models = Models(
        holds=holds,
        throttles=throttles,
        agents=["comment_generator"],
        default=None,
        permits=Permits(bases=[base for base in [Address.parse(standin.url)] if base], variables=["KEY", "ABSENT_KEY"]),
        getenv={"KEY": "stand-in"}.get,
    )
    reservations = Reservations(link=links[0], worker_id=uuid.uuid4())
    calls = MeteredCalls(
        llm=llm, reservations=reservations, writer=writer, tracing=Tracing(), metrics=metrics, model_timeout_s=20.0
    )
    made = Rig(
        drafter=Drafter(
            agents=load_agents(packaged_directory()),
            models=models,
            holds=holds,
            pictures=PictureStore(link=links[0]),
            inputs=InputReader(link=links[0], budget=budget, loader=cast("ImageLoader", loader)),
            fallback=ModelFallback(calls=calls, models=models, holds=holds, writer=writer, metrics=metrics),
            tracing=Tracing(),
        ),
        calls=calls,
        llm=llm,
        standin=standin,
        models=models,
        holds=holds,
        writer=writer,
        settler=Settler(link=links[1], quarantine=Quarantine()),
        loader=loader,
        metrics=metrics,
        budget=budget,
        links=links,
    )
    made.choose(FIRST)
    yield made
    await standin.stop()
    await writer.flush()
    for link in links:
        await link.close()


Claimed = Callable[..., Any]


@pytest.fixture
def claimed(connection: db.Connection, link: db.Link) -> Claimed:
    """Insert a request and claim it."""

    async def claimed(**over: Any) -> Claim:
        await make_request(connection, **over)
        return await claim_one(link)

    return claimed


async def usage(link: db.Link) -> list[tuple[str, str | None]]:
    return [(row["model"], row["code"]) for row in await link.run("SELECT model, code FROM draft_usage ORDER BY call")]


async def test_a_draft_says_where_it_came_from(rig: Rig, claimed: Claimed) -> None:
    claim = await claimed()
    done, trail = await rig.run(claim)
    assert isinstance(done, Done)
    assert done.model == FIRST
    assert "+" in done.prompt_version
    assert [option["length"] for option in done.draft.result["options"]] == ["short", "medium", "detailed"]
    assert trail.images == [{"host": "h", "sha256": "a" * 64, "width": 64, "height": 48, "parts": 1}]
    assert rig.asked() == ["first"]


async def test_every_call_carries_the_clients_trace(
    rig: Rig, claimed: Claimed, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str | None] = []
    complete = rig.llm.complete

    async def watched(*args: Any, traceparent: str | None, **how: Any) -> Completion:
        sent.append(traceparent)
        return await complete(*args, traceparent=traceparent, **how)

    monkeypatch.setattr(rig.llm, "complete", watched)
    rig.standin.script(once={"garbage": True})
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await rig.draft(await claimed(traceparent=traceparent))
    assert sent == [traceparent, traceparent]


@pytest.mark.parametrize(
    ("behaviour", "calls", "code"),
    [
        ({"refusal": True}, 1, "model_refused"),
        ({"error": "context_length_exceeded"}, 1, "context_too_long"),
        ({"status": 429}, 1, "model_rate_limited"),
        ({"status": 401}, 1, "model_misconfigured"),
        ({"status": 529}, 2, "model_unavailable"),
        ({"hang": True}, 1, "model_timeout"),
    ],
)
async def test_the_next_model_is_asked_when_the_first_one_cannot(
    rig: Rig,
    claimed: Claimed,
    link: db.Link,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: dict[str, Any],
    calls: int,
    code: str,
) -> None:
    rig.choose(FIRST, SECOND)
    rig.standin.script(default=[behaviour | {"when_model": "first"}])
    if "hang" in behaviour:
        # The first one's alone is so short: the next one's answer may take its time.
        short = iter([MIN_CALL_S])
        limit = property(lambda _calls: next(short, 60.0))
        monkeypatch.setattr(MeteredCalls, "_model_timeout_s", limit, raising=False)
    done = await rig.draft(await claimed())
    assert done.model == SECOND
    assert rig.asked() == ["first"] * calls + ["second"]
    assert await usage(link) == [(FIRST, code)] * calls + [(SECOND, None)]


@pytest.mark.parametrize(
    ("behaviour", "code"), [({"garbage": True}, "output_invalid"), ({"nothing": True}, "nothing_to_reply_to")]
)
async def test_what_another_model_could_not_do_better_is_not_asked_of_it(
    rig: Rig, claimed: Claimed, behaviour: dict[str, Any], code: str
) -> None:
    rig.choose(FIRST, SECOND)
    rig.standin.script(default=[behaviour])
    assert (await rig.fail(await claimed())).code == code
    assert "second" not in rig.asked()


async def test_a_bad_answer_is_repaired_by_saying_what_was_wrong(rig: Rig, claimed: Claimed) -> None:
    rig.standin.script([BAD])
    done = await rig.draft(await claimed())
    first, repair = rig.standin.log
    assert "Dear [Name]" in repair["prompt"].replace(first["prompt"], "")
    assert "`short` has a placeholder" in repair["prompt"]
    assert repair["max_tokens"] == first["max_tokens"]
    assert repair["images"] == first["images"]
    assert "[Name]" not in done.draft.result["options"][0]["text"]


async def test_a_repair_leaves_what_was_published_as_it_was(rig: Rig, claimed: Claimed) -> None:
    rig.standin.script([{"fields": {"detailed": "Dear [Name], " + "please " * 60}}, {"fields": REWRITTEN}])
    done = await rig.draft(await claimed())
    (*_, last) = rig.writer.published
    shown = [option["text"] for option in last["options"]]
    assert len(shown) == 2
    assert [option["text"] for option in done.draft.result["options"]] == [*shown, REWRITTEN["detailed"]]
    assert all(json.dumps(text) in rig.standin.log[-1]["prompt"] for text in shown)


async def test_a_second_model_leaves_what_the_first_published_as_it_was(rig: Rig, claimed: Claimed) -> None:
    rig.choose(FIRST, SECOND)
    first = {"when_model": "first", "stall_after": '"medium_stance"'}
    rig.standin.script(default=[first, {"when_model": "second", "fields": REWRITTEN}])
    limit = iter([MIN_CALL_S])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeteredCalls, "_model_timeout_s", property(lambda _: next(limit, 60.0)), raising=False)
        done = await rig.draft(await claimed())
    rig.standin.release()
    (shown,) = rig.writer.published[0]["options"]
    texts = [option["text"] for option in done.draft.result["options"]]
    assert (done.model, texts) == (SECOND, [shown["text"], REWRITTEN["medium"], REWRITTEN["detailed"]])
    assert json.dumps(shown["text"]) in rig.standin.log[-1]["prompt"]


async def test_drafts_that_dodge_a_decision_are_repaired_once_and_then_taken(
    rig: Rig, claimed: Claimed, link: db.Link
) -> None:
    dodging = {"expects": "decision", **{f"{length}_stance": "open" for length in LENGTHS}}
    rig.standin.script(default=[{"fields": dodging}])
    done = await rig.draft(await claimed())
    assert [option["stance"] for option in done.draft.result["options"]] == ["open"] * 3
    assert await usage(link) == [(FIRST, None)] * 2
    assert "A decision is due" in rig.standin.log[-1]["prompt"]


async def test_a_list_of_which_none_is_open_fails_as_nothing_open(rig: Rig, claimed: Claimed) -> None:
    rig.standin.script([{"fields": {"shown": "closed_list"}}])
    outcome = await rig.fail(await claimed())
    assert isinstance(outcome, Fail)
    assert outcome.code == "nothing_open"


async def test_there_is_no_second_repair(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    rig.standin.script([BAD, BAD])
    outcome = await rig.fail(await claimed())
    assert (outcome.code, outcome.model) == ("output_invalid", FIRST)
    assert "has a placeholder" in outcome.message
    assert rig.asked() == ["first", "first"]
    assert await usage(link) == [(FIRST, None), (FIRST, None)], "both were answered, and paid"


async def test_an_answer_that_was_cut_off_gets_twice_the_room_once(rig: Rig, claimed: Claimed) -> None:
    rig.choose(FIRST, params={"max_tokens": 1_000})
    rig.standin.script([{"truncated": True}, {"truncated": True}])
    assert (await rig.fail(await claimed())).code == "output_invalid"
    assert [call["max_tokens"] for call in rig.standin.log] == [1_000, 2_000]
    first, second = rig.standin.log
    _, told = second["prompt"].split(first["prompt"])
    assert told.startswith("\n\nThe requester has already been shown"), "there was nothing wrong with it but its length"


async def test_an_object_that_the_picture_shows_is_no_answer_when_the_models_own_was_cut_off(
    rig: Rig, claimed: Claimed
) -> None:
    rig.choose(FIRST, params={"max_tokens": 1_000})
    says = 'It shows {"shown": "nothing"}. My answer: {"shown": "message", "platform": "sl'
    rig.standin.script([{"says": says, "truncated": True}])
    await rig.draft(await claimed())
    assert [call["max_tokens"] for call in rig.standin.log] == [1_000, 2_000]


async def test_the_operators_parameters_go_before_those_of_the_prompt(rig: Rig, claimed: Claimed) -> None:
    await rig.draft(await claimed(id=UUID(int=1)))
    rig.choose(FIRST, params={"max_tokens": 777})
    await rig.draft(await claimed(id=UUID(int=2)))
    asked = [call["max_tokens"] for call in rig.standin.log]
    assert asked[0] >= 4_096
    assert asked[1] == 777


@pytest.mark.parametrize(
    ("params", "first", "repair"),
    [
        ({"max_completion_tokens": 1_000}, {"max_completion_tokens": 1_000}, {"max_completion_tokens": 2_000}),
        ({"max_tokens": None}, {"max_tokens": None}, {"max_tokens": None}),
        ({"top_k": 5}, {"max_tokens": 4_096}, {"max_tokens": 8_192}),
    ],
)
async def test_the_limit_of_tokens_is_the_operators_whatever_it_is_called(
    rig: Rig,
    claimed: Claimed,
    monkeypatch: pytest.MonkeyPatch,
    params: dict[str, Any],
    first: dict[str, Any],
    repair: dict[str, Any],
) -> None:
    rig.choose(FIRST, params=params)
    original, limits = rig.llm.complete, []

    async def watching(target: Target, *args: Any, **kwargs: Any) -> Completion:
        limits.append({name: target.params[name] for name in LIMITS if name in target.params})
        return await original(target, *args, **kwargs)

    monkeypatch.setattr(rig.llm, "complete", watching)
    rig.standin.script([{"truncated": True}])
    await rig.draft(await claimed())
    assert limits == [first, repair]


async def test_one_hiccup_is_no_outage(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    rig.standin.script([{"status": 500}])
    await rig.draft(await claimed())
    assert await usage(link) == [(FIRST, "model_unavailable"), (FIRST, None)]
    assert rig.holds.codes() == {}
    assert await link.run("SELECT * FROM draft_holds") == []


async def test_two_hiccups_in_a_row_hold_the_model(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    rig.standin.script([{"status": 500}, {"disconnect": True}])
    assert (await rig.fail(await claimed())).code == "model_unavailable"
    assert rig.asked() == ["first", "first"]
    assert [row["code"] for row in await link.run("SELECT code FROM draft_holds")] == ["model_unavailable"]


async def test_a_rate_limit_is_not_asked_again_and_passes_its_wait_on(
    rig: Rig, claimed: Claimed, link: db.Link
) -> None:
    rig.standin.script(default=[{"status": 429, "retry_after_s": 40}])
    outcome, _ = await rig.run(await claimed())
    assert isinstance(outcome, GiveBack)
    assert (outcome.code, outcome.model, outcome.delay_s) == ("model_rate_limited", FIRST, 40)
    assert await link.run("SELECT * FROM draft_holds") == []
    assert rig.asked() == ["first"]


async def test_an_exhausted_quota_holds_the_model(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    rig.standin.script(default=[{"error": "insufficient_quota"}])
    outcome, _ = await rig.run(await claimed())
    assert isinstance(outcome, GiveBack)
    assert [row["code"] for row in await link.run("SELECT code FROM draft_holds")] == ["model_rate_limited"]


async def test_a_probe_is_one_call(rig: Rig, claimed: Claimed) -> None:
    rig.standin.script(default=[{"status": 503}])
    assert (await rig.fail(replace(await claimed(), probe=FIRST))).code == "model_unavailable"
    assert rig.asked() == ["first"]


async def test_a_probe_that_had_no_answer_in_time_gives_way_at_once(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    await rig.draft(await claimed())  # what litellm imports at its first call would take the time of the next one
    rig.holds._reported.clear()  # as taking a probe does
    claim = replace(await claimed(), probe=FIRST)
    await link.run(
        "INSERT INTO draft_holds (model, code, probing, until) VALUES (%s, 'x', true, now() + '1 min')", [FIRST]
    )
    rig.standin.script(default=[{"hang": True}])
    assert (await rig.fail(claim, time_s=MIN_CALL_S + 0.5)).code == "model_timeout"
    await asyncio.gather(*rig.holds._writes)
    (row,) = await link.run("SELECT probing, until <= now() AS lapsed FROM draft_holds")
    assert row == {"probing": False, "lapsed": True}


async def test_a_probe_that_failed_leaves_the_pause_that_it_brought(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    claim = replace(await claimed(), probe=FIRST)
    await link.run(
        "INSERT INTO draft_holds (model, code, probing, until) VALUES (%s, 'x', true, now() + '1 min')", [FIRST]
    )
    rig.standin.script(default=[{"status": 503}])
    assert (await rig.fail(claim)).code == "model_unavailable"
    (row,) = await link.run("SELECT probing, until > now() AS waits FROM draft_holds")
    assert row == {"probing": False, "waits": True}


@pytest.mark.parametrize(("expires_in_s", "code"), [(60.0, "invalid_request"), (0.0, "expired")])
async def test_a_probe_that_ends_before_it_asks_gives_way_at_once(
    rig: Rig, claimed: Claimed, link: db.Link, expires_in_s: float, code: str
) -> None:
    claim = replace(await claimed(options={"max_chars": 0}), probe=FIRST, expires_in_s=expires_in_s)
    await link.run(
        "INSERT INTO draft_holds (model, code, probing, until) VALUES (%s, 'x', true, now() + '1 min')", [FIRST]
    )
    outcome, _ = await rig.run(claim)
    assert isinstance(outcome, Fail)
    assert outcome.code == code
    (row,) = await link.run("SELECT probing, until <= now() AS lapsed FROM draft_holds")
    assert row == {"probing": False, "lapsed": True}


async def test_a_failure_is_no_hold_when_another_succeeded_after_the_first_try(
    rig: Rig, claimed: Claimed, link: db.Link
) -> None:
    rig.standin.script([{"status": 503}, {"hang": True, "status": 503}])
    drafting = asyncio.create_task(rig.run(await claimed()))
    await rig.standin.wait_for_calls(2)
    await rig.draft(await claimed())
    rig.standin.release()
    outcome, _ = await drafting
    assert isinstance(outcome, Retry)
    assert await link.run("SELECT * FROM draft_holds") == []


async def test_a_success_before_the_first_failure_does_not_burn_an_attempt(rig: Rig, claimed: Claimed) -> None:
    rig.standin.script([{"hang": True, "status": 503}])
    drafting = asyncio.create_task(rig.run(await claimed()))
    await rig.standin.wait_for_calls(1)
    await rig.draft(await claimed())
    rig.standin.script(default=[{"status": 503}])
    rig.standin.release()
    outcome, _ = await drafting
    assert isinstance(outcome, GiveBack)


async def test_what_expires_before_the_model_is_asked_is_not_paid_for(rig: Rig, claimed: Claimed) -> None:
    claim = replace(await claimed(), expires_in_s=0.05)
    rig.loader.look = lambda: time.sleep(0.1)
    outcome, _ = await rig.run(claim)
    assert outcome == Fail(code="expired", message=first_line(Expired))
    assert rig.asked() == []


async def hold(rig: Rig, model: str, claim: Claim) -> None:
    error = ModelUnavailable("down", model=model)
    await rig.holds.failed(error, model=model, claim=claim, began=time.monotonic() - 1)


async def test_a_success_ends_a_hold(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    claim = await claimed()
    await hold(rig, FIRST, claim)
    await rig.draft(claim)
    assert rig.holds.codes() == {}
    assert await link.run("SELECT * FROM draft_holds") == []


@pytest.mark.parametrize("behaviour", [{"status": 429}, {"status": 500}, {"status": 401}])
async def test_a_row_whose_repair_failed_does_not_come_back_at_once(
    rig: Rig, claimed: Claimed, behaviour: dict[str, Any]
) -> None:
    rig.standin.script([BAD], default=[behaviour])
    outcome, _ = await rig.run(await claimed())
    assert isinstance(outcome, GiveBack)
    assert outcome.delay_s > 0 or outcome.model in rig.holds.codes()


async def test_a_missing_key_asks_nobody_and_fetches_nothing(rig: Rig, claimed: Claimed) -> None:
    rig.choose(FIRST, api_key_env="ABSENT_KEY")
    outcome, trail = await rig.run(await claimed())
    assert isinstance(outcome, Retry)
    assert (outcome.code, trail.images) == ("model_misconfigured", None)
    assert rig.asked() == []


async def test_a_refusal_is_not_the_last_word_while_a_fallback_is_on_hold(rig: Rig, claimed: Claimed) -> None:
    rig.choose(FIRST, SECOND)
    claim = await claimed()
    await hold(rig, SECOND, claim)
    rig.standin.script(default=[{"refusal": True}])
    outcome, _ = await rig.run(claim)
    assert isinstance(outcome, Retry)
    assert outcome.code == "model_refused"


async def test_what_a_refusal_cost_is_recorded(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    rig.standin.script(default=[{"refusal": True}])
    await rig.run(await claimed())
    (row,) = await link.run("SELECT code, input_tokens FROM draft_usage")
    assert row["code"] == "model_refused"
    assert row["input_tokens"] > 0


async def test_what_came_from_the_providers_cache_is_recorded_and_charged_at_its_price(
    rig: Rig, claimed: Claimed, link: db.Link
) -> None:
    free = {"input_usd_per_mtok": Decimal(0), "output_usd_per_mtok": Decimal(0)}
    rig.choose(FIRST, cached_input_usd_per_mtok=Decimal(1_000), **free)
    rig.standin.script(default=[{"cached_tokens": 700}])
    await rig.run(await claimed())
    (row,) = await link.run("SELECT cached_tokens, cost_usd FROM draft_usage")
    assert (row["cached_tokens"], row["cost_usd"]) == (700, Decimal("0.7"))


async def test_every_call_is_recorded_before_the_settlement_that_sums_it_up(
    rig: Rig, claimed: Claimed, link: db.Link, connection: db.Connection
) -> None:
    rig.choose(FIRST, input_usd_per_mtok=Decimal(1_000), output_usd_per_mtok=Decimal(2_000))
    rig.standin.script([{"status": 500}, BAD])
    claim = await claimed()
    outcome, trail = await rig.run(claim)
    assert isinstance(outcome, Done)
    recorded = await link.run("SELECT * FROM draft_usage ORDER BY call")
    assert [(row["call"], row["code"]) for row in recorded] == [(1, "model_unavailable"), (2, None), (3, None)]
    assert {(row["request_id"], row["attempt"], row["lease_token"]) for row in recorded} == {(claim.id, 1, 1)}
    assert (await rig.settler.settle(claim, outcome, trail)).status == "completed"
    row = await read_row(connection, claim.id)
    for column in ("input_tokens", "output_tokens", "cost_usd"):
        assert row[column] == sum(one[column] for one in recorded[1:]), column
    assert row["cost_usd"] == (row["input_tokens"] + 2 * row["output_tokens"]) / Decimal(1_000)
    counted = rig.metrics.registry.get_sample_value("draftd_tokens_total", {"model": FIRST, "kind": "input"})
    assert counted == row["input_tokens"]


async def test_an_aborted_call_is_recorded(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    rig.standin.script(default=[{"hang": True}])
    task = asyncio.create_task(rig.draft(await claimed()))
    await rig.standin.wait_for_calls(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await rig.standin.wait_for_calls(1, outcome="client_gone")
    assert await usage(link) == [(FIRST, "aborted")]
    assert rig.holds.codes() == {}


async def test_each_option_is_published_once_and_as_the_result_holds_it(
    rig: Rig, claimed: Claimed, connection: db.Connection
) -> None:
    rig.standin.script(default=[{"tokens_per_s": 2_000}])
    claim = await claimed()
    done = await rig.draft(claim)
    counts = [len(partial["options"]) for partial in rig.writer.published]
    assert counts == [1, 2, 3]
    row = await read_row(connection, claim.id)
    assert row["partial_result"] == rig.writer.published[-1]
    assert row["partial_result"]["options"] == done.draft.result["options"]


async def test_a_repair_publishes_nothing(rig: Rig, claimed: Claimed) -> None:
    rig.standin.script([BAD], default=[{"tokens_per_s": 2_000}])
    await rig.draft(await claimed())
    assert rig.writer.published == []
    assert [call["stream"] for call in rig.standin.log] == [True, False]


async def test_the_time_to_the_first_option_counts_from_the_claim(rig: Rig, claimed: Claimed) -> None:
    outcome, _ = await rig.run(await claimed())
    assert isinstance(outcome, Done)
    sample = rig.metrics.registry.get_sample_value
    assert sample("draftd_first_option_seconds_count") == 1
    assert 0 < (sample("draftd_first_option_seconds_sum") or 0) < 30


async def test_progress_is_fenced(rig: Rig, claimed: Claimed, link: db.Link, connection: db.Connection) -> None:
    rig.standin.script(default=[{"hang": True}])
    claim = await claimed()
    task = asyncio.create_task(rig.draft(claim))
    await rig.standin.wait_for_calls(1)
    await link.run("UPDATE draft_requests SET lease_token = lease_token + 1")
    rig.standin.release()
    with pytest.raises(LeaseLost):
        await task
    assert len(rig.writer.published) == 1, "after a lost lease nothing more is said"
    assert (await read_row(connection, claim.id))["partial_result"] is None
    assert await usage(link) == [(FIRST, "aborted")], "its cost cannot be refused"


async def test_neither_a_row_nor_a_connection_is_held_while_the_model_is_asked(
    rig: Rig, claimed: Claimed, link: db.Link
) -> None:
    rig.standin.script(default=[{"hang": True}])
    task = asyncio.create_task(rig.draft(await claimed()))
    await rig.standin.wait_for_calls(1)
    assert rig.budget._free_bytes == BUDGET_BYTES
    for one in rig.links:
        assert await asyncio.wait_for(one.run("SELECT 1 AS n"), 20) == [{"n": 1}]
    sessions = await link.run(
        "SELECT state, xact_start FROM pg_stat_activity WHERE application_name LIKE 'rig %%' AND datname = current_database()"
    )
    assert sessions == [{"state": "idle", "xact_start": None}] * 2
    rig.standin.release()
    await task


async def test_pictures_count_against_the_budget_while_they_are_loaded(rig: Rig, claimed: Claimed) -> None:
    claim = await claimed(image_urls=["data:image/png;base64," + "A" * 4_000])
    free: list[int] = []
    rig.loader.look = lambda: free.append(rig.budget._free_bytes)
    await rig.draft(claim)
    assert free == [BUDGET_BYTES - claim.image_bytes]
    assert claim.image_bytes >= 4_000
    assert rig.budget._free_bytes == BUDGET_BYTES


async def test_what_pictures_became_has_its_room_until_the_model_has_answered(rig: Rig, claimed: Claimed) -> None:
    rig.standin.script(default=[{"hang": True}])
    gc.collect()  # what earlier tests left behind
    task = asyncio.create_task(rig.draft(await claimed()))
    await rig.standin.wait_for_calls(1)
    assert rig.loader.holds
    # Nobody counts these any more; the message is what has room.
    assert [one for one in gc.get_objects() if isinstance(one, Request | Picture)] == []
    rig.standin.release()
    await task
    assert not rig.loader.holds


async def test_an_attempt_that_finds_no_room_for_its_row_in_time_is_tried_again(rig: Rig, claimed: Claimed) -> None:
    claim = await claimed()
    async with rig.budget.reserve(BUDGET_BYTES, time_s=1):
        outcome = await rig.fail(claim, time_s=MIN_CALL_S + 0.05)
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.message) == ("image_fetch_failed", first_line(ImageBudgetExhausted))
    assert rig.loader.loaded == []


async def test_the_urls_are_read_in_their_order_and_as_they_were_written(rig: Rig, claimed: Claimed) -> None:
    urls = [f'https://h/{number},"{{}}\\NULL.png' for number in (3, 1, 2)]
    await rig.draft(await claimed(image_urls=urls))
    assert rig.loader.loaded == urls


async def test_pictures_become_base64_beside_the_event_loop(
    rig: Rig, claimed: Claimed, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def watched(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        threads.append(threading.current_thread())
        return render(*args, **kwargs)

    monkeypatch.setattr("draftd.reply.inputs.render", watched)
    await rig.draft(await claimed())
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_dropped_pictures_are_gone(rig: Rig, claimed: Claimed, connection: db.Connection) -> None:
    claim = await claimed()
    await overwrite(connection, claim.id, image_urls=["https://h/1.png", "sha256:abc"])
    assert (await rig.fail(claim)).code == "image_gone"
    assert (rig.loader.loaded, rig.asked()) == ([], [])


@pytest.mark.parametrize("options", [{"colour": "blue"}, {"max_chars": 0}])
async def test_options_that_are_not_understood_cost_nothing(
    rig: Rig, claimed: Claimed, connection: db.Connection, options: dict[str, Any]
) -> None:
    claim = await claimed()
    await overwrite(connection, claim.id, options=options)
    outcome, _ = await rig.run(claim)
    assert isinstance(outcome, Fail)
    assert outcome.code == "invalid_request"
    assert next(iter(options)) in outcome.message
    assert (rig.loader.loaded, rig.asked()) == ([], [])


async def test_an_agent_without_a_prompt_is_an_invalid_request(
    rig: Rig, connection: db.Connection, link: db.Link
) -> None:
    await make_request(connection)
    claim = await claim_one(link)
    stranger = Claim(**{name: getattr(claim, name) for name in Claim.__slots__} | {"agent": "stranger"})
    outcome = await rig.fail(stranger)
    assert outcome.code == "invalid_request"
    assert "'stranger'" in outcome.message


async def test_a_row_that_is_not_held_any_more_is_not_read(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    claim = await claimed()
    await link.run("UPDATE draft_requests SET lease_token = lease_token + 1")
    with pytest.raises(LeaseLost):
        await rig.draft(claim)
    assert rig.loader.loaded == []


async def test_a_model_call_without_time_is_not_begun(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    outcome = await rig.fail(await claimed(), time_s=MIN_CALL_S - 0.1)
    assert outcome.code == "model_timeout"
    assert "before the model call" in outcome.message
    assert rig.asked() == []
    assert await usage(link) == []


async def test_a_model_call_ends_with_the_attempt(rig: Rig, claimed: Claimed) -> None:
    await rig.draft(await claimed())  # what litellm imports at its first call would take the time of the next one
    rig.standin.script(default=[{"hang": True}])
    began = time.monotonic()
    assert (await rig.fail(await claimed(), time_s=MIN_CALL_S + 0.2)).code == "model_timeout"
    assert time.monotonic() - began < 20


async def test_a_refinement_of_what_had_been_cut_says_so_again(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    claim = await claimed()
    outcome, trail = await rig.run(claim)
    assert isinstance(outcome, Done)
    cut = outcome.draft.result | {"warnings": ["image_truncated"]}
    await rig.settler.settle(claim, replace(outcome, draft=replace(outcome.draft, result=cut)), trail)
    await link.run("INSERT INTO draft_requests (parent_id, context) VALUES (%s, 'shorter, please')", [claim.id])
    done = await rig.draft(await claim_one(link))
    assert "image_truncated" in done.draft.result["warnings"]


async def test_progress_that_cannot_be_written_does_not_use_up_the_models_time(
    rig: Rig, claimed: Claimed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PUBLISH_S", 0.05)
    never = asyncio.Event()

    async def stand_still(_claim: Claim, partial: dict[str, Any]) -> None:
        rig.writer.published.append(partial)
        await never.wait()

    monkeypatch.setattr(rig.writer, "publish", stand_still)
    await rig.draft(await claimed())
    assert rig.writer.published


async def test_a_refinement_reads_no_picture(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    claim = await claimed()
    outcome, trail = await rig.run(claim)
    await rig.settler.settle(claim, outcome, trail)
    assert isinstance(outcome, Done)
    await link.run("INSERT INTO draft_requests (parent_id, context) VALUES (%s, 'shorter, please')", [claim.id])
    await rig.draft(await claim_one(link))
    assert len(rig.loader.loaded) == 1
    asked = rig.standin.log[-1]
    assert asked["images"] == []
    assert outcome.draft.result["options"][0]["text"] in asked["prompt"]
    assert "shorter, please" in asked["prompt"]


async def refined(rig: Rig, claimed: Claimed, link: db.Link, **options: Any) -> Claim:
    """Return a claim of a refinement of a finished request, whose results lack the newer keys."""
    claim = await claimed()
    outcome, trail = await rig.run(claim)
    assert isinstance(outcome, Done)
    new = {"other_targets", "unsent_text"}
    old = {key: value for key, value in outcome.draft.result.items() if key not in new}
    old["options"] = [{key: one[key] for key in ("length", "angle", "text")} for one in old["options"]]
    await rig.settler.settle(claim, replace(outcome, draft=replace(outcome.draft, result=old)), trail)
    statement = "INSERT INTO draft_requests (parent_id, options) VALUES (%s, %s)"
    await link.run(statement, [claim.id, Jsonb(options)])
    return await claim_one(link)


async def test_a_refinement_without_a_word_is_refused_what_the_chain_has_already(
    rig: Rig, claimed: Claimed, link: db.Link
) -> None:
    claim = await refined(rig, claimed, link)
    (*_, last) = rig.writer.published
    rig.standin.script(default=[{"fields": {option["length"]: option["text"] for option in last["options"]}}])
    outcome = await rig.fail(claim)
    assert outcome.code == "output_invalid"
    assert "resembles an earlier draft" in outcome.message
    assert len(rig.writer.published) == 3, "nothing of the refinement was published"


async def test_a_refinement_without_a_word_gives_other_drafts(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    claim = await refined(rig, claimed, link)
    earlier = {option["text"] for option in rig.writer.published[-1]["options"]}
    drafted = {option["text"] for option in (await rig.draft(claim)).draft.result["options"]}
    assert len(earlier | drafted) == 6
    assert all(json.dumps(text) in rig.standin.log[-1]["prompt"] for text in earlier)


async def test_a_refinement_takes_a_stance_of_drafts_that_had_none(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    claim = await refined(rig, claimed, link, stance="decline", lengths=["short"])
    rig.standin.script(default=[{"fields": {"short_stance": "decline"}}])
    (option,) = (await rig.draft(claim)).draft.result["options"]
    assert (option["length"], option["stance"]) == ("short", "decline")


async def test_the_tenth_refinement_is_like_the_first(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    claim, prompts = await claimed(), list[str]()
    for number in range(11):
        outcome, trail = await rig.run(claim)
        assert isinstance(outcome, Done), outcome
        await rig.settler.settle(claim, outcome, trail)
        prompts.append(rig.standin.log[-1]["prompt"])
        # Others each time, so that nothing that was drafted may come back.
        await link.run("INSERT INTO draft_requests (parent_id) VALUES (%s)", [claim.id])
        claim = await claim_one(link)
        assert len(rig.standin.log) == number + 1, "no draft was refused"
    assert len(prompts[10]) < len(prompts[1]) + 10 * 3 * 220


async def test_a_draft_of_the_beginning_is_no_other_one_deep_in_a_chain(
    rig: Rig, claimed: Claimed, link: db.Link
) -> None:
    claim, drafted = await claimed(), list[dict[str, str]]()
    for _ in range(4):
        outcome, trail = await rig.run(claim)
        assert isinstance(outcome, Done), outcome
        await rig.settler.settle(claim, outcome, trail)
        drafted.append({one["length"]: one["text"] for one in outcome.draft.result["options"]})
        await link.run("INSERT INTO draft_requests (parent_id) VALUES (%s)", [claim.id])
        claim = await claim_one(link)
    rig.standin.script(default=[{"fields": drafted[0]}])
    assert "`short` resembles an earlier draft" in (await rig.fail(claim)).message


async def test_a_change_sends_no_more_after_ten_rounds_than_after_one(
    rig: Rig, claimed: Claimed, link: db.Link
) -> None:
    claim, sizes = await claimed(), list[int]()
    for _ in range(11):
        outcome, trail = await rig.run(claim)
        assert isinstance(outcome, Done), outcome
        await rig.settler.settle(claim, outcome, trail)
        sizes.append(len(rig.standin.log[-1]["prompt"]))
        await link.run("INSERT INTO draft_requests (parent_id, context) VALUES (%s, 'warmer')", [claim.id])
        claim = await claim_one(link)
    assert sizes[10] - sizes[2] == 8 * len(', "warmer"')


async def test_a_target_that_was_not_read_is_refused_without_a_model_call(
    rig: Rig, claimed: Claimed, link: db.Link
) -> None:
    claim = await refined(rig, claimed, link, answer_to="t1")
    calls = len(rig.standin.log)
    outcome = await rig.fail(claim)
    assert isinstance(outcome, Fail)
    assert (outcome.code, len(rig.standin.log)) == ("invalid_request", calls)
    assert outcome.message.endswith("send the screenshot again")


class Away(db.Link):
    """A link to a database that is away until it is told to be back."""

    def __init__(self, *, url: str) -> None:
        super().__init__(url=url, name="rig away")
        self.is_away = False
        self.refused = asyncio.Event()
        self.asked: list[str] = []

    async def run(self, statement: str, params: db.Params = None) -> list[dict[str, Any]]:
        self.asked.append(statement)
        if self.is_away:
            self.refused.set()
            raise DatabaseUnavailable
        return await super().run(statement, params)


async def test_a_paid_draft_outlasts_a_database_that_is_away_for_longer_than_the_attempt(
    rig: Rig, claimed: Claimed, connection: db.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(url=database)
    rig.calls._writer = rig.drafter._fallback._writer = rig.writer = CountingWriter(link=away)
    settler = Settler(link=away, quarantine=Quarantine())
    claim = replace(await claimed(), attempt_s=MARGIN_S + 60)
    await hold(rig, FIRST, claim)
    rig.holds._link = away
    away.is_away = True
    outcome, trail = await rig.drafter.draft(claim)
    assert isinstance(outcome, Done)
    late = Mock(monotonic=lambda: time.monotonic() + 60)
    monkeypatch.setattr(attempts, "time", late)
    settling = asyncio.create_task(settle_as_a_loop_does(rig, settler, claim, outcome, trail))
    await away.refused.wait()
    away.is_away = False
    assert await settling == "completed"
    row = await read_row(connection, claim.id)
    (used,) = await rig.links[0].run("SELECT input_tokens, output_tokens FROM draft_usage WHERE code IS NULL")
    assert used == {name: row[name] for name in used}
    assert row["input_tokens"] > 0
    await asyncio.gather(*rig.holds._writes)
    assert rig.holds.codes() == {}
    await away.close()


@pytest.mark.parametrize("probe", [None, FIRST], ids=["any attempt", "a probe"])
@pytest.mark.parametrize("status", [503, 429])
async def test_an_attempt_is_given_back_when_the_provider_and_the_database_are_away_together(
    rig: Rig, claimed: Claimed, database: str, status: int, probe: str | None
) -> None:
    rig.standin.script(default=[{"status": status}])
    claim = replace(await claimed(), attempt_s=MARGIN_S + 60, probe=probe)
    if probe:
        await rig.links[0].run("INSERT INTO draft_holds (model, code, probing) VALUES (%s, 'x', true)", [FIRST])
    away = Away(url=database)
    rig.holds._link = rig.holds._throttles._link = away
    away.is_away = True
    outcome, _ = await rig.drafter.draft(claim)
    assert isinstance(outcome, GiveBack)
    assert outcome.delay_s > 0
    assert RETURN_PROBE not in away.asked, "another probe would begin before the pause is there"
    away.is_away = False
    await asyncio.gather(*rig.holds._writes)
    expected = "draft_throttles" if status == 429 and not probe else "draft_holds"
    (row,) = await rig.links[0].run(f"SELECT * FROM {expected}")
    assert row["model"] == FIRST
    if probe:
        assert (row["failures"], row["until"] > row["since"]) == (2, True), "the probe has doubled the pause"
    await away.close()


async def test_an_attempt_waits_for_no_database_to_give_its_probe_back(
    rig: Rig, claimed: Claimed, database: str
) -> None:
    rig.holds._write_wait_s = 0.05
    back = asyncio.Event()

    class Silent(Away):
        async def run(self, statement: str, params: db.Params = None) -> list[dict[str, Any]]:
            await back.wait()
            return await super().run(statement, params)

    silent = Silent(url=database)
    rig.holds._link = silent
    claim = replace(await claimed(agent="comment_generator"), agent="nobodys", probe=FIRST)
    outcome, _ = await asyncio.wait_for(rig.drafter.draft(claim), 20)
    assert isinstance(outcome, Fail)
    back.set()
    await asyncio.gather(*rig.holds._writes)
    await silent.close()


async def settle_as_a_loop_does(rig: Rig, settler: Settler, claim: Claim, outcome: Outcome, trail: Trail) -> str:
    await rig.writer.wait_until_recorded(claim)
    return (await settler.settle(claim, outcome, trail)).status


async def kept(link: db.Link) -> int:
    """Return how many pictures stand in the table."""
    (row,) = await link.run("SELECT count(*)::int AS n FROM draft_pictures")
    return int(row["n"])


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [({"status": 500}, 1), ({"garbage": True}, 1), ({"refusal": True}, 0), ({"nothing": True}, 0), ({}, 0)],
    ids=["a hold", "a retry", "a failure", "nothing to reply to", "a draft"],
)
async def test_an_attempt_that_is_not_the_last_one_leaves_its_pictures(
    rig: Rig, claimed: Claimed, link: db.Link, behaviour: dict[str, Any], expected: int
) -> None:
    rig.standin.script(default=[behaviour])
    await rig.run(await claimed())
    assert await kept(link) == expected


async def test_a_shutdown_leaves_the_pictures(rig: Rig, claimed: Claimed, link: db.Link) -> None:
    rig.standin.script(default=[{"hang": True}])
    task = asyncio.create_task(rig.draft(await claimed()))
    await rig.standin.wait_for_calls(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await kept(link) == 1
    assert not rig.loader.holds


async def test_the_larger_limit_of_a_model_stands_with_its_error_and_the_next_attempt_begins_with_it(
    rig: Rig, claimed: Claimed, connection: db.Connection, link: db.Link
) -> None:
    rig.choose(FIRST, params={"max_tokens": 1_000})
    rig.standin.script(default={"truncated": True})
    claim = await claimed()
    for _ in range(3):
        outcome, trail = await rig.run(claim)
        await rig.settler.settle(claim, outcome, trail)
        await connection.execute("UPDATE draft_requests SET available_at = now()")
        claim = await claim_one(link)
    assert [call["max_tokens"] for call in rig.standin.log] == [1_000, 2_000, 4_000, 4_000]
    errors = (await read_row(connection, claim.id))["errors"]
    assert [(one["attempt"], one["model"], one.get("max_tokens")) for one in errors] == [
        (1, FIRST, 4_000),
        (2, FIRST, None),
        (3, FIRST, None),
    ]
    assert errors[0]["message"] == f"{FIRST}: the answer was cut off at 2,000 output tokens"
    assert errors[1]["message"] == f"{FIRST}: the answer was cut off at 4,000 output tokens"


@pytest.mark.parametrize(
    "errors", [[], {}, "no", [1, None, {"model": 3, "max_tokens": 9_000}, {"model": FIRST, "max_tokens": "9000"}]]
)
async def test_a_history_that_somebody_else_wrote_sets_no_limit(
    rig: Rig, claimed: Claimed, connection: db.Connection, errors: Any
) -> None:
    claim = await claimed()
    await overwrite(connection, claim.id, errors=Jsonb(errors))
    await rig.draft(claim)
    assert [call["max_tokens"] for call in rig.standin.log] == [4_096]
