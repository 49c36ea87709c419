"""The option `--strict-skips`: a test that skips for a reason that is not on the list fails.

`make test` and continuous integration use it, so that a missing dependency cannot silence tests unnoticed. The list is
`allowed_skips` in pyproject.toml.
"""

import re
from collections.abc import Generator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option and the list."""
    parser.addoption("--strict-skips", action="store_true", help="fail tests that skip for a reason not on the list")
    parser.addini("allowed_skips", "regular expressions of reasons for which a test may skip", type="linelist")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fails a test that skips."""
    report = yield
    _check(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fails a module that skips."""
    report = yield
    _check(report, collector.config)
    return report


def _check(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if not config.getoption("--strict-skips") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(re.search(allowed, reason) for allowed in config.getini("allowed_skips")):
        report.outcome = "failed"
        report.longrepr = f"{reason!r} is not among allowed_skips in pyproject.toml: install what is missing"
