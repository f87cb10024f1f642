"""The canonical form of names in all scripts: what looks the same is the same name.

Names are in Unicode's normalization form C, and emoji are fully qualified (UTS #51). Characters
that are not seen themselves stand only where they change what is seen: joiners and variation
selectors in emoji, and where the spelling of a language takes them (UAX #31, RFC 5892). In other
places they would make two names of what looks like one.
"""

import functools
import re
import unicodedata

import idna

ZWNJ, ZWJ = "\u200c", "\u200d"
TEXT_STYLE, EMOJI_STYLE = "\ufe0e", "\ufe0f"  # variation selectors
KEYCAP = "\u20e3"
MAX_EMOJI_LENGTH = 10  # code points of the longest sequence: a couple with skin tones
# what str.isprintable accepts and nobody sees (Default_Ignorable_Code_Point)
MONGOLIAN_SELECTORS = "\u180b-\u180d\u180f"
IDEOGRAPHIC_SELECTORS = "\U000e0100-\U000e01ef"
INVISIBLE = (
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufe00-\ufe0f"
    f"{MONGOLIAN_SELECTORS}{IDEOGRAPHIC_SELECTORS}"
)
SPECIAL = re.compile(f"[{INVISIBLE}{KEYCAP}]")
# of scripts in which a selector chooses between shapes of a letter
SELECTED = [
    (re.compile(f"[{MONGOLIAN_SELECTORS}]"), "MONGOLIAN LETTER"),
    (re.compile(f"[{IDEOGRAPHIC_SELECTORS}]"), "CJK UNIFIED IDEOGRAPH"),
]
# RA and virama without their usual ligature, in Bengali and Kannada
SEPARATE_RA = ("\u09b0\u200d\u09cd", "\u0cb0\u200d\u0ccd")
NAMELESS = {"Cc": "CONTROL CHARACTER", "Co": "PRIVATE USE", "Cs": "SURROGATE"}


def canonical(text: str) -> str:
    """The canonical form of a name; ValueError names a character that it must not have there."""
    text = unicodedata.normalize("NFC", text)
    if text.isprintable() and not SPECIAL.search(text):
        return text
    found, place = "", 0
    while place < len(text):
        length, form = _emoji_at(text, place)
        if not length and not _is_redundant(text, place):
            if not _is_allowed(text, place):
                raise ValueError(f"must not have {described(text[place])} as character {place + 1}")
            form = text[place]
        found += form
        place += length or 1
    return found


def described(character: str) -> str:
    """The code point of a character and its name, such as `U+202E RIGHT-TO-LEFT OVERRIDE`."""
    kind = NAMELESS.get(unicodedata.category(character), "UNASSIGNED")
    return f"U+{ord(character):04X} {unicodedata.name(character, kind)}"


@functools.cache
def _known_emoji() -> dict[str, str]:
    """The canonical form of each emoji and of its text style, without and with selectors."""
    import emoji  # imported on first use: 10 MiB

    known = {}
    for name, data in emoji.EMOJI_DATA.items():
        if data["status"] <= emoji.STATUS["fully_qualified"]:  # components are as good
            bare = name.replace(EMOJI_STYLE, "")
            known[bare] = name
            if "variant" in data:  # a selector for what is the default changes nothing
                known[bare + TEXT_STYLE] = bare if name != bare else bare + TEXT_STYLE
    return known


def _emoji_at(text: str, place: int) -> tuple[int, str]:
    """How many characters the emoji at a place takes, and its canonical form; 0 without one."""
    known = _known_emoji()
    if text[place] == EMOJI_STYLE:
        return 0, ""
    for end in range(min(place + MAX_EMOJI_LENGTH, len(text)), place, -1):
        given = text[place:end]
        form = known.get(given.replace(EMOJI_STYLE, ""))
        if form is not None:
            return len(given), form if len(given) > 1 else given
    return 0, ""


def _is_allowed(text: str, place: int) -> bool:
    """Whether a character, which is not part of an emoji, may stand at its place."""
    character, before = text[place], text[max(place - 1, 0) : place]
    if character in (ZWNJ, ZWJ):
        return _is_joiner_seen(text, place)
    for selectors, name in SELECTED:
        if selectors.match(character):
            return unicodedata.name(before or " ", "").startswith(name)
    return character.isprintable() and not re.match(f"[{INVISIBLE}]", character)


def _is_redundant(text: str, place: int) -> bool:
    """Whether a non-joiner stands between Arabic letters that do not join in any case."""
    around = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
    is_arabic = all(letter and unicodedata.bidirectional(letter) == "AL" for letter in around)
    return text[place] == ZWNJ and is_arabic and not _is_joiner_seen(text, place)


def _is_joiner_seen(text: str, place: int) -> bool:
    """Whether a joiner changes the shape of the letters around it."""
    before, after = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
    if text[max(place - 1, 0) : place + 2] in SEPARATE_RA:
        return True
    kinds = unicodedata.category(before or " ")[0], unicodedata.category(after or " ")[0]
    follows = kinds[1] == "L" if text[place] == ZWNJ else kinds[1] != "M"
    return kinds[0] in "LM" and follows and idna.valid_contextj(text, place)
