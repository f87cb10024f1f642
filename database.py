"""The database: `db`, which stands for the store that the configuration names."""

from typing import cast

import FlaskSimpleAuth as fsa

import acme

# this is a proxy object to the actual database created when calling init_app
_reference = fsa.Reference()
db = cast(acme.AcmeData, _reference)


def init_app(app: fsa.Flask) -> None:
    """Open the store `ACME_DATABASE`, and make the administrator if there are no users at all.

    Raises ValueError for a store that is unknown and a first password that is missing or weak.
    """
    url = app.config["ACME_DATABASE"]
    if url != "memory:":
        raise ValueError(f"ACME_DATABASE={url} is unknown: use memory:")
    _reference.set(acme.AcmeData())
    db.add_user("acme", _first_password(app), "acme@acme.org", True)


def _first_password(app: fsa.Flask) -> str:
    """The hash of `ACME_PASS`, which must be there and strong."""
    rule = (
        f"it takes {app.config['FSA_PASSWORD_LENGTH']} characters or more, "
        "with an upper case letter, a lower case letter and a digit among them"
    )
    if not app.config["ACME_PASS"]:
        raise ValueError(f"ACME_PASS, the password of the administrator acme, is not set: {rule}")
    try:
        return str(app.hash_password(acme.Password(app.config["ACME_PASS"])))
    except fsa.ErrorResponse as e:
        raise ValueError(f"ACME_PASS is refused: {e.message}: {rule}") from None
