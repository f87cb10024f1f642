"""Who may do what: a table by hand, which the application and its declarations must both keep to.

The one is walked, in process on each store and over HTTP, in case a hook is broken; the others are
read, in case both have the same mistake.
"""

import json
import math
import re
import time
from unittest import mock

import jsonschema_rs
import jwt
import pyotp
import pytest

from database import db
from docs import routes as docs_routes
from openapi.document import Document
from openapi.routes import routes
from security.sessions import OTP_REALM
from test import app, basic_auth
from tests import links
from tests.accounts import HASH, NEW_PASSWORD, new_user, token_of
from tests.conftest import PASSWORD, STORES, Target, configured, granian, new_name, wrong_code
from tests.resources import add_object, rows

NEW = {"password": PASSWORD, "email": "some@acme.org"}
RESET = {"password": NEW_PASSWORD}
WHO = {"name": "x", "born": "2000-01-01"}
CODE = {"code": "{code}", "on": True}
REGISTRATION = {"token": "{registration}", "login": "{new}", "password": PASSWORD}
ADDRESS = {"email": "new@acme.org", "current": PASSWORD}
KEY = {"name": "x", "scope": "read", "current": PASSWORD}
TABLE = "ROUTES in tests/test_authorization.py, or in the test file of the resource"

# method, path, value, and the status for: anonymous, another user, the user or owner, an admin, and
# the user with a password instead of a token; what declarations say is the first row of a route
ROUTES = [
    ("GET", "/", None, (200, 200, 200, 200, 200)),
    ("GET", "/www/index.html", None, (200, 200, 200, 200, 200)),
    ("GET", "/openapi.json", None, (200, 200, 200, 200, 200)),
    ("GET", "/docs", None, (200, 200, 200, 200, 200)),
    ("GET", "/docs/start.js", None, (200, 200, 200, 200, 200)),
    ("GET", "/livez", None, (200, 200, 200, 200, 200)),
    ("GET", "/readyz", None, (200, 200, 200, 200, 200)),
    ("GET", "/hello", None, (200, 200, 200, 200, 200)),
    ("GET", "/hello-me", None, (401, 200, 200, 200, 200)),
    ("GET", "/token", None, (401, 401, 401, 401, 200)),
    ("POST", "/token", None, (401, 401, 401, 401, 201)),
    ("DELETE", "/token", None, (401, 204, 204, 204, 401)),
    ("POST", "/token/refresh", None, (401, 401, 401, 401, 401)),
    ("POST", "/token/otp", {"code": "{code}"}, (401, 401, 401, 401, 401)),
    ("GET", "/stuff", None, (401, 200, 200, 200, 200)),
    ("POST", "/stuff", {"stuff": "{new}", "price": 1}, (401, 201, 201, 201, 201)),
    ("GET", "/stuff/{thing}", None, (401, 403, 200, 403, 200)),
    ("PATCH", "/stuff/{thing}", {"price": 1}, (401, 403, 200, 403, 200)),
    ("DELETE", "/stuff/{thing}", None, (401, 403, 204, 403, 204)),
    ("GET", "/user", {"limit": 1}, (401, 403, 403, 200, 403)),
    ("POST", "/user", {"login": "{new}", **NEW}, (401, 403, 403, 201, 403)),
    ("POST", "/registration", {"email": "new@acme.org"}, (202, 202, 202, 202, 202)),
    ("PUT", "/registration", REGISTRATION, (201, 201, 201, 201, 201)),
    ("POST", "/reset", {"login": "{login}"}, (202, 202, 202, 202, 202)),
    ("PUT", "/reset", {"token": "{reset}", **RESET}, (204, 204, 204, 204, 204)),
    ("PUT", "/reset", {"token": "{confirmation}", **RESET}, (403, 403, 403, 403, 403)),
    ("PUT", "/confirmation", {"token": "{confirmation}"}, (204, 204, 204, 204, 204)),
    ("GET", "/user/{login}", None, (401, 403, 200, 200, 200)),
    ("PATCH", "/user/{login}", None, (401, 403, 200, 200, 200)),
    ("PATCH", "/user/{login}", ADDRESS, (401, 403, 202, 200, 202)),
    ("PATCH", "/user/{login}", {"email": "new@acme.org"}, (401, 403, 400, 200, 400)),
    ("PATCH", "/user/{login}", {"admin": True}, (401, 403, 403, 200, 403)),
    ("PATCH", "/user/{login}", {"active": False}, (401, 403, 403, 200, 403)),
    ("DELETE", "/user/{login}", {"stuff": "delete"}, (401, 403, 204, 204, 204)),
    ("DELETE", "/user/{login}", None, (401, 403, 409, 409, 409)),
    ("PUT", "/user/{login}/password", {**RESET, "current": PASSWORD}, (401, 403, 204, 204, 204)),
    ("PUT", "/user/{login}/password", {**RESET, "current": "x"}, (401, 403, 403, 204, 403)),
    ("PUT", "/user/{login}/password", RESET, (401, 403, 400, 204, 400)),
    ("GET", "/user/{login}/sessions", None, (401, 403, 200, 200, 401)),
    ("DELETE", "/user/{login}/sessions/{session}", None, (401, 403, 204, 204, 401)),
    ("DELETE", "/user/{login}/sessions/none", None, (401, 403, 404, 404, 401)),
    ("GET", "/user/{login}/keys", None, (401, 403, 200, 200, 401)),
    ("POST", "/user/{login}/keys", KEY, (401, 403, 201, 403, 401)),
    ("POST", "/user/{login}/keys", {**KEY, "current": "x"}, (401, 403, 403, 403, 401)),
    ("DELETE", "/user/{login}/keys/{key}", None, (401, 403, 204, 204, 401)),
    ("DELETE", "/user/{login}/keys/none", None, (401, 403, 404, 404, 401)),
    ("POST", "/user/{login}/otp", {"current": PASSWORD}, (401, 403, 201, 403, 401)),
    ("POST", "/user/{login}/otp", {"current": "x"}, (401, 403, 403, 403, 401)),
    ("PUT", "/user/{login}/otp", CODE, (401, 403, 200, 403, 401)),
    ("PUT", "/user/{login}/otp", {**CODE, "code": "{wrong}"}, (401, 403, 403, 403, 401)),
    ("POST", "/user/{login}/otp/recovery", {"code": "{code}"}, (401, 403, 200, 403, 401)),
    ("DELETE", "/user/{login}/otp", None, (401, 403, 403, 204, 401)),
    ("GET", "/user/nobody", None, (401, 403, 403, 404, 403)),
    ("PATCH", "/user/nobody", {"active": False}, (401, 403, 403, 404, 403)),
    ("DELETE", "/user/nobody", None, (401, 403, 403, 404, 403)),
    ("PUT", "/user/nobody/password", RESET, (401, 403, 403, 404, 403)),
    ("GET", "/user/nobody/sessions", None, (401, 403, 403, 404, 401)),
    ("DELETE", "/user/nobody/otp", None, (401, 403, 403, 404, 401)),
    ("GET", "/user/%00", None, (401, 403, 403, 404, 403)),
    ("PATCH", "/user/%00", {"active": False}, (401, 403, 403, 404, 403)),
    ("DELETE", "/user/a%00b", {"stuff": "delete"}, (401, 403, 403, 404, 403)),
    ("PUT", "/user/%00/password", RESET, (401, 403, 403, 404, 403)),
    ("DELETE", "/user/%00/otp", None, (401, 403, 403, 404, 401)),
    ("GET", "/days", {"who": WHO}, (200, 200, 200, 200, 200)),
    ("POST", "/days", {"who": WHO}, (200, 200, 200, 200, 200)),
    ("GET", "/primes", {"li": [7]}, (200, 200, 200, 200, 200)),
    ("POST", "/primes", {"li": [7]}, (200, 200, 200, 200, 200)),
    ("GET", "/len", {"p": 7}, (200, 200, 200, 200, 200)),
    ("POST", "/len", {"p": 7}, (200, 200, 200, 200, 200)),
]
ROUTES += rows("ROUTES", __file__)


