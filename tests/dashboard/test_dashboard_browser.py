"""The dashboard in a real browser: what people see and do, and that no text from a run can harm them."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_page import DASHBOARD, ROOT, Open, chromium, opening, serving, wait_for
from fake_runs import LiveRun, update_of, write_evaluation, write_film, write_run

from common.store import Store
from deploy.redis_server import RedisServer

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=window.harmed=1>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


class Place:
    """A folder of runs, a live run, and a dashboard that shows both."""

    def __init__(self, folder: Path, redis: RedisServer, run: LiveRun, address: str) -> None:
        self.folder, self.redis, self.run, self.address = folder, redis, run, address


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("runs")
    for i in range(200):
        method, root = ("bidist", "mappo", "rpm", "pp")[i % 4], folder / f"sweep-{i // 50}" if i >= 20 else folder
        write_run(root, f"{method}-{i:03}", updates=20 + i, method=method, seed=i)
    write_evaluation(write_run(folder, "filmed", updates=30), ["coins_0"])
    write_film(folder / "filmed" / "among_themselves-0.mp4")
    hostile = folder / HOSTILE
    write_run(folder, "hostile").path.rename(hostile)
    (hostile / "logs").mkdir()
    (hostile / "logs" / "actor-0.log").write_text(f"{HOSTILE}</pre><script>window.harmed=1</script>\n")
    results = tmp_path_factory.mktemp("results")
    (results / "report.md").write_text(f"# Title {HOSTILE}\n\n| a |\n|---|\n| {HOSTILE} |\n\n![{HOSTILE}](p.png)\n")
    shutil.copy(ROOT / "dashboard" / "static" / "icon.png", results / "p.png")
    with RedisServer(tmp_path_factory.mktemp("redis")) as redis:
        run = LiveRun(Store(redis.url, "live"), folder, actors=64)
        run.advance(40)
        with serving(folder, results, redis.url) as address:
            yield Place(folder, redis, run, address)


@pytest.fixture
def going(place: Place) -> Iterator[None]:
    """Lets the live run make a few updates a second."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.3):
            place.run.advance()

    thread = threading.Thread(target=go_on)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def opened(browser: Any, place: Place) -> Iterator[Open]:
    with opening(browser, place.address) as opened:
        yield opened


def drawn(page: Any, selector: str) -> bool:
    """Whether a chart has anything but its background on it."""
    found: bool = page.evaluate(
        """selector => {
          const canvas = document.querySelector(selector);
          if (!canvas || !canvas.width) return false;
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          return pixels.some((value, i) => i % 4 === 3 && value > 0);
        }""",
        selector,
    )
    return found


def test_a_live_run_moves(place: Place, going: None, opened: Open) -> None:
    page = opened("live")
    wait_for(page, "() => document.querySelector('.diagram .box.learner .big')?.textContent > ''")
    first = page.text_content(".diagram .box.learner .big")
    wait_for(page, "first => document.querySelector('.diagram .box.learner .big').textContent !== first", first)
    assert page.text_content(".diagram .box.actors .title") == "64 actors"
    assert page.locator(".diagram .box.actors g g").count() == 64
    assert "→" in page.text_content(".diagram .box.distiller .big")
    assert "the learner, which is busy" in page.text_content("figcaption")
    assert page.text_content(".equals") == "="
    sides = [int(text.replace(",", "")) for text in page.locator(".side b").all_text_contents()]
    assert len(sides) == 7 and sides[0] == sum(sides[1:]) > 0
    wait_for(page, "() => document.querySelectorAll('.charts canvas').length >= 6")
    assert all(drawn(page, f".charts .chart:nth-child({i}) canvas") for i in range(1, 7))
    assert "left" in page.text_content(".how-far") and "checkpoint" in page.text_content(".log")


def test_the_page_tells_when_redis_goes_away_and_comes_back(place: Place, opened: Open) -> None:
    page = opened("live")
    wait_for(page, "() => document.querySelector('.diagram .box.learner .big')?.textContent > ''")
    assert place.redis.pid is not None
    os.kill(place.redis.pid, signal.SIGKILL)
    wait_for(page, "() => document.querySelector('.notice:not([hidden])')?.textContent.includes('is away')")
    assert page.locator(".content.stale").count() == 1
    place.redis.restart()
    wait_for(page, "() => document.querySelector('.notice:not([hidden])')?.textContent.includes('is back')")
    wait_for(page, "() => !document.querySelector('.content.stale')")


def test_a_role_that_is_away_and_a_broken_ledger_are_plain_to_see(place: Place, opened: Open) -> None:
    store = place.run.store
    place.run.report()
    page = opened("live")
    wait_for(page, "() => document.querySelector('.equals')?.textContent === '='")
    store.client.delete(store.key("worker:distiller:distiller"))
    store.client.hincrby(store.key("ledger"), "trained", 5)
    try:
        wait_for(page, "() => document.querySelector('.equals').textContent === '≠'")
        wait_for(page, "() => document.querySelector('.box.distiller.missing')")
        assert "The distiller is away" in page.text_content("figcaption")
        assert "differ by -5 unrolls" in page.text_content(".ledger").replace("−", "-")
    finally:
        store.client.hincrby(store.key("ledger"), "trained", -5)
        place.run.report()


def test_two_runs_are_overlaid(place: Place, opened: Open) -> None:
    page = opened("runs")
    page.fill("input[type=search]", "sweep-1 mappo")
    wait_for(page, "() => document.querySelectorAll('.runs tbody tr').length === 12")
    for i in (0, 1):
        page.locator(".runs tbody input").nth(i).check()
    wait_for(page, "() => document.querySelectorAll('.legend span').length === 2")
    wait_for(page, "() => document.querySelector('.overlay canvas')")
    assert drawn(page, ".overlay canvas")
    names = [page.locator(".runs tbody tr").nth(i).get_attribute("data-id") for i in (0, 1)]
    assert sorted(page.locator(".legend span").all_text_contents()) == sorted(names)
    page.select_option("select[aria-label=Colours]", "a colour for each method")
    wait_for(page, "() => document.querySelectorAll('.legend span').length === 1")


