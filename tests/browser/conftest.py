"""Fixtures of the tests of the front end: a server, and a browser in which nothing may fail."""

import re

import pytest
from playwright.sync_api import expect

from tests.conftest import Target, granian

expect.set_options(timeout=15_000)  # milliseconds: other tests run at the same time


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server whose rate limit is three failed logins in six seconds."""
    place = tmp_path_factory.mktemp("browser")
    limit = "3/6 seconds, 9999/second"
    with granian(
        ACME_DATABASE=f"sqlite:///{place}/acme.db", WORKERS="1", ACME_RATE_LIMIT=limit
    ) as url:
        yield Target(url)


@pytest.fixture
def context(context):
    """A browser profile; the test fails on a message in the console or a missing file."""
    complaints = []

    def console(message):
        # tests make the API refuse requests on purpose
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def response(response):
        if response.status >= 400 and re.search(r"/$|/www/", response.url):
            complaints.append(f"{response.status} {response.url}")

    context.on("console", console)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("response", response)
    context.set_default_timeout(15_000)
    yield context
    assert complaints == []
