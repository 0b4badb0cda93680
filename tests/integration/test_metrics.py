"""The endpoint for Prometheus, on real ports."""

import socket
from collections.abc import Iterator

import pytest

from draftd.errors import ConfigurationError
from draftd.telemetry.metrics import Metrics
from fix_daemon import DIRECTLY


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    made = Metrics()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("localhost", ["localhost"]),
        ("0.0.0.0", ["127.0.0.1"]),  # noqa: S104  # what a container needs
        ("::1", ["[::1]"]),
        ("::", ["127.0.0.1", "[::1]"]),
    ],
)
def test_the_endpoint_serves_the_figures_until_it_is_closed(metrics: Metrics, host: str, asked: list[str]) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    metrics.lease_lost()
    port = metrics.serve(host, 0)
    for address in asked:
        with DIRECTLY.open(f"http://{address}:{port}/metrics", timeout=20) as answer:
            assert b"draftd_lease_lost_total 1.0" in answer.read()
    metrics.close()
    for address in asked:
        with pytest.raises(OSError, match="refused"):
            DIRECTLY.open(f"http://{address}:{port}/metrics", timeout=20)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("port", [None, 70_000])
def test_a_port_that_cannot_be_had_is_a_configuration_error(metrics: Metrics, port: int | None) -> None:
    taken = metrics.serve("127.0.0.1", 0)
    with pytest.raises(ConfigurationError, match="DRAFTD_METRICS_PORT"):
        Metrics().serve("127.0.0.1", port or taken)


@pytest.mark.parametrize("host", ["192.0.2.1", "a" * 70 + ".example", "2001:db8::1"])
def test_an_address_that_cannot_be_had_is_a_configuration_error(host: str) -> None:
    with pytest.raises(ConfigurationError, match="DRAFTD_METRICS_HOST: cannot listen on port 0 of "):
        Metrics().serve(host, 0)
