"""Static files: of the front end, and of Swagger UI."""

import contextlib
import functools
import gzip
import hashlib
import mimetypes
import threading
from pathlib import Path
from typing import NamedTuple, NewType

import flask
import FlaskSimpleAuth as fsa
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.security import safe_join

File = NewType("File", flask.Response)  # a response that is not part of the API
MIN_COMPRESSED_BYTES = 1400  # less fits in one packet anyway
COMPRESSED_TYPES = ("text/", "application/json", "application/javascript", "image/svg+xml")


_lock = threading.Lock()  # of the cache of `_read`


class _Content(NamedTuple):
    """The bytes of a file, which all its responses share."""

    data: bytes
    compressed: bytes | None  # by gzip, where that is smaller
    mimetype: str
    etag: str


@functools.lru_cache(100)
def _read(path: Path, _mtime_ns: int, _size: int) -> _Content:
    """The content of a file, read once until it changes."""
    data = path.read_bytes()
    mimetype = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    compressed = None
    if len(data) >= MIN_COMPRESSED_BYTES and mimetype.startswith(COMPRESSED_TYPES):
        compressed = gzip.compress(data, mtime=0)
    if compressed and len(compressed) >= len(data):
        compressed = None
    return _Content(data, compressed, mimetype, hashlib.sha256(data).hexdigest()[:16])


def send(folder: Path, name: str) -> File:
    """A file of a folder, with an ETag for browser caches; 404 if there is none.

    It is compressed for clients that accept gzip; a range (RFC 9110) is of the uncompressed file.
    """
    path = Path(safe_join(str(folder), name) or "")
    try:
        stat = path.stat()
        with _lock:  # compressing in each of the threads that want a file first takes seconds
            content = _read(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError):  # a folder, for example, or a NUL in the name
        raise fsa.ErrorResponse(f"no such file: {name}", 404) from None
    request = flask.request
    takes_gzip = request.accept_encodings.quality("gzip") > 0 and "Range" not in request.headers
    data, etag = content.data, content.etag
    response = flask.current_app.response_class(mimetype=content.mimetype)
    if content.compressed:
        response.vary.add("Accept-Encoding")
        if takes_gzip:
            data, etag = content.compressed, f"{etag}-gzip"
            response.content_encoding = "gzip"
    response.data = data
    response.set_etag(etag)
    response.last_modified = stat.st_mtime  # type: ignore[assignment]  # seconds are good, too
    response.cache_control.no_cache = True
    try:
        with contextlib.suppress(OverflowError):  # a date out of range, which is ignored
            response.make_conditional(request, accept_ranges=True, complete_length=len(data))
    except RequestedRangeNotSatisfiable:
        raise fsa.ErrorResponse("the file has no such range", 416) from None
    if response.status_code == 206:
        response.data = response.get_data()
    return File(response)
