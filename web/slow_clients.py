"""Slow-client (slowloris) protection: slots and time limits for what a client sends and reads.

granian reads a request body in one of the worker's threads, without a time limit, and keeps a copy
of each response until the client has read it. So only some of the threads may wait for bodies, a
client whose body is late loses all its connections, a connection on which nothing is read ends,
and a client with many connections gets no large responses.

Behind a declared proxy (`ACME_PROXIES`) no connection is cut off and no response refused: they
all belong to the proxy, which has to buffer both ways.
"""

import contextlib
import itertools
import json
import logging
import math
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import flask
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.http import remove_entity_headers

from monitoring import metrics
from security import rate_limit

log = logging.getLogger("acme")

READERS = 24  # bodies that each worker waits for at once
MAX_CLIENT_READERS = 20  # of these, for one client
MAX_PENALIZED_READERS = 2  # the same for a client that has been cut off
PENALTY_SECONDS = 60.0  # for which the lower limit holds
BODY_TIMEOUT = 15.0  # seconds for a body to arrive
BODY_TIMEOUT_UNDER_LOAD = 1.0  # seconds, while more than half of the slots are taken
SLOT_TIMEOUT = 0.05  # seconds to wait for a slot: a normal client holds one for much less
READ_TIMEOUT = 15.0  # seconds for a client to read some of what has been sent
LARGE_BYTES = 2**14  # responses from here on count as large
MAX_CLIENT_UNREAD_BYTES = 2**23  # of large responses that a client can leave unread
MAX_UNREAD_BYTES = 2**26  # of large responses that all clients together can leave unread
EVERYONE = "everyone"  # stands for all clients together
FD_FOLDER = "/dev/fd"


class _Reader(NamedTuple):
    client: str  # address or network, see rate_limit.network
    port: str  # of this server
    since: float  # monotonic seconds; infinity if the connection must not be cut off


_numbers = itertools.count()
_lock = threading.Lock()  # for the variables below
_readers: dict[int, _Reader] = {}
_penalized: dict[str, float] = {}  # clients, and when the penalty ends: monotonic seconds
_unchecked: dict[str, int] = {}  # bytes of large responses since a client's last check
_refused: dict[str, float] = {}  # clients without large responses, and until when (monotonic)
_watcher: threading.Thread | None = None


def _reset() -> None:
    """In a forked process, which has neither the threads nor the connections of its parent."""
    global _lock
    _lock = threading.Lock()
    _readers.clear()
    _penalized.clear()
    _unchecked.clear()
    _refused.clear()


os.register_at_fork(after_in_child=_reset)


@contextlib.contextmanager
def reading(request: flask.Request) -> Iterator[None]:
    """A slot in which to wait for a request body; ServiceUnavailable (503) if there is none."""
    since = math.inf if _is_proxied(request) else time.monotonic()
    client = rate_limit.network(request.remote_addr)
    reader = _Reader(client, request.environ.get("SERVER_PORT", ""), since)
    number = next(_numbers)
    watch()
    if not _reserve(number, reader):
        _wait_for_slot(number, reader)
    try:
        yield
    finally:
        _readers.pop(number, None)


def _is_proxied(request: flask.Request) -> bool:
    return "werkzeug.proxy_fix.orig" in request.environ  # there with ACME_PROXIES


def _reserve(number: int, reader: _Reader) -> bool:
    with _lock:
        if len(_readers) >= MAX_PENALIZED_READERS:  # with fewer, no client is at a limit
            most = MAX_PENALIZED_READERS if reader.client in _penalized else MAX_CLIENT_READERS
            own = sum(other.client == reader.client for other in list(_readers.values()))
            if len(_readers) >= READERS or own >= most:
                return False
        _readers[number] = reader
        return True


def _wait_for_slot(number: int, reader: _Reader) -> None:
    end = time.monotonic() + SLOT_TIMEOUT
    while time.monotonic() < end and reader.client not in _penalized:
        time.sleep(SLOT_TIMEOUT / 20)
        if _reserve(number, reader):
            return
    metrics.add("acme_slow_clients", "refused")
    raise ServiceUnavailable("too many request bodies are slow to arrive: try again", retry_after=1)


def watch() -> None:
    """Start the thread that enforces the time limits in this process, unless it runs."""
    global _watcher
    if _watcher is None or not _watcher.is_alive():  # it does not run in a forked process
        with _lock:
            if _watcher is None or not _watcher.is_alive():
                _watcher = threading.Thread(target=_watch, name="slow-clients", daemon=True)
                _watcher.start()


def _watch() -> None:
    is_limited = False
    while True:
        time.sleep(BODY_TIMEOUT_UNDER_LOAD / 4)
        try:
            is_limited = is_limited or limit_reading()
            cut_off_late()
            metrics.sample()
        except Exception:
            log.exception("slow-client protection failed, and continues")
            time.sleep(1)  # so that a persistent error does not fill the log


