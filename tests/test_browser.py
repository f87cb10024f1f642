"""The front end in a real browser."""

from tests.conftest import granian


def test_index(page, tmp_path):
    """The front end is there."""
    with granian(ACME_DATABASE=f"sqlite:///{tmp_path}/acme.db", WORKERS="1") as url:
        page.goto(url)
        assert page.title() == "Acme"
