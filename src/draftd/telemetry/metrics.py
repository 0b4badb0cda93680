"""The Prometheus metrics of this process.

Owns the names and the endpoint. Counts always, which takes microseconds; serves only if a port is set. Invariant: no label
contains text from a client or requester. Models and error codes are few, so the number of series stays small.
"""

import errno
import socket
from collections.abc import Iterable, Mapping
from decimal import Decimal
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from draftd.errors import ConfigurationError, Spent

BUCKETS_S = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0)
"""Finest where a person waits for the first draft; the last is the default time limit of an attempt."""


class _Holds(Collector):
    """The current holds, replaced as a whole: another thread scrapes them."""

    def __init__(self) -> None:
        self.now: tuple[tuple[str, str], ...] = ()

    def collect(self) -> Iterable[Metric]:
        gauge = GaugeMetricFamily("draftd_model_hold", "1 while the model is on hold.", labels=["model", "code"])
        for model, code in self.now:
            gauge.add_metric([model, code], 1)
        yield gauge


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        # Creation times would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call] # prometheus-client does not annotate it
        self.registry = CollectorRegistry()
        self._server: WSGIServer | None = None
        self._requests = Counter(
            "draftd_requests_total", "Requests that became final.", ["status", "code"], registry=self.registry
        )
        self._pending = Gauge(
            "draftd_pending",
            "Pending requests: due, held (their model is on hold or paused), later, or limited (their requester is).",
            ["state"],
            registry=self.registry,
        )
        self._oldest_pending = Gauge(
            "draftd_oldest_pending_seconds", "How long the oldest due request has waited.", registry=self.registry
        )
        self._holds = _Holds()
        self.registry.register(self._holds)
        self._first_option = Histogram(
            "draftd_first_option_seconds",
            "From the claim to the first complete reply.",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._request = Histogram(
            "draftd_request_seconds", "From the claim to the end.", buckets=BUCKETS_S, registry=self.registry
        )
        self._lease_lost = Counter(
            "draftd_lease_lost_total", "Attempts discarded because their lease was lost.", registry=self.registry
        )
        self._in_flight = Gauge("draftd_in_flight", "Requests in flight in this process.", registry=self.registry)
        self._tokens = Counter(
            "draftd_tokens_total", "Tokens of model calls.", ["model", "kind"], registry=self.registry
        )
        self._cost_usd = Counter("draftd_cost_usd_total", "Cost of model calls.", ["model"], registry=self.registry)
        self._budget_usd = Gauge(
            "draftd_budget_usd", "The fleet's budget for a day in UTC; +Inf without one.", registry=self.registry
        )
        self._budget_usd.set(float("inf"))
        self._budget_used = Gauge(
            "draftd_budget_used_ratio", "The share of the fleet's budget that is spent.", registry=self.registry
        )

    def request_finished(self, *, status: str, code: str | None, elapsed_s: float) -> None:
        """Count a request that became final, ``elapsed_s`` seconds after its claim; ``code`` is None when completed."""
        self._requests.labels(status=status, code=code or "").inc()
        self._request.observe(elapsed_s)

    def request_reaped(self, *, code: str) -> None:
        """Count a request that the reaper of this process ended."""
        self._requests.labels(status="failed", code=code).inc()

    def first_option(self, elapsed_s: float) -> None:
        """Record the seconds from the claim to the first complete draft."""
        self._first_option.observe(elapsed_s)

    def lease_lost(self) -> None:
        """Count an attempt that lost its row."""
        self._lease_lost.inc()

    def model_called(self, *, model: str, spent: Spent) -> None:
        """Count a call's tokens and cost, as far as they are known."""
        counts = {"input": spent.input_tokens, "cached_input": spent.cached_tokens, "output": spent.output_tokens}
        for kind, count in counts.items():
            if count is not None:
                self._tokens.labels(model=model, kind=kind).inc(count)
        if spent.cost_usd is not None:
            self._cost_usd.labels(model=model).inc(float(spent.cost_usd))

    def in_flight(self, count: int) -> None:
        """Set how many requests are in flight in this process."""
        self._in_flight.set(count)

    def pending(self, counts: Mapping[str, int]) -> None:
        """Set how many requests are pending, by state."""
        for state in ("due", "held", "later", "limited"):
            self._pending.labels(state=state).set(counts[state])

    def oldest_pending(self, age_s: float | None) -> None:
        """Set how long the oldest due request has waited, in seconds; None if none is waiting."""
        self._oldest_pending.set(age_s or 0.0)

    def holds(self, holds: Iterable[tuple[str, str]]) -> None:
        """Replace the models on hold, given as pairs of model and code."""
        self._holds.now = tuple(holds)

    def budget(self, *, usd_per_day: Decimal | None, used: float | None) -> None:
        """Set the fleet's budget for a day and the share of it that is spent; None without a budget."""
        self._budget_usd.set(float("inf") if usd_per_day is None else float(usd_per_day))
        self._budget_used.set(used or 0.0)

    def serve(self, host: str, port: int) -> int:
        """Serve ``/metrics`` and return the port.

        There is no authentication, but the metrics contain no personal data.

        Args:
            host: an IPv4 or IPv6 address of this machine, or a host name; ``0.0.0.0`` is every IPv4 address, ``::`` every
                address.
            port: 0 for a free one.

        Raises:
            ConfigurationError: the address or port is not available; the message names the setting.
        """
        try:
            self._server, _ = start_http_server(port, addr=host, registry=self.registry)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            wrong = "HOST" if _is_host_error(error) else "PORT"
            raise ConfigurationError(
                f"DRAFTD_METRICS_{wrong}: cannot listen on port {port} of {host}: {reason}"
            ) from error
        return self._server.server_port

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _is_host_error(error: Exception) -> bool:
    return isinstance(error, socket.gaierror | UnicodeError) or (
        isinstance(error, OSError) and error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    )