def cut_off_late() -> None:
    """Reset all connections of each client that has a late body; end penalties that are over."""
    now = time.monotonic()
    for client in [client for client, end in _penalized.items() if end <= now]:
        del _penalized[client]
    readers = list(_readers.values())
    timeout = BODY_TIMEOUT_UNDER_LOAD if len(readers) > READERS / 2 else BODY_TIMEOUT
    late = [reader for reader in readers if now - reader.since > timeout]
    if not late:
        return
    clients = {reader.client for reader in late}
    _penalized.update(dict.fromkeys(clients, now + PENALTY_SECONDS))
    for connection, client in _connections({reader.port for reader in late}):
        if client in clients:
            with contextlib.suppress(OSError):  # it may be closed already
                # drops unread data as well
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
    metrics.add("acme_slow_clients", "cut off", number=len(clients))
    names = ", ".join(sorted(clients))
    log.warning("cut off all connections of %s: %d bodies slow to arrive", names, len(late))


def limit_reading() -> bool:
    """End connections accepted from now on if nothing is read for `READ_TIMEOUT`; whether it can.

    False before the server listens.
    """
    is_limited = not hasattr(socket, "TCP_USER_TIMEOUT")  # Linux has it
    for listener in sockets():
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            milliseconds = round(READ_TIMEOUT * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            is_limited = True
    return is_limited


def limit_unread(response: flask.Response) -> flask.Response:
    """Make a large response a 503 if its client, or all together, have too many connections.

    Each connection can hold one response that is not read.
    """
    if not response.is_sequence:
        return response
    size = sum(map(len, response.response))
    if size < LARGE_BYTES or _can_stay_unread(flask.request, size):
        return response
    metrics.add("acme_slow_clients", "unread")
    remove_entity_headers(response.headers)
    response.headers.remove("ETag")
    response.headers["Cache-Control"] = "no-store"
    response.headers["Retry-After"] = "1"
    response.status_code = 503
    response.content_type = "application/json"
    message = "the response is too large for so many connections: close some, and try again"
    response.data = json.dumps({"error": message})
    return response


def _can_stay_unread(request: flask.Request, size: int) -> bool:
    if _is_proxied(request):
        return True
    if len(_unchecked) > 1000:  # clients
        everyone = _unchecked[EVERYONE]
        _unchecked.clear()
        _refused.clear()
        _unchecked[EVERYONE] = everyone
    client, port = rate_limit.network(request.remote_addr), request.environ.get("SERVER_PORT", "")
    limits = {client: MAX_CLIENT_UNREAD_BYTES, EVERYONE: MAX_UNREAD_BYTES}
    return all(_fits(name, port, size, most) for name, most in limits.items())


def _fits(name: str, port: str, size: int, most: int) -> bool:
    """Whether a response on each connection of a client takes at most `most` bytes in all."""
    now = time.monotonic()
    if now < _refused.get(name, 0):
        return False
    _unchecked[name] = _unchecked.get(name, 0) + size
    if _unchecked[name] > most:  # seldom, since counting takes about 8 us a connection
        number = sum(name in (client, EVERYONE) for _, client in _connections({port}))
        if number > 1 and number * size > most:
            _refused[name] = now + 1
            return False
        _unchecked[name] = size
    return True


def _connections(ports: set[str]) -> Iterator[tuple[socket.socket, str]]:
    """Connections to this server's ports, each with its client; closed at the next iteration."""
    for connection in sockets():
        with contextlib.suppress(OSError):  # it is listening, or closed
            client = rate_limit.network(connection.getpeername()[0])
            if str(connection.getsockname()[1]) in ports:
                yield connection, client


def sockets(unix: bool = False) -> Iterator[socket.socket]:
    """Duplicates of the Internet sockets of this process, each closed at the next iteration.

    With `unix`, of the Unix sockets as well.

    A duplicate cannot become another connection meanwhile. Only sockets are duplicated: to close
    the duplicate of a file would release the locks (fcntl) that the process has on it, SQLite's
    for one.
    """
    for name in os.listdir(FD_FOLDER):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            duplicate = os.dup(int(name))
        except OSError:  # it has been closed
            continue
        if not stat.S_ISSOCK(os.fstat(duplicate).st_mode):
            continue  # it became a file in between: leave it open, for its locks
        with contextlib.closing(socket.socket(fileno=duplicate)) as found:
            if found.family in (socket.AF_INET, socket.AF_INET6) or unix:
                yield found


def count_connections() -> int:
    """How many clients are connected to this process, over TCP."""
    listening, connected = set(), []
    for found in sockets():
        with contextlib.suppress(OSError):  # it is closed
            port = found.getsockname()[1]
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listening.add(port)
            else:
                connected.append(port)
    return sum(port in listening for port in connected)


metrics.sampled("acme_connections", count_connections)
