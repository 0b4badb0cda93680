"""A claim in, one outcome out, whatever happens inside."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

import pytest
import structlog

from draftd.daemon import runner
from draftd.daemon.runner import MARGIN_S, NET_S, Runner
from draftd.errors import Expired, LeaseLost, ModelRefused, NothingToReplyTo, first_line
from draftd.logs import configure_logging
from draftd.queue.outcome import Done, Draft, Fail, Outcome, Retry
from draftd.queue.settlements import Trail
from draftd.reply.drafter import Attempt, Drafter
from draftd.reply.result import Result
from draftd.request import Claim
from draftd.telemetry.tracing import RequestSpan, Tracing

KEY = "sk-proj-q7Zt9xVb3Lm5Kd8Rw2Ny"
RESULT = Result.model_validate(
    {
        "platform": "x",
        "platform_name": "X",
        "content_type": "post",
        "language": "en",
        "summary": "A post.",
        "me": "",
        "replying_to": {"author": "A", "gist": "asks"},
        "reply_needed": "yes",
        "options": [{"length": one, "angle": "a", "text": one} for one in ("short", "medium", "detailed")],
        "missing": [],
        "confidence": "high",
        "warnings": [],
    }
)
DRAFT = Draft(
    result=RESULT.as_json(),
    reading=["Shall we?"],
    model="openai/m",
    prompt_version="1+a",
)


class Spy(Tracing, RequestSpan):
    """Tracing that remembers what it was told of one request."""

    trace_id: str | None = "t"

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


class Doubled:
    """A drafter that does what it is told."""

    def __init__(self, act: Callable[[Attempt], Awaitable[Draft]]) -> None:
        self.draft = act

    async def decline(self, attempt: Attempt) -> None:
        """Do as if the attempt were no probe."""


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


async def run(
    act: Callable[[Attempt], Awaitable[Draft]], *, spy: Spy | None = None, **over: Any
) -> tuple[Outcome, Trail]:
    drafter = cast("Drafter", Doubled(act))
    return await Runner(drafter=drafter, tracing=spy or Spy()).run(make_claim(**over))


async def hang(_attempt: Attempt) -> Draft:
    await asyncio.Event().wait()
    raise AssertionError


def raising(error: BaseException) -> Callable[[Attempt], Awaitable[Draft]]:
    async def act(_attempt: Attempt) -> Draft:
        raise error

    return act


async def test_a_draft_is_done_and_leaves_its_trail() -> None:
    async def act(attempt: Attempt) -> Draft:
        attempt.images = [{"host": "h"}]
        return DRAFT

    spy = Spy()
    outcome, trail = await run(act, spy=spy)
    assert outcome == Done(draft=DRAFT)
    assert trail == Trail(images=[{"host": "h"}], trace_id="t")
    assert spy.request_of == {
        "request_id": UUID(int=1),
        "requester_id": "r",
        "agent": "comment_generator",
        "attempt": 2,
    }
    assert spy.output["options"][0] == {"length": "short", "angle": "a", "text": "short"}
    assert spy.error is None


async def test_a_draft_is_not_prepared_for_a_trace_that_nobody_takes() -> None:
    class Untraced(Spy):
        trace_id = None

    async def act(_attempt: Attempt) -> Draft:
        return DRAFT

    spy = Untraced()
    outcome, _ = await run(act, spy=spy)
    assert outcome == Done(draft=DRAFT)
    assert spy.output is None


async def test_a_failure_keeps_what_was_learnt_about_the_pictures() -> None:
    async def act(attempt: Attempt) -> Draft:
        attempt.images = [{"host": "h"}]
        raise NothingToReplyTo

    spy = Spy()
    outcome, trail = await run(act, spy=spy)
    assert outcome == Fail(code="nothing_to_reply_to", message=first_line(NothingToReplyTo))
    assert trail.images == [{"host": "h"}]
    assert spy.error == ("nothing_to_reply_to", first_line(NothingToReplyTo))
    assert spy.output is None


async def test_an_expired_request_is_not_drafted() -> None:
    outcome, trail = await run(raising(AssertionError("drafted")), expires_in_s=0.0)
    assert outcome == Fail(code=Expired.code, message=first_line(Expired))
    assert trail.images is None


async def test_an_attempt_is_over_before_the_database_says_so() -> None:
    seen: list[float] = []

    async def act(attempt: Attempt) -> Draft:
        seen.append(attempt.time_left_s())
        return DRAFT

    await run(act, attempt_s=60.0)
    assert 60 - MARGIN_S - 30 < seen[0] <= 60 - MARGIN_S


async def test_a_hang_outside_of_every_stage_ends_as_a_retry() -> None:
    began = time.monotonic()
    outcome, _ = await run(hang, attempt_s=MARGIN_S + 0.05)
    assert time.monotonic() - began < NET_S + 20
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.model) == ("internal_error", None)
    assert "time was over" in outcome.message


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


@pytest.fixture
def log_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The runner's log in the daemon's own form; begins with the first look."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level

    def look() -> list[dict[str, Any]]:
        configure_logging(level="info", style="json")
        monkeypatch.setattr(runner, "log", structlog.get_logger(runner.__name__))
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    yield look
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


async def test_a_defect_costs_one_attempt_and_tells_no_secret(
    log_lines: Callable[[], list[dict[str, Any]]],
) -> None:
    async def act(attempt: Attempt) -> Draft:
        screenshot = "words of a screenshot"
        raise KeyError(f"{KEY} for {attempt.claim.agent}", len(screenshot))

    assert log_lines() == []
    spy = Spy()
    outcome, _ = await run(act, spy=spy)
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.message) == ("internal_error", "KeyError: ('[redacted] for comment_generator', 21)")
    (line,) = log_lines()
    assert (line["event"], line["level"], line["request_id"]) == (
        "attempt failed by a defect",
        "error",
        str(UUID(int=1)),
    )
    assert "in act" in line["exception"]
    assert "q7Zt9" not in json.dumps([line, spy.error])
    assert "words of a screenshot" not in line["exception"]
