"""The Flask class of Acme, where Flask and FlaskSimpleAuth let a subclass say how."""

import functools
import sys
from collections.abc import Callable
from typing import IO, Any, NoReturn

import click
import flask
import FlaskSimpleAuth as fsa
from werkzeug.exceptions import NotFound
from werkzeug.routing import RequestRedirect

from security.declarations import record_declarations
from security.sessions import begin_session
from web.requests import Request
from web.responses import JSONProvider, Response


class ConfigurationError(click.ClickException):
    """The configuration is wrong, or the database cannot be used: the message says why.

    Where Acme is imported by a command of click's, such as `flask`, that is a line and exit 1.
    """

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message as every other complaint of Acme's."""
        click.echo(f"acme: {self.message}", file or sys.stderr)


class Flask(fsa.Flask):
    """A FlaskSimpleAuth application with Acme's requests, responses, JSON, and tokens."""

    request_class = Request
    response_class = Response

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        record_declarations(self)
        self.json = JSONProvider(self)
        # FlaskSimpleAuth puts its own on each instance, where it would hide a method
        del self.create_token
        # Flask asks of each hook and route, at each request, whether it is a coroutine
        self._ensure_sync = functools.lru_cache(1024)(super().ensure_sync)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """A function that may be called as any other, remembered (5 % of a request)."""
        return self._ensure_sync(func)

    def raise_routing_exception(self, request: flask.Request) -> NoReturn:
        """404 where Werkzeug would redirect: to an address that the client's `Host` decides."""
        if isinstance(request.routing_exception, RequestRedirect):
            raise NotFound
        super().raise_routing_exception(request)

    def create_token(self, user: str | None = None) -> str:
        """A token for a user, by default the caller, with a session that lasts as long (401)."""
        return begin_session(user or str(self.get_user()), with_cookie=False)[0]
