"""`make docs`: docs/authorization.md, who gets what from each route, by its declaration alone.

The hooks are asked, as FlaskSimpleAuth would, about people in memory. Whether the application does
what it declares is for tests/test_authorization.py, which has a table of its own.
"""

import os
from pathlib import Path

if __name__ == "__main__":
    os.environ |= {"ACME_PASS": "Docs-Pass-1", "ACME_DATABASE": "memory:", "ACME_AUTH": "any"}

import FlaskSimpleAuth as fsa

import auth
import values
from database import db
from openapi.routes import Route, routes

FILE = Path(__file__).with_suffix(".md")
# kind of caller: login, and schemes of the credentials
CALLERS = {
    "nobody": ("", ()),
    "another user": ("calvin", ("token",)),
    "the user, the owner": ("susie", ("token",)),
    "an administrator": ("acme", ("token",)),
    "the user, by password": ("susie", ("basic", "param")),
}
OBJECTS = {"user": "susie", "stuff": "pinte"}  # what permissions are asked about
HEAD = """\
# Who may do what

Made by `make docs` from what each route declares; the authorization hooks are asked about three
users and a thing of one of them, who is meant by `<login>` and owns `<sid>`. Callers show a token,
but for the last column: a password, by HTTP Basic or, where only these are taken, as parameters.
Parameters are right; what else a route refuses, as 409 for a name that is taken, says `/docs`.

"""


def _status(route: Route, login: str, schemes: tuple[str, ...]) -> int:
    if "CLOSE" in route.authz:
        return 403
    if not route.is_open:
        if not login or route.realm or not set(schemes) & set(route.schemes):
            return 401
    elif route.cookie:
        return 401  # nobody here has one
    for who in route.authz:
        try:
            if who in auth.GROUPS and not auth.GROUPS[who](login):
                return 403
            if isinstance(who, tuple):
                domain, _, mode = (*who, None)[:3]
                auth.PERMISSIONS[domain](login, OBJECTS[domain], mode)
        except fsa.ErrorResponse as e:
            return e.status
    return min(route.answers)


def statuses(route: Route) -> tuple[int, ...]:
    """What a route answers to each kind of caller."""
    for login in "susie", "calvin", "acme":
        if not db.user_exists(login):
            db.add_user(login, "", f"{login}@acme.org", login == "acme")
    if not db.get_user_stuff("susie"):
        db.add_stuff(OBJECTS["stuff"], "susie", values.Price(6.5))
    return tuple(_status(route, *caller) for caller in CALLERS.values())


def matrix(app: fsa.Flask) -> str:
    """The page, in Markdown."""
    rows = [["route", "for", "by", *CALLERS], ["---"] * (3 + len(CALLERS))]
    for route in sorted(routes(app), key=lambda r: (r.path, r.method)):
        path = route.path.replace("{", "<").replace("}", ">")
        groups = [" ".join(who) if isinstance(who, tuple) else str(who) for who in route.authz]
        by = route.cookie or route.realm or ", ".join(route.schemes) or "-"
        found = [str(status) for status in statuses(route)]
        rows.append([f"`{route.method} {path}`", ", ".join(groups), by, *found])
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    from app import app

    FILE.write_text(matrix(app))
    print(f"{FILE} has {sum(1 for _ in routes(app))} routes")
