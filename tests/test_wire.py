"""Malformed HTTP over raw sockets, to Acme as `make run` serves it.

`EXAMPLES=20000` is a long run. A connection that fails is named by its number, which makes the same
bytes again: `make_connection(number, token)`.
"""

import contextlib
import dataclasses
import json
import os
import random
import re
import socket
import sqlite3
import struct
import time
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

import serve
from tests.conftest import Target, granian, until
from tests.test_serve import worker_of

EXAMPLES = int(os.environ.get("EXAMPLES", "600"))
AT_ONCE = 16  # connections
SILENCE = 0.1  # seconds until the server is taken to wait for more
TIMEOUT = 25.0  # seconds until a connection counts as hanging: a body may take 15
JSON = "Content-Type: application/json\r\n"
ODD = (
    "\0 \t \r \n \x0b \x7f \x80 \xff é %00 %0d%0a %ff / // .. ; : , @ ? # \\ \" ' < [ ] { | \x1b[2J"
)


@dataclasses.dataclass
class Connection:
    """What is sent on one connection, and what may come back."""

    sent: list[bytes]  # in so many pieces
    shown: list[str] = dataclasses.field(default_factory=list)  # marks of requests, in their order
    is_whole: bool = False  # well-formed to its end: each request must get a response
    end: str = "half-close"  # or "close", "reset", "wait": what the client does after that


def get(mark: str, headers: str = "") -> str:
    """A request whose response repeats a mark."""
    who = urllib.parse.quote(json.dumps({"name": mark, "born": "2000-01-01"}))
    return f"GET /days?who={who} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"


def post(mark: str, headers: str = "", chunked: bool = False) -> str:
    """The same with a body."""
    body = json.dumps({"who": {"name": mark, "born": "2000-01-01"}})
    if chunked:
        framing, body = "Transfer-Encoding: chunked", chunks(body)
    else:
        framing = f"Content-Length: {len(body)}"
    return f"POST /days HTTP/1.1\r\nHost: x\r\n{JSON}{framing}\r\n{headers}\r\n{body}"


def chunks(body: str, size: int = 7, extension: str = "") -> str:
    """A body in chunks (RFC 9112, 7.1)."""
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return "".join(f"{len(p):x}{extension}\r\n{p}\r\n" for p in parts) + "0\r\n\r\n"


