"""The parsers of query strings and forms, with what they accept and their limits to the byte."""

import re

import pytest

from web import forms

DISPOSITION = 'Content-Disposition: form-data; name="a"'


def multipart(*heads: str, content: str = "text", boundary: str = "x", padding: str = "") -> bytes:
    """A form with a part for each head."""
    delimiter = f"--{boundary}{padding}\r\n"
    parts = "".join(f"{delimiter}{head}\r\n\r\n{content}\r\n" for head in heads)
    return f"{parts}--{boundary}--\r\n".encode()


@pytest.mark.parametrize(
    ("data", "pairs"),
    [
        (b"", []),
        (b"a=1&b=2", [("a", "1"), ("b", "2")]),
        (b"&&a=1&", [("a", "1")]),
        (b"a", [("a", "")]),
        (b"=a", [("", "a")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a+b=c+d%2B", [("a b", "c d+")]),
        (b"%c3%A9=%E2%82%AC", [("é", "€")]),
        (b"a=%&b=%4&c=%zz&d=%25%32%35", [("a", "%"), ("b", "%4"), ("c", "%zz"), ("d", "%25")]),
        (b"&" * 999, []),
    ],
)
def test_urlencoded_form_is_decoded_once(data, pairs):
    assert forms.parse_urlencoded(data) == pairs


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"&" * 1000, "more than 1000 parameters"),
        (b"\xff=1", "parameters must be in UTF-8"),
        (b"a=%FF", "parameters must be in UTF-8"),
    ],
)
def test_urlencoded_form_is_refused_with_the_reason(data, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        forms.parse_urlencoded(data)


def test_multipart_form_has_fields_and_files_in_order():
    data = multipart(
        DISPOSITION,
        f'{DISPOSITION}; filename="f.txt"\r\nContent-Type: text/plain\r\nX-Time: 10:20 ',
        'content-disposition:form-data; name="é"',
        content="é\r\n--y\r\n\r\n",
    )
    form = forms.parse_multipart(data, "x")
    assert form.fields == [("a", "é\r\n--y\r\n\r\n"), ("é", "é\r\n--y\r\n\r\n")]
    ((name, file),) = form.files
    assert (name, file.name, file.filename, file.content_type) == ("a", "a", "f.txt", "text/plain")
    assert (file.headers["X-Time"], file.read().decode()) == ("10:20", "é\r\n--y\r\n\r\n")


@pytest.mark.parametrize("padding", ["", " ", "\t", " \t "])
def test_boundary_may_be_padded(padding):
    form = forms.parse_multipart(multipart(DISPOSITION, padding=padding), "x")
    assert form.fields == [("a", "text")]


@pytest.mark.parametrize("padding", ["X", "\v", "\n", "x", "--"])
def test_boundary_is_padded_with_blanks_only(padding):
    """Else a longer boundary would be taken for it."""
    with pytest.raises(ValueError, match="the form is malformed: "):
        forms.parse_multipart(multipart(DISPOSITION, padding=padding), "x")


LARGE = f"{DISPOSITION}\r\nX: "


@pytest.mark.parametrize(
    "data",
    [
        multipart(DISPOSITION, boundary="b" * 70),
        multipart(*[DISPOSITION] * 100),
        multipart(LARGE + "x" * (2000 - len(LARGE))),
    ],
    ids=["boundary", "parts", "headers"],
)
def test_multipart_form_at_a_limit_is_accepted(data):
    boundary = data.split(b"\r\n")[0][2:].decode()
    assert ("a", "text") in forms.parse_multipart(data, boundary).fields


BOUNDARY = "the form is malformed: its boundary must be 1 to 70 ASCII"
END = "the form is malformed: it does not end with its boundary"
BLANK_LINE = "the form is malformed: a part without a blank line behind its headers"
HEADER = "the form is malformed: a header of a part"
NAME = "the form is malformed: a part without a name"


@pytest.mark.parametrize(
    ("data", "boundary", "message"),
    [
        (multipart(DISPOSITION), "", BOUNDARY),
        (multipart(DISPOSITION, boundary="b" * 71), "b" * 71, BOUNDARY),
        (multipart(DISPOSITION), "é", BOUNDARY),
        (multipart(*[DISPOSITION] * 101), "x", "the form has more than 100 parts"),
        (b"", "x", END),
        (b"m" + multipart(DISPOSITION), "x", END),
        (multipart(DISPOSITION)[:-4], "x", END),
        (multipart(DISPOSITION)[:-2] + b"m", "x", END),
        (b"--x\r\n\r\ntext\r\n--x--", "x", BLANK_LINE),
        (
            multipart(LARGE + "x" * (2001 - len(LARGE))),
            "x",
            "the form is malformed: headers of more than 2000 bytes",
        ),
        (multipart(f"{DISPOSITION}\r\nnone"), "x", HEADER),
        (multipart("Content-Disposition: form-data"), "x", NAME),
        (multipart(DISPOSITION).replace(b"text", b"\xff"), "x", "parameters must be in UTF-8"),
    ],
)
def test_multipart_form_is_refused_with_the_reason(data, boundary, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        forms.parse_multipart(data, boundary)
