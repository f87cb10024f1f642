"""Protection against cross-site request forgery (CSRF): other origins cannot change anything.

Browsers say where a request comes from, in headers that no script can set: `Sec-Fetch-Site` (W3C
Fetch Metadata) and `Origin` (RFC 6454). Checking these before every route protects all routes, and
needs no tokens in forms: the method of Go's `http.CrossOriginProtection`, of datasette's `csrf.py`,
and of OWASP's Cross-Site Request Forgery Prevention Cheat Sheet ("Fetch Metadata headers", and
`Origin` for browsers from before 2023). Here each of the two that is sent must be right.

Safe methods (RFC 9110) pass, so a route must not change anything on a GET. Clients other
than browsers (curl, libraries) send neither header, and pass.
"""

import flask
import FlaskSimpleAuth as fsa
from werkzeug.exceptions import Forbidden

from flask_internals import current_request
from security.declarations import SAFE_METHODS


def own_origin(request: flask.Request) -> str:
    """The origin of this server as a browser writes it: lower case, without a default port.

    Behind `ACME_PROXIES` it follows `X-Forwarded-Host` and `X-Forwarded-Proto`.
    """
    return f"{request.scheme}://{request.host}".lower()


def _source(request: flask.Request) -> tuple[str | None, str | None]:
    """The values of `Sec-Fetch-Site` and `Origin`; from `environ`, where a miss costs nothing."""
    return request.environ.get("HTTP_SEC_FETCH_SITE"), request.environ.get("HTTP_ORIGIN")


def is_cross_origin(request: flask.Request) -> bool:
    """Whether a request comes from another origin; False for clients other than browsers."""
    site, origin = _source(request)
    if origin is not None and origin != own_origin(request):
        # if the browser says same-origin, a proxy has changed the Host
        return site != "same-origin" or not _is_allowed(origin)
    return site not in (None, "none", "same-origin")


def refusal(request: flask.Request) -> str | None:
    """Why a request that changes something is refused, None if it is not.

    The origins of `ACME_ORIGINS` may call by script, with credentials that the script sends. A form
    there could sign the user in as another user (login CSRF), and both could use credentials that
    the browser adds: cookies, and cached Basic credentials.
    """
    if not is_cross_origin(request):
        return None
    site, origin = _source(request)
    if not _is_allowed(origin):
        source = origin or f"another origin (Sec-Fetch-Site: {site})"
        return (
            f"cross-origin request refused: it comes from {source}, "
            f"not from {own_origin(request)} or one of ACME_ORIGINS"
        )
    headers = request.headers
    is_script = headers.get("Sec-Fetch-Mode", "cors") == "cors"
    scheme = headers.get("Authorization", "").partition(" ")[0].lower()
    if is_script and scheme in ("", "bearer") and "Cookie" not in headers:
        return None
    return (
        f"{origin} may only call with fetch and a bearer token: "
        "no forms, no cookies, no Basic credentials"
    )


def _is_allowed(origin: str | None) -> bool:
    return origin in flask.current_app.config["ACME_ORIGINS"]


def check_origin() -> None:
    """Before a request: 403 for an unsafe method from another origin."""
    request = current_request()
    if request.method not in SAFE_METHODS and (message := refusal(request)):
        raise Forbidden(message)


def refuse_cross_origin() -> None:
    """The same for a route whose GET changes something: it calls this first."""
    if message := refusal(flask.request):
        raise fsa.ErrorResponse(message, 403)


def init_app(app: fsa.Flask) -> None:
    """Check the origin of each request, before its body is read and its caller authenticated."""
    app.before_request(check_origin)
