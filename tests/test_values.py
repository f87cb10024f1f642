"""What values may be: each kind in a table, over the routes, and as properties of the types."""

import datetime
import math

import FlaskSimpleAuth as fsa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import values
from security import passwords
from store.password_hash import PasswordHash
from tests.conftest import PASSWORD, new_name

NAN, INF = math.nan, math.inf

# parameter, value, whether it is taken
LOGINS = [
    ("ab", True),
    ("a" * 32, True),
    ("x2", True),
    *((v, False) for v in ("a", "a" * 33, "Susie", "2x", "susie\n", "su-sie", "sué", "", " ab")),
    *((v, False) for v in (5, None, True, ["ab"], {"ab": 1})),
]
PASSWORDS = [
    ("Pencil-Bear-7", True),
    ("Pencil-Bear-7" + "é" * 243, True),
    ("Pencil-Bear-7" * 6, True),  # 78 bytes: more than bcrypt takes
    *((v, False) for v in ("Abc1", "abcd1", "ABCD1", "Abcde", "", "Aa0" + "x" * 254)),
    *((v, False) for v in (12345, None, ["Abcd1"], {"Abcd1": 1}, False)),
]
EMAILS = [
    ("came@acme.org", True),
    ("a.b+c@sub.example.com", True),
    *((v, False) for v in ("came", "came@", "@acme.org", "a b@acme.org", "a@b", "a@b@c.org", "")),
    *((v, False) for v in ("x@acme.org\n", "a" * 65 + "@acme.org", 5, None, ["a@acme.org"])),
]
NAMES = [
    ("x" * 100, True),
    ("a b", True),
    ("…pinte? #1 100% &c=d", True),
    ("<script>alert(1)</script>".replace("/", "∕"), True),
    ("null", True),
    ("🍺", True),
    ("🏳\ufe0f\u200d🌈", True),
    *((v, False) for v in ("", "x" * 101, "a/b", " a", "a ", ".", "..", "a\nb", "a\0", "a\u200b")),
    *((v, False) for v in (5, None, True, ["a"], {"a": 1}, "\u00a0")),
]
TEXTS = [
    *((v, True) for v in ("x", " ", "two\r\n\tlines", "é🍺\u200b", "x" * 10_000, "%s'\"--")),
    *((v, False) for v in ("", "x" * 10_001, "a\0", "\x1b[31m", "\x7f", "\x0b")),
    *((v, False) for v in (5, None, True, ["a"], {"a": 1})),
]
PRICES = [
    *((v, True) for v in (0, 5, 5.0, 0.01, 10**12, 1e12, 1e-300, -0.0)),
    *((v, False) for v in (NAN, INF, -INF, -1, -1e-9, 10**12 + 1, 10**400, True, False)),
    *((v, False) for v in ("5", "x", "", None, [5], {"price": 5})),
]
WHOS = [
    ({"name": "Calvin", "born": "1970-03-20"}, True),
    ({"name": "x" * 200, "born": "0001-01-01"}, True),
    ({"name": "", "born": "1970-03-20"}, False),
    ({"name": "x" * 201, "born": "1970-03-20"}, False),
    ({"name": 5, "born": "1970-03-20"}, False),
    ({"name": "Calvin"}, False),
    ({"born": "1970-03-20"}, False),
    ({"name": "Calvin", "born": "1970-03-20", "age": 5}, False),
    ({"name": "Calvin", "born": "9999-12-31"}, False),
    ({"name": "Calvin", "born": "1970-02-30"}, False),
    ({"name": "Calvin", "born": "1970-03-20T00:00:00"}, False),
    ({"name": "Calvin", "born": "6739200"}, False),
    ({"name": "Calvin", "born": 6739200}, False),
    ({"name": "Calvin", "born": None}, False),
    ({"self": "Calvin", "born": "1970-03-20"}, False),
    *((v, False) for v in (None, 5, "Calvin", [], {}, ["Calvin", "1970-03-20"])),
]
LISTS = [
    *((v, True) for v in ([], [7], [-7, 0, 1, 2], [10**300 - 1], [7] * 50)),
    *((v, False) for v in ([10**300], [-(10**300)], [7] * 51, [True], [7.0], ["7"], [None])),
    *((v, False) for v in (7, "7", None, {"7": 7}, [[7]])),
]
LIMITS = [
    *((v, True) for v in (1, 1000)),
    *((v, False) for v in (0, 1001, -1, 1.5, True, "5", [5], 10**400)),
]


