"""What the dashboard reads, whom it lets in, and that nothing else gets out."""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
from fake_runs import LiveRun, distillation_of, update_of, write_evaluation, write_run
from starlette.testclient import TestClient

from cli.extras import NEEDED
from cli.main import main
from common.errors import ConfigError
from common.store import Store
from dashboard import server
from dashboard.app import Dashboard, _stream
from dashboard.catalogue import Catalogue
from dashboard.details import curves, details
from dashboard.feed import Feed, Message
from dashboard.files import inside
from dashboard.history import MOST_POINTS, History, averaged
from dashboard.markdown import blocks, commands
from dashboard.results import command, report
from dashboard.source import Address, RunReader

HOSTILE = "<img src=x onerror=alert(1)>"


def client(folder: Path, results: Path | None = None, token: str | None = None, **options: object) -> TestClient:
    app = Dashboard(folder, results or folder / "none").app(token)
    return TestClient(app, base_url="http://127.0.0.1:8050", follow_redirects=False, **options)  # type: ignore[arg-type]


# Runs on disk.


def test_a_table_of_all_runs_those_of_sweeps_included(tmp_path: Path) -> None:
    write_run(tmp_path, "alone", updates=30, method="mappo", seed=3)
    write_evaluation(write_run(tmp_path / "sweep", "trial", updates=20, finished=False), ["coins_0", "coins_3"])
    catalogue = Catalogue(tmp_path)
    catalogue.scan()
    assert catalogue.rows.keys() == {"alone", "sweep/trial"}
    alone, trial = catalogue.rows["alone"], catalogue.rows["sweep/trial"]
    assert (alone["method"], alone["seed"], alone["player_steps"], alone["finished"]) == ("mappo", 3, 61440, True)
    assert (trial["group"], trial["scenarios"], trial["episodes"], trial["finished"]) == ("sweep", 2, 8, False)
    assert alone["return"] == pytest.approx(update_of(30, 3, alone["return"])["return_learning"], abs=4)


def test_a_run_is_read_again_when_it_changed_and_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path, "one", updates=10)
    catalogue = Catalogue(tmp_path)
    catalogue.scan()
    monkeypatch.setattr("dashboard.source.facts", lambda folder: pytest.fail("nothing has changed"))
    catalogue.scan()
    monkeypatch.undo()
    with folder.metrics.open("a") as file:
        file.write(json.dumps(update_of(11)) + "\n")
    catalogue.scan()
    assert catalogue.rows["one"]["updates"] == 11


def test_a_folder_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    write_run(tmp_path, "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.yaml").write_text("run: {nmae: x}")
    catalogue = Catalogue(tmp_path)
    catalogue.scan()
    assert "nmae" in catalogue.rows["bad"]["error"]
    assert "error" not in catalogue.rows["good"]


def test_a_damaged_evaluation_does_not_hide_a_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one")
    folder.evaluation.write_text('{"something": "else"}\n')
    catalogue = Catalogue(tmp_path)
    catalogue.scan()
    assert catalogue.rows["one"]["scenarios"] == 0
    assert details("one", folder.path)["scenarios"] == []


def test_curves_are_means_over_stretches_and_leave_out_what_is_missing(tmp_path: Path) -> None:
    rows = [{"x": float(i), "y": None if i % 2 else 10.0} for i in range(1000)]
    found = averaged(rows, ("x", "y"), points=10)
    assert found["x"] == [pytest.approx(49.5 + 100 * i) for i in range(10)]
    assert found["y"] == [10.0] * 10
    folder = write_run(tmp_path, "long", updates=2000)
    assert len(curves(folder.path)["player_steps"]) == 600
    folder.metrics.write_text('{"player_steps": 1, "updates": 1, "return_learning": NaN}\n')
    assert curves(folder.path)["return_learning"] == [None]


# Who may look.


@pytest.mark.parametrize("host", ["127.0.0.1:8050", "localhost:8050", "[::1]:8050", "localhost"])
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


# What is served.


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


# Results.


def test_markdown_becomes_blocks_of_text() -> None:
    text = f"# Title\n\nA line {HOSTILE}\nand another.\n\n"
    text += "| a | b |\n|---|---|\n| `x` | 1.5 |\n\n![p](q.png)\n\n- one\n- two\n\n"
    text += "```\nbidist report runs \\\n  --out out # why\n```\n"
    found = blocks(text)
    assert [block["kind"] for block in found] == ["heading", "text", "table", "picture", "list", "code"]
    assert found[1]["text"] == f"A line {HOSTILE} and another."
    assert found[2] == {"kind": "table", "head": ["a", "b"], "rows": [["`x`", "1.5"]]}
    assert commands(text) == ["bidist report runs --out out"]


