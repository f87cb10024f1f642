"""Metrics: counters, gauges and histograms of all workers, in memory that they share.

Each worker writes to a slot of its own, without a lock between processes, and the main process
reads all (`monitoring/exporter.py`). The counters of a slot outlive its worker, and the next one
continues them, so that sums never fall; its gauges end with it. No file could fill a disk.

Without `METRICS` nothing is measured. Labels come from the code, never from a request, so that
their number is bounded; a slot has `ROWS` rows.
"""

import bisect
import contextlib
import ipaddress
import mmap
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from monitoring import logs
from monitoring.logs import METHODS, method_of, route_of

ADDRESS = re.compile(r"(?:(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):)?([0-9]{1,5})")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds
ROWS = 1000  # of a slot; the first is its head
KEY_BYTES = 128  # of the name and labels of a row, and of its values
NUMBERS = KEY_BYTES // 8  # 64-bit floating-point numbers that take as much
PID, USED = NUMBERS, NUMBERS + 1  # in the head: the process, and how many rows are in use
SAMPLE_SECONDS = 2.0  # between two samples of gauges


class Metric(NamedTuple):
    """A metric: what it is, for `# HELP`, and the names of its labels."""

    kind: Literal["counter", "gauge", "histogram", "summary"]
    help: str
    labels: tuple[str, ...] = ()


METRICS = {
    "acme_request_seconds": Metric(
        "histogram", "Time to respond, body included.", ("route", "method", "status")
    ),
    "acme_sign_ins": Metric(
        "counter", "Passwords and codes: right, wrong, limited (rate limit).", ("result",)
    ),
    "acme_mails": Metric("counter", "Mails: sent, failed (tried again), given up.", ("result",)),
    "acme_audit_events": Metric("counter", "Events of the audit trail.", ("event",)),
    "acme_rate_limit_errors": Metric("counter", "Failures of ACME_RATE_LIMIT_STORAGE."),
    "acme_queue_requests": Metric(
        "gauge", "Requests in a queue, running ones included.", ("queue",)
    ),
    "acme_queue_refused": Metric("counter", "Requests refused by a full queue.", ("queue",)),
    "acme_slow_clients": Metric(
        "counter",
        "Clients cut off, bodies refused (503), large responses refused (503).",
        ("action",),
    ),
    "acme_store_seconds": Metric("summary", "Calls of the database.", ("call",)),
    "acme_store_errors": Metric(
        "counter", "Calls that failed: unavailable, no free connection, error.", ("reason",)
    ),
    "acme_store_connections": Metric("gauge", "Connections to the database.", ("state",)),
    "acme_connections": Metric("gauge", "Connections of clients."),
    "acme_mails_waiting": Metric("gauge", "Mails that wait to be sent."),
    "acme_sessions": Metric("gauge", "Sessions that have not ended."),
    "acme_log_lines_lost": Metric("counter", "Lines that standard error did not take."),
    "acme_worker_starts": Metric("counter", "Workers started."),
}

Key = tuple[str, ...]  # the name of a metric and the values of its labels

_numbers: Any = None  # of all slots: a memoryview of 64-bit floating-point numbers
own_slot: int | None = None  # where that of this process begins; None: nothing is measured
_main_pid = 0
_next = 0  # the slot of the next worker
_rows: dict[Key, int] = {}  # where the values of each row of this process are
_lock = threading.Lock()  # between the threads of this process
_samples: dict[Key, Callable[[], float]] = {}
_sampled = 0.0  # monotonic seconds


def parse_address(text: str) -> tuple[str, int]:
    """The address and port of `METRICS`: `127.0.0.1:9100`, `[::1]:9100`, or `9100`; ValueError."""
    match = ADDRESS.fullmatch(text)
    if match and 1 <= int(match[3]) <= 65535:
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(match[1] or match[2] or "127.0.0.1")), int(match[3])
    raise ValueError(f"METRICS={text} must be an address and a port, such as 127.0.0.1:9100")


def prepare(workers: int) -> None:
    """In the main process, before the application is made: measure in all workers from now on.

    There are slots for the workers that replace others before these have ended.
    """
    global _numbers, _main_pid
    slots = 2 * workers + 2
    _numbers = memoryview(mmap.mmap(-1, slots * ROWS * 2 * KEY_BYTES)).cast("d")
    _main_pid = os.getpid()
    logs.handler.count_loss = lambda: add("acme_log_lines_lost")


def _slots() -> list[int]:
    return list(range(0, len(_numbers), ROWS * 2 * NUMBERS))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _before_fork() -> None:
    """In the main process: find a slot whose worker has ended, not the one found last."""
    global _next
    if _numbers is not None and os.getpid() == _main_pid:
        slots = _slots()
        later = [slot for slot in slots if slot > _next]
        for slot in [*later, *slots]:
            pid = int(_numbers[slot + PID])
            if not pid or not _is_alive(pid):
                _next = slot
                return


