"""Static files: what browsers ask of them (RFC 9110), and that their bytes are shared."""

import concurrent.futures
import gzip
import os
import time
import types

import pytest

import test as tutorial
from test import app
from tests.conftest import ROOT
from web import files

FILE = "/docs/swagger-ui.css"


@pytest.fixture
def get():
    """Asks for a file, or with another method."""
    client = tutorial.app.test_client()

    def send(path=FILE, method="GET", **headers):
        dashed = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.open(path, method=method, headers=dashed)

    return send


def test_head_has_the_headers_of_get(get):
    whole, head = get(), get(method="HEAD")
    assert head.status_code == 200
    assert head.data == b""
    for name in "Content-Length", "ETag", "Last-Modified", "Content-Type", "Accept-Ranges", "Vary":
        assert head.headers[name] == whole.headers[name]
    assert int(whole.headers["Content-Length"]) == len(whole.data)


def test_gzip_is_sent_to_clients_that_accept_it(get):
    plain = get()
    assert "Content-Encoding" not in plain.headers
    for accepted in "gzip, deflate, br", "*":
        compressed = get(Accept_Encoding=accepted)
        assert compressed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(compressed.data) == plain.data
        assert len(compressed.data) < len(plain.data) / 3
        assert compressed.headers["ETag"] != plain.headers["ETag"]
        assert compressed.headers["Vary"] == "Accept-Encoding"
    for refused in "br", "gzip;q=0", "identity":
        assert get(Accept_Encoding=refused).data == plain.data


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_unchanged_file_is_304(get, coding):
    """By ETag or date, with the headers that a cache needs, and without the file."""
    first = get(Accept_Encoding=coding)
    for condition in (
        {"If_None_Match": first.headers["ETag"]},
        {"If_None_Match": f'"other", {first.headers["ETag"]}'},
        {"If_Modified_Since": first.headers["Last-Modified"]},
    ):
        again = get(Accept_Encoding=coding, **condition)
        assert (again.status_code, again.data) == (304, b"")
        for name in "ETag", "Cache-Control", "Vary":
            assert again.headers[name] == first.headers[name]


@pytest.mark.parametrize(
    "condition",
    [
        {"If_None_Match": '"other"'},
        {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If_Modified_Since": "Thu, 01 Jan 10000000000 00:00:00 GMT"},
        {"If_Modified_Since": "yesterday"},
    ],
)
def test_changed_file_is_sent(get, condition):
    """Also if the date is malformed."""
    assert get(**condition).data == get().data


def test_range_is_a_part_of_the_file(get):
    """Of the uncompressed file, also for clients that accept gzip."""
    whole = get()
    for asked, part in (
        ("10-19", slice(10, 20)),
        ("-5", slice(-5, None)),
        ("100-", slice(100, None)),
    ):
        response = get(Range=f"bytes={asked}", Accept_Encoding="gzip")
        assert (response.status_code, response.data) == (206, whole.data[part])
        assert response.headers["Content-Range"].endswith(f"/{len(whole.data)}")
    etag = whole.headers["ETag"]
    assert get(Range="bytes=0-1", If_Range=etag).data == whole.data[:2]
    assert get(Range="bytes=0-1", If_Range='"other"').data == whole.data
    assert get(Range=f"bytes={len(whole.data)}-").status_code == 416
    assert get(method="HEAD", Range="bytes=0-1").headers["Content-Length"] == "2"


def test_responses_share_the_bytes_of_a_file():
    """However it is sent, each has the same ones."""
    for coding in "identity", "gzip":
        sent = []
        for _ in range(2):
            with tutorial.app.test_request_context("/", headers={"Accept-Encoding": coding}):
                response = files.send(ROOT / "www", "acme.js")
                sent += response.get_app_iter({"REQUEST_METHOD": "GET"})
        assert sent[0] is sent[1]


def test_changed_file_has_another_etag(tmp_path):
    file = tmp_path / "some.txt"
    responses = []
    for n, text in enumerate(["some", "more", "more"]):
        file.write_text(text)
        os.utime(file, (n, n))
        with tutorial.app.test_request_context("/"):
            response = files.send(tmp_path, file.name)
            responses.append((response.data.decode(), response.headers["ETag"]))
    assert [text for text, _ in responses] == ["some", "more", "more"]
    assert len({etag for _, etag in responses}) == 2


def test_file_is_compressed_once_under_simultaneous_requests(get, monkeypatch):
    """28 threads did it at once, with 60 MiB, while others waited for three seconds."""
    calls = []

    def compress(data, mtime):
        calls.append(data)
        time.sleep(0.1)  # in which the others come
        return gzip.compress(data, mtime=mtime)

    monkeypatch.setattr(files, "gzip", types.SimpleNamespace(compress=compress))
    files._read.cache_clear()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert {response.status_code for response in pool.map(lambda _: get(), range(8))} == {200}
    assert len(calls) == 1


@pytest.mark.parametrize("path", ["/", "/www/index.html", "/docs", "/hello"])
@pytest.mark.parametrize("header", ["If-Modified-Since", "If-Unmodified-Since", "If-Range", "Date"])
@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 10000 00:00:00 GMT",
        "Mon, 01 Jan 0001 00:00:00 +1400",
        "Fri, 31 Dec 9999 23:59:59 -1400",
        "Mon, 01 Jan 2020 00:00:00 +99999999999",
        "Mon, 99999999999 Jan 2020 00:00:00 GMT",
        "Mon, 01 Jan 2020 99999999999:00:00 GMT",
        "Mon, 00 Jan 0000 00:00:00 GMT",
        "9" * 5000,
        "x",
    ],
)
def test_dates_out_of_range_are_ignored(path, header, date):
    """As RFC 9110 asks of what is no date."""
    with app.test_client() as client:
        res = client.get(path, headers={header: date, "Range": "bytes=0-1"}, buffered=True)
    assert res.status_code in (200, 206, 304)


@pytest.mark.parametrize("path", ["/", "/www/index.html"])
def test_html_is_revalidated_by_etag(target, path):
    """Browsers cache HTML and ask each time whether it has changed."""
    page = target.send("GET", path)
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Cache-Control"] == "no-cache"
    again = target.send("GET", path, headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("target", ["memory"], indirect=True)
@pytest.mark.parametrize("path", ["/", "/www/index.html", "/docs"])
def test_policy_allows_neither_inline_scripts_nor_other_origins(target, path):
    """The whole content security policy of each HTML file: one more word may open it."""
    policy = target.send("GET", path).headers["Content-Security-Policy"]
    assert dict(directive.strip().split(" ", 1) for directive in policy.split(";")) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize(("part", "status"), [("bytes=0-1", 206), ("bytes=99999999-", 416)])
def test_range_of_html_is_206_or_416(target, part, status):
    """A part of a file; a part that does not exist is 416."""
    assert target.send("GET", "/", headers={"Range": part}).status == status


@pytest.mark.parametrize(
    "path", ["/www/no", "/www/../app.py", "/www/%2e%2e/app.py", "/www/%2fetc/passwd"]
)
def test_path_outside_the_front_end_is_404(target, path):
    """In JSON."""
    response = target.send("GET", path)
    assert response.status == 404
    assert response.error
