"""A claim in, one outcome out, whatever happens inside."""

import asyncio
import gc
import json
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast
from uuid import UUID

import pytest
import structlog

from draftd.errors import Expired, InvalidRequest, LeaseLost, ModelRefused, NothingToReplyTo, first_line
from draftd.logs import configure_logging
from draftd.providers.holds import Holds
from draftd.providers.models import Models
from draftd.providers.target import Target
from draftd.queue.outcome import Done, Draft, Fail, Outcome, Retry
from draftd.queue.settlements import Trail
from draftd.reply import drafter
from draftd.reply.agents import Agent
from draftd.reply.attempt import MARGIN_S, Attempt
from draftd.reply.drafter import AttemptResult, Drafter
from draftd.reply.fallback import ModelFallback
from draftd.reply.inputs import InputReader, Inputs
from draftd.reply.kept_pictures import AttemptPictures, PictureStore
from draftd.reply.result import Result
from draftd.request import Claim
from draftd.telemetry.tracing import RequestSpan, Tracing
from tables import per_row

KEY = "sk-proj-q7Zt9xVb3Lm5Kd8Rw2Ny"
RESULT = Result.model_validate(
    {
        "platform": "x",
        "platform_name": "X",
        "content_type": "post",
        "language": "en",
        "summary": "A post.",
        "me": "",
        "replying_to": {"author": "A", "gist": "asks", "expects": "question"},
        "reply_needed": "yes",
        "options": [
            {"length": one, "angle": "a", "stance": "none", "text": one} for one in ("short", "medium", "detailed")
        ],
        "missing": [],
        "confidence": "high",
        "warnings": [],
    }
)
DONE = Done(
    draft=Draft(result=RESULT.as_json(), reading=["Shall we?"]),
    model="openai/m",
    prompt_version="1+a",
)
IMAGES = [{"host": "h"}]


class Spy(Tracing, RequestSpan):
    """Tracing that remembers what it was told of one request."""

    trace_id = "t"

    def __init__(self) -> None:
        self.request_of: dict[str, Any] = {}
        self.output: Any = None
        self.error: tuple[str, str] | None = None

    @contextmanager
    def request(self, **facts: Any) -> Iterator[RequestSpan]:
        self.request_of = facts
        yield self

    def set_output(self, output: Any) -> None:
        self.output = output

    def set_error(self, code: str, message: str) -> None:
        self.error = (code, message)


Ask = Callable[[Attempt], Awaitable[Outcome]]


class Parts:
    """Everything that a drafter works with: inputs with one picture, and models that do what the test says."""

    def __init__(self, ask: Ask, *, read: Callable[[], None] = lambda: None) -> None:
        self._ask = ask
        self._read = read
        self.kept: list[int] = []
        self.returned: list[str] = []

    def drafter(self, spy: "Spy") -> Drafter:
        return Drafter(
            agents={"comment_generator": Agent(name="comment_generator", version="1+a", params={}, text="")},
            models=cast("Models", self),
            holds=cast("Holds", self),
            pictures=cast("PictureStore", self),
            inputs=cast("InputReader", self),
            fallback=cast("ModelFallback", self),
            tracing=spy,
        )

    def targets(self, _agent: str, *, probe: str | None) -> list[Target]:
        return [Target(name=probe or "openai/m", model="openai/m")]

    async def return_probe(self, model: str) -> None:
        self.returned.append(model)

    def for_attempt(self, claim: Claim) -> AttemptPictures:
        pictures = AttemptPictures(store=cast("PictureStore", self), claim=claim)
        pictures._fetched[0] = cast("Any", self)  # a picture that was fetched
        return pictures

    size_bytes = 1

    async def keep(self, claim: Claim, _leaves: Any) -> None:
        self.kept.append(claim.lease_token)

    async def read(self, _attempt: Attempt, agent: Agent, _pictures: AttemptPictures) -> Inputs:
        self._read()
        return Inputs(
            messages=[], reply_format=cast("Any", None), prompt_version=agent.version, params={}, images=IMAGES
        )

    async def run(self, attempt: Attempt, _inputs: Inputs, _targets: Any) -> Outcome:
        return await self._ask(attempt)


def make_claim(**over: Any) -> Claim:
    facts: dict[str, Any] = {
        "id": UUID(int=1),
        "agent": "comment_generator",
        "requester_id": "r",
        "attempt": 2,
        "lease_token": 7,
        "attempt_s": 120.0,
        "image_bytes": 0,
    }
    return Claim(**facts | over)


async def run(ask: Ask, *, spy: Spy | None = None, parts: Parts | None = None, **over: Any) -> AttemptResult:
    return await (parts or Parts(ask)).drafter(spy or Spy()).draft(make_claim(**over))


async def done(_attempt: Attempt) -> Outcome:
    return DONE


async def hang(_attempt: Attempt) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


def raising(error: BaseException) -> Ask:
    async def ask(_attempt: Attempt) -> Outcome:
        raise error

    return ask


def returning(outcome: Outcome) -> Ask:
    async def ask(_attempt: Attempt) -> Outcome:
        return outcome

    return ask


