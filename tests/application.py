"""The application made anew, as another process with other settings would make it."""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any
from unittest import mock

import FlaskSimpleAuth as fsa

from tests.conftest import ROOT, configured


@contextlib.contextmanager
def new_application(**environ: str) -> Iterator[fsa.Flask]:
    """The application as app.py makes it with these environment variables, on an empty store."""
    spec: Any = importlib.util.spec_from_file_location("new_application", ROOT / "app.py")
    module = importlib.util.module_from_spec(spec)
    with configured("memory:"), mock.patch.dict("os.environ", environ):
        spec.loader.exec_module(module)
        yield module.app
