"""Counters for Prometheus, on a registry of our own. Labels are route templates, methods, status classes and
error codes; never an id of a user, sandbox or conversation, so the code bounds the number of series.

docs/metrics.md lists them all (a test keeps the two equal)."""

from __future__ import annotations

import asyncio
import platform
import re
import time
from collections import deque
from collections.abc import Iterable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from gateway.admission import Pool
from schema import Database
from terminalpp import __version__

_ID = re.compile(r"/(?:[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|\{[a-z_]+\})(?=/|$)")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def template(path: str) -> str:
    """A path with its ids replaced, so that each route is one label value."""
    return _ID.sub("/{id}", path)


class Metrics:
    """The figures of this process."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        build = Gauge(
            "tpp_build_info", "1, with the version as labels.", ["version", "python"], registry=self.registry
        )
        build.labels(__version__, platform.python_version()).set(1)
        self.known: frozenset[str] = frozenset()
        # By method, route and status, of which there are few: finding a series by its labels is dear.
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.requests = Counter(
            "tpp_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "tpp_http_request_seconds",
            "Time to the end of the answer; of a stream to its beginning.",
            ["method", "route", "status"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.refusals = Counter(
            "tpp_refusals", "Requests answered with an error, by its code.", ["code"], registry=self.registry
        )
        self.streams = Gauge("tpp_event_streams", "Event streams open now.", registry=self.registry)
        self.events = Counter("tpp_events_sent", "Events sent to streams.", registry=self.registry)
        self.uploaded = Counter("tpp_archive_bytes", "Bytes of archives unpacked.", registry=self.registry)
        self.lag = Gauge("tpp_loop_lag_seconds", "Worst loop lag of the last 30 s.", registry=self.registry)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request was answered, after so many seconds."""
        route = template(path)
        if route not in self.known:
            route = "other"
        if method not in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"):
            method = "other"
        series = self._series.get((method, route, status))
        if series is None:
            series = self._series[method, route, status] = (
                self.requests.labels(method, route, str(status)),
                self.seconds.labels(method, route, f"{status // 100}xx"),
            )
        series[0].inc()
        series[1].observe(seconds)

    def watch(self, pools: Iterable[Pool], database: Database) -> None:
        """Gauges of what is under way, asked for when they are read."""
        kept = {"labelnames": ["pool"], "registry": self.registry}
        running = Gauge("tpp_requests_running", "Requests under way.", **kept)
        waiting = Gauge("tpp_requests_waiting", "Requests that wait for a place.", **kept)
        for pool in pools:
            running.labels(pool.name).set_function(lambda pool=pool: pool.running)
            waiting.labels(pool.name).set_function(lambda pool=pool: pool.waiting)
        connections = Gauge(
            "tpp_database_connections", "Connections to Postgres.", ["state"], registry=self.registry
        )
        connections.labels("idle").set_function(lambda: database.connections()[0])
        connections.labels("used").set_function(lambda: database.connections()[1])
        waits = Gauge("tpp_database_waiting", "Who waits for a connection.", registry=self.registry)
        waits.set_function(lambda: database.waiting)

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self.registry)


class Pulse:
    """How late the event loop runs: it asks to be woken every 100 ms and notes by how much it was missed."""

    PERIOD_S = 0.1
    WINDOW = 300

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lags: deque[float] = deque(maxlen=self.WINDOW)

    @property
    def lag_seconds(self) -> float:
        """The worst of the last 30 s."""
        return max(self._lags, default=0.0)

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            asked = time.monotonic()
            await asyncio.sleep(self.PERIOD_S)
            self._lags.append(max(0.0, time.monotonic() - asked - self.PERIOD_S))
            self._metrics.lag.set(self.lag_seconds)
