"""The dashboard serves the films, pictures and logs of runs, and no other file."""

from pathlib import Path

import pytest
from dashboard_client import HOSTILE, client
from fake_runs import write_run

from dashboard.files import inside
from dashboard.results import report


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with runs, and things beside it that are nobody's business."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    runs = tmp_path / "runs"
    folder = write_run(runs, "one").path
    (folder / "film.mp4").write_bytes(bytes(range(256)) * 8)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "page.html").write_text("<script>alert(1)</script>")
    (folder / "logs").mkdir()
    (folder / "logs" / "actor-0.log").write_text(f"hello {HOSTILE}\n")
    (folder / "logs" / "link.log").symlink_to("/etc/passwd")
    return runs


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "%2e%2e/secret.png",
        "..%2fsecret.png",
        "one/../../secret.png",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "one/link.png",
        "one/config.yaml",
        "one/page.html",
        "one/metrics.jsonl",
        "one",
        "",
        "one/film.mp4%00.png",
        "one/" + "x" * 5000 + ".png",
        "..%5csecret.png",
    ],
)
@pytest.mark.parametrize("kind", ["runs", "results"])
def test_no_file_outside_and_none_but_pictures_and_films_is_served(tree: Path, path: str, kind: str) -> None:
    answer = client(tree, results=tree).get(f"/files/{kind}/{path}")
    assert answer.status_code == 404
    assert b"secret" not in answer.content and b"root:" not in answer.content


def test_a_path_is_checked_after_links_are_followed(tree: Path) -> None:
    assert inside(tree, "one/film.mp4") == tree / "one" / "film.mp4"
    assert inside(tree, "one/link.png") is None
    assert inside(tree, "one/\0.png") is None


def test_films_are_sent_in_parts_as_players_ask_for_them(tree: Path) -> None:
    answer = client(tree).get("/files/runs/one/film.mp4", headers={"range": "bytes=10-19"})
    assert answer.status_code == 206 and answer.content == bytes(range(10, 20))
    assert answer.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize("run", ["../runs/one", "one/../one", "/etc", "none", "", "one/"])
def test_runs_are_chosen_by_name_and_never_by_path(tree: Path, run: str) -> None:
    visitor = client(tree)
    for path in ("/api/run", "/api/curves", "/api/log", "/events"):
        if path != "/events" or run:
            assert visitor.get(path, params={"run": run, "name": "actor-0.log"}).status_code == 404


def test_logs_come_as_plain_text_and_only_those_of_the_run(tree: Path) -> None:
    visitor = client(tree)
    answer = visitor.get("/api/log", params={"run": "one", "name": "actor-0.log"})
    assert answer.text == f"hello {HOSTILE}\n"
    assert answer.headers["content-type"].startswith("text/plain")
    for name in ("../config.yaml", "link.log", "/etc/passwd", "none.log"):
        answer = visitor.get("/api/log", params={"run": "one", "name": name})
        assert answer.status_code == 404 and "root:" not in answer.text


def test_the_end_of_a_long_log_begins_with_a_whole_line(tree: Path) -> None:
    lines = [f"line {i}" for i in range(10_000)]
    (tree / "one" / "logs" / "learner.log").write_text("\n".join(lines))
    text = client(tree).get("/api/log", params={"run": "one", "name": "learner.log"}).text
    assert text.splitlines()[0] in lines and text.endswith("line 9999") and len(text) < 40_000


@pytest.mark.parametrize("folder", ["..", "../runs", "/etc", "none"])
def test_no_report_outside_of_the_results_is_read(tree: Path, folder: str) -> None:
    (tree / "results").mkdir()
    assert client(tree, results=tree / "results").get("/api/report", params={"folder": folder}).status_code == 404


def test_a_picture_that_a_report_takes_from_elsewhere_is_not_shown(tree: Path) -> None:
    (tree / "results").mkdir()
    (tree / "results" / "report.md").write_text("![x](../../secret.png)\n")
    (block,) = report(tree / "results", ".")["documents"][0]["blocks"]
    assert block["path"] == ""
