"""The application with the routes of a fork, and requests to them."""

import contextlib
import importlib.util
import urllib.parse
from typing import Any

from werkzeug.datastructures import FileStorage

import values
from tests.conftest import ROOT, configured
from tests.fork_types import OPTIONAL, TYPES, Colour, Quantity

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=x"
found: list[Any] = []


def make_route(name: str, hint: Any) -> Any:
    """A route's function with one parameter."""
    # compiled from source: FlaskSimpleAuth inspects the code of a function
    namespace: dict[str, Any] = {"hint": hint, "found": found}
    exec(f"def route(_{name}: hint):\n    found.append(_{name})\n    return '', 204", namespace)
    namespace["route"].__name__ = f"route_{name}"
    return namespace["route"]


@contextlib.contextmanager
def forked():
    """A client of the application as app.py makes it, with more routes."""
    spec = importlib.util.spec_from_file_location("fork", ROOT / "app.py")
    module = importlib.util.module_from_spec(spec)
    with configured("memory:"):
        spec.loader.exec_module(module)
        app = module.app
        methods = ["GET", "POST"]
        for name, (hint, *_) in TYPES.items():
            function = make_route(name, hint)
            app.add_url_rule(f"/{name}", name, function, authz="OPEN", methods=methods)
        for name in OPTIONAL:
            function = make_route(name, TYPES[name][0] | None)
            path = f"/optional/{name}"
            function.__name__ += "_optional"
            app.add_url_rule(path, f"optional {name}", function, authz="OPEN", methods=methods)
        add_routes(app)
        yield app.test_client()


def add_routes(app: Any) -> None:
    """Routes with several parameters, or with unusual ones."""

    @app.get("/country", authz="OPEN")
    def get_country(code: str, username: str = "") -> tuple[Any, int]:
        return [code, username], 200

    @app.post("/country", authz="OPEN")
    def post_country(code: str) -> tuple[Any, int]:
        return [code], 200

    @app.get("/vault", authz="OPEN")
    def get_vault(pin: values.Code, password: values.Password | None = None) -> tuple[Any, int]:
        return "", 204

    @app.get("/thing/<number>", authz="OPEN")
    def get_thing(number: int) -> tuple[Any, int]:
        return [number], 200

    @app.get("/weight/<weight>", authz="OPEN")
    def get_weight(weight: float) -> tuple[Any, int]:
        return [weight], 200

    @app.get("/pack/<quantity>/<colour>", authz="OPEN")
    def get_pack(quantity: Quantity, colour: Colour) -> tuple[Any, int]:
        return [quantity, colour.value], 200

    @app.post("/file", authz="OPEN")
    def post_file(file: FileStorage, names: list[str], title: str = "") -> tuple[Any, int]:
        return [file.read().decode(), file.filename, names, title], 200

    @app.post("/rest", authz="OPEN")
    def post_rest(name: str, size: int = 5, **others: Any) -> tuple[Any, int]:
        return [name, size, others], 200

    @app.get("/inferred", authz="OPEN")
    def get_inferred(name, size=5) -> tuple[Any, int]:
        return [name, size], 200


def send(fork, method, path, kind=None, body=b"", query=""):
    found.clear()
    body = body.encode() if isinstance(body, str) else body
    return fork.open(path, method=method, data=body, content_type=kind, query_string=query)


def as_query(name: str, text: str) -> str:
    """A query string of a text, or of several where it is one already."""
    if text.startswith(f"{name}="):
        return urllib.parse.quote(text, safe="=&")
    return f"{name}={urllib.parse.quote(text)}"


def as_multipart(query: str) -> str:
    """The same in multipart/form-data."""
    fields = urllib.parse.parse_qsl(query, keep_blank_values=True)
    part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    return "".join(part.format(*field) for field in fields) + "--x--\r\n"


def text_ways(fork, name, text, path=None):
    """The responses to a text in the query, a form and a multipart form."""
    query, path = as_query(name, text), path or f"/{name}"
    yield send(fork, "GET", path, query=query)
    yield send(fork, "POST", path, query=query)
    yield send(fork, "POST", path, FORM, query)
    yield send(fork, "POST", path, MULTIPART, as_multipart(query))
