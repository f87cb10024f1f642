"""A plugin for CI, where nothing is missing: `pytest -p tests.noskip` counts a skip as failure."""

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    report = (yield).get_result()
    if report.skipped:
        report.outcome = "failed"
