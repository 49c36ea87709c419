"""Metrics under the names of earlier releases are read under their current names, wherever metrics are read."""

import csv
import json
from pathlib import Path

from fake_runs import config_of, update_of

from common.run_folder import RunFolder
from common.store import Store
from deploy import views
from learner.episodes import Episodes
from reports.curves import write_numbers


def former(number: int) -> dict[str, float]:
    """An update's metrics as release 0.1 wrote them."""
    names = {"return_others": "return_fictitious"}
    return {names.get(name, name): value for name, value in update_of(number).items()}


def test_files_of_earlier_releases_are_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "old")
    assert folder.updates() == [] and folder.last_update() == {}
    folder.create(config_of(tmp_path, "old"))
    folder.metrics.write_text("".join(json.dumps(former(n)) + "\n" for n in (1, 2)) + json.dumps(update_of(3)) + "\n")
    assert folder.updates() == [update_of(n) for n in (1, 2, 3)]
    assert folder.last_update() == update_of(3)
    write_numbers([folder], tmp_path / "numbers.csv")
    rows = list(csv.DictReader((tmp_path / "numbers.csv").read_text().splitlines()))
    assert [float(row["return_others"]) for row in rows] == [round(update_of(n)["return_others"], 4) for n in (1, 2, 3)]


def test_the_views_show_a_run_of_an_earlier_release(store: Store, tmp_path: Path) -> None:
    store.put_config(config_of(tmp_path, store.run))
    store.put_metrics({name: value for name, value in former(7).items() if name != "time_s"})
    assert f"{update_of(7)['return_others']:.2f} others" in views.plain(views.snapshot(store))


def test_a_learner_resumes_the_running_means_of_an_earlier_release() -> None:
    episodes = Episodes()
    episodes.restore({"count": 3, "values": {"return_learning": [1.0, 2.0], "return_fictitious": [3.0, 5.0]}})
    assert episodes.means() == {"return_learning": 1.5, "return_others": 4.0}


def test_a_run_elsewhere_is_named_with_its_folder() -> None:
    assert RunFolder(Path("runs/a")).named == "a"
    assert RunFolder(Path("/tmp/my runs/a")).named == "a --folder '/tmp/my runs'"
