"""What the worst requests cost: `make worst`.

Each is as large as it may be (a body of 1 MiB, 64 KiB of headers), or just below another limit, and
made to take long: before anybody is authenticated, or in an open route, of which two have types as
a fork might add. One line each: the status, CPU time and how much the memory of the process grows,
each request in a process of its own. Exits with 1 if one takes more than 0.5 s of CPU or 50 MiB, or
gets a 5xx. `bench/worst.py form query` takes only the lines that have one of these words.
"""

import base64
import dataclasses
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ |= {
    "ACME_PASS": "Bench-Pass-1",
    "ACME_DATABASE": "memory:",
    "ACME_MODE": "prod",
    "ACME_RATE_LIMIT": "1000000/minute, 1000000/minute",
    "ACME_TOKEN_SECRET": "0123456789abcdef" * 2,
}

import pydantic

from app import app

MAX_CPU_SECONDS = 0.5
MAX_MEMORY_MIB = 50.0
BODY_BYTES = 2**20
HEADER_BYTES = 60_000  # the other lines of the head need some of the 64 KiB
VALUES = 99_990  # in JSON: just below its limit

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=x"
PART = '--x\r\nContent-Disposition: form-data; name="{}"\r\n{}\r\n'


Line = dataclasses.make_dataclass("Line", [(f"member{n}", int) for n in range(20)])
Other = dataclasses.make_dataclass("Other", [(f"other{n}", int) for n in range(20)])


class Order(pydantic.BaseModel):
    """What a fork might take."""

    lines: list[Line | Other]


@app.post("/order", authz="OPEN")
def post_order(order: Order) -> tuple[str, int]:
    """A route of a fork, whose type pydantic checks."""
    return "", 200 + len(order.lines) % 2


@app.post("/lines", authz="OPEN")
def post_lines(lines: list[Line], ids: list[int] | None = None) -> tuple[str, int]:
    """A route of a fork, with plain types."""
    return "", 200 + len(lines or ids or ()) % 2


class Case(NamedTuple):
    """A request, and what it is about."""

    about: str
    method: str = "POST"
    path: str = "/stuff"
    kind: str = ""
    body: bytes = b""
    query: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012


def fill(begin: str, unit: str, end: str, size: int = BODY_BYTES, most: int = BODY_BYTES) -> bytes:
    """As many units between a beginning and an end as fit a size in bytes, or `most`."""
    count = (size - len((begin + end).encode())) // len(unit.encode())
    return (begin + unit * min(count, most) + end).encode()


def numbered(begin: str, unit: str, end: str, size: int = BODY_BYTES) -> bytes:
    """The same with units that differ: `{}` in a unit is its number."""
    parts, left, number = [begin], size - len((begin + end).encode()), 0
    while (left := left - len(part := unit.format(number))) > 0:
        parts.append(part)
        number += 1
    return ("".join(parts) + end).encode()


JSON_VALUES = [
    ("empty arrays", "[],", "[]]}"),
    ("empty objects", "{},", "{}]}"),
    ("objects with a member", '{"":0},', "{}]}"),
    ("objects with two members", '{"a":0,"b":1},', "{}]}"),
    ("small integers", "7,", "7]}"),
    ("integers of 4 digits", "9999,", "7]}"),
    ("fractions", "0.1,", "7]}"),
    ("null", "null,", "7]}"),
    ("texts of two characters", '"ab",', "7]}"),
    ("texts beyond ASCII", '"\u0100",', "7]}"),
    ("texts beyond the BMP", '"\U0001f37a",', "7]}"),
    ("integers of 4300 digits", "9" * 4300 + ",", "7]}"),
    ("a thousand members each", "{" + ",".join(f'"{n}":0' for n in range(1000)) + "},", "7]}"),
    ("arrays in arrays of 99 levels", "[" * 98 + "]" * 98 + ",", "7]}"),
]
JSON_TEXTS = [
    ("digits of a number", '{"p":', "1", "}"),
    ("digits of a fraction", '{"p":0.', "1", "}"),
    ("zeros of a fraction", '{"p":0.', "0", "1}"),
    ("zeros before an exponent", '{"p":1', "0", "e-99999}"),
    ("digits of an exponent", '{"p":1e', "1", "}"),
    ("arrays in arrays", '{"p":', "[", ""),
    ("objects in objects", "", '{"p":', ""),
    ("escapes", '{"p":"', "\\n", '"}'),
    ("escapes in hexadecimal", '{"p":"', "\\u0100", '"}'),
    ("pairs of surrogates", '{"p":"', "\\ud83c\\udf7a", '"}'),
    ("a lone surrogate at the end", '{"p":"', "\\ud83c\\udf7a", '\\ud83c"}'),
    ("a text beyond the BMP", '{"p":"', "\U0001f37a", '"}'),
    ("a text with one character beyond", '{"p":"\U0001f37a', "x", '"}'),
    ("quotes", '{"p":"', '\\"', '"}'),
    ("brackets in a text", '{"p":"', "[{,:", '"}'),
    ("blanks", "{", " ", "}"),
    ("lines", "{", "\n", "x}"),
    ("a long name", '{"', "x", '":1}'),
    ("a long password", '{"username":"acme","password":"', "x", '"}'),
    ("a long login", '{"password":"x","username":"', "x", '"}'),
]


