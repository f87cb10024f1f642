"""The Flask class of Acme: the extension points of Flask and FlaskSimpleAuth that it uses."""

import functools
import sys
from collections.abc import Callable
from typing import IO, Any, NoReturn

import click
import flask
import FlaskSimpleAuth as fsa
from flask.sessions import NullSession, SecureCookieSession, SecureCookieSessionInterface
from werkzeug.exceptions import NotFound
from werkzeug.routing import MapAdapter, RequestRedirect

from security.declarations import record_declarations
from security.sessions import begin_session
from web.requests import Request
from web.responses import JSONProvider, Response


class ConfigurationError(click.ClickException):
    """The configuration is wrong, or the database cannot be used: the message says why.

    A command of click, such as `flask`, that imports Acme prints it as one line and exits with 1.
    """

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message in the format of all of Acme's messages."""
        click.echo(f"acme: {self.message}", file or sys.stderr)


class OptionalSessions(SecureCookieSessionInterface):
    """Flask's sessions, for a fork that sets `SECRET_KEY`; else one empty session for all requests.

    Flask makes a new one for each (2 %). Acme's own sessions are in security/sessions.py.
    """

    NONE = NullSession()

    def open_session(self, app: flask.Flask, request: flask.Request) -> SecureCookieSession | None:
        """The session of a request; that without a key refuses to be changed."""
        return super().open_session(app, request) if app.secret_key else self.NONE


class Flask(fsa.Flask):
    """A FlaskSimpleAuth application with Acme's requests, responses, JSON, and tokens."""

    request_class = Request
    response_class = Response
    session_interface = OptionalSessions()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        record_declarations(self)
        self.json = JSONProvider(self)
        # FlaskSimpleAuth sets this attribute on each instance, which would hide a method
        del self.create_token
        # Flask asks of each hook and route, at each request, whether it is a coroutine
        self._ensure_sync = functools.lru_cache(1024)(super().ensure_sync)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function as Flask may call it, from a cache (saves 5 % of a request)."""
        return self._ensure_sync(func)

    def create_url_adapter(self, request: flask.Request | None) -> MapAdapter | None:
        """The adapter that finds the route of a request.

        Flask's also looks for subdomains and websockets (4 %), which Acme has none of.
        """
        config = self.config
        if request is None or config["SERVER_NAME"] or config["TRUSTED_HOSTS"]:
            return super().create_url_adapter(request)
        path = request.environ.get("PATH_INFO", "").encode("latin1").decode(errors="replace")
        return MapAdapter(
            self.url_map, request.host, request.root_path, "", request.scheme, path, request.method
        )

    def raise_routing_exception(self, request: flask.Request) -> NoReturn:
        """404 in place of a redirect, whose address would follow the client's `Host`."""
        if isinstance(request.routing_exception, RequestRedirect):
            raise NotFound
        super().raise_routing_exception(request)

    def create_token(self, user: str | None = None) -> str:
        """A token for a user, by default the caller, with a session of that duration; else 401."""
        return begin_session(user or str(self.get_user()), can_refresh=False)[0]
