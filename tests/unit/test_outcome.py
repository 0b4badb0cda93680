"""What an error does to its row: the table from exceptions to outcomes, and from outcomes to settlements."""

from dataclasses import replace
from uuid import UUID

import pytest

from draftd.daemon.runner import outcome_of
from draftd.errors import (
    ImageFetchFailed,
    InternalError,
    Kind,
    ModelError,
    ModelMisconfigured,
    ModelRateLimited,
    ModelUnavailable,
    RequestError,
    request_errors,
)
from draftd.queue.outcome import Fail, Hold, Outcome, Release, Retry
from draftd.queue.settlements import Trail, settlement
from draftd.request import Claim

KINDS = {Kind.FINAL: Fail, Kind.RETRY: Retry, Kind.HOLD: Hold}
CLAIM = Claim(
    id=UUID(int=1),
    agent="comment_generator",
    requester_id="r",
    attempt=2,
    lease_token=7,
    attempt_s=120.0,
    image_bytes=0,
)


@pytest.mark.parametrize("cls", request_errors())
def test_every_error_becomes_the_outcome_of_its_kind(cls: type[RequestError]) -> None:
    error = cls("why")
    error.model = "openai/m" if isinstance(error, ModelError) else None
    outcome = outcome_of(error, CLAIM)
    assert isinstance(outcome, KINDS[cls.default_kind])
    assert isinstance(outcome, Fail | Retry | Hold)
    assert (outcome.code, outcome.message, outcome.model) == (cls.code, "why", error.model)


def test_an_errors_own_kind_goes_before_that_of_its_class() -> None:
    assert isinstance(outcome_of(ImageFetchFailed("404", kind=Kind.FINAL), CLAIM), Fail)
    assert isinstance(outcome_of(ModelRateLimited("429", model="openai/m", kind=Kind.RETRY), CLAIM), Retry)


def test_a_hold_without_a_model_to_hold_is_a_retry() -> None:
    assert isinstance(outcome_of(ModelMisconfigured("no model is configured"), CLAIM), Retry)


def test_a_row_does_not_wait_beside_the_hold_of_its_model() -> None:
    error = ModelUnavailable("503", model="openai/m")
    error.is_held = True
    outcome = outcome_of(error, CLAIM)
    assert outcome == Hold(code="model_unavailable", message="503", model="openai/m", delay_s=0.0)


def test_a_row_that_came_back_before_steps_aside_after_a_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("draftd.daemon.runner.full_jitter_s", lambda given_back, *, cap_s: min(given_back, cap_s))
    error = ModelUnavailable("503", model="openai/m")
    error.is_held = True
    outcome = outcome_of(error, replace(CLAIM, given_back=3))
    assert isinstance(outcome, Hold)
    assert outcome.delay_s == 3.0


def test_a_rate_limited_row_waits_by_itself_as_long_as_the_provider_says() -> None:
    outcome = outcome_of(ModelRateLimited("429", model="openai/m", retry_after_s=30), CLAIM)
    assert outcome == Hold(code="model_rate_limited", message="429", model="openai/m", delay_s=30.0)


def test_a_retry_is_not_before_the_providers_word() -> None:
    error = ModelRateLimited("429", model="openai/m", retry_after_s=1_000, kind=Kind.RETRY)
    outcome = outcome_of(error, CLAIM)
    assert isinstance(outcome, Retry)
    assert outcome.delay_s == 1_000


def test_the_delay_of_a_retry_grows_with_the_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def delay_s(attempt: int, _retry_after_s: float | None) -> float:
        asked.append(attempt)
        return float(attempt)

    monkeypatch.setattr("draftd.daemon.runner.retry_delay_s", delay_s)
    outcome = outcome_of(InternalError(), replace(CLAIM, attempt=4))
    assert isinstance(outcome, Retry)
    assert (asked, outcome.delay_s) == ([4], 4.0)


def test_only_a_hold_and_a_release_give_the_attempt_back() -> None:
    outcomes: list[Outcome] = [
        Retry(code="c", message="m", delay_s=3.0),
        Fail(code="c", message="m"),
        Hold(code="c", message="m", model="openai/m", delay_s=2.0),
        Release(),
    ]
    rows = [settlement(CLAIM, outcome, Trail()) for outcome in outcomes]
    assert [(row.status, row.give_back, row.delay_s) for row in rows] == [
        ("pending", False, 3.0),
        ("failed", False, 0.0),
        ("pending", True, 2.0),
        ("pending", True, 0.0),
    ]
    assert {(row.id, row.lease_token) for row in rows} == {(CLAIM.id, CLAIM.lease_token)}
