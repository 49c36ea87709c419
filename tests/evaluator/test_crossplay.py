"""Cross-play on matrix games with known outcomes, and the report of its rows."""

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from artists import grid, texts

import environments
from common.config import Config, EnvironmentConfig, NetworkConfig, RunConfig
from common.errors import ConfigError
from common.files import append_line, read_lines
from evaluator.crossplay import ALL, HALF, ONE, Match, play, splits
from evaluator.evaluate import EvaluatedPopulation
from evaluator.tournament import ROWS, check, crossplay_all, matches, read_rows
from networks.network import Network
from reports.crossplay import draw_matrices, rows_among, write_report
from reports.standings import by_method, cells, rate, standings

LENGTH, PLAYERS = 5, 4


def configuration(game: str = "matrix_prisoners_dilemma", players: int = PLAYERS) -> Config:
    return Config(
        run=RunConfig(name="r"),
        environment=EnvironmentConfig(substrate=game, players=players, episode_length=LENGTH),
        network=NetworkConfig(dense=8, core_size=8),
    )


def always(action: int, config: Config) -> dict[str, torch.Tensor]:
    """A policy that always takes one action."""
    network = Network(environments.spec(config.environment), config.network, 1)
    theta = {name: p.detach().clone() for name, p in network.named_parameters()}
    theta["policy.weight"][:] = 0
    theta["policy.bias"][:] = 0
    theta["policy.bias"][0, action] = 100
    return theta


def entrant(name: str, action: int | None, config: Config | None = None) -> EvaluatedPopulation:
    config = config or configuration()
    theta = None if action is None else always(action, config)
    return EvaluatedPopulation(name, "mappo", 0, "00000001", name, 1, 100, config, theta)


