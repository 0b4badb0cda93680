"""The wait before another try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftd.backoff import BASE_S, CAP_S, Backoff, full_jitter_s, retry_delay_s
from tables import per_row


def longest(_low: float, high: float, /) -> float:
    return high


def shortest(low: float, _high: float, /) -> float:
    return low


@given(st.integers(0, 10_000), st.floats(0.001, 100), st.floats(0.001, 1_000))
def test_a_delay_lies_between_nothing_and_the_bound(attempt: int, base_s: float, cap_s: float) -> None:
    delay_s = full_jitter_s(attempt, base_s=base_s, cap_s=cap_s)
    assert 0 <= delay_s <= min(cap_s, base_s * 2 ** min(attempt, 60))


def test_the_bound_doubles_up_to_the_cap() -> None:
    bounds = [full_jitter_s(attempt, draw=longest) for attempt in range(1, 10)]
    assert bounds == [4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert (BASE_S, CAP_S) == (2.0, 300.0)


def test_jitter_reaches_down_to_nothing() -> None:
    assert full_jitter_s(5, draw=shortest) == 0


def test_a_huge_number_of_attempts_does_not_overflow() -> None:
    assert full_jitter_s(100_000, draw=longest) == CAP_S


@per_row(("asked_s", "waited_s"), [(None, 4), (0, 4), (3, 4), (60, 60), (3_600, 3_600), (1e9, 3_600)])
def test_a_retry_is_never_before_the_providers_word_which_counts_up_to_an_hour(
    asked_s: float | None, waited_s: float
) -> None:
    assert retry_delay_s(1, asked_s, draw=longest) == waited_s


def test_a_retry_of_a_later_attempt_waits_longer() -> None:
    assert [retry_delay_s(attempt, draw=longest) for attempt in (1, 2, 3)] == [4, 8, 16]


def test_the_delays_of_an_actor_grow_with_each_failure_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[int, float, float]] = []

    def bound(attempt: int, *, base_s: float, cap_s: float) -> float:
        bounds.append((attempt, base_s, cap_s))
        return 0.0

    monkeypatch.setattr("draftd.backoff.full_jitter_s", bound)
    backoff = Backoff(base_s=0.2, cap_s=5.0)
    backoff.next_s()
    backoff.next_s(cap_s=1.5)
    assert backoff.failures == 2
    backoff.reset()
    backoff.next_s()
    assert bounds == [(1, 0.2, 5.0), (2, 0.2, 1.5), (1, 0.2, 5.0)]
