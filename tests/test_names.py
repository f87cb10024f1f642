"""Names in all scripts, with emoji: which are taken, and in which form."""

import re
import time
import unicodedata
import urllib.parse

import FlaskSimpleAuth as fsa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import values
from canonical_names import SPECIAL
from tests.test_values import made

HIDDEN = (0x200C, 0x200D, 0xFE0E, 0xFE0F, 0x20E3, 0xE0067, 0xE007F, 0xE0100, 0x034F)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=110))
def test_name_survives_a_path(text):
    """A name is kept but for its canonical form, and is one line that survives a path."""
    name = made(values.Name, text)
    form = unicodedata.normalize("NFC", text)
    if name is None:
        assert (
            not 1 <= len(text) <= len(form) <= 100
            or text in (".", "..")
            or "/" in text
            or text != text.strip(" \u2800")
            or not text.isprintable()
            or SPECIAL.search(form)
        )
    else:
        assert name == values.Name(str(name))
        assert len(name.splitlines()) == 1
        assert name == form or SPECIAL.search(form) or not form.isprintable()


# what looks like the first is stored as the first; as it stands in what people write
SPELLINGS = [
    ("é", "e\u0301"),
    ("Việt", "Vie\u0323\u0302t"),
    ("각", "\u1100\u1161\u11a8"),
    ("क\u093c", "\u0958"),  # in form C
    ("\u05e9\u05b8\u05c1לוֹם", "\u05e9\u05c1\u05b8לוֹם"),  # Hebrew points in their order
    ("สวัสดีครับ", "สวัสดีครับ"),
    ("می\u200cخواهم", "می\u200cخواهم"),  # Persian
    ("کارها", "کار\u200cها"),  # where the letters do not join in any case
    ("क\u094d\u200dष", "क\u094d\u200dष"),  # Devanagari: half form, explicit virama
    ("क\u094d\u200cष", "क\u094d\u200cष"),
    ("\u0dc1\u0dca\u200d\u0dbb\u0dd3", "\u0dc1\u0dca\u200d\u0dbb\u0dd3"),  # Sinhala: Sri
    ("র\u200d\u09cdযাব", "র\u200d\u09cdযাব"),  # Bengali
    ("\u0d05\u0d35\u0d28\u0d4d\u200d", "\u0d05\u0d35\u0d28\u0d4d\u200d"),  # Malayalam
    ("葛\U000e0100飾", "葛\U000e0100飾"),  # a place in Japan
    ("ᠮᠣᠩ\u180bᠭ", "ᠮᠣᠩ\u180bᠭ"),
    ("👨\u200d👩\u200d👧\u200d👦", "👨\u200d👩\u200d👧\u200d👦"),  # family
    ("🏳\ufe0f\u200d🌈", "🏳\u200d🌈"),  # rainbow flag
    ("🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",) * 2,  # Scotland
    ("🇫🇷🇩🇪", "🇫🇷🇩🇪"),
    ("1\ufe0f\u20e3", "1\u20e3"),  # keycap
    ("👍🏽", "👍\ufe0f🏽"),  # skin tone
    ("🧑🏻\u200d❤\ufe0f\u200d💋\u200d🧑🏿", "🧑🏻\u200d❤\u200d💋\u200d🧑🏿"),
    ("🙂\u200d↔\ufe0f", "🙂\u200d↔\ufe0f"),
    ("🫨\U0001f6d8", "🫨\U0001f6d8"),  # newer than Python 3.11
    ("❤", "❤\ufe0e"),  # as text, as an emoji
    ("❤\ufe0f", "❤\ufe0f\ufe0f"),
    ("⌚", "⌚\ufe0f"),
    ("⌚\ufe0e", "⌚\ufe0e"),
]


@pytest.mark.parametrize(("form", "text"), SPELLINGS, ids=ascii)
def test_name_is_stored_in_its_canonical_form(form, text):
    assert made(values.Name, text) == made(values.Name, form) == form