class Maker:
    """Makes the bytes of one connection."""

    def __init__(self, number: int, token: str) -> None:
        self.r = random.Random(number)
        self.number = number
        self.marks = 0
        self.authorization = f"Authorization: Bearer {token}\r\n"

    def mark(self) -> str:
        self.marks += 1
        return f"mark-{self.number}-{self.marks}-"

    def odd(self, most: int = 3) -> str:
        """Characters with a meaning in some syntax."""
        return "".join(self.r.choices([*ODD.split(" "), " ", "a"], k=self.r.randint(1, most)))

    def length(self) -> int:
        return self.r.choice([1, 10, 1000, 16_000, 60_000, 70_000, 200_000])

    def write(self) -> str:
        """A request that would add stuff in the name of somebody, up to its framing."""
        return f"POST /stuff HTTP/1.1\r\nHost: x\r\n{JSON}{self.authorization}"

    @property
    def stuff(self) -> str:
        return json.dumps({"stuff": f"stolen{self.number}", "price": 1})

    # each of these makes a connection

    def request_line(self) -> Connection:
        method = self.r.choice(
            ["GET", "get", "PRI", "CONNECT", "TRACE", "", "G" * self.length(), self.odd(), "GET\t"]
        )
        targets = ["/hello", "*", "hello", "evil.org", "//evil.org", "http://evil.org/", "x:80", ""]
        targets += ["/" + self.odd(), "/" + "a" * self.length(), "/stuff/" + self.odd(8), "/www/.."]
        targets += ["/hello?" + self.odd(8), "/hello#" + self.odd(), "http://[", "http://a@b:c/"]
        versions = ["HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1 ", "HTTP/1.", ""]
        versions += ["http/1.1", "HTTP/1.1\0", "HTTP/11", "HTTP/99999", self.odd(), "ICY"]
        target, version = self.r.choice(targets), self.r.choice(versions)
        end = self.r.choice(["\r\n", "\r\n", "\n", "\r", "\r\r\n", ""])
        text = f"{method} {target} {version}{end}Host: x{end}{end}"
        return self.cut([text + get("unseen")], shown=["unseen"])

    def headers(self) -> Connection:
        names = ["Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Connection", "X"]
        names += ["Expect", "Upgrade", "Cookie", "Range", "If-None-Match", "If-Modified-Since"]
        names += ["Authorization", "X-Forwarded-For", "X_Forwarded_For", "Content_Length", "Origin"]
        names += ["Transfer_Encoding", "Accept-Encoding", "Proxy", "Content-Encoding", "Trailer"]
        values = ["x", "", "0", "-1", "+1", "1, 1", "0x1", "1" * 30, "chunked", "identity", "close"]
        values += ["gzip, chunked", "keep-alive", "100-continue", "h2c", "websocket", "null", "*"]
        values += ["bytes=" + ",".join(f"{i}-{i}" for i in range(500)), '"x",' * 900, "refresh=a.b"]
        values += ["a" * self.length(), self.odd(9), "Basic " + self.odd(), "Bearer " + self.odd()]
        lines = ""
        for _ in range(self.r.choice([1, 2, 3, 3, 120])):
            name = self.r.choice(names) + self.r.choice([""] * 9 + [" ", self.odd()])
            line = f"{name}{self.r.choice([': '] * 9 + [':', '', ' : '])}{self.r.choice(values)}"
            lines += line + self.r.choice(["\r\n"] * 9 + ["\n", "\r", "\r\n ", "\0"])
        method = self.r.choice(["GET", "GET", "POST", "HEAD", "OPTIONS"])
        path = self.r.choice(["/hello", "/", "/www/app.js", "/stuff", "/docs", "/token/refresh"])
        return self.cut([f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"])

    def smuggled(self) -> Connection:
        """Two framings that disagree, and a request inside that must never be seen as one."""
        inner = f"{self.write()}Content-Length: {len(self.stuff)}\r\n\r\n{self.stuff}"
        inner = self.r.choice([inner, get("hidden")])
        length, coding = "Content-Length: {}\r\n", "Transfer-Encoding: {}\r\n"
        n = len(inner)
        whole = f"0\r\n\r\n{inner}"
        framing, body = self.r.choice(
            [
                # the lengths say all, or nothing
                (length.format(n) + length.format(0), inner),
                (length.format(f"0, {n}"), inner),
                (length.format(f"+{n}"), inner),
                (length.format(f"{n}_0"), inner),
                (length.format(f"0x{n:x}"), inner),
                (length.format(f"{n} 0"), inner),
                (f"Content-Length : {n}\r\n", inner),
                (f"Content-Length\0: {n}\r\n", inner),
                (f"X: y\r\n Content-Length: 0\r\n{length.format(n)}", inner),
                # by the coding it ends early, by the length it does not
                (length.format(len(whole)) + coding.format(self.r.choice(CODINGS)), whole),
                (coding.format(self.r.choice(CODINGS)) + length.format(len(whole)), whole),
                (coding.format("chunked") + coding.format("identity"), whole),
                # and the other way round: the chunk has it, the length ends before
                (coding.format("chunked") + length.format(3), chunks(inner, n)),
                (length.format(3) + coding.format("chunked"), chunks(inner, n)),
                (coding.format("chunked"), chunks(inner, n, ";x=\n0")),
                (coding.format("chunked"), f"{n:x}\r\n{inner}X\r\n0\r\n\r\n"),
                (coding.format("chunked"), f"{n:x}\n{inner}\r\n0\r\n\r\n"),
                (coding.format("chunked"), f"-{n:x}\r\n{inner}\r\n0\r\n\r\n"),
                (coding.format("chunked"), f"{n:x} \r\n{inner}\r\n0\r\n\r\n"),
                (coding.format("chunked"), f"1{'0' * 16}{n:x}\r\n{inner}\r\n0\r\n\r\n"),
                (coding.format("chunked"), f"0\r\nX: y\r\n{inner}"),
                (f"Content_Length: 0\r\n{length.format(n)}", inner),
                (f"Transfer_Encoding: chunked\r\n{length.format(n)}", inner),
            ]
        )
        method = self.r.choice(["POST", "GET", "PUT", "DELETE"])
        head = f"{method} /hello-me HTTP/1.1\r\nHost: x\r\n{framing}\r\n"
        return self.cut([head + body], shown=[])

    def broken_chunks(self) -> Connection:
        """A write whose coding is broken before its end: it must not be made."""
        first, body = self.stuff[:1], chunks(self.stuff, self.r.randint(1, 20))
        body = self.r.choice(
            [
                body[: self.r.randint(0, body.rindex("}"))],
                body.replace("\r\n", "\n"),
                f"fffffffffffffffff\r\n{self.stuff}",
                f"z\r\n{self.stuff}\r\n0\r\n\r\n",
                f"1;{'x' * self.length() * 2}\r\n{first}\r\n",
                f"1;\n\r\n{first}\r\n",
                f"1\r\n{self.stuff}\r\n0\r\n\r\n",
                "1\r\n \r\n" * self.length(),
            ]
        )
        return self.cut([self.write() + "Transfer-Encoding: chunked\r\n\r\n", body])

    def broken_trailers(self) -> Connection:
        """Chunks whose end is missing, or odd; the JSON is whole, so that it counts."""
        body = chunks('{"p": []}', self.r.randint(1, 9))
        lines = "".join(f"{self.odd()}: {self.odd()}\r\n" for _ in range(self.r.randint(1, 200)))
        body = self.r.choice(
            [
                body.removesuffix("\r\n"),
                body.removesuffix("0\r\n\r\n"),
                body.removesuffix("\r\n") + lines,
                body.removesuffix("\r\n") + lines + "\r\n",
                body.removesuffix("\r\n") + "X: " + "x" * self.length() + "\r\n\r\n",
                'ffffffffffffffff\r\n{"p": []}',
            ]
        )
        head = f"POST /len HTTP/1.1\r\nHost: x\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n"
        return self.cut([head, body])

    def short_body(self) -> Connection:
        """A write whose body ends too early: it must not be made."""
        more = self.r.choice([1, 2, 1000, 10**6, 10**7, 2**31, 2**32, 2**62])
        length = f"Content-Length: {len(self.stuff) + more}\r\n"
        return self.cut([self.write() + length + "\r\n", self.stuff])

    def pipeline(self) -> Connection:
        """Requests behind each other, all of them in order: so must be the responses."""
        marks = [self.mark() for _ in range(self.r.randint(2, 20))]
        close = "Connection: close\r\n"
        text = ""
        for mark in marks:
            headers = close if mark == marks[-1] else ""
            text += self.r.choice(
                [get(mark, headers), post(mark, headers), post(mark, headers, chunked=True)]
            )
        size = self.r.choice([len(text), 1000, 100, 37])
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        return Connection([p.encode() for p in pieces], marks, is_whole=True, end="wait")

    def broken_pipeline(self) -> Connection:
        """Good ones around a bad one."""
        connection = self.r.choice(MALFORMED)(self)
        marks = [self.mark() for _ in range(self.r.randint(1, 4))]
        before = "".join(get(mark) for mark in marks)
        connection.sent = [before.encode(), *connection.sent]
        connection.shown = marks + connection.shown
        return connection

    def noise(self) -> Connection:
        """What is no HTTP at all."""
        bytes_ = self.r.randbytes(self.r.choice([1, 100, 5000]))
        hello = b"\x16\x03\x01" + struct.pack(">H", len(bytes_)) + b"\x01" + bytes_
        h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0" + bytes_
        proxy = b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + get("unseen").encode()
        texts = [b"\r\n" * 5000, b"GET /hello\r\n\r\n", b" ", b"\0" * 70_000]
        return Connection([self.r.choice([bytes_, hello, h2, proxy, *texts])], ["unseen"])

    def mutation(self) -> Connection:
        """A good request, of which a few bytes are others."""
        good = self.r.choice([get("unseen"), post("unseen"), post("unseen", chunked=True)])
        data = bytearray(good.encode())
        for _ in range(self.r.randint(1, 4)):
            i, n = self.r.randrange(len(data)), self.r.randint(1, 9)
            change = self.r.randrange(4)
            if change == 0:
                data[i : i + 1] = self.r.randbytes(1)
            elif change == 1:
                del data[i : i + n]
            elif change == 2:
                data[i:i] = data[i : i + n]
            else:
                data[i:i] = self.odd().encode("latin-1")
            data = data or bytearray(b"x")
        return self.cut([bytes(data).decode("latin-1")], shown=["unseen"])

    def cut(self, texts: list[str], shown: list[str] | None = None) -> Connection:
        """The texts in one or more pieces, maybe not to their end."""
        data = "".join(texts).encode("latin-1")
        if self.r.random() < 0.2:
            data = data[: self.r.randrange(len(data))] or b"G"
        places = sorted(self.r.randrange(len(data)) for _ in range(self.r.choice([0, 0, 1, 3])))
        ends = zip([0, *places], [*places, len(data)], strict=True)
        pieces = [data[i:j] for i, j in ends if i < j]
        end = self.r.choice(["half-close"] * 8 + ["close", "reset"])
        return Connection(pieces, shown or [], end=end)


CODINGS = ["chunked", "Chunked", " chunked", "chunked ", "\tchunked", "\x0bchunked", "xchunked"]
CODINGS += [
    "identity",
    "chunked, identity",
    "gzip, chunked",
    "identity, chunked",
    "chunked\0",
    '""',
]
MALFORMED = [Maker.request_line, Maker.headers, Maker.smuggled, Maker.broken_chunks]
MALFORMED += [Maker.broken_trailers, Maker.short_body, Maker.mutation]
KINDS = [*MALFORMED, *MALFORMED, Maker.pipeline, Maker.broken_pipeline, Maker.noise]


def make_connection(number: int, token: str) -> Connection:
    maker = Maker(number, token)
    return maker.r.choice(KINDS)(maker)


def exchange(port: int, number: int, connection: Connection) -> bytes:
    """All that the server says on a connection; an error if that takes too long."""
    # of an address of its own: who is slow is remembered
    address = f"127.{1 + number % 250}.{number // 250 % 250}.2"
    said, end = b"", time.monotonic() + TIMEOUT
    client = socket.create_connection(("127.0.0.1", port), TIMEOUT, (address, 0))
    with client, contextlib.suppress(ConnectionError):
        for piece in connection.sent:
            client.sendall(piece)
        if connection.end == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if connection.end in ("reset", "close"):
            return b""
        if connection.end == "half-close":
            # granian gives up on who does so at once: only when it seems to wait for more
            client.settimeout(SILENCE)
            with contextlib.suppress(TimeoutError):
                while more := client.recv(65536):
                    said += more
            client.settimeout(TIMEOUT)
            with contextlib.suppress(OSError):  # it may have ended
                client.shutdown(socket.SHUT_WR)
        while more := client.recv(65536):
            said += more
            assert time.monotonic() < end, "it goes on and on"
    return said


HEAD = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


def responses(said: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each response, in a text of responses only."""
    found = []
    while said:
        match = HEAD.match(said)
        assert match, f"no response: {said[:200]!r}"
        lines = match[2].decode("latin-1").splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        status, said = int(match[1]), said[match.end() :]
        assert "transfer-encoding" not in headers, "responses have a length"
        size = int(headers.get("content-length", 0))
        if status in (204, 304) or status < 200 or HEAD.match(said):  # that of a HEAD
            size = 0
        found.append((status, headers, said[:size]))
        said = said[size:]
    return found


def check(number: int, connection: Connection, said: bytes) -> Counter[int]:
    """Whether that may have come back; how many of each status."""
    found = responses(said)
    for status, headers, body in found:
        assert status < 500 or (status == 503 and "retry-after" in headers), (number, status, body)
    marks = re.findall(r'"name":"(mark-[0-9-]+|hidden|unseen)"', said.decode("latin-1"))
    if connection.is_whole:
        statuses = [status for status, _, _ in found]
        assert marks == connection.shown or 503 in statuses, (number, statuses, marks)
    left = iter(connection.shown)
    assert all(mark in left for mark in marks), (number, marks)  # in that order, each once
    return Counter(status for status, _, _ in found)


def contents(path: str) -> list[str]:
    """All that is in a database, but for when sessions were used."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        return [line for line in database.iterdump() if 'INTO "sessions"' not in line]


def storm(port: int, numbers: range, token: str) -> Counter[int]:
    """As many connections; how many responses of each status."""

    def one(number: int) -> Counter[int]:
        connection = make_connection(number, token)
        return check(number, connection, exchange(port, number, connection))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(one, numbers), Counter())


def descriptors(worker: psutil.Process, database: str) -> int:
    """How many a process has, but for the connections to its database, a pool that grows."""
    count = 0
    for link in Path(f"/proc/{worker.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += not os.readlink(link).startswith(database)
    return count


def test_malformed_http_causes_neither_5xx_nor_changes(tmp_path):
    """Nor does it hang, or get the response of another request."""
    path = f"{tmp_path}/acme.db"
    with granian(ACME_DATABASE=f"sqlite:///{path}", WORKERS="1") as url:
        port = int(url.rpartition(":")[2])
        target = Target(url)
        token = target.people[target.person("susie")]
        storm(port, range(-100, 0), token)  # whatever is made at the first request
        worker = worker_of(url)
        until(lambda: not [c for c in worker.net_connections() if c.status == "ESTABLISHED"])
        before, many = contents(path), descriptors(worker, path)
        threads, memory = worker.num_threads(), worker.memory_info().rss
        statuses = storm(port, range(EXAMPLES), token)
        assert target.send("GET", "/stuff", who="susie").status == 200
        until(lambda: descriptors(worker, path) <= many)
        assert worker.num_threads() <= threads + serve.THREADS
        assert worker.memory_info().rss < memory + 50 * 2**20
        assert contents(path) == before
    assert {200, 400} <= set(statuses)
