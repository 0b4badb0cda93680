import socket
from collections.abc import Iterator
from decimal import Decimal

import pytest
from prometheus_client import generate_latest

from draftd.errors import ConfigurationError, Spent
from draftd.telemetry.metrics import BUCKETS_S, Metrics


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    made = Metrics()
    yield made
    made.close()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_names_are_those_of_the_contract(metrics: Metrics) -> None:
    metrics.request_finished(status="failed", code="model_timeout", elapsed_s=3)
    metrics.model_called(model="m", spent=Spent(input_tokens=1, output_tokens=1, cost_usd=Decimal(1)))
    metrics.holds([("m", "model_unavailable")])
    metrics.budget(usd_per_day=Decimal(20), used=0.85)
    exposed = generate_latest(metrics.registry).decode()
    for name in (
        'draftd_requests_total{code="model_timeout",status="failed"} 1.0',
        "draftd_oldest_pending_seconds 0.0",
        'draftd_model_hold{code="model_unavailable",model="m"} 1.0',
        "draftd_first_option_seconds_count 0.0",
        "draftd_request_seconds_count 1.0",
        "draftd_lease_lost_total 0.0",
        "draftd_in_flight 0.0",
        'draftd_tokens_total{kind="input",model="m"} 1.0',
        'draftd_tokens_total{kind="output",model="m"} 1.0',
        'draftd_cost_usd_total{model="m"} 1.0',
        "draftd_budget_usd 20.0",
        "draftd_budget_used_ratio 0.85",
    ):
        assert name in exposed.splitlines()
    assert "_created" not in exposed


def test_what_is_not_known_is_not_counted(metrics: Metrics) -> None:
    metrics.model_called(model="m", spent=Spent(output_tokens=7))
    assert value(metrics, "draftd_tokens_total", model="m", kind="input") is None
    assert value(metrics, "draftd_tokens_total", model="m", kind="output") == 7
    assert value(metrics, "draftd_cost_usd_total", model="m") is None


def test_a_completed_request_has_an_empty_code(metrics: Metrics) -> None:
    metrics.request_finished(status="completed", code=None, elapsed_s=3)
    assert value(metrics, "draftd_requests_total", status="completed", code="") == 1


def test_a_hold_that_ended_is_no_longer_shown(metrics: Metrics) -> None:
    metrics.holds([("a", "model_unavailable"), ("b", "model_misconfigured")])
    metrics.holds([("b", "model_misconfigured")])
    assert value(metrics, "draftd_model_hold", model="a", code="model_unavailable") is None
    assert value(metrics, "draftd_model_hold", model="b", code="model_misconfigured") == 1


def test_a_scrape_never_misses_a_hold_that_is_there(metrics: Metrics) -> None:
    seen: list[float | None] = []

    def entering() -> Iterator[tuple[str, str]]:
        yield "a", "model_unavailable"
        # Another thread scrapes in the middle of the change.
        seen.append(value(metrics, "draftd_model_hold", model="b", code="model_misconfigured"))
        yield "b", "model_misconfigured"

    metrics.holds([("b", "model_misconfigured")])
    metrics.holds(entering())
    assert seen == [1]
    assert value(metrics, "draftd_model_hold", model="a", code="model_unavailable") == 1


def test_a_gauge_says_the_present(metrics: Metrics) -> None:
    metrics.in_flight(3)
    metrics.in_flight(2)
    metrics.oldest_pending(12.5)
    assert value(metrics, "draftd_in_flight") == 2
    assert value(metrics, "draftd_oldest_pending_seconds") == 12.5
    metrics.oldest_pending(None)
    assert value(metrics, "draftd_oldest_pending_seconds") == 0


def test_the_buckets_part_what_a_person_feels(metrics: Metrics) -> None:
    metrics.first_option(1.7)
    assert value(metrics, "draftd_first_option_seconds_bucket", le="1.5") == 0
    assert value(metrics, "draftd_first_option_seconds_bucket", le="2.0") == 1
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.5, 120.0)


def test_two_processes_worth_of_metrics_do_not_collide(metrics: Metrics) -> None:
    other = Metrics()
    metrics.lease_lost()
    assert value(metrics, "draftd_lease_lost_total") == 1
    assert value(other, "draftd_lease_lost_total") == 0


def test_a_name_without_an_address_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_how: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        ConfigurationError, match=r"DRAFTD_METRICS_HOST: .* of metrics\.example: Name or service not known"
    ):
        Metrics().serve("metrics.example", 0)


def test_tokens_from_a_providers_cache_are_counted_beside_all_input(metrics: Metrics) -> None:
    metrics.model_called(model="m", spent=Spent(input_tokens=9, cached_tokens=7, output_tokens=1))
    counted = [
        value(metrics, "draftd_tokens_total", model="m", kind=kind) for kind in ("input", "cached_input", "output")
    ]
    assert counted == [9.0, 7.0, 1.0]
