"""Static files: of the front end, and of Swagger UI."""

from pathlib import Path
from typing import NewType

import flask
import FlaskSimpleAuth as fsa
from werkzeug.exceptions import NotFound, RequestedRangeNotSatisfiable

File = NewType("File", flask.Response)  # what is no answer of the API


def send(folder: Path, name: str) -> File:
    """A file of a folder, which browsers keep and ask for again (ETag); 404 if there is none."""
    try:
        response = flask.send_from_directory(folder, name)
    except NotFound:
        raise fsa.ErrorResponse(f"no such page: {name}", 404) from None
    except RequestedRangeNotSatisfiable:
        raise fsa.ErrorResponse("the page has no such range", 416) from None
    if response.status_code != 304:
        # in one piece, or whoever is slow to take them would hold a thread
        response.direct_passthrough = False
        response.data = response.get_data()
    return File(response)
