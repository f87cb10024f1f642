"""Cross-origin resource sharing (CORS): which other origins may call, and read responses."""

import re

import flask
import FlaskSimpleAuth as fsa

from web.csrf import is_cross_origin

ORIGIN = re.compile(r"(https?)://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?")  # RFC 6454
CORS_HEADERS = {
    "Access-Control-Expose-Headers": "Allow, ETag, Link, Location, Retry-After, "
    "WWW-Authenticate, X-Request-ID",
}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-Match, "
    "X-Requested-With",
    "Access-Control-Allow-Methods": "DELETE, GET, PATCH, POST, PUT",
    "Access-Control-Max-Age": "600",  # seconds
}


def check_origins(origins: list[str]) -> None:
    """ValueError unless each is an origin as browsers send it: no path, no default port."""
    for origin in origins:
        parts = ORIGIN.fullmatch(origin)
        if not parts or parts.groups() in [("http", ":80"), ("https", ":443")]:
            raise ValueError(
                f"ACME_ORIGINS: {origin} must be like https://www.example.org or "
                "http://localhost:8080: no path, no *, lower case, no default port"
            )


def respond_to_preflight() -> flask.Response | None:
    """Respond to a preflight, in which a browser asks whether another origin may call."""
    headers = flask.request.headers
    if flask.request.method == "OPTIONS" and "Access-Control-Request-Method" in headers:
        return flask.Response(status=204, headers=PREFLIGHT_HEADERS)
    return None


def allow_origin(response: flask.Response) -> flask.Response:
    """Allow the origins of `ACME_ORIGINS` to read a response, without cookies."""
    response.vary.add("Origin")
    origin = flask.request.headers.get("Origin")
    if origin in flask.current_app.config["ACME_ORIGINS"]:
        if is_cross_origin(flask.request):
            response.headers.pop("Set-Cookie", None)
        response.headers.update(CORS_HEADERS)
        response.headers["Access-Control-Allow-Origin"] = origin
    return response


def init_app(app: fsa.Flask) -> None:
    """Allow the origins of `ACME_ORIGINS` to call; ValueError if one is malformed.

    Call this before `requests.init_app`: a preflight gets its response before request validation.
    """
    if origins := app.config["ACME_ORIGINS"]:
        check_origins(origins)
        app.before_request(respond_to_preflight)
        app.after_request(allow_origin)
