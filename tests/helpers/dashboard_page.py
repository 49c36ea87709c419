"""The dashboard in a real browser: what several tests need to open its page and wait for what it shows."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DASHBOARD = [sys.executable, "-m", "cli", "dashboard"]
PATIENCE_MS = 60_000

Open = Callable[..., Any]
"""Opens a view in a window of some width, height and colour scheme, and returns its page."""


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium, or no test."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install 'bidist[test]'")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # A sandbox needs user namespaces, which root in a container lacks.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.getuid() == 0 else [])
        yield browser
        browser.close()


@contextmanager
def serving(folder: Path, results: Path, url: str) -> Iterator[str]:
    """A dashboard of a folder of runs, one of results, and a Redis server; yields its address."""
    command = [*DASHBOARD, str(folder), "--results", str(results), "--port", "0", "--redis", url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@contextmanager
def opening(browser: Any, address: str) -> Iterator[Open]:
    """Opens views; any complaint of the browser, such as about the content security policy, fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_(view: str, width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}#/{view}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not complaints, complaints


def wait_for(page: Any, condition: str, argument: Any = None) -> None:
    """Waits until a JavaScript function returns something true."""
    page.wait_for_function(condition, arg=argument, timeout=PATIENCE_MS)
