"""Strict parsers of query strings and forms, whose work and memory are linear in their size.

They raise ValueError, with the reason, for malformed input that Werkzeug would repair or keep.
"""

import io
import re
import string
from typing import NamedTuple

from werkzeug.datastructures import FileStorage, Headers
from werkzeug.http import parse_options_header

MAX_FIELDS = 1_000  # parameters in a query string or an urlencoded form
MAX_PARTS = 100  # of a multipart form
MAX_PART_HEADERS = 2_000  # bytes
MAX_BOUNDARY = 70  # characters, by RFC 2046

_NOT_UTF8 = "parameters must be in UTF-8"
_ESCAPE = re.compile("%[0-9a-fA-F]{2}")
_UNESCAPED = {
    f"%{high}{low}": chr(int(high + low, 16))
    for high in string.hexdigits
    for low in string.hexdigits
}


class Form(NamedTuple):
    """The fields and the files of a form, each with its name, in their order."""

    fields: list[tuple[str, str]]
    files: list[tuple[str, FileStorage]]


def parse_urlencoded(data: bytes) -> list[tuple[str, str]]:
    """Names and values of `application/x-www-form-urlencoded`; ValueError if it is not UTF-8."""
    if data.count(b"&") >= MAX_FIELDS:
        raise ValueError(f"more than {MAX_FIELDS} parameters")
    pairs = [field.partition(b"=") for field in data.split(b"&") if field]
    try:
        return [(_unquote(name), _unquote(value)) for name, _, value in pairs]
    except UnicodeDecodeError:
        raise ValueError(_NOT_UTF8) from None


def _unquote(text: bytes) -> str:
    text = text.replace(b"+", b" ")
    if b"%" in text:
        # as characters below 256: joining single bytes takes ten times the memory
        characters = _ESCAPE.sub(lambda escape: _UNESCAPED[escape[0]], text.decode("latin-1"))
        text = characters.encode("latin-1")
    return text.decode()


def parse_multipart(data: bytes, boundary: str) -> Form:
    """The fields and files of `multipart/form-data` (RFC 7578); ValueError if it is malformed."""
    if not 1 <= len(boundary) <= MAX_BOUNDARY or not boundary.isascii():
        raise ValueError(f"the form is malformed: its boundary must be 1 to {MAX_BOUNDARY} ASCII")
    data = b"\r\n" + data
    delimiter = b"\r\n--" + boundary.encode()
    if data.count(delimiter) > MAX_PARTS + 1:
        raise ValueError(f"the form has more than {MAX_PARTS} parts")
    begin, *parts = data.split(delimiter)
    end = parts.pop() if parts else b""
    if begin.strip() or not end.startswith(b"--") or end[2:].strip():
        raise ValueError("the form is malformed: it does not end with its boundary")
    form = Form([], [])
    for part in parts:
        _add_part(form, part)
    return form


def _add_part(form: Form, part: bytes) -> None:
    padding, _, part = part.partition(b"\r\n")
    head, blank_line, content = part.partition(b"\r\n\r\n")
    if padding.strip(b" \t") or not blank_line:
        raise ValueError("the form is malformed: a part without a blank line behind its headers")
    if len(head) > MAX_PART_HEADERS:
        raise ValueError(f"the form is malformed: headers of more than {MAX_PART_HEADERS} bytes")
    try:
        headers = _headers(head.decode())
        kind, options = parse_options_header(headers.get("Content-Disposition"))
        name = options.get("name")
        if kind != "form-data" or name is None or not name.isprintable():
            raise ValueError("the form is malformed: a part without a name")
        if (filename := options.get("filename")) is not None:
            file = FileStorage(io.BytesIO(content), filename, name, headers=headers)
            form.files.append((name, file))
        else:
            form.fields.append((name, content.decode()))
    except UnicodeDecodeError:
        raise ValueError(_NOT_UTF8) from None


def _headers(head: str) -> Headers:
    headers = Headers()
    for line in head.split("\r\n"):
        name, colon, value = line.partition(":")
        # a line break within a name, or a header continued on the next line
        if not colon or not line.isprintable() or name != name.strip() or name in headers:
            raise ValueError("the form is malformed: a header of a part")
        headers.add(name, value.strip())
    return headers
