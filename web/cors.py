"""Cross-origin resource sharing (CORS): which pages of other origins may call, and read answers."""

import re

import flask
import FlaskSimpleAuth as fsa

from web.csrf import is_cross_origin

ORIGIN = re.compile(r"(https?)://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?")  # RFC 6454
CORS_HEADERS = {
    "Access-Control-Expose-Headers": "Allow, Link, Location, Retry-After, WWW-Authenticate",
}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Requested-With",
    "Access-Control-Allow-Methods": "DELETE, GET, PATCH, POST, PUT",
    "Access-Control-Max-Age": "600",  # seconds
}


def check_origins(origins: list[str]) -> None:
    """ValueError for what no browser sends as an Origin: scheme, host, port if not the default."""
    for origin in origins:
        parts = ORIGIN.fullmatch(origin)
        if not parts or parts.groups() in [("http", ":80"), ("https", ":443")]:
            raise ValueError(
                f"ACME_ORIGINS: {origin} must be like https://www.example.org or "
                "http://localhost:8080: no path, no *, lower case, no default port"
            )


def answer_preflight() -> flask.Response | None:
    """The answer to a browser that asks whether a page of elsewhere may call: before all else."""
    headers = flask.request.headers
    if flask.request.method == "OPTIONS" and "Access-Control-Request-Method" in headers:
        return flask.Response(status=204, headers=PREFLIGHT_HEADERS)
    return None


def allow_origin(response: flask.Response) -> flask.Response:
    """Let pages of `ACME_ORIGINS` read an answer, whatever it is, but take no cookies from it."""
    response.vary.add("Origin")
    origin = flask.request.headers.get("Origin")
    if origin in flask.current_app.config["ACME_ORIGINS"]:
        if is_cross_origin(flask.request):
            response.headers.pop("Set-Cookie", None)
        response.headers.update(CORS_HEADERS)
        response.headers["Access-Control-Allow-Origin"] = origin
    return response


def init_app(app: fsa.Flask) -> None:
    """Let pages of `ACME_ORIGINS` call; ValueError for what is no origin.

    Before `requests.init_app`: preflights are answered before anything is asked of a request.
    """
    if origins := app.config["ACME_ORIGINS"]:
        check_origins(origins)
        app.before_request(answer_preflight)
        app.after_request(allow_origin)
