"""The browser front end: the files of `www/`, which call the API as any client does."""

from pathlib import Path

import flask
import FlaskSimpleAuth as fsa

from web.files import File, send

WWW = Path(__file__).parents[1] / "www"

pages = flask.Blueprint("pages", __name__)


@pages.get("/", authz="OPEN")
def get_index() -> File:
    """The front end, a page whose parts are addressed by hash: `/#stuff`."""
    return send(WWW, "index.html")


@pages.get("/www/<path:name>", authz="OPEN")
def get_file(name: str) -> File:
    """A file of the front end."""
    return send(WWW, name)


def init_app(app: fsa.Flask) -> None:
    """Serve the front end."""
    app.register_blueprint(pages)