def test_a_picture_has_the_command_that_made_it_and_no_other(tmp_path: Path) -> None:
    root = tmp_path / "results"
    folder = root / "strangers"
    folder.mkdir(parents=True)
    for name in ("returns.png", "diversity.png", "other.png"):
        (folder / name).touch()
    assert command(root, folder / "returns.png") == ""
    (root / "bench.json").write_text('{"command": "bidist bench"}')
    (root / "README.md").write_text(
        "```\nbidist report runs --out results/elsewhere\nbidist report runs --out results/NAME\n"
        "bidist diversity a b --out results/strangers\n```\n"
    )
    assert command(root, folder / "returns.png") == "bidist report runs --out results/strangers"
    assert command(root, folder / "diversity.png") == "bidist diversity a b --out results/strangers"
    assert command(root, root / "bench.png") == "bidist bench"
    assert command(root, root / "curves.png") == ""
    (folder / "command.json").write_text('{"command": "bidist report other --out results/strangers"}')
    assert command(root, folder / "returns.png") == "bidist report other --out results/strangers"


def test_bidist_report_writes_down_its_command(tmp_path: Path) -> None:
    write_evaluation(write_run(tmp_path / "runs", "one"), ["coins_0", "coins_1"])
    out = tmp_path / "results" / "new"
    assert main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    shown = report(tmp_path / "results", "new")
    pictures = [b for document in shown["documents"] for b in document["blocks"] if b["kind"] == "picture"]
    assert pictures and all(p["command"] == f"bidist report {tmp_path / 'runs'} --out {out}" for p in pictures)
    assert {table["name"] for table in shown["tables"]} == {"returns.csv"}


@pytest.mark.parametrize("folder", ["..", "../runs", "/etc", "none"])
def test_no_report_outside_of_the_results_is_read(tree: Path, folder: str) -> None:
    (tree / "results").mkdir()
    assert client(tree, results=tree / "results").get("/api/report", params={"folder": folder}).status_code == 404


def test_a_picture_that_a_report_takes_from_elsewhere_is_not_shown(tree: Path) -> None:
    (tree / "results").mkdir()
    (tree / "results" / "report.md").write_text("![x](../../secret.png)\n")
    (block,) = report(tree / "results", ".")["documents"][0]["blocks"]
    assert block["path"] == ""


# Live runs.


def test_new_entries_are_read_once_however_many_share_a_millisecond(store: Store) -> None:
    reader = RunReader(Address(store.url, store.run))
    seen: list[float] = []
    written = 0
    for size in (3, 250, 1, 0, 40):
        for _ in range(size):
            written += 1
            store.put_metrics({"updates": written})
        seen += [float(fields["updates"]) for _, fields in reader.new("metrics")]
    assert seen == list(range(1, written + 1))


def test_a_learner_that_goes_back_takes_its_updates_with_it() -> None:
    history = History()
    history.add(({**update_of(n)} for n in range(1, 11)), [])
    edition = history.edition
    history.add([update_of(8)], [])
    assert [row["updates"] for row in history.updates] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert history.edition > edition, "who drew the later ones has to draw anew"


def test_a_long_history_is_thinned() -> None:
    history = History()
    history.add(({**update_of(n)} for n in range(1, MOST_POINTS + 100)), [])
    assert len(history.updates) <= MOST_POINTS
    assert history.updates[-1]["updates"] == MOST_POINTS + 99
    distillations = [
        {"time_s": 1.0, "event": "distillation", "distillation": distillation_of(n, n)} for n in range(1, 9)
    ]
    history.add([], distillations)
    assert [row["events"] for row in history.distillations] == list(range(1, 9))


async def following(messages: AsyncGenerator[Message, None], *names: str) -> list[Message]:
    """The next messages of some names, one each, in that order."""
    found: list[Message] = []
    while len(found) < len(names):
        name, data = await asyncio.wait_for(anext(messages), 60)
        if name == names[len(found)]:
            found.append((name, data))
    return found


def test_a_feed_sends_the_past_first_and_then_what_is_new(store: Store, tmp_path: Path) -> None:
    run = LiveRun(store, tmp_path, actors=3)
    run.advance(20)

    async def watch() -> None:
        messages = Feed(Address(store.url, store.run), tick_s=0.05).messages()
        (_, past), (_, frame) = await following(messages, "history", "frame")
        assert past["curves"]["updates"] == list(range(1, 21)) and len(past["distillations"]) == 4
        assert frame["ledger"]["holds"] and frame["ledger"]["produced"] == 240
        assert sum(frame["ledger"]["terms"].values()) == 240
        assert len(frame["workers"]) == 5 and frame["missing"] == []
        assert frame["distillation"]["events"] == 4 and frame["checkpoint"]["updates"] == "20"
        run.advance(3)
        new: list[float] = []
        while len(new) < 3:
            ((_, frame),) = await following(messages, "frame")
            new += [row["updates"] for row in frame["new"]["updates"]]
        assert new == [21, 22, 23]
        await messages.aclose()

    asyncio.run(watch())