@pytest.mark.parametrize(
    ("text", "character"),
    [
        ("a\u202eb", "U+202E RIGHT-TO-LEFT OVERRIDE as character 2"),
        ("\u2066a", "U+2066 LEFT-TO-RIGHT ISOLATE as character 1"),
        ("ab\0", "U+0000 CONTROL CHARACTER as character 3"),
        ("\ue000", "U+E000 PRIVATE USE"),
        ("\u0378", "U+0378 UNASSIGNED"),
        ("\ud800", "U+D800 SURROGATE"),
        ("a\u00a0b", "U+00A0 NO-BREAK SPACE"),
        ("a\u00adb", "U+00AD SOFT HYPHEN"),
        ("a\u200bb", "U+200B ZERO WIDTH SPACE"),
        ("a\u200db", "U+200D ZERO WIDTH JOINER as character 2"),
        ("a\u200cb", "U+200C ZERO WIDTH NON-JOINER"),
        ("\u200d", "U+200D ZERO WIDTH JOINER"),
        ("🍺\u200d🍺", "U+200D ZERO WIDTH JOINER"),  # no emoji of Unicode
        ("👨\u200d👩\u200d👧\u200d", "U+200D ZERO WIDTH JOINER as character 6"),
        ("\u200d🌈", "U+200D ZERO WIDTH JOINER"),
        ("می\u200c", "U+200C ZERO WIDTH NON-JOINER"),  # at the end it changes nothing
        ("क\u094d\u200c", "U+200C ZERO WIDTH NON-JOINER"),
        ("क\u094d\u200d\u200dष", "U+200D ZERO WIDTH JOINER as character 4"),
        ("a\ufe0f", "U+FE0F VARIATION SELECTOR-16"),
        ("1\ufe0f", "U+FE0F VARIATION SELECTOR-16"),
        ("🍺\ufe0e", "U+FE0E VARIATION SELECTOR-15"),
        ("漢\ufe00", "U+FE00 VARIATION SELECTOR-1"),
        ("a\U000e0100", "U+E0100 VARIATION SELECTOR-17"),
        ("葛\U000e0100\U000e0101", "U+E0101 VARIATION SELECTOR-18"),
        ("🏴\U000e0061\U000e007f", "U+E0061 TAG LATIN SMALL LETTER A"),
        ("a\u034f", "U+034F COMBINING GRAPHEME JOINER"),
        ("\u3164", "U+3164 HANGUL FILLER"),
    ],
    ids=ascii,
)
def test_character_that_is_not_seen_is_refused_by_name(text, character):
    with pytest.raises(fsa.ErrorResponse, match=re.escape(f"a name must not have {character}")):
        values.Name(text)


@given(
    st.lists(st.sampled_from([*"a🍺❤👨👩👧🏽🏴🏳🌈1क्षبر漢", *map(chr, HIDDEN)]), max_size=12).map(
        "".join
    )
)
def test_hidden_characters_make_no_second_name(text):
    """Of names that differ in selectors alone, one is stored; and a name is one for good."""
    name = made(values.Name, text)
    if name is not None:
        assert values.Name(str(name)) == name
        assert made(values.Name, name.replace("\ufe0f", "\ufe0f\ufe0f")) in (name, None)


@pytest.mark.parametrize(
    "text", ["क्\u200d", "🧑🏻\u200d❤\ufe0f\u200d", "ب\u064b\u200c", "\u0315\u0300"]
)
def test_long_name_takes_no_time(text):
    """The time is linear in at most 100 characters; a longer name is not looked at."""
    start = time.process_time()
    for _ in range(20):
        made(values.Name, (text * 100)[:100])
        made(values.Name, text * 100_000)
    assert time.process_time() - start < 0.5


def test_name_is_found_in_another_spelling(api, thing):
    """A name is taken in each of its spellings, on each store, and is found under its own."""
    name = thing()
    for text in f"{name} 👨\u200d👩\u200d👧", f"{name} é", f"{name} می\u200cخواهم":
        response = api.post("/stuff", 201, login="susie", json={"stuff": text, "price": 1})
        path = urllib.parse.unquote(response.headers["Location"])
        assert path == f"/stuff/{text}"
        api.get(response.headers["Location"], 200, login="susie")
    for text in f"{name} e\u0301", f"{name} é":
        api.post("/stuff", 409, login="susie", json={"stuff": text, "price": 1})
    names = [one for one, _ in api.get("/stuff", 200, login="susie", json={"q": "E\u0301"}).json]
    assert f"{name} é" in names