def _after_fork() -> None:
    """In a worker: take the slot; a process that a worker forks has none."""
    global own_slot, _lock
    _lock = threading.Lock()
    own_slot = None
    _rows.clear()
    if _numbers is not None and os.getppid() == _main_pid:
        take(_next)


def take(slot: int) -> None:
    """Write to a slot: continue its counters, and begin its gauges anew."""
    global own_slot
    _numbers[slot + PID] = os.getpid()
    for key, row in _rows_of(slot):
        _rows[key] = row
        if METRICS[key[0]].kind == "gauge":
            _numbers[row] = 0.0
    own_slot = slot
    add("acme_worker_starts")


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _rows_of(slot: int) -> Iterator[tuple[Key, int]]:
    """The rows in use of a slot: the key, and where the values are."""
    for row in range(1, int(_numbers[slot + USED]) + 1):
        start = slot + row * 2 * NUMBERS
        text = bytes(_numbers[start : start + NUMBERS].cast("B")).rstrip(b"\0")
        yield tuple(text.decode(errors="replace").split("\x1f")), start + NUMBERS


def _new_row(key: Key) -> int:
    """Where the values of a new row are; an unread place if all rows are taken."""
    assert own_slot is not None
    with _lock:
        if key in _rows:
            return _rows[key]
        row = int(_numbers[own_slot + USED]) + 1
        text = "\x1f".join(key).encode()
        if row == ROWS or len(text) > KEY_BYTES:
            return own_slot  # the first half of the head
        start = own_slot + row * 2 * NUMBERS
        _numbers[start : start + NUMBERS].cast("B")[: len(text)] = text
        _numbers[own_slot + USED] = row  # from here on it is read
        _rows[key] = start + NUMBERS
        return start + NUMBERS


def add(name: str, *labels: str, number: float = 1.0) -> None:
    """Add to a counter, or to a gauge."""
    if own_slot is None or _numbers is None:
        return
    row = _rows.get((name, *labels)) or _new_row((name, *labels))
    with _lock:
        _numbers[row] += number


def observe(name: str, seconds: float, label: str) -> None:
    """Add a time to a summary."""
    if own_slot is None:
        return
    row = _rows.get((name, label)) or _new_row((name, label))
    with _lock:
        _numbers[row] += seconds
        _numbers[row + 1] += 1.0


def sampled(name: str, function: Callable[[], float], *labels: str) -> None:
    """Let a gauge of each worker have the result of a function."""
    _samples[(name, *labels)] = function


def sample() -> None:
    """Update the gauges with a function, unless that has just been done."""
    global _sampled
    now = time.monotonic()
    if own_slot is None or _numbers is None or now < _sampled + SAMPLE_SECONDS:
        return
    _sampled = now
    for key, function in list(_samples.items()):
        row = _rows.get(key) or _new_row(key)
        _numbers[row] = function()


def read() -> dict[Key, list[float]]:
    """In the main process: the values of each row, summed over all workers."""
    total: dict[Key, list[float]] = {}
    for slot in _slots():
        is_alive = _is_alive(int(_numbers[slot + PID])) if _numbers[slot + PID] else False
        for key, row in _rows_of(slot):
            if key[0] in METRICS and (is_alive or METRICS[key[0]].kind != "gauge"):
                values = _numbers[row : row + NUMBERS].tolist()
                total[key] = [
                    a + b for a, b in zip(total.get(key, [0.0] * NUMBERS), values, strict=True)
                ]
    return total


def workers() -> int:
    """How many workers are alive."""
    pids = (int(_numbers[slot + PID]) for slot in _slots())
    return sum(bool(pid) and _is_alive(pid) for pid in pids)


def count_request(request: Any, status: int) -> None:
    """Count a request, and its time until now."""
    seconds = time.perf_counter() - request.started
    rule, method = request.url_rule, request.method
    # a dictionary of its own is faster than the names of labels
    row = _requests.get((rule and rule.rule, method, status)) or _request_row(request, status)
    bucket = row + 1 + bisect.bisect_left(BUCKETS, seconds)
    with _lock:
        _numbers[row] += seconds
        _numbers[bucket] += 1.0


def _request_row(request: Any, status: int) -> int:
    """Where the values of such requests are; it is remembered unless a client has invented it."""
    row = _new_row(("acme_request_seconds", route_of(request), method_of(request), str(status)))
    if request.method in METHODS:
        rule = request.url_rule
        _requests[rule and rule.rule, request.method, status] = row
    return row


_requests: dict[tuple[str | None, str, int], int] = {}
os.register_at_fork(after_in_child=_requests.clear)
