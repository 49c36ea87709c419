"""Whom the dashboard lets in, and what its pages may do."""

import socket
from pathlib import Path

import pytest
from dashboard_client import client
from fake_runs import write_run

from common.errors import ConfigError
from dashboard import server


@pytest.mark.parametrize("host", ["127.0.0.1:8050", "127.0.0.2:8050", "localhost:8050", "[::1]:8050", "localhost"])
def test_on_loopback_this_machine_needs_no_token(tmp_path: Path, host: str) -> None:
    assert client(tmp_path).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8050", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_name_that_was_pointed_at_this_machine_is_refused(tmp_path: Path, host: str) -> None:
    answer = client(tmp_path).get("/api/results", headers={"host": host})
    assert answer.status_code == 400 and "--host 0.0.0.0" in answer.text


def test_with_a_token_every_path_needs_it(tmp_path: Path) -> None:
    visitor = client(tmp_path, token="secret-of-some-length")
    for path in ("/", "/events", "/api/results", "/api/run?run=x", "/static/app.js", "/files/runs/x.png", "/nowhere"):
        answer = visitor.get(path)
        assert answer.status_code == 401 and "?token=" in answer.text, path
        assert visitor.get(path, params={"token": "guess"}).status_code == 401
    bearer = {"authorization": "Bearer secret-of-some-length"}
    assert visitor.get("/api/results", headers=bearer).status_code == 200
    assert visitor.get("/api/results", headers={"authorization": "Bearer guess"}).status_code == 401
    assert visitor.get("/api/results", headers={"authorization": "Basic secret-of-some-length"}).status_code == 401


def test_the_token_in_an_address_becomes_a_cookie_and_leaves_the_address(tmp_path: Path) -> None:
    visitor = client(tmp_path, token="secret-of-some-length")
    answer = visitor.get("/?token=secret-of-some-length&view=x")
    assert answer.status_code == 303 and answer.headers["location"] == "/?view=x"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "secret" not in cookie
    assert visitor.get("/").status_code == 200
    visitor.cookies = {name: value[:-1] + "x" for name, value in visitor.cookies.items()}
    assert visitor.get("/").status_code == 401


def test_a_redirect_never_leads_to_another_host(tmp_path: Path) -> None:
    answer = client(tmp_path, token="secret-of-some-length").get("//evil.example/?token=secret-of-some-length")
    assert answer.headers["location"].startswith("/") and not answer.headers["location"].startswith("//")


def test_no_script_but_ours_runs(tmp_path: Path) -> None:
    write_run(tmp_path, "one")
    visitor = client(tmp_path)
    for path in ("/", "/static/style.css", "/api/results", "/files/runs/none.png"):
        headers = visitor.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    page = visitor.get("/").text
    assert "http://" not in page and "https://" not in page, "nothing comes from elsewhere"
    assert page.count("<script") == page.count("<script src=") and " on" not in page.replace(" once", "")


def test_only_reading_is_possible(tmp_path: Path) -> None:
    write_run(tmp_path, "one")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client(tmp_path).request(method, "/api/run?run=one").status_code == 405


def test_beyond_this_machine_there_is_always_a_token(tmp_path: Path) -> None:
    assert (
        server.token_for("127.0.0.1", None)
        is server.token_for("::1", None)
        is server.token_for("localhost", None)
        is None
    )
    first, second = server.token_for("0.0.0.0", None), server.token_for("10.0.0.7", None)
    assert first and second and first != second and len(first) >= 32
    file = tmp_path / "token"
    file.write_text("a-token-of-mine-1234\n")
    assert server.token_for("127.0.0.1", file) == "a-token-of-mine-1234"
    file.write_text("short\n")
    with pytest.raises(ConfigError, match="found 5 characters, expected at least 16"):
        server.token_for("0.0.0.0", file)
    with pytest.raises(ConfigError, match="No such file"):
        server.token_for("0.0.0.0", tmp_path / "none")


def test_the_address_that_is_printed_opens_the_page() -> None:
    assert server.address("127.0.0.1", 8050, None) == "http://127.0.0.1:8050/"
    assert server.address("::1", 80, "a b") == "http://[::1]:80/?token=a%20b"
    assert server.address("0.0.0.0", 80, None) == f"http://{socket.gethostname()}:80/"
