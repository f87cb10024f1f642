"""The description is valid, true, and complete; Schemathesis finds nothing in the application."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import FlaskSimpleAuth as fsa
import jsonschema_rs
import openapi_spec_validator
import pytest
from pydantic import Field

import auth
import openapi
import values
from docs import routes as docs_routes
from openapi.document import SCHEMAS, Document
from openapi.returns import Done, Ok
from openapi.routes import SCHEMES, routes
from security.declarations import permission_of
from store import base
from test import app
from tests import test_values
from tests.conftest import PASSWORD, ROOT, Target, configured, granian
from web import parameters
from web.application import Flask

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def document():
    with app.test_client() as client:
        return client.get("/openapi.json").json


def test_document_is_valid_openapi(document):
    """It keeps to OpenAPI 3.1, and each operation has a name of its own."""
    openapi_spec_validator.validate(document)
    names = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(names) == len(set(names))


def test_each_route_has_a_docstring_and_a_return_type():
    for route in routes(app):
        source = Path(inspect.getsourcefile(route.function)).relative_to(ROOT)
        place = f"{source}, {route.function.__name__}"
        assert inspect.getdoc(route.function), f"{place}: add a docstring, which /docs shows"
        hint = inspect.signature(route.function).return_annotation
        assert hint is not inspect.Signature.empty, (
            f"{place}: add a return type of openapi/returns.py, such as Ok[...] or Done"
        )


def test_document_describes_the_routes(document):
    """One route of each kind, as a reader would check it against README.md."""
    paths, responses = document["paths"], "#/components/responses/"
    post = paths["/stuff"]["post"]
    assert post["summary"] == "Add stuff that the caller owns."
    assert post["security"] == [{"token": []}, {"key": []}, {"basic": []}]
    assert (post["x-authz"], post["x-authn"]) == (["AUTH"], ["token", "key", "basic", "param"])
    assert "authenticated users" in post["description"]
    for kind in "application/json", FORM:
        body = post["requestBody"]["content"][kind]["schema"]
        assert set(body["properties"]) == {"stuff", "price", "username", "password"}
        assert body["required"] == ["stuff", "price"]
        assert body["additionalProperties"] is False
        assert body["properties"]["price"]["maximum"] == values.MAX_PRICE
    assert post["responses"]["201"]["headers"]["Location"]["required"]
    assert post["responses"]["409"] == {"$ref": responses + "Conflict"}
    assert set(post["responses"]) == {
        *("201", "400", "401", "403", "409", "411", "413", "422", "429", "503"),
    }
    assert [header["name"] for header in post["parameters"]] == ["Idempotency-Key"]
    patch, get = (paths["/stuff/{sid}"][method] for method in ("patch", "get"))
    assert [p["name"] for p in patch["parameters"]] == ["sid", "Idempotency-Key", "If-Match"]
    assert patch["responses"]["412"] == {"$ref": responses + "PreconditionFailed"}
    assert [p["name"] for p in get["parameters"]] == ["sid"]
    assert "ETag" in get["responses"]["200"]["headers"]
    for path in "/token", "/user/{login}/otp", "/days":  # which do not take a key
        assert "parameters" not in paths[path]["post"] or all(
            p["in"] != "header" for p in paths[path]["post"]["parameters"]
        )
    assert patch["x-authz"] == [["stuff", "sid"]]
    assert "Whether a user owns some stuff" in patch["description"]
    assert [p["in"] for p in patch["parameters"]] == ["path", "header", "header"]
    limit, after, q = paths["/stuff"]["get"]["parameters"]
    assert (limit["in"], limit["required"], limit["schema"]["maximum"]) == ("query", False, 1000)
    assert after["schema"]["pattern"] == values.NameKey.SCHEMA["pattern"]
    assert q["schema"]["pattern"] == values.Search.SCHEMA["pattern"]
    (who,) = paths["/days"]["get"]["parameters"]
    described = who["content"]["application/json"]
    assert described["schema"] == {"$ref": SCHEMAS + "Someone"}
    assert described["example"] == {"name": "Susie", "born": "2020-07-29"}
    assert set(paths["/hello"]["get"]["responses"]) == {"200", "400", "403"}
    assert paths["/token"]["post"]["requestBody"]["required"]
    assert paths["/token/refresh"]["post"]["security"] == [{"refresh": []}, {}]
    assert paths["/token/otp"]["post"]["security"] == [{"acme-otp": []}]
    assert set(paths["/token"]["get"]["responses"]) >= {"200", "202", "429"}
    assert document["components"]["schemas"]["Error"]["required"] == ["error"]
    assert "/docs" not in paths


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (values.Login, test_values.LOGINS),
        (values.NewPassword, test_values.PASSWORDS),
        (values.Name, test_values.NAMES),
        (values.Text, test_values.TEXTS),
        (values.Price, test_values.PRICES),
        (values.Someone, test_values.WHOS),
        (values.Numbers, test_values.LISTS),
        (values.Limit, test_values.LIMITS),
    ],
)
def test_schemas_agree_with_the_types(kind, rows):
    """A value that is taken is right in the schema, and one that is wrong there is refused.

    The schema may say less: of printable characters and of tomorrow it knows nothing.
    """
    made = Document(app)
    schema = made.schema(kind) | {"components": {"schemas": made.schemas}}
    for value, taken in rows:
        right = value == value and jsonschema_rs.is_valid(schema, value, validate_formats=True)
        assert right or not taken, value
        if right and not taken:
            assert value in ("a\n", "a\nb", "a\0", "a\u200b", [7.0]) or "9999-12-31" in str(value)


def test_new_route_is_described(document):
    """A route with a docstring and type hints stands in the description and in the matrix."""
    new = Flask("new", static_folder=None)
    new.config.from_mapping({k: v for k, v in app.config.items() if k.isupper()})
    auth.init_app(new)
    openapi.init_app(new)

    @new.get("/tea/<pot>", authz="admin", authn="token")
    def get_tea(pot: str, sugar: int, milk: bool = False) -> Ok[list[base.Profile]]:
        """Who has drunk tea."""
        return [], 200

    class Colour(str):
        """A type that says nothing of itself."""

    # which FlaskSimpleAuth 36 does not take from Python 3.13 on
    age_hint = int if sys.version_info >= (3, 13) else Annotated[int, Field(ge=1)]

    @new.post("/tea", authz=["OPEN"])
    def post_tea(
        leaves: list[str],
        colour: Colour,
        age: age_hint = 0,
        **others: str,
    ):
        return {"leaves": leaves}

    @new.get("/shut")
    def get_shut() -> Done:
        return "", 204

    with new.test_client() as client:
        found = client.get("/openapi.json").json
    openapi_spec_validator.validate(found)
    tea = found["paths"]["/tea/{pot}"]["get"]
    assert (tea["summary"], tea["x-authz"]) == ("Who has drunk tea.", ["admin"])
    assert tea["security"] == [{"token": []}]
    assert [(p["name"], p["in"], p["required"]) for p in tea["parameters"]] == [
        ("pot", "path", True),
        ("sugar", "query", True),
        ("milk", "query", False),
    ]
    items = tea["responses"]["200"]["content"]["application/json"]["schema"]["items"]
    assert items == {"$ref": SCHEMAS + "Profile"}
    assert "401" in tea["responses"]
    tea = found["paths"]["/tea"]["post"]
    assert (tea["security"], tea["x-authn"]) == ([], [])
    schema = tea["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"leaves", "colour", "age"}
    assert (schema["required"], schema["additionalProperties"]) == (["leaves", "colour"], True)
    assert schema["properties"]["colour"] == schema["properties"]["leaves"]["items"]
    assert "minimum" not in schema["properties"]["age"]  # FlaskSimpleAuth enforces nothing of it
    assert tea["responses"]["200"]
    assert found["paths"]["/shut"]["get"]["x-authz"] == ["CLOSE"]
    with configured("memory:"):
        text = docs_routes.markdown(new)
    assert "| `GET /tea/<pot>` | admin | token | 401 | 403 | 403 | 200 | 401 |\n" in text
    assert "| `GET /shut` | CLOSE | token, key, basic, param | 403 | 403 | 403 |" in text


def test_all_routes_are_recorded():
    """Decorators and blueprints pass security/declarations.py, by what is private in FSA 36."""
    declared = app.extensions["declarations"]
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == set(declared)
    assert declared["tokens.delete_token"] == ("AUTH", "token", None)
    assert declared["users.put_password"] == (("user", "login"), None, None)
    assert {*app._fsa._am._auth} == {"none", *SCHEMES}
    assert permission_of(app, "stuff") is auth.user_owns_stuff


def test_parameters_are_read_by_web_parameters(monkeypatch):
    """FlaskSimpleAuth asks web/parameters.py, in place of what is private in FSA 36."""
    manager = app._fsa._pm
    assert manager._params.func is parameters._all_parameters
    monkeypatch.setattr(manager, "_params", lambda: {"seen": "1"})
    with app.test_client() as client:
        assert "seen" in client.get("/hello").json["error"]


def test_swagger_ui_is_served_under_the_policy(target):
    """Only the files that it needs are served, and it loads nothing from other origins."""
    page = target.send("GET", "/docs")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    names = re.findall(r'(?:src|href)="([^"]*)"', page.body.decode())
    assert len(names) == 7
    for name in names:
        assert target.send("GET", "/" + name.lstrip("/")).status == 200
    for name in "index.css", "..%2f__init__.py", "swagger-ui.js", "LICENSE":
        assert target.send("GET", f"/docs/{name}").status == 404


def test_swagger_ui_calls_a_route(page, document):
    """Authorize takes a password and a token, and one route of each kind responds as described.

    The content security policy refuses nothing that Swagger UI loads.
    """
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.set_default_timeout(20_000)
    keys = {"login": "susie", "sid": "pinte"}
    with granian(ACME_DATABASE="memory:", WORKERS="1") as url:
        server = Target(url)
        server.person("susie")
        token = server.bearer("acme")["Authorization"].split()[1]
        page.goto(f"{url}/docs")
        page.click(".btn.authorize")
        for scheme, fields in ("token", [token]), ("basic", ["acme", app.config["ACME_PASS"]]):
            box = page.locator(".auth-container", has=page.locator(f"code:text-is('{scheme}')"))
            for place, text in enumerate(fields):
                box.locator("input").nth(place).fill(text)
            box.locator("button.authorize").click()
        page.click(".btn-done")
        found, kinds = {}, set()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                name = operation["operationId"]
                places = re.findall(r"{(\w+)}", path)
                if method == "delete" or set(places) - keys.keys() or (method, *places) in kinds:
                    continue  # nothing would be left for the others; there is no such object
                kinds.add((method, *places))
                block = page.locator(f"#operations-{operation['tags'][0]}-{name}")
                block.locator(".opblock-summary-control").evaluate("button => button.click()")
                for place in places:
                    block.locator(f"[data-param-name={place}] input").fill(keys[place])
                block.locator(".execute").click()
                row = block.locator(".live-responses-table .response-col_status").nth(1)
                found[name] = int(row.inner_text().split()[0])
                assert str(found[name]) in operation["responses"], name
                block.locator(".opblock-summary-control").evaluate("button => button.click()")
    assert not [text for text in said if "Failed to load" not in text and "[DOM]" not in text]
    assert len(found) > 6
    assert found["get_token"] == found["get_user"] == 200, found  # by password, by token


def test_client_has_each_operation_of_the_document(document):
    """www/acme.js has each operation, with each parameter that it takes, and no other.

    Its method `resource` has those of any list and of its elements.
    """
    text = (ROOT / "www/acme.js").read_text()
    calls = re.findall(r'this\.request\(\s*"([A-Z]+)",\s*"([^"]+)"(?:,\s*{([^}]*)})?', text)
    assert len(calls) == len(re.findall(r'this\.request\(\s*"[A-Z]+",\s*"', text))
    (changes,) = re.findall(r"@param {{([^}]*)}} changes", text)  # of changeUser
    found = {}
    for method, path, given in calls:
        found[method, path] = set(re.findall(r"(?:^|,)\s*(\w+)", given))
        found[method, path] |= set(
            re.findall(r"(\w+)\?:", changes if "...changes" in given else "")
        )
    assert found.pop(("GET", "/openapi.json")) == set()
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(found) <= set(operations), "www/acme.js calls what the application does not have"
    for method, path in operations.keys() - found:
        assert re.fullmatch(r"(GET|POST) /\w+|(GET|PATCH|DELETE) /\w+/{\w+}", f"{method} {path}"), (
            "www/acme.js: add a method to the class Acme that returns "
            f'this.request("{method}", "{path}", …), and a call of it to CALLS in '
            "tests/test_client.py, or to JAVASCRIPT in the test file of the resource"
        )
    for key in found:
        operation = operations[key]
        parameters = operation.get("parameters", ())
        names = {p["name"] for p in parameters if p["in"] != "header"}
        body = operation.get("requestBody", {"content": {}})["content"].get("application/json")
        credentials = {"username", "password"} if operation["security"] else {"username"}
        properties = set(body["schema"]["properties"]) if body else set()
        required = set(body["schema"]["required"]) if body else set()
        assert required | names <= found[key] <= properties | names, key
        assert properties - credentials <= found[key], key


def test_missing_swagger_ui_is_reported_at_the_start(monkeypatch):
    """Where it is not installed, the start says so."""
    monkeypatch.setattr(openapi, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"swagger-ui\.css.*requirements\.txt"):
        openapi.init_app(fsa.Flask("new", static_folder=None))


@pytest.mark.parametrize("login", ["acme", "susie"])
def test_schemathesis_finds_no_failure(login):
    """No response outside the description, no 5xx, nothing wrong accepted, no sign-in ignored.

    As the administrator and as a plain user, with all checks; tests/schemathesis.toml has the rest.
    EXAMPLES=500 for a long run.
    """
    with granian(ACME_DATABASE="memory:", WORKERS="1") as url:
        Target(url).person(login)
        password = app.config["ACME_PASS"] if login == "acme" else PASSWORD
        done = subprocess.run(
            [
                Path(sys.executable).with_name("st"),
                *("--config-file", ROOT / "tests/schemathesis.toml"),
                *("run", f"{url}/openapi.json", "--checks=all", "--seed=1", "--no-color"),
                f"--max-examples={os.environ.get('EXAMPLES', '20')}",
            ],
            cwd=ROOT,
            env={**os.environ, "WHO": login, "PASSWORD": password},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"([\d,]+) generated", done.stdout)[1].replace(",", "")) > 1200
