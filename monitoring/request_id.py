"""The id of a request, `X-Request-ID`, and the id of its trace, `traceparent` (W3C Trace Context).

Both are in each line that the request logs, so that they lead from one log to another.
"""

import random
import re
from typing import Any

GIVEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.DOTALL)


def request_id(environ: dict[str, Any]) -> str:
    """The id that a trusted proxy gave (`ACME_PROXIES`), if it is well-formed, else a new one.

    It is random, but no secret: the generator is fast, and Python seeds it anew in each worker.
    """
    found: str | None = environ.get("acme.request_id")
    if found is None:
        given = environ.get("HTTP_X_REQUEST_ID", "") if "werkzeug.proxy_fix.orig" in environ else ""
        found = given if GIVEN.fullmatch(given) else f"{random.getrandbits(64):016x}"
        environ["acme.request_id"] = found
    return found


def trace_id(environ: dict[str, Any]) -> str | None:
    """The trace that the client or a proxy names; None if there is none, or it is malformed."""
    header = environ.get("HTTP_TRACEPARENT", "")
    match = TRACEPARENT.fullmatch(header) if len(header) < 200 else None
    return match[1] if match and match[1].strip("0") else None
