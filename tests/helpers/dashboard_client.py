"""A client of the dashboard, and text that must never become markup."""

from pathlib import Path

from starlette.testclient import TestClient

from dashboard.app import Dashboard

HOSTILE = "<img src=x onerror=alert(1)>"


def client(folder: Path, results: Path | None = None, token: str | None = None) -> TestClient:
    """Returns a client on this machine, which follows no redirects."""
    app = Dashboard(folder, results or folder / "none").app(token)
    return TestClient(app, base_url="http://127.0.0.1:8050", follow_redirects=False)