def test_two_hundred_runs_sort_and_filter_at_once(place: Place, opened: Open) -> None:
    page = opened("runs")
    wait_for(page, "() => document.querySelectorAll('.runs tbody tr').length >= 202")
    for key in ("return", "name", "seed"):
        took_ms = page.evaluate(
            """key => { const start = performance.now(); document.querySelector(`button[data-key=${key}]`).click();
                 document.body.offsetHeight; return performance.now() - start; }""",
            key,
        )
        assert took_ms < 2000, "slow even for a machine under load"
    seeds = [int(text) for text in page.locator("td[data-column=seed]").all_text_contents() if text]
    assert seeds == sorted(seeds, reverse=True) and len(seeds) >= 202
    page.click("button[data-key=seed]")
    assert page.locator("td[data-column=seed]").first.text_content() == "0"


def test_a_new_run_appears_by_itself(place: Place, opened: Open) -> None:
    page = opened("runs")
    wait_for(page, "() => document.querySelectorAll('.runs tbody tr').length >= 202")
    folder = write_run(place.folder, "newcomer", updates=3, finished=False)
    wait_for(page, "() => document.querySelector('[data-id=newcomer]')")
    with folder.metrics.open("a") as file:
        file.write(json.dumps(update_of(4)) + "\n")
    wait_for(page, "() => document.querySelector('[data-id=newcomer]').textContent.includes('8,192')")
    shutil.rmtree(folder.path)
    wait_for(page, "() => !document.querySelector('[data-id=newcomer]')")


def test_a_film_plays_in_place(place: Place, opened: Open) -> None:
    page = opened("runs/filmed")
    wait_for(page, "() => document.querySelector('video')?.readyState >= 2")
    page.evaluate("() => document.querySelector('video').play()")
    wait_for(page, "() => document.querySelector('video').currentTime > 0.2")
    assert page.evaluate("() => document.querySelector('video').videoWidth") == 64
    assert "coins_0" in page.text_content(".detail table")
    assert "matrix_coordination" in page.text_content(".settings")


def test_light_and_dark_follow_the_system(place: Place, opened: Open) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        page = opened("live", scheme=scheme)
        wait_for(page, "() => document.querySelector('.charts canvas')")
        colours = page.evaluate(
            """() => ['background-color', 'color'].map(name =>
                 getComputedStyle(document.body).getPropertyValue(name).match(/\\d+/g).slice(0, 3).map(Number))"""
        )
        brightness[scheme] = [sum(colour) / 3 for colour in colours]
    ground, ink = zip(brightness["light"], brightness["dark"], strict=True)
    assert ground[0] > 200 > 60 > ground[1] and ink[0] < 60 < 200 < ink[1]


@pytest.mark.parametrize("view", ["live", "runs", "runs/filmed", "results"])
def test_nothing_is_wider_than_a_phone(view: str, place: Place, opened: Open) -> None:
    page = opened(view, width=390, height=844)
    ready = {"live": ".charts canvas", "runs": ".runs tbody tr", "runs/filmed": "video", "results": ".picture img"}[
        view
    ]
    wait_for(page, "selector => document.querySelector(selector)", ready)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    if view == "live":
        box = page.locator(".diagram").bounding_box()
        assert box["width"] > 300 and box["height"] > box["width"], "the diagram stands upright there"


def test_nothing_that_a_run_says_becomes_markup(place: Place, opened: Open) -> None:
    place.run.store.put_event("actor", HOSTILE, "error", message=f"broke: {HOSTILE}")
    page = opened("live")
    wait_for(page, "() => document.querySelector('.log')?.textContent.includes('broke: <img')")
    page.goto(f"{place.address}#/runs/{HOSTILE.replace(' ', '%20')}")
    wait_for(page, "() => document.querySelector('.detail h2')?.textContent.includes('<img')")
    page.click(".detail summary:text('Logs')")
    page.click(".detail button:text('actor-0.log')")
    wait_for(page, "() => document.querySelector('.detail pre').textContent.includes('<script>')")
    page.fill("input[type=search]", "onerror")
    page.locator(".runs tbody input").first.check()
    wait_for(page, "() => document.querySelector('.legend')?.textContent.includes('<img')")
    page.goto(f"{place.address}#/results")
    wait_for(page, "() => document.querySelector('.report h2')?.textContent.includes('<img')")
    time.sleep(0.5)
    assert page.evaluate("() => window.harmed") is None
    assert page.locator("img[onerror], img[src=x], main script").count() == 0


def test_a_token_opens_the_page_and_leaves_the_address(browser: Any, tmp_path: Path) -> None:
    write_run(tmp_path, "one")
    (tmp_path / "token").write_text("a-token-of-mine-1234")
    command = [*DASHBOARD, str(tmp_path), "--port", "0", "--token-file", str(tmp_path / "token")]
    environment = {**os.environ, "BIDIST_REDIS": ""}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert "a-token-of-mine-1234" not in said and f"the token is in {tmp_path / 'token'}" in said
            address = re.findall(r"http://\S+token=", said)[0] + "a-token-of-mine-1234"
            page = browser.new_page()
            assert page.goto(address.partition("?")[0]).status == 401
            page.goto(f"{address}#/runs")
            wait_for(page, "() => document.querySelector('[data-id=one]')")
            assert "token" not in page.url
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