async def test_a_draft_is_done_and_leaves_its_trail() -> None:
    spy = Spy()
    outcome, trail = await run(done, spy=spy, traceparent="00-trace-span-01")
    assert outcome == DONE
    assert trail == Trail(images=IMAGES, trace_id="t")
    assert spy.request_of == {
        "request_id": UUID(int=1),
        "requester_id": "r",
        "agent": "comment_generator",
        "attempt": 2,
        "traceparent": "00-trace-span-01",
    }
    assert spy.output["options"][0] == {
        "length": "short", "angle": "a", "stance": "none", "text": "short", "unsupported": [],
    }  # fmt: skip
    assert spy.error is None


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catch a hang at once."""
    monkeypatch.setattr(drafter, "BACKSTOP_S", 0.01)


@pytest.fixture
def log_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The drafter's log in the daemon's own form; begins with the first look."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level

    def look() -> list[dict[str, Any]]:
        configure_logging(level="info", style="json")
        monkeypatch.setattr(drafter, "log", structlog.get_logger(drafter.__name__))
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    yield look
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


NOTHING = Fail(code="nothing_to_reply_to", message=first_line(NothingToReplyTo))


@per_row("ask", [returning(NOTHING), raising(NothingToReplyTo())], ids=["returned", "raised"])
async def test_a_failure_keeps_what_was_learnt_about_the_pictures(ask: Ask) -> None:
    spy = Spy()
    outcome, trail = await run(ask, spy=spy)
    assert outcome == NOTHING
    assert trail.images == IMAGES
    assert spy.error == ("nothing_to_reply_to", first_line(NothingToReplyTo))
    assert spy.output is None


@per_row("ask", [raising(KeyError("a defect")), hang], ids=["a defect", "a hang"])
async def test_what_was_learnt_about_the_pictures_outlasts_a_defect(ask: Ask) -> None:
    outcome, trail = await run(ask, attempt_s=MARGIN_S + 0.05)
    assert isinstance(outcome, Retry)
    assert trail == Trail(images=IMAGES, trace_id="t")


async def test_an_expired_request_is_not_drafted() -> None:
    outcome, trail = await run(raising(AssertionError("drafted")), expires_in_s=0.0)
    assert outcome == Fail(code=Expired.code, message=first_line(Expired))
    assert trail.images is None


async def test_an_attempt_is_over_before_the_database_says_so() -> None:
    seen: list[float] = []

    async def ask(attempt: Attempt) -> Outcome:
        seen.append(attempt.time_left_s())
        return DONE

    await run(ask, attempt_s=60.0)
    assert 60 - MARGIN_S - 30 < seen[0] <= 60 - MARGIN_S


async def test_a_hang_outside_of_every_step_ends_as_a_retry() -> None:
    outcome, _ = await asyncio.wait_for(run(hang, attempt_s=MARGIN_S + 0.01), 20)
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.model) == ("internal_error", None)
    assert "timed out" in outcome.message


async def test_a_timeout_of_something_else_is_not_taken_for_the_attempts() -> None:
    outcome, _ = await run(raising(TimeoutError()))
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.message) == (
        "internal_error",
        "TimeoutError: a bug in draftd; its log has the details",
    )


async def test_a_lost_lease_has_no_outcome() -> None:
    with pytest.raises(LeaseLost):
        await run(raising(LeaseLost()))


async def test_an_abort_passes_through() -> None:
    task = asyncio.create_task(run(hang))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_an_error_of_the_contract_keeps_its_code_and_model() -> None:
    spy = Spy()
    outcome, _ = await run(raising(ModelRefused("no", model="openai/m")), spy=spy)
    assert outcome == Fail(code="model_refused", message="no", model="openai/m")
    assert spy.error == ("model_refused", "no")


@per_row(
    ("ask", "kept"),
    [
        (done, []),
        (returning(NOTHING), []),
        (raising(LeaseLost()), []),
        (returning(Retry(code="model_timeout", message="", delay_s=1)), [7]),
        (raising(KeyError("a defect")), [7]),
        (raising(asyncio.CancelledError()), [7]),
    ],
    ids=["done", "failed", "lost", "retried", "a defect", "a shutdown"],
)
async def test_pictures_are_kept_for_the_next_attempt_if_there_is_one(ask: Ask, kept: list[int]) -> None:
    parts = Parts(ask)
    with suppress(LeaseLost, asyncio.CancelledError):
        await run(ask, parts=parts)
    assert parts.kept == kept


@per_row("ask", [done, hang, raising(LeaseLost()), raising(asyncio.CancelledError())])
async def test_a_probe_is_given_back_however_the_attempt_ends(ask: Ask) -> None:
    parts = Parts(ask)
    with suppress(LeaseLost, asyncio.CancelledError):
        await run(ask, parts=parts, probe="openai/held", attempt_s=MARGIN_S + 0.05)
    assert parts.returned == ["openai/held"]


class Pixels(bytearray):
    """Stands for the megabytes of a picture."""


async def test_a_failed_attempt_holds_on_to_nothing(log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    """A cycle of an error and a frame would keep its pictures until the next full collection."""

    assert log_lines() == []
    alive: list[weakref.ref[Pixels]] = []

    def fail(error: type[Exception]) -> None:
        pixels = Pixels()
        alive.append(weakref.ref(pixels))
        raise error

    gc.disable()
    try:
        for error in (InvalidRequest, KeyError):
            await run(done, parts=Parts(done, read=partial(fail, error)))
            assert alive.pop()() is None
    finally:
        gc.enable()


async def test_a_defect_costs_one_attempt_and_tells_no_secret(
    log_lines: Callable[[], list[dict[str, Any]]],
) -> None:
    async def act(attempt: Attempt) -> Outcome:
        screenshot = "words of a screenshot"
        raise KeyError(f"{KEY} for {attempt.claim.agent}", len(screenshot))

    assert log_lines() == []
    spy = Spy()
    outcome, _ = await run(act, spy=spy)
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.message) == (
        "internal_error",
        "KeyError: a bug in draftd; its log has the details",
    )
    (line,) = log_lines()
    assert (line["event"], line["level"], line["request_id"]) == (
        "attempt failed with an internal error",
        "error",
        str(UUID(int=1)),
    )
    assert "in act" in line["exception"]
    assert "q7Zt9" not in json.dumps([line, spy.error])
    assert "words of a screenshot" not in line["exception"]