def test_many_watchers_share_one_reader_which_rests_when_they_leave(store: Store, tmp_path: Path) -> None:
    LiveRun(store, tmp_path).advance(5)

    async def watch() -> None:
        feed = Feed(Address(store.url, store.run), tick_s=0.02)
        readings = 0
        original = feed.read

        async def counted() -> None:
            nonlocal readings
            readings += 1
            await original()

        feed.read = counted  # type: ignore[method-assign]
        watchers = [feed.messages() for _ in range(20)]
        for messages in watchers:
            await following(messages, "history", "frame")
        assert feed.watchers == 20 and readings < 20, "each of twenty would have read for itself"
        for messages in watchers:
            await messages.aclose()
        at_rest = readings
        await asyncio.sleep(0.2)
        assert feed.watchers == 0 and readings <= at_rest + 1
        again = feed.messages()
        (_, past), _ = await following(again, "history", "frame")
        assert past["curves"]["updates"] == [1, 2, 3, 4, 5], "nothing is lost with a reading that was broken off"
        await again.aclose()

    asyncio.run(watch())


def test_a_watcher_who_leaves_in_the_middle_of_a_reading_takes_nothing_along(store: Store, tmp_path: Path) -> None:
    class SlowAddress(Address):
        def refusal(self) -> str | None:
            time.sleep(0.2)
            return super().refusal()

    run = LiveRun(store, tmp_path)
    run.advance(5)

    async def watch() -> None:
        feed = Feed(SlowAddress(store.url, store.run), tick_s=0.01)
        for _ in range(3):
            messages = feed.messages()
            waiting = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await messages.aclose()
            await asyncio.sleep(1)  # the thread ends its reading
            run.advance(2)
        messages = feed.messages()
        (_, past), (_, frame) = await following(messages, "history", "frame")
        assert past["curves"]["updates"] == list(range(1, 12)) and frame["updates"] == 11, (
            "nothing missing, nothing old"
        )
        await messages.aclose()

    asyncio.run(watch())


def test_a_stream_ends_when_the_server_does() -> None:
    async def talk() -> AsyncGenerator[Message, None]:
        yield "runs", {"changed": []}
        await asyncio.sleep(3600)

    async def listen() -> None:
        closing = asyncio.Event()
        stream = _stream([talk()], closing)
        assert await anext(stream) == "retry: 2000\n\n"
        assert await anext(stream) == 'event: runs\ndata: {"changed":[]}\n\n'
        closing.set()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(stream), 5)

    asyncio.run(listen())


def test_a_run_of_a_named_server_is_joined_with_its_folder(redis_url: str, tmp_path: Path) -> None:
    store = Store(redis_url, f"joined-{os.getpid()}")
    LiveRun(store, tmp_path).advance(2)
    try:
        catalogue = Catalogue(tmp_path, redis_url)
        catalogue.scan()
        assert catalogue.rows[f"@{store.run}"] == {"id": f"@{store.run}", "name": store.run, "live": True}
        write_run(tmp_path, store.run, finished=False)
        catalogue.scan()
        assert catalogue.rows[store.run]["live"] and f"@{store.run}" not in catalogue.rows
        assert catalogue.addresses[store.run] == Address(redis_url, store.run)
    finally:
        store.client.delete(*store.client.keys(store.key("*")))


def test_a_run_that_bidist_train_started_is_found_by_its_folder(redis_url: str, tmp_path: Path) -> None:
    store = Store(redis_url, f"found-{os.getpid()}")
    LiveRun(store, tmp_path).advance(2)
    folder = write_run(tmp_path, store.run, finished=False)
    folder.redis.mkdir()
    (folder.redis / "url").write_text(f"{redis_url}\n")
    try:
        catalogue = Catalogue(tmp_path)
        catalogue.scan()
        assert catalogue.rows[store.run]["live"]
        (folder.redis / "url").write_text("unix:///nowhere/redis.sock\n")
        catalogue.scan()
        assert "live" not in catalogue.rows[store.run]
    finally:
        store.client.delete(*store.client.keys(store.key("*")))


# The command.


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, taken: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIDIST_REDIS", raising=False)
    assert main(["dashboard", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["dashboard", str(tmp_path), "--port", str(taken)]) == 2
    assert f"cannot listen on 127.0.0.1:{taken}" in capsys.readouterr().err
    for extra in NEEDED:
        monkeypatch.setitem(NEEDED, extra, ("a_package_that_nobody_has",))
    assert main(["dashboard", str(tmp_path)]) == 2
    assert "pip install 'bidist[dashboard]'" in capsys.readouterr().err
    assert main(["exporter", "--redis", "redis://localhost"]) == 2
    assert "pip install 'bidist[metrics]'" in capsys.readouterr().err