def route_of(method, path):
    """The route that serves a request of the table; None if there is none."""
    for exact in True, False:
        for route in routes(app):
            shape = route.path if exact else re.sub(r"{\w+}", "[^/]+", route.path)
            if method == route.method and re.fullmatch(shape, path):
                return route
    return None


def fill(value, names):
    """The value of a row with its placeholders replaced."""
    return {k: v.format(**names) if isinstance(v, str) else v for k, v in value.items()}


def ended(login):
    """Tokens of a user that are good no more, by what happened to them."""
    disabled, deleted, out, changed = (new_user() for _ in range(4))
    tokens = {name: token_of(user) for name, user in locals().items() if name != "login"}
    db.change_user(disabled, active=False)
    db.delete_user(deleted)
    db.delete_sessions(out)
    db.set_user_pass(changed, HASH)
    session = jwt.decode(
        token_of(login)["Authorization"].split()[1], options={"verify_signature": False}
    )["scope"]
    claims = {"sub": login, "aud": "acme", "exp": time.time() + 60, "scope": session}
    for name, change in {"expired": {"exp": 1}, "realm": {"aud": OTP_REALM}}.items():
        value = jwt.encode(claims | change, app.config["ACME_TOKEN_SECRETS"][0])
        tokens[name] = {"Authorization": f"Bearer {value}"}
    tokens["forged"] = {"Authorization": f"Bearer {jwt.encode(claims, 'x' * 64)}"}
    return tokens


@pytest.fixture(scope="module", params=[*STORES, "http"])
def walk(request, new_database):
    """Acme in process on each store, and a server whose database this process shares."""
    live = request.param == "http"
    url = new_database("sqlite" if live else request.param)
    with configured(url):
        if live:
            secret = app.config["ACME_TOKEN_SECRETS"][0]
            settings = {"ACME_DATABASE": url, "ACME_TOKEN_SECRET": secret, "WORKERS": "1"}
            with granian(**settings, **links.SETTINGS) as address:
                yield Target(address)
        else:
            with mock.patch.dict(app.extensions, outbox=links.idle_outbox()):
                yield Target(None)


