"""What the dashboard's page says of runs that are not live and of a live run in trouble, and how it shows the rest."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_page import Open, chromium, opening, serving, wait_for
from fake_runs import LiveRun, update_of, write_run

from common.store import Store
from deploy.redis_server import RedisServer

pytestmark = pytest.mark.slow
CAPTION = "text => document.querySelector('figcaption')?.textContent.includes(text)"
README = "# All\n\nSee [`one`](one/README.md#top), [two](deep/two/), [docs](../docs/x.md), [this](all.json).\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


class Place:
    """A live run, a dashboard that shows it beside others, and their folder."""

    def __init__(self, run: LiveRun, address: str, folder: Path) -> None:
        self.run, self.address, self.folder = run, address, folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, results = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("results")
    write_run(folder, "live", updates=5, finished=False)
    write_run(folder / "sweep", "bidist-pure_coordination__arena-reached-near-s100", updates=5)
    write_run(folder, "empty", updates=0, finished=False)
    for name, text in (("README.md", README), ("one/README.md", "# One\n"), ("deep/two/README.md", "# Two\n")):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(text)
    with RedisServer(tmp_path_factory.mktemp("redis")) as redis:
        run = LiveRun(Store(redis.url, "live"), folder, actors=2)
        run.advance(10)
        with serving(folder, results, redis.url) as address:
            yield Place(run, address, folder)


@pytest.fixture
def opened(browser: Any, place: Place) -> Iterator[Open]:
    place.run.report()
    with opening(browser, place.address) as opened:
        yield opened


def test_each_setting_stands_beside_its_name(opened: Open) -> None:
    page = opened("runs/empty")
    page.click(".detail summary:text('Settings')")
    places = page.evaluate(
        """() => [...document.querySelectorAll('.settings dt')].map(name => [name.textContent,
             name.nextElementSibling.textContent, name.getBoundingClientRect(),
             name.nextElementSibling.getBoundingClientRect()].map(of => of.top ?? of))"""
    )
    assert len(places) > 50 and all(above == beside for _, _, above, beside in places)
    assert dict(row[:2] for row in places)["network.name"] == '""'


def test_a_run_without_its_learner_claims_no_progress(place: Place, opened: Open) -> None:
    store = place.run.store
    page = opened("live/live")
    wait_for(page, CAPTION, "busy 92% of its time")
    assert "per s" in page.text_content(".how-far") and "waits 8%" in page.text_content(".box.learner")
    learner = store.workers()["learner", "learner"]
    store.client.delete(store.key("worker:learner:learner"))
    wait_for(page, CAPTION, "The learner is away: nothing is trained until it is back.")
    for selector, words in (("figcaption", "busy"), (".how-far", "per s"), (".how-far", "left"), (".learner", "waits")):
        assert words not in page.text_content(selector)
    store.put_worker("learner", "learner", {**learner, "state": "starting"}, ttl_s=3600)
    wait_for(page, CAPTION, "The learner is starting: nothing is trained until it is ready.")
    place.run.report()
    wait_for(page, CAPTION, "busy 92% of its time")


def test_a_checkpoint_that_could_not_be_saved_is_told(place: Place, opened: Open) -> None:
    page = opened("live/live")
    wait_for(page, CAPTION, "busy")
    assert page.locator(".unsaved").is_hidden()
    store = place.run.store
    learner = store.workers()["learner", "learner"]
    store.put_worker("learner", "learner", {**learner, "unsaved": "no space left on device"}, ttl_s=3600)
    page.wait_for_selector('.unsaved:text("The learner\'s checkpoint is missing: no space left on device.")')
    store.put_worker("learner", "learner", {**learner, "unsaved": ""}, ttl_s=3600)
    page.wait_for_selector(".unsaved", state="hidden")


def test_a_redis_that_is_out_of_memory_is_told_and_not_called_away(place: Place, opened: Open) -> None:
    page = opened("live/live")
    wait_for(page, CAPTION, "busy")
    client = place.run.store.client
    client.execute_command("CONFIG", "SET", "maxmemory", "1")
    try:
        page.wait_for_selector(".notice:text('Redis is out of memory')")
        assert "is away" not in page.text_content(".notice") and "per s" not in page.text_content(".how-far")
    finally:
        client.execute_command("CONFIG", "SET", "maxmemory", "0")
    wait_for(page, "() => document.querySelector('.how-far').textContent.includes('per s')")


def test_a_run_that_was_stopped_shows_no_rate(place: Place, opened: Open) -> None:
    page = opened("live/live")
    wait_for(page, CAPTION, "busy")
    place.run.store.put_progress({"state": "stopped"})
    wait_for(page, CAPTION, "The run is stopped.")
    assert "per s" not in page.text_content(".how-far") and "left" not in page.text_content(".how-far")
    page = opened("runs")
    page.wait_for_selector("[data-id=live] td[data-column=state] :text('stopped at')")
    place.run.report()
    page.wait_for_selector("[data-id=live] td[data-column=state] :text('live')")


def test_a_redis_that_has_stopped_with_its_run_is_not_away(
    place: Place, opened: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_run(place.folder, "gone", updates=5, finished=False)
    with RedisServer(tmp_path_factory.mktemp("gone")) as redis, folder.held("train"):
        folder.put_url(redis.url)
        LiveRun(Store(redis.url, "gone"), place.folder).advance(5)
        page = opened("live/gone")
        wait_for(page, CAPTION, "busy")
    page.wait_for_selector(".notice.good:text('This run was stopped, and its Redis server with it.')")
    assert "per s" not in page.text_content(".how-far") and "The run is stopped." in page.text_content("figcaption")
    shutil.rmtree(folder.path)


def test_a_role_that_has_never_come_is_not_away(place: Place, opened: Open) -> None:
    store = place.run.store
    learner = store.workers()["learner", "learner"]
    store.put_worker("learner", "learner", {**learner, "started": time.time()}, ttl_s=3600)
    store.client.delete(store.key("worker:distiller:distiller"))
    page = opened("live/live")
    wait_for(page, CAPTION, "No distiller has come yet")
    store.put_worker("learner", "learner", learner, ttl_s=3600)
    wait_for(page, CAPTION, "The distiller is away")
    place.run.report()


def test_outcomes_that_redis_has_lost_are_told(place: Place, opened: Open) -> None:
    store = place.run.store
    page = opened("live/live")
    store.client.hset(store.key("ledger"), "unrecorded", 7)
    page.wait_for_selector(".ledger p:text('lost the outcomes of 7 unrolls')")
    store.client.hdel(store.key("ledger"), "unrecorded")


def test_the_first_view_is_of_a_run_that_trains(place: Place, opened: Open) -> None:
    done = LiveRun(Store(place.run.store.url, "a-newer-one"), Path("elsewhere"))
    done.advance(3)
    done.store.put_progress({"state": "finished"})
    try:
        page = opened("runs")
        page.wait_for_selector("[data-id='@a-newer-one'] td[data-column=state] :text('finished')")
        page = opened("live")
        wait_for(page, CAPTION, "busy")
        assert page.locator(".which select option").count() == 2 and page.input_value(".which select") == "live"
    finally:
        done.store.client.delete(*done.store.client.keys(done.store.key("*")))


def test_curves_of_a_live_run_grow_and_the_keyboard_stays_in_its_row(place: Place, opened: Open) -> None:
    page = opened("runs")
    page.locator("[data-id=live] input").check()
    page.wait_for_selector(".tools :text('1 drawn')")
    page.evaluate("() => { window.shown = document.querySelector('.overlay canvas') }")
    page.focus("[data-id=live] input")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "api/curves" in request.url else None)
    row = page.query_selector("[data-id=live]")
    with (place.folder / "live" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(update_of(6)) + "\n")
    wait_for(page, "row => !row.isConnected", row)
    assert page.evaluate("() => document.activeElement.closest('[data-id=live]') !== null")
    with page.expect_request("**/api/curves*"), (place.folder / "live" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(update_of(7)) + "\n")
    assert page.evaluate("() => window.shown.isConnected")


def test_a_link_that_was_cut_short_is_a_run_that_nobody_knows(opened: Open) -> None:
    opened("live/%E0%A4%A").wait_for_selector("h2:text('%E0%A4%A is not live')")


def test_the_newest_dot_of_the_saw_tooth_is_drawn_on_the_axis_of_the_other_charts(opened: Open) -> None:
    last, points, low, high = opened("live/live").evaluate(
        """async () => {
          const { Chart } = await import('./static/charts.js'), { sawTooth } = await import('./static/live.js');
          const event = (update) => ({ update, direction: 'forward', kl_before_nats: 1, kl_after_nats: 2 });
          const curves = { updates: [1, 2, 3, 4], player_steps: [100, 200, 300, 400] };
          const place = document.body.appendChild(document.createElement('div'));
          const series = ['soft', 'green', 'blue'].map(colour => ({ colour }));
          const chart = new Chart(place, { title: 'KL', series });
          const columns = sawTooth([event(2), event(4)], curves);
          chart.draw(columns);
          while (chart.plot?.scales.x.max == null) await new Promise(requestAnimationFrame);
          return [chart.plot.series[0].idxs[1], columns[0].length, chart.plot.scales.x.min, chart.plot.scales.x.max];
        }"""
    )
    assert (last, low, high) == (points - 1, 100, 400)


def test_until_the_runs_have_arrived_the_page_says_that_it_reads_them(opened: Open) -> None:
    page = opened("live/live")
    page.route("**/events*", lambda request: None)  # never answered
    page.reload()
    page.wait_for_selector(".nothing p:text('Reading runs…')")
    assert page.locator(".content").is_hidden()
    page.unroute("**/events*")
    page.reload()
    wait_for(page, CAPTION, "busy")
    assert page.locator(".nothing").is_hidden()


def test_a_bookmark_of_a_run_that_is_not_live_says_so(opened: Open) -> None:
    page = opened("live/empty")
    page.wait_for_selector("h2:text('empty is not live')")
    assert page.get_attribute(".nothing a", "href") == "#/runs/empty" and page.locator(".content").is_hidden()
    page.evaluate("() => { location.hash = '#/live/nobody' }")
    page.wait_for_selector("h2:text('nobody is not live')")
    page.evaluate("() => { location.hash = '#/live' }")
    wait_for(page, CAPTION, "busy")


def test_the_legend_lists_what_is_drawn(opened: Open) -> None:
    page = opened("runs")
    page.click("button:text('draw all shown')")
    page.wait_for_selector(".tools :text('2 drawn, 1 without data')")
    assert sorted(name.split("/")[0] for name in page.locator(".legend span").all_text_contents()) == ["live", "sweep"]


def test_links_between_reports_lead_to_their_folders(opened: Open) -> None:
    page = opened("results")
    page.wait_for_selector(".report a")
    links = page.locator(".report p a")
    assert links.all_text_contents() == ["one", "two"]
    assert "See one, two, docs, this." in page.text_content(".report p")
    links.last.click()
    page.wait_for_selector(".report h2:text('Two')")


def test_a_phone_shows_a_runs_state_and_chooses_a_report_from_a_list(opened: Open) -> None:
    page = opened("runs", width=390, height=844)
    page.wait_for_selector(".runs td[data-column=state]")
    assert (
        page.evaluate("() => { const of = document.querySelector('.scroll'); return of.scrollWidth - of.clientWidth }")
        == 0
    )
    page = opened("results", width=390, height=844)
    page.select_option("select.folder", "one")
    page.wait_for_selector(".report h2:text('One')")
