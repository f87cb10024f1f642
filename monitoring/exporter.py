"""The endpoint of Prometheus, in the main process of `make run`: `GET /metrics` on `METRICS`."""

import contextlib
import http.server
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder

from monitoring import metrics

log = logging.getLogger("acme")

MAX_CONNECTIONS = 8
TIMEOUT_SECONDS = 5.0  # for each read and write
CONNECTION_SECONDS = 15.0  # then it is closed, whatever it does
RETRY_SECONDS = 1.0  # until a port that is taken is tried again
STORE_SECONDS = 30.0  # between two looks at the database
STORE_TIMEOUT = 2.0  # seconds that a scrape waits for one

Statistics = Callable[[], dict[str, float]]  # of the database: gauge -> value


class StoreLook:
    """Statistics of the database, at most every `STORE_SECONDS`, in a thread of its own.

    A database that does not respond delays no scrape by more than `STORE_TIMEOUT`.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._begun = -STORE_SECONDS
        self._done = threading.Event()
        self._done.set()
        self._result: dict[str, float] = {}

    def result(self) -> dict[str, float]:
        """The statistics of the last look; those of a failed one are missing."""
        if self._done.is_set() and time.monotonic() >= self._begun + STORE_SECONDS:
            self._done.clear()
            self._begun = time.monotonic()
            threading.Thread(target=self._look, name="metrics-store", daemon=True).start()
        return self._result if self._done.wait(STORE_TIMEOUT) else {}

    def _look(self) -> None:
        try:
            self._result = self._statistics()
        except Exception:  # the workers log that the database is unavailable
            self._result = {}
        finally:
            self._done.set()


class Collector:
    """What all workers have measured, in the families of prometheus-client."""

    def __init__(self, build: dict[str, str], statistics: Statistics) -> None:
        self._build = build
        self._look = StoreLook(statistics)

    def collect(self) -> Iterator[Any]:
        """The families, each with all its samples."""
        build = GaugeMetricFamily("acme_build_info", "Versions.", labels=[*self._build])
        build.add_metric([*self._build.values()], 1)
        yield build
        yield GaugeMetricFamily("acme_workers", "Workers that are alive.", metrics.workers())
        for name, value in self._look.result().items():
            yield GaugeMetricFamily(name, STATISTICS[name], value)
        families: dict[str, Any] = {}
        for (name, *labels), values in metrics.read().items():
            if name not in families:
                families[name] = new_family(name)
            add_sample(families[name], metrics.METRICS[name].kind, labels, values)
        yield from families.values()


STATISTICS = {
    "acme_sessions": "Sessions that have not ended.",
    "acme_database_bytes": "Size of the database.",
    "acme_mails_waiting": "Mails that wait to be sent.",
}


def new_family(name: str) -> Any:
    """A family without samples."""
    kind, text, labels = metrics.METRICS[name]
    made: dict[str, Any] = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
        "summary": SummaryMetricFamily,
    }
    return made[kind](name, text, labels=labels)


def add_sample(family: Any, kind: str, labels: list[str], values: list[float]) -> None:
    """Add a row of `metrics.read` to its family."""
    counts = values[1 : len(metrics.BUCKETS) + 2]
    if kind == "histogram":
        bounds = [*map(str, metrics.BUCKETS), "+Inf"]
        sums = [sum(counts[: n + 1]) for n in range(len(counts))]
        family.add_metric(labels, list(zip(bounds, sums, strict=True)), values[0])
    elif kind == "summary":
        family.add_metric(labels, sum(counts), values[0])
    else:
        family.add_metric(labels, values[0])


class Handler(http.server.BaseHTTPRequestHandler):
    """`GET /metrics`."""

    timeout = TIMEOUT_SECONDS
    server: "Server"
    server_version, sys_version = "Acme", ""

    def do_GET(self) -> None:
        """Respond with all metrics."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        encode, kind = choose_encoder(self.headers.get("Accept", ""))
        body = encode(self.server.registry)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Log nothing: it would have text of the client."""


class Server(http.server.ThreadingHTTPServer):
    """Few connections at a time, and none for long: others may reach the port as well."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], collector: Collector) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(collector)
        self.since: dict[socket.socket, float] = {}
        super().__init__(address, Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, or close it if there are too many."""
        if len(self.since) >= MAX_CONNECTIONS:
            self.shutdown_request(request)
            return
        self.since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self.since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Every half second: end the connections that take too long."""
        for connection, since in list(self.since.items()):
            if time.monotonic() > since + CONNECTION_SECONDS:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_args: Any) -> None:
        """Ignore a client that has gone."""


_server: Server | None = None


def _close() -> None:
    """In a worker, which must not keep the port when the main process replaces itself."""
    if _server:
        for connection in [_server.socket, *_server.since]:
            connection.close()


os.register_at_fork(after_in_child=_close)


def serve(address: tuple[str, int], build: dict[str, str], statistics: Statistics) -> None:
    """Serve from a thread of this process; a port that is taken is tried again and again."""
    collector = Collector(build, statistics)
    if is_taken := not _listen(address, collector):
        where = f"{address[0]} port {address[1]}"
        log.error("METRICS: cannot listen on %s, but tries again", where)

    def run() -> None:
        while is_taken and not _listen(address, collector):
            time.sleep(RETRY_SECONDS)
        assert _server
        _server.serve_forever()

    threading.Thread(target=run, name="metrics", daemon=True).start()


def _listen(address: tuple[str, int], collector: Collector) -> bool:
    """Whether the port is ours now."""
    global _server
    try:
        _server = Server(address, collector)
    except OSError:
        return False
    return True
