"""Clients that are slow to send: how many bodies are waited for, and for how long.

granian reads a body in one of the worker's threads, and waits as long as it takes. So only a part
of the threads may wait, the others go on with whatever has no body, and a connection whose body
takes too long is cut off. A body that is there already passes in microseconds.
"""

import contextlib
import functools
import itertools
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import flask
from werkzeug.exceptions import ServiceUnavailable

from security import rate_limit

log = logging.getLogger("acme")

READERS = 20  # how many bodies each worker waits for at once
FEW = 2  # how many of one client, once it has been cut off
REMEMBER = 60.0  # seconds for which that is so
PATIENCE = 15.0  # seconds for a body to arrive
HASTE = 1.0  # the same while more than half of the places are taken
WAIT = 0.05  # seconds for a place: those who are read from take far less, if they are honest
LAST_DATA_SENT = 44  # where Linux's struct tcp_info says so, in milliseconds


class _Reader(NamedTuple):
    since: float
    client: str  # whoever is counted together
    peer: str  # the address at the other end of the connection, maybe a proxy's
    port: str  # at this end


_numbers = itertools.count()
_readers: dict[int, _Reader] = {}
_cut: dict[str, float] = {}  # clients that were cut off, and when


@contextlib.contextmanager
def reading(request: flask.Request) -> Iterator[None]:
    """A place to wait for a body; 503 if there is none."""
    client = rate_limit.network(request.remote_addr)
    if len(_readers) >= READERS or client in _cut:
        _find_place(client)
    _watch()
    environ = request.environ.get("werkzeug.proxy_fix.orig", request.environ)
    peer, port = environ.get("REMOTE_ADDR", ""), environ.get("SERVER_PORT", "")
    number = next(_numbers)
    _readers[number] = _Reader(time.monotonic(), client, peer, port)
    try:
        yield
    finally:
        del _readers[number]


def _find_place(client: str) -> None:
    end = time.monotonic() + WAIT
    while client not in _cut or _places_of(client) < FEW:
        if len(_readers) < READERS:
            return
        if time.monotonic() > end:
            break
        time.sleep(WAIT / 20)
    message = "too many requests are slow to arrive: try again"
    raise ServiceUnavailable(message, retry_after=1)


def _places_of(client: str) -> int:
    return sum(reader.client == client for reader in list(_readers.values()))


@functools.cache
def _watch() -> None:
    """Look after the readers of this process from now on."""

    def watch() -> None:
        while True:
            time.sleep(HASTE / 4)
            cut_off()

    threading.Thread(target=watch, daemon=True).start()


def cut_off() -> None:
    """End the connections whose bodies take too long: the threads that wait for them go on."""
    patience = HASTE if len(_readers) > READERS / 2 else PATIENCE
    now = time.monotonic()
    for client in [client for client, when in _cut.items() if now - when > REMEMBER]:
        del _cut[client]
    late = [reader for reader in list(_readers.values()) if now - reader.since > patience]
    if not late:
        return
    _cut.update((reader.client, now) for reader in late)
    ends = {(reader.peer, reader.port) for reader in late}
    for name in os.listdir("/proc/self/fd"):
        # a duplicate, which cannot become another connection meanwhile
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            end = connection.getpeername()[0], str(connection.getsockname()[1])
            if end in ends and _silence(connection) > 0.9 * patience:
                connection.shutdown(socket.SHUT_RDWR)
    clients = ", ".join(sorted({reader.client for reader in late}))
    log.warning("cut off %d bodies that were slow to arrive, of %s", len(late), clients)


def _silence(connection: socket.socket) -> float:
    """For how many seconds nothing has been sent on a connection."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA_SENT + 4)
    milliseconds: int = struct.unpack_from("I", info, LAST_DATA_SENT)[0]
    return milliseconds / 1000
