"""The declaration of each route, which FlaskSimpleAuth does not keep: authz, authn and realm."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import FlaskSimpleAuth as fsa

View = TypeVar("View", bound=Callable[..., Any])

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110: they change nothing
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Declaration(NamedTuple):
    """The arguments of a route's decorator; None if one is not given."""

    authz: Any = None
    authn: Any = None
    realm: str | None = None


def record_declarations(app: fsa.Flask) -> None:
    """Record the declaration of each route from now on.

    Decorators and blueprints all call one method of FlaskSimpleAuth, which is private:
    tests/test_openapi.py pins it.
    """
    declared: dict[str, Declaration] = {}
    add_url_rule = app._fsa.add_url_rule

    def record(rule: str, endpoint: str | None = None, view_func: Any = None, **how: Any) -> None:
        declaration = Declaration(how.get("authz"), how.get("authn"), how.get("realm"))
        declared[endpoint or view_func.__name__] = declaration
        add_url_rule(rule, endpoint, view_func, **how)

    app.extensions["declarations"] = declared
    # `parameters.init_app` puts its own method in front of this, and on the application
    setattr(app._fsa, "add_url_rule", record)  # noqa: B010


def declaration_of(app: fsa.Flask, endpoint: str) -> Declaration:
    """The declaration of a route; a route that FlaskSimpleAuth does not handle is open."""
    declared: dict[str, Declaration] = app.extensions["declarations"]
    return declared.get(endpoint) or Declaration("OPEN")


def permission_of(app: fsa.Flask, domain: str) -> Callable[[str, Any, str | None], bool | None]:
    """The check of an object permission, of auth.py or as given to `app.object_perms`.

    FlaskSimpleAuth keeps it in private: tests/test_openapi.py pins that.
    """
    return app._fsa._zm._object_perms[domain]


def accepts_password_alone(view: View) -> View:
    """Mark a route as the first step of a sign-in, below the decorator with its path.

    All other routes refuse the password of a user whose second factor is on. A marked route gets
    such a caller as well, and must not do more for them than begin the second step.
    """
    setattr(view, "accepts_password_alone", True)  # noqa: B010
    return view


def password_is_enough(app: fsa.Flask, endpoint: str) -> bool:
    """Whether a route is so marked; `functools.wraps` carries the mark to the view function."""
    return getattr(app.view_functions[endpoint], "accepts_password_alone", False)


def returns_secret(view: View) -> View:
    """Mark a route whose response has a secret, or whose change must not wait in a transaction.

    It refuses an `Idempotency-Key`, because an answer that is to be repeated is stored, and
    `If-Match`, whose check and change are one transaction.
    """
    setattr(view, "returns_secret", True)  # noqa: B010
    return view


def may_be_stored(app: fsa.Flask, endpoint: str) -> bool:
    """Whether the answer of a route may be stored: it is not marked as one with a secret."""
    return not getattr(app.view_functions[endpoint], "returns_secret", False)