def _rows(kind, rows):
    return [pytest.param(kind, v, ok, id=f"{kind}-{str(v)[:20]!a}") for v, ok in rows]


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [
        *_rows("login", LOGINS),
        *_rows("password", PASSWORDS),
        *_rows("email", EMAILS),
        *_rows("stuff", NAMES),
        *_rows("price", PRICES),
        *_rows("who", WHOS),
        *_rows("li", LISTS),
        *_rows("limit", LIMITS),
    ],
)
def test_json_value_is_accepted_or_400(target, kind, value, taken):
    """A value that is right is taken; any other is 400, and changes nothing."""
    login = new_name("u")
    user = {"login": login, "password": PASSWORD, "email": "some@acme.org"}
    method, path, params = {
        "login": ("POST", "/user", user),
        "password": ("POST", "/user", user),
        "email": ("POST", "/user", user),
        "stuff": ("POST", "/stuff", {"price": 1}),
        "price": ("POST", "/stuff", {"stuff": new_name()}),
        "who": ("GET", "/days", {}),
        "li": ("GET", "/primes", {}),
        "limit": ("GET", "/stuff", {}),
    }[kind]
    who = "acme" if path == "/user" else target.person("susie")
    res = target.send_json(method, path, params | {kind: value}, who=who)
    if taken:
        # the names of logins and stuff in the table are taken from the second time on
        assert res.status in ((201, 409) if method == "POST" else (200,)), res
        assert kind in ("login", "stuff") or res.status != 409
    else:
        assert res.status == 400, res
        assert kind in res.error or "is not JSON" in res.error
        assert "pydantic" not in res.error
        if isinstance(value, str) and kind == "password" and value:
            assert value not in res.error
        if kind == "price":
            assert target.send("GET", f"/stuff/{params['stuff']}", who=who).status == 404
        if kind in ("password", "email"):
            assert target.send_json("POST", "/user", user, who="acme").status == 201


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        ("/stuff", "price=5&stuff=", 201),
        ("/stuff", "price=.5&stuff=", 201),
        ("/stuff", "price=1e3&stuff=", 201),
        *(
            ("/stuff", f"price={p}&stuff=", 400)
            for p in ("nan", "inf", "1_0", "٣", "", "-1", "0x1")
        ),
        ("/stuff", "price=" + "1" * 5000 + "&stuff=", 400),
        ("/stuff", "price=5&stuff=%FF", 400),
        ("/days", 'who={"name":"Calvin","born":"1970-03-20"}', 200),
        ("/days", 'who=["Calvin"]', 400),
        ("/days", "who=" + "[" * 5000, 400),
        ("/days", "who=Calvin", 400),
        ("/primes", "li=7&li=8", 200),
        ("/primes", "li=7&li=x", 400),
        ("/primes", "li=" + "9" * 301, 400),
        ("/primes", "li=" + "9" * 5000, 400),
        ("/primes", "li=7&" * 50 + "li=7", 400),
        ("/len", "p=NaN", 400),
        ("/len", "p=[1e999]", 400),
        ("/len", 'p={"a":1,"a":2}', 400),
        ("/len", r'p="\ud800"', 400),
        ("/len", r'p="\ud83c\udf7a"', 200),
        ("/len", "p=" + "[" * 100 + "]" * 100, 200),
        ("/len", "p=" + "[" * 101 + "]" * 101, 400),
        ("/len", "p=" + "[" * 100_000, 400),
    ],
)
def test_form_value_gets_its_status(target, path, form, status):
    """The same in a form, where numbers and JSON come as text."""
    if form.endswith("stuff="):
        form += new_name()
    kind = "application/x-www-form-urlencoded"
    res = target.send("POST", path, form, kind, who=target.person("susie"))
    assert res.status == status, res
    assert status < 400 or res.error


def test_integer_price_is_stored_as_a_number(target, thing):
    """An integer is as good as a float, and -0.0 is 0."""
    name = thing("susie", 5)
    assert target.send("GET", f"/stuff/{name}", who="susie").json["price"] == 5.0
    res = target.send_json("PATCH", f"/stuff/{name}", {"price": -0.0}, who="susie")
    assert res.body.strip() == b'{"price":0.0,"stuff":"%s"}' % name.encode()


def test_address_is_normalized_and_password_hidden():
    """An address is normalized, and a password does not show itself."""
    assert values.Email("Came@ACME.org") == "Came@acme.org"
    assert "Secret" not in repr(values.Password("Secret"))


@pytest.mark.parametrize(
    ("born", "taken"),
    [("2020-02-29", True), ("2020-03-01", True), ("2020-03-02", False), ("2021-01-01", False)],
)
def test_birthday_is_tomorrow_at_the_latest(born, taken, monkeypatch):
    """In UTC: somewhere east tomorrow has begun."""

    class LeapDay(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2020, 2, 29, 23, 59, tzinfo=tz)

    monkeypatch.setattr(datetime, "datetime", LeapDay)
    assert bool(made(lambda v: values.Someone(**v), {"name": "x", "born": born})) == taken