def json_bodies() -> Iterator[Case]:
    """JSON: members, containers, texts, numbers."""
    twice = numbered("{", '"{}":0,', '"0":0}')
    once = numbered("{", '"{}":0,', '"z":0}')
    few = numbered("{", '"{}":0,', '"z":0}', 7_000)
    yield Case("JSON: different members", kind=JSON, body=once)
    yield Case("JSON: different members, the first once more", kind=JSON, body=twice)
    yield Case("JSON: the first in the query once more", kind=JSON, body=once, query="0=1")
    yield Case("JSON: few members, the first in the query", kind=JSON, body=few, query="0=1")
    for about, path, name in ("a person", "/days", "who"), ("any value", "/len", "p"):
        body = numbered(f'{{"{name}":{{', '"{}":0,', '"z":0}}')
        yield Case(f"JSON: {about} of many members", "POST", path, JSON, body)
        short = numbered(f'{{"{name}":{{', '"name{}":0,', '"z":0}}', 13 * 50_000)
        yield Case(f"JSON: {about} of fewer members", "POST", path, JSON, short)
    for about, unit, end in JSON_VALUES:
        size = unit.count(",") + unit.count("[") + unit.count("{")
        for many, most in ("too many", BODY_BYTES), ("many", VALUES // size):
            body = fill('{"p":[', unit, end, most=most)
            yield Case(f"JSON: {many} {about}", "POST", "/len", JSON, body)
        body = fill("p=[", unit, end[:-1], most=VALUES // size)
        yield Case(f"form: many {about}", "POST", "/len", FORM, body)
    for about, begin, unit, end in JSON_TEXTS:
        yield Case(f"JSON: {about}", "POST", "/len", JSON, fill(begin, unit, end))
    long = fill('{"login":"', "a", '","password":"Aa0xx","email":"a@b.org"}')
    yield Case("JSON: a value that is too long", "POST", "/token", JSON, long)
    for about, unit in [
        ("a person of many members", '"{}":0,'),
        ("a person with a long name", '"name{}":"xxxxxxxxxxxxxxxxxxxx",'),
    ]:
        body = numbered('{"who":{', unit, '"born":"x"}}')
        yield Case(f"JSON: {about}", "POST", "/days", JSON, body)
        form = body.replace(b'{"who":', b"who=", 1)[:-1].replace(b"&", b"")
        yield Case(f"form: {about}", "POST", "/days", FORM, form)
    primes = [10**300 - 10**n - 1 for n in range(50)]
    yield Case("50 integers of 300 digits", "POST", "/primes", JSON, _json(li=primes))
    yield Case("50 primes of 300 digits", "POST", "/primes", JSON, _json(li=[10**299 + 669] * 50))
    yield Case("many integers", "POST", "/primes", JSON, fill('{"li":[', "7,", "7]}"))
    yield Case("many texts", "POST", "/primes", JSON, fill('{"li":[', '"7",', "7]}"))
    for unit in "{},", '{"member0":"x"},', '"x",', '{"x":0},':
        for about, most in ("too many", VALUES // 3), ("many", 490):
            order = fill('{"order":{"lines":[', unit, "{}]}}", most=most)
            yield Case(f"an order: {about} {unit}", "POST", "/order", JSON, order)
            lines = fill('{"lines":[', unit, "{}]}", most=most)
            yield Case(f"lines: {about} {unit}", "POST", "/lines", JSON, lines)
    members = numbered('{"order":{', '"{}":0,', '"z":0}}', 9_000)
    yield Case("an order of many members", "POST", "/order", JSON, members)
    lines = fill('{"lines":[', "{" + ",".join(f'"member{n}":1' for n in range(20)) + "},", "{}]}")
    yield Case("lines that are right, but the last", "POST", "/lines", JSON, lines)
    ids = fill('{"lines":[],"ids":[', "7,", "7]}", most=VALUES)
    yield Case("many integers that are right", "POST", "/lines", JSON, ids)


def _json(**members: Any) -> bytes:
    return json.dumps(members).encode()


FORMS = [
    ("names without a value", "", "a&", ""),
    ("only &", "", "&", ""),
    ("percent", "a=", "%41", ""),
    ("percent that is none", "a=", "%", ""),
    ("percent that is not UTF-8", "a=", "%FF", ""),
    ("plus", "a=", "+", ""),
    ("equal signs", "a", "=", ""),
    ("a long name", "", "a", "=1"),
    ("emoji", "a=", "\U0001f37a", ""),
    ("a number of many digits", "price=", "1", ""),
    ("a number with a long fraction", "price=0.", "1", ""),
    ("an exponent of many digits", "price=1e", "1", ""),
    ("a text that is JSON with a text", "p=%22", "%5C%22", "%22"),
    ("arrays in arrays", "p=", "[", ""),
    ("arrays in arrays, encoded", "p=", "%5B", ""),
]
MULTIPARTS = [
    ("no boundary", "", "x", ""),
    ("lines without boundary", "", "\r\n", ""),
    ("almost boundaries", "", "\r\n-", ""),
    ("boundaries", "", "--x\r\n", ""),
    ("boundaries with blanks", PART.format("p", ""), "\r\n--x ", "\r\n--x--"),
    ("blanks behind a boundary", PART.format("p", "") + "\r\n--x", " ", "y\r\n--x--"),
    ("empty parts", "", PART.format("a", ""), "--x--"),
    ("a part of line ends", PART.format("p", ""), "\r\n", "\r\n--x--"),
    ("a part of CR", PART.format("p", ""), "\r", "\r\n--x--"),
    ("a part of LF", PART.format("p", ""), "\n", "\r\n--x--"),
    ("a part that is long", PART.format("p", ""), "x", "\r\n--x--"),
    ("a file that is long", PART.format('p"; filename="f', ""), "x", "\r\n--x--"),
    ("emoji", PART.format("p", ""), "\U0001f37a", "\r\n--x--"),
    ("headers of a part", "--x\r\n", "a:b\r\n", "\r\n\r\n--x--"),
    ("headers that end with CR", "--x\r\n", "a:b\r", "\r\n\r\n--x--"),
    ("a header that goes on", "--x\r\nContent-Disposition: form-data", "\r\n ;a=b", ""),
    ("a header that goes on with LF", "--x\r\nContent-Disposition: form-data", "\n ;a=b", ""),
    ("a header with CR", "--x\r\nContent-Disposition: form-data", ";a=b\r ", "\r\n\r\n--x--"),
    ("parameters", "--x\nContent-Disposition: form-data", ";a=b", "\n\n--x--"),
    ("a header without colon", "--x\r\nContent-", "a-", "\r\n\r\n--x--"),
    ("a header without end", "--x\r\nContent-Type:", " ", ""),
    ("words of headers", "--x\r\n", "content-a\r\n", "\r\n\r\n--x--"),
]


def forms() -> Iterator[Case]:
    """Forms, urlencoded and multipart, and query strings."""
    for about, begin, unit, end in FORMS:
        yield Case(f"form: {about}", "POST", "/len", FORM, fill(begin, unit, end))
        query = fill(begin, unit, end, HEADER_BYTES).decode("latin-1")
        yield Case(f"query: {about}", "GET", "/len", query=query)
    pair = "a{}=1&"
    yield Case("form: 1000 names", kind=FORM, body=numbered("", pair, "", 7_000))
    many = numbered("", pair, "a0=1", 7_000) + b"&b=" + b"x" * 1_000_000
    yield Case("form: 1000 names, the first once more", kind=FORM, body=many)
    yield Case("query: 1000 names", "GET", query=numbered("", pair, "", 7_000).decode())
    numbers = fill("", "li=" + "9" * 1000 + "&", "li=7")
    yield Case("form: long integers", "POST", "/primes", FORM, numbers)
    for about, begin, unit, end in MULTIPARTS:
        body = fill(begin, unit, end)
        yield Case(f"multipart: {about}", "POST", "/len", MULTIPART, body)
    part = PART.format("a{}", "a:b\r\n" * 2000) + "\r\n"
    yield Case("multipart: headers of 100 parts", kind=MULTIPART, body=numbered("", part, "--x--"))
    for about, boundary in [
        ("a long boundary", "x" * HEADER_BYTES),
        ("a boundary of odd characters", '"' + "()+" * (HEADER_BYTES // 3) + '"'),
    ]:
        kind = f"multipart/form-data; boundary={boundary}"
        yield Case(f"multipart: {about}", kind=kind, body=fill("--", "x", "--"))


# where a header is looked at
PATHS = {"Cookie": "/token/refresh", "Authorization": "/token", "If-Match": "/hello"}


CONTENT_TYPES = [
    ("parameters", "application/json", ";a=b", ""),
    ("parameters in quotes", "application/json", ';a="b"', ""),
    ("a backslash in quotes", 'application/json;a="', "\\\\", '"'),
    ("quotes without end", 'application/json;a="', '\\"', ""),
    ("continued parameters", "application/json", ";a*0=b", ""),
    ("encoded parameters", "application/json", ";a*=utf-8''%41", ""),
    ("semicolons", "application/json", ";", ""),
    ("blanks", "application/json", " ", "x"),
    ("one word", "", "x", ""),
]
HEADERS = [
    ("Accept", "", "a/b;q=0.1,", ""),
    ("Accept-Language", "", "a,", ""),
    ("Cache-Control", "", "a,", ""),
    ("Cookie", "", "a=b;", ""),
    ("Cookie", "refresh=", "x", ""),
    ("Cookie", 'refresh="', "\\101", '"'),
    ("Cookie", "", ";", ""),
    ("Cookie", "refresh=", ".", ""),
    ("Authorization", "Basic ", "YTpi", ""),
    ("Authorization", "Basic ", "=", ""),
    ("Authorization", "Digest ", 'a="b",', ""),
    ("Authorization", "Bearer ", "x.", ""),
    ("Authorization", "Bearer ", "x", ".y.z"),
    ("Authorization", "", " ", ""),
    ("Host", "", "a.", ""),
    ("Host", "", "x", ""),
    ("Host", "", "\xe9", ""),
    ("Host", "[", ":", "]"),
    ("Host", "", "a,", ""),
    ("Host", "a:", "9", ""),
    ("If-Match", "", '"a",', ""),
    ("If-None-Match", "", '"a",', ""),
    ("If-None-Match", "", "W/", ""),
    ("If-None-Match", "", '"', ""),
    ("If-None-Match", "", " ", "x"),
    ("If-Modified-Since", "", "1 ", ""),
    ("If-Modified-Since", "Mon, 01 Jan ", "9", " 00:00:00 GMT"),
    ("If-Modified-Since", "", "(", ""),
    ("If-Unmodified-Since", "", "1,", ""),
    ("If-Range", "", '"a', ""),
    ("Range", "bytes=", "0-0,", "0-0"),
    ("Range", "bytes=", "0-", ""),
    ("Range", "bytes=0-", "9", ""),
    ("Origin", "https://", "a.", ""),
    ("X-Forwarded-For", "", "1,", ""),
    ("Content-Length", "", "9", ""),
    ("User-Agent", "", "(", ""),
]


def heads() -> Iterator[Case]:
    """Headers, cookies and paths."""
    for about, begin, unit, end in CONTENT_TYPES:
        kind = fill(begin, unit, end, HEADER_BYTES).decode()
        yield Case(f"Content-Type: {about}", kind=kind, body=b"{}")
    for name, begin, unit, end in HEADERS:
        value = fill(begin, unit, end, HEADER_BYTES).decode()
        path = PATHS.get(name, "/")
        method = "POST" if path.startswith("/token/") else "GET"
        yield Case(f"{name}: {value[:16]}… {path}", method, path, headers={name: value})
    for deep in ("[", '{"a":'):
        head = base64.urlsafe_b64encode(deep.encode() * (HEADER_BYTES // 8)).decode().rstrip("=")
        bearer = {"Authorization": f"Bearer {head}.e30.x"}
        yield Case(f"a token with {deep} in {deep}", "GET", "/hello-me", headers=bearer)
    lines = {f"X-{n}": "x" for n in range(HEADER_BYTES // 12)}
    yield Case("many headers", "GET", "/hello", headers=lines)
    for unit in "/", "/a", "a", "%41", "\xe9", "/..", "//", "/www/", ".", "%0D", "%", "<", "\x00":
        for begin in "/", "/www/", "/stuff/", "/user/":
            path = fill(begin, unit, "", HEADER_BYTES).decode()
            yield Case(f"path: {begin}{unit!a}…", "GET", path)


def cases() -> list[Case]:
    """All of them, in an order that stays."""
    return [*json_bodies(), *forms(), *heads()]


def environ(case: Case) -> dict[str, Any]:
    """What a server makes of the request."""
    made: dict[str, Any] = {
        "REQUEST_METHOD": case.method,
        "PATH_INFO": case.path.encode().decode("latin-1"),
        "QUERY_STRING": case.query,
        "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:5000",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(case.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if case.body:
        made["CONTENT_LENGTH"] = str(len(case.body))
    if case.kind:
        made["CONTENT_TYPE"] = case.kind
    for name, value in case.headers.items():
        key = name.upper().replace("-", "_")
        made[key if key == "CONTENT_LENGTH" else f"HTTP_{key}"] = value
    return made


def send(case: Case) -> tuple[int, float]:
    """The status that a request gets, and the seconds of CPU time that it takes."""
    statuses: list[str] = []
    given = environ(case)
    begin = time.process_time()
    parts = app(given, lambda status, *_: statuses.append(status))
    size = sum(len(part) for part in parts)
    taken = time.process_time() - begin
    assert size < BODY_BYTES, f"a response of {size} bytes"
    return int(statuses[0].split()[0]), taken


def resident(name: str) -> float:
    """MiB of memory of this process: `VmRSS` now, `VmHWM` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def measure(case: Case) -> tuple[int, float, float]:
    """Status, seconds and MiB of a request, in a child process."""
    reading, writing = os.pipe()
    if not os.fork():
        try:
            send(Case("what is made once", "POST", "/len", JSON, b'{"p":1}'))
            before = resident("VmRSS")
            status, seconds = send(case)
            line = f"{status} {seconds} {resident('VmHWM') - before}"
        except BaseException as e:  # even what no server would survive
            line = f"599 0 0 {e!r}"
        os.write(writing, line.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        words = pipe.read().split(maxsplit=3)
    os.wait()
    if not words:
        words = ["599", "0", "0", "the process has died"]
    if len(words) > 3:
        print(words[3], file=sys.stderr)
    return int(words[0]), float(words[1]), float(words[2])


def main() -> int:
    """Measure and print; 1 if a limit is not kept."""
    import sympy  # noqa: F401  what only the first request pays

    send(Case("what is made once", "POST", "/primes", JSON, b'{"li":[7]}'))
    send(Case("the same", "POST", "/len", MULTIPART, b"--x--"))
    words = sys.argv[1:] or [""]
    broken, count = 0, 0
    print("status  CPU s    MiB  request")
    for case in cases():
        if not any(word in case.about for word in words):
            continue
        status, seconds, grown = measure(case)
        bad = status >= 500 or seconds > MAX_CPU_SECONDS or grown > MAX_MEMORY_MIB
        print(
            f"{status:6}{seconds:7.3f}{grown:7.1f}  {case.about}{'  <- too much' * bad}", flush=True
        )
        broken += bad
        count += 1
    print(f"{broken} of {count} over {MAX_CPU_SECONDS} s or {MAX_MEMORY_MIB:.0f} MiB, or 5xx")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
