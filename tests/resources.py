"""What the tests of a resource add to the tests of all routes: rows of their tables, and objects.

`ROUTES` in the test file of a resource has rows of `ROUTES` in test_authorization.py, and
`JAVASCRIPT` has rows of `CALLS` in test_client.py: one file has all about a resource.
"""

import re
import urllib.parse
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent


def rows(name, collector):
    """The rows of a table that stand in other files than the one that collects them."""
    files = sorted({*HERE.glob("test_*.py")} - {Path(collector)})
    found = [file.stem for file in files if re.search(rf"(?m)^{name} = ", file.read_text())]
    return [row for file in found for row in getattr(import_module(f"tests.{file}"), name)]


def add_object(target, path, value, headers):
    """Add an object by POST; returns its key, the last part of its path."""
    response = target.send_json("POST", path, value, headers=headers)
    assert response.status == 201, f"POST {path} with {value} is not 201: {response}"
    return urllib.parse.unquote(response.headers["Location"].rpartition("/")[2])