@pytest.fixture(scope="module")
def dead(walk):
    """Headers with tokens that are good no more, by what happened to them."""
    return ended(new_user())


@pytest.fixture(scope="module")
def document():
    return Document(app).document()


@pytest.mark.parametrize(("method", "path", "value", "statuses"), ROUTES)
def test_each_kind_of_caller_gets_the_status_of_the_table(
    walk, dead, document, method, path, value, statuses
):
    """Each route, for each kind of caller; a token that has ended opens only what is open.

    Each response is in the description, its body as described there.
    """
    db.clean_mails(math.inf, math.inf)  # else there would be too many
    callers = ["nobody", "other", "owner", "admin", "password", *dead]
    expected = [*statuses, *([statuses[0]] * len(dead))]
    # no more is made than the row needs: there are many rows, and each caller has things of his own
    needed = set(re.findall(r"{(\w+)}", f"{path} {value}"))
    found = []
    for caller in callers:
        login, thing, secret = new_user(), new_name(), pyotp.random_base32()
        db.add_stuff(thing, login, 1)
        db.set_otp(login, secret)
        if path.endswith("/otp/recovery"):
            db.use_otp(login, secret, 1, True)
        people = {
            "other": new_user,
            "owner": lambda login=login: login,
            "admin": lambda: new_user(admin=True),
        }
        given = value
        headers = dict(dead.get(caller, {}))
        if caller in people:
            headers = token_of(people[caller]())
        elif caller == "password" and (method, path) == ("POST", "/token"):
            given = {"username": login, "password": PASSWORD}
        elif caller == "password":
            headers = basic_auth(login, PASSWORD)
        names = {"login": login, "thing": thing, "new": new_name("u")}
        names["code"] = pyotp.TOTP(secret).now()
        if "session" in needed:
            token_of(login)
            names["session"] = db.get_sessions(login, time.time())[0].id
        for kind in needed & {"registration", "reset", "confirmation"}:
            names[kind] = links.new_link(kind, "" if kind == "registration" else login)
        names["wrong"] = wrong_code(secret, time.time())
        if (key := "".join(re.findall(r"{(\w+)}$", path))) not in {*names, ""}:
            place = path.rpartition("/{")[0]
            values = [v for m, p, v, _ in ROUTES if (m, p) == ("POST", place)]
            assert values, f"{TABLE}: no row of POST {place}, which adds the {key} of {path}"
            value_of_new, headers_of_new = fill(values[0], names), token_of(login)
            names[key] = add_object(walk, place.format(**names), value_of_new, headers_of_new)
        filled = given and fill(given, names)
        body, kind = (json.dumps(filled), "application/json") if filled else (b"", None)
        response = walk.send(method, path.format(**names), body, kind, headers=headers)
        found.append(response.status)
        check_response(document, method, path, response)
    assert dict(zip(callers, found, strict=True)) == dict(zip(callers, expected, strict=True))


def check_response(document, method, path, response):
    route = route_of(method, path)
    if route.path not in document["paths"]:
        return  # a page
    described = document["paths"][route.path][method.lower()]["responses"][str(response.status)]
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].split("/")[-1]]
    if "content" not in described:
        assert response.body == b""
        return
    schema = described["content"]["application/json"]["schema"]
    whole = {"components": document["components"], **schema}
    jsonschema_rs.validate(whole, response.json)


def test_table_is_complete():
    """Each route of the application stands in the table, and nothing else."""
    known = set()
    for method, path, _, _ in ROUTES:
        route = route_of(method, path)
        assert route, f"{TABLE}: no route answers {method} {path}, remove its row"
        known.add((route.method, route.path))
    for route in routes(app):
        assert (route.method, route.path) in known, (
            f'{TABLE}: add the row ("{route.method}", "{route.path}", None or the value in JSON, '
            "(401, 403, 200, 403, 200)) with the status for nobody, another user, the user or "
            "owner, an admin, and the user with a password instead of a token"
        )


def test_declarations():
    """Each route is declared as the table says, without running it."""
    first = {}
    for method, path, _, statuses in ROUTES:
        first.setdefault((route := route_of(method, path)).name + route.path, (route, statuses))
    with configured("memory:"):
        objects = docs_routes.add_objects(app)
        for route, statuses in first.values():
            declared = docs_routes.statuses(app, route, objects)
            assert declared == statuses, f"{route.method} {route.path}: authz is not as in {TABLE}"


def test_routes_document_is_up_to_date():
    """docs/routes.md is what `make docs` makes."""
    with configured("memory:"):
        assert docs_routes.FILE.read_text() == docs_routes.markdown(app), (
            "docs/routes.md: run make docs"
        )
