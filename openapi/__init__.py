"""OpenAPI 3.1 document at /openapi.json, and Swagger UI at /docs.

The document is made from the declarations of the routes, so that it cannot drift: paths, parameters
and responses from type hints, descriptions from docstrings, security from `authz` and `authn`.
"""

import functools
import json
from importlib.util import find_spec
from pathlib import Path

import flask
import FlaskSimpleAuth as fsa

from openapi.document import Document
from web.files import File, send

UI = "flask_swagger_ui"
UI_FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
HERE = Path(__file__).parent


def _ui_folder() -> Path:
    """The folder where Swagger UI is installed; ValueError if it is not."""
    spec = find_spec(UI)
    folder = Path(spec.origin if spec and spec.origin else UI).with_name("dist")
    missing = [name for name in UI_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"Swagger UI lacks {', '.join(missing)}: pip install -r requirements.txt")
    return folder


@functools.cache
def _text(app: fsa.Flask) -> str:
    return json.dumps(Document(app).document())


docs = flask.Blueprint("docs", __name__)


@docs.get("/openapi.json", authz="OPEN")
def get_openapi() -> File:
    """Get the description of the API (OpenAPI 3.1)."""
    app = flask.current_app._get_current_object()  # type: ignore[attr-defined]
    return File(flask.Response(_text(app), mimetype="application/json"))


@docs.get("/docs", authz="OPEN")
def get_docs() -> File:
    """Get Swagger UI, which shows the description and calls each route."""
    return send(HERE, "docs.html")


@docs.get("/docs/<name>", authz="OPEN")
def get_docs_file(name: str) -> File:
    """Get a file of Swagger UI."""
    if name in ("docs.css", "start.js"):
        return send(HERE, name)
    return send(_ui_folder(), name if name in UI_FILES else "")


def init_app(app: fsa.Flask) -> None:
    """Serve the description of all routes; ValueError if Swagger UI is not installed."""
    _ui_folder()
    app.register_blueprint(docs)