def expected(focal: int, background: int, split: str) -> float:
    """The mean focal return in the prisoner's dilemma, in which each player meets every other."""
    payoff = np.array([[3, 0], [5, 1]])
    own = {ONE: 1, HALF: PLAYERS // 2, ALL: PLAYERS}[split] - 1
    others = PLAYERS - 1 - own
    return float(LENGTH * (own * payoff[focal, focal] + others * payoff[focal, background]) / (PLAYERS - 1))


def test_each_seat_is_played_by_the_population_it_belongs_to() -> None:
    config = configuration()
    entrants = [(config, always(0, config)), (config, always(1, config))]
    jobs = [Match(f, b, split, n) for f in (0, 1) for b in (0, 1) for split in (ONE, HALF) for n in range(5)]
    played = list(play(entrants, jobs, seed=3, tables=4))
    assert Counter(p.match for p in played) == Counter(jobs)
    seats: Counter[int] = Counter()
    for p in played:
        assert p.env_steps == LENGTH
        assert p.focal_return == pytest.approx(expected(p.match.focal, p.match.background, p.match.split))
        assert len(p.seats) == (1 if p.match.split == ONE else PLAYERS // 2)
        seats.update(p.seats)
    assert len(seats) == PLAYERS, "every seat is focal in some episode"
    # All pairs play the episodes of one number in the same seats.
    for key in {(p.match.split, p.match.episode) for p in played}:
        assert len({tuple(p.seats) for p in played if (p.match.split, p.match.episode) == key}) == 1


def test_an_episode_does_not_depend_on_what_is_played_beside_it() -> None:
    config = configuration("matrix_chicken")
    network = Network(environments.spec(config.environment), config.network, 1)
    theta = {name: 3 * p.detach() for name, p in network.named_parameters()}
    entrants = [(config, theta), (config, None), (config, always(1, config))]
    jobs = [Match(f, b, HALF, n) for n in range(3) for f, b in ((0, 1), (1, 0), (2, 0), (1, 2))]
    together = {p.match: p for p in play(entrants, jobs, seed=7, tables=5)}
    for match in jobs:
        (alone,) = play(entrants, [match], seed=7, tables=2)
        assert alone == together[match]
    other = [p.focal_return for p in play(entrants, jobs, seed=8, tables=5)]
    assert sorted(other) != sorted(p.focal_return for p in together.values())


@pytest.mark.slow
def test_a_whole_cross_play_resumes_and_reports(tmp_path: Path) -> None:
    entrants = [entrant("dove", 0), entrant("hawk", 1), entrant("random", None)]
    assert crossplay_all(entrants, 2, tmp_path, workers=1)
    first = read_lines(tmp_path / ROWS)
    assert len(first) == len(matches(entrants, 2)) == 2 * (3 + 6 * 2)
    assert crossplay_all(entrants, 3, tmp_path, workers=1)
    rows = read_rows(tmp_path)
    assert rows[: len(first)] == first
    assert len(rows) == 3 * (3 + 6 * 2)
    pairs = cells(rows, ONE)
    assert pairs["dove", "hawk"].mean == expected(0, 1, ONE)
    assert pairs["hawk", "hawk"].mean == expected(1, 1, ALL)

    found = {s.population: s for s in write_report(rows, tmp_path, "bidist crossplay dove hawk")}
    assert found["dove"].worst_with == "hawk"
    assert found["dove"].among_itself is not None and found["dove"].among_itself.mean == 3 * LENGTH
    ratings = [s.rating or 0 for s in (found["hawk"], found["dove"])]
    assert ratings[0] > ratings[1], "defection pays among strangers"
    text = (tmp_path / "crossplay.md").read_text()
    assert "bidist crossplay dove hawk" in text and "| hawk |" in text
    record = json.loads((tmp_path / "crossplay.json").read_text())
    assert record["returns"][HALF][0].keys() >= {"focal", "background", "mean", "low", "high"}
    assert (tmp_path / "crossplay.png").exists()

    # A population that has trained further is another one, which does not inherit the old one's rows.
    later = EvaluatedPopulation(
        "dove", "mappo", 0, "00000002", "later", 2, 200, configuration(), always(1, configuration())
    )
    now = [later, *entrants[1:]]
    assert {row["run"] for row in rows_among(rows, now, 3, 0)} == {"hawk", "random"}
    assert len(rows_among(rows, entrants, 3, 0)) == len(rows)
    assert len(rows_among(rows, entrants, 2, 0)) == len(first), "all pairs count equally many episodes"
    assert not rows_among(rows, entrants, 3, 1)


def test_heat_maps_show_focal_returns_by_row_and_leave_gaps(tmp_path: Path) -> None:
    rows = [row("a", "a", 0, 9.0, ALL), row("a", "b", 0, 1.0), row("b", "a", 0, 4.0), row("a", "b", 0, 2.0, HALF)]
    figure = draw_matrices(["a", "b"], {split: cells(rows, split) for split in (ONE, HALF)}, tmp_path / "x.png")
    panels = [axes for axes in figure.axes if axes.images and axes.get_title("left")]
    assert [axes.get_title("left") for axes in panels] == [
        "one focal player among the others",
        "half of the players focal",
    ]
    expected = np.array([[[9, 1], [4, np.nan]], [[9, 2], [np.nan, np.nan]]])
    assert np.array_equal([grid(axes) for axes in panels], expected, equal_nan=True)
    assert texts(panels[0].texts) == ["9.0", "1.0", "4.0"]
    assert texts(panels[0].get_xticklabels()) == ["a", "b"]


@pytest.mark.slow
def test_a_stopped_cross_play_keeps_its_episodes_and_plays_none_twice(tmp_path: Path) -> None:
    entrants = [entrant("a", 0), entrant("b", 1)]
    many = 40

    class AtTheFirstRow(threading.Event):
        """Set once there is a row."""

        def is_set(self) -> bool:
            return (tmp_path / ROWS).exists()

    assert not crossplay_all(entrants, many, tmp_path, workers=1, stopping=AtTheFirstRow())
    kept = read_lines(tmp_path / ROWS)
    assert 0 < len(kept) < len(matches(entrants, many))
    assert crossplay_all(entrants, many, tmp_path, workers=1)
    rows = read_lines(tmp_path / ROWS)
    assert rows[: len(kept)] == kept
    assert len(rows) == len(read_rows(tmp_path)) == len(matches(entrants, many))


def test_populations_that_cannot_meet_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs two populations or more, found 1"):
        check([entrant("a", 0)])
    with pytest.raises(ConfigError, match="a and b cannot meet, their games differ"):
        check([entrant("a", 0), entrant("b", 0, configuration("matrix_chicken"))])
    with pytest.raises(ConfigError, match="two populations are called a: name each run once"):
        check([entrant("a", 0), replace(entrant("a", 1), checkpoint="00000009")])
    append_line(tmp_path / ROWS, {"run": "a"})
    with pytest.raises(ConfigError, match=r"crossplay\.jsonl: not a cross-play file: a row lacks background_"):
        read_rows(tmp_path)


@pytest.mark.parametrize(("players", "found"), [(2, [ONE]), (3, [ONE]), (4, [ONE, HALF]), (8, [ONE, HALF])])
def test_only_distinct_splits_are_played(players: int, found: list[str]) -> None:
    assert splits(players) == found


def row(run: str, host: str, episode: int, focal_return: float, split: str = ONE) -> dict[str, Any]:
    match = {"run": run, "method": "mappo", "background_run": host, "split": split, "episode": episode}
    return {**match, "focal_return": focal_return}


def test_standings_weight_all_strangers_equally() -> None:
    rows = [row("a", "a", n, 9.0, ALL) for n in range(3)]
    rows += [row("a", "b", n, 1.0) for n in range(9)] + [row("a", "c", n, 4.0 + n) for n in range(3)]
    (a,) = standings(rows)
    assert a.strangers.mean == (1 + 5) / 2
    assert 1 + 4 <= 2 * a.strangers.low <= 2 * a.strangers.mean <= 2 * a.strangers.high <= 1 + 6
    assert (a.worst.mean, a.worst_with) == (1, "b")
    assert a.among_itself is not None and a.among_itself.mean == 9
    assert a.rating is None, "no other population met the same background"


def test_splits_are_weighted_equally_and_resampled_separately() -> None:
    rows = [row("a", "b", n, 0.0) for n in range(6)] + [row("a", "b", n, 10.0, HALF) for n in range(3)]
    (a,) = standings(rows)
    assert (a.strangers.mean, a.strangers.low, a.strangers.high, a.strangers.episodes) == (5, 5, 5, 9)
    assert (a.worst.mean, a.worst.low, a.worst.high) == (5, 5, 5)


def test_methods_are_compared_over_pairs_of_different_runs() -> None:
    def met(focal: str, background: str, earned: float, split: str = ONE) -> dict[str, Any]:
        return {**row(focal, background, 0, earned, split), "method": focal[0], "background_method": background[0]}

    rows = [met("x1", "x2", 4.0), met("x2", "x1", 2.0), met("x1", "x1", 99.0, ALL)]
    rows += [met("x1", "y1", 1.0), met("x1", "y1", 3.0, HALF), met("x2", "y1", 5.0)]
    found = by_method(rows)
    assert found.keys() == {("x", "x"), ("x", "y")}
    assert (found["x", "x"].mean, found["x", "x"].low, found["x", "x"].high) == (3, 2, 4)
    assert found["x", "y"].mean == (2 + 5) / 2


def test_populations_that_met_the_same_stranger_are_rated_by_their_returns() -> None:
    strength = {"a": 3.0, "b": 2.0, "c": 1.0}
    rows = [row(g, h, n, x) for g, x in strength.items() for h in strength if h != g for n in range(30)]
    found = rate(rows)
    assert found["a"][0] > found["b"][0] > found["c"][0]
    assert all(sigma < 25 / 3 for _, sigma in found.values())
    assert rate(list(reversed(rows))) == found, "the order of the rows does not matter"
    assert rate([row("a", "b", 0, 1.0), row("b", "a", 0, 2.0)]) == {}
