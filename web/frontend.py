"""The browser front end: the files of `www/`, which call the API as any client does."""

from pathlib import Path

import flask
import FlaskSimpleAuth as fsa

from web.files import File, send

WWW = Path(__file__).parents[1] / "www"

frontend = flask.Blueprint("frontend", __name__)


@frontend.get("/", authz="OPEN")
def get_index() -> File:
    """The front end, one HTML document; the hash selects the view: `/#stuff`."""
    return send(WWW, "index.html")


@frontend.get("/www/<path:name>", authz="OPEN")
def get_file(name: str) -> File:
    """A file of the front end."""
    return send(WWW, name)


def not_found_page() -> bytes:
    """The page for a person who has mistyped an address; nothing of the request is in it."""
    return (WWW / "not-found.html").read_bytes()


def init_app(app: fsa.Flask) -> None:
    """Serve the front end."""
    app.register_blueprint(frontend)