# anything that a JSON body can bring, and more
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def made(kind, value):
    """What a type makes of a value; None where it refuses it with 400."""
    try:
        return kind(value)
    except fsa.ErrorResponse as e:
        return None if e.status == 400 else pytest.fail(f"{e.status}")


@given(ANYTHING)
@pytest.mark.parametrize(
    "kind",
    [
        values.Login,
        values.Password,
        values.Email,
        values.Name,
        values.Text,
        values.Price,
        values.Limit,
        values.Numbers,
    ],
)
def test_types_refuse_with_400(kind, value):
    """A type either makes a value that it would take again, or says 400."""
    once = made(kind, value)
    assert once is None or kind(once) == once


@pytest.mark.parametrize(
    ("value", "taken"), [*TEXTS, ("\ud800", False), ("a\udfff", False), (b"a", False)]
)
def test_texts(value, taken):
    """A text is kept to the letter, and no store gets one that it cannot keep."""
    assert made(values.Text, value) == (value if taken else None)


@given(st.integers() | st.floats())
def test_price_equals_its_number_or_is_refused(number):
    """A price is what it was made of, or refused; no other number passes."""
    price = made(values.Price, number)
    assert (price is not None) == (0 <= number <= 10**12)
    assert price is None or price == number


ARGON2 = "$argon2id$v=19$m=19456,t=2,p=1$c29tZS1zYWx0LTE2LWJ5dA$" + "A" * 43
BCRYPT = "$2b$12$" + "a" * 21 + "e" + "b" * 30 + "C"


@pytest.mark.parametrize(
    "value",
    [
        ARGON2,
        ARGON2.replace("argon2id", "argon2i"),
        ARGON2.replace("argon2id", "argon2d"),
        ARGON2.replace("$v=19", "$v=16"),
        ARGON2.replace("$v=19", ""),
        ARGON2.replace("m=19456,t=2,p=1", "m=65536,t=3,p=4"),  # argon2-cffi, PHC
        ARGON2.replace("m=19456,t=2,p=1", "m=65536,t=4,p=1"),  # PHP
        ARGON2.replace("m=19456,t=2,p=1", "m=102400,t=2,p=8"),  # Django
        ARGON2.replace("m=19456,t=2,p=1", "m=131072,t=2,p=16"),
        BCRYPT,
        BCRYPT.replace("2b", "2a"),
        BCRYPT.replace("2b", "2y"),
        BCRYPT.replace("$12$", "$04$"),
        BCRYPT.replace("$12$", "$13$"),
    ],
)
def test_hashes_of_common_libraries_are_accepted(value):
    """As well-known libraries make them; each is verified without an error."""
    assert PasswordHash(value) == value
    assert not passwords._verify("password", value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "plain",
        "$argon2id$",
        ARGON2 + "=",
        ARGON2 + "\n",
        ARGON2[:-1],
        ARGON2[:-4],
        ARGON2[:-2] + "AB",  # bits beyond the last byte
        ARGON2[:-24],  # 14 bytes
        ARGON2.partition("$c29t")[0],
        ARGON2.replace("c29tZS1zYWx0LTE2LWJ5dA", "c29tZQ"),
        ARGON2.replace("argon2id", "argon2"),
        ARGON2.replace("$v=19", "$v=18"),
        ARGON2.replace("m=19456,t=2,p=1", "t=2,m=19456,p=1"),
        ARGON2.replace("m=19456", "m=019456"),
        ARGON2.replace("m=19456", "m=7"),
        ARGON2.replace("m=19456", "m=131073"),
        ARGON2.replace("m=19456", "m=4194304"),
        ARGON2.replace("t=2", "t=0"),
        ARGON2.replace("t=2", "t=14"),
        ARGON2.replace("t=2", "t=4294967295"),
        ARGON2.replace("p=1", "p=17"),
        BCRYPT[:-1],
        BCRYPT + "a",
        BCRYPT.replace("e", "z"),  # bits beyond the salt
        BCRYPT[:-1] + "b",  # bits beyond the hash
        BCRYPT.replace("2b", "2x"),
        BCRYPT.replace("$12$", "$03$"),
        BCRYPT.replace("$12$", "$14$"),
        BCRYPT.replace("$12$", "$31$"),
        BCRYPT.replace("$12$", "$9$"),
        BCRYPT.replace("a", "é"),
    ],
)
def test_truncated_or_costly_hash_is_refused(value):
    with pytest.raises(fsa.ErrorResponse, match="131072 KiB") as refused:
        PasswordHash(value)
    assert refused.value.status == 400
