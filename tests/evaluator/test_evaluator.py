"""Official scenarios: who plays, what is recorded, and that no episode is counted twice."""

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from short_games import Shortened

import environments
from common import checkpoint
from common.errors import CheckpointError, ConfigError, SetupError
from common.files import read_lines
from common.run_folder import RunFolder
from common.settings import load_config
from environments.melting_pot import MeltingPot
from evaluator import scenario_play
from evaluator.bots import Background
from evaluator.evaluate import EvaluatedPopulation, evaluate, follow, populations, random_population
from evaluator.record import among_themselves
from evaluator.scenario_table import FOCAL, ScenarioResult, ScenarioTable
from evaluator.scenarios import require_bots, scenario, scenarios_of
from networks.network import Network
from reports.terminal import show

CONFIG = load_config(overrides=["environment.substrate=coins", "network.dense=16", "network.core_size=16"], environ={})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bots_are_missing() -> bool:
    try:
        require_bots(scenarios_of("coins"))
    except SetupError:
        return True
    return False


needs_bots = pytest.mark.skipif(bots_are_missing(), reason="the bots of coins are not installed")


def population(policies: int = 2) -> dict[str, torch.Tensor]:
    network = Network(environments.spec(CONFIG.environment), CONFIG.network, policies)
    return {name: p.detach() for name, p in network.named_parameters()}


def test_official_scenarios_come_from_melting_pot() -> None:
    assert [s.name for s in scenarios_of("coop_mining")] == [f"coop_mining_{i}" for i in range(5)]
    s = scenario("coop_mining_3")
    assert (len(s.focal), len(s.background)) == (5, 1)
    assert sorted(s.focal + s.background) == list(range(6))
    assert len(scenarios_of("prisoners_dilemma_in_the_matrix__repeated", None)) > 5
    with pytest.raises(ConfigError, match="similar names: .*coins_1"):
        scenario("coin_1")
    with pytest.raises(ConfigError, match="no official scenarios"):
        scenarios_of("matrix_coordination")


def test_missing_bots_are_named_with_a_remedy(tmp_path: Path) -> None:
    absent = scenarios_of("clean_up")
    try:
        require_bots(absent)
    except SetupError as error:
        assert "clean_up/" in str(error) and "docs/install.md" in str(error)
    else:
        pytest.skip("the bots of clean_up are installed")
    with pytest.raises(SetupError, match="not installed"):
        evaluate([random_population("clean_up")], None, 1, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


@needs_bots
def test_bots_are_drawn_uniformly_with_replacement() -> None:
    s = scenario("prisoners_dilemma_in_the_matrix__arena_0")
    game = MeltingPot(s.substrate, roles=s.roles)
    drawn = [Background(s, game, np.random.SeedSequence([7, i])).names for i in range(200)]
    game.close()
    counts = Counter(name for names in drawn for name in names)
    assert counts.keys() == set(s.bots["default"])
    n = counts.total()
    for count in counts.values():
        assert abs(count - n / len(counts)) < 4 * np.sqrt(n / len(counts))
    together = {len(set(names)) for names in drawn}
    assert together == {1, 2}, "seven draws from two bots give mostly both, and sometimes one alone"


@needs_bots
def test_the_draws_of_an_episode_depend_on_its_seed_alone() -> None:
    jobs = [(scenario(name), 4) for name in ("coins_0", "coins_3")]
    theta, short = population(), [Shortened(50)]
    alone = [next(scenario_play.play([job], CONFIG, theta, 5, tables=1, observers=short)) for job in jobs]
    beside = list(scenario_play.play(reversed(jobs), CONFIG, theta, 5, tables=3, observers=short))

    def drawn(e: ScenarioResult) -> tuple[str, int, list[str], list[int]]:
        return e.scenario, e.episode, e.bots, e.policies

    assert sorted(map(drawn, alone)) == sorted(map(drawn, beside))
    assert all(e.env_steps == 50 and len(e.policies) == len(e.bots) == 1 for e in alone)


@needs_bots
def test_focal_policies_are_drawn_for_each_seat_with_replacement() -> None:
    s = scenario("pure_coordination_in_the_matrix__arena_0")
    config = load_config(overrides=[f"environment.substrate={s.substrate}"], environ={})
    table = ScenarioTable(iter([]), config.environment, seed=0, policies=3)
    drawn = []
    for n in range(20):
        table.open((s, n))
        assert table.seating[FOCAL].seats.tolist() == s.focal
        drawn.append(tuple(table.seating[FOCAL].policy_index.tolist()))
    table.close()
    counts = Counter(p for policies in drawn for p in policies)
    assert counts.keys() == {0, 1, 2} and all(len(policies) == len(s.focal) == 7 for policies in drawn)
    assert all(abs(count - 140 / 3) < 4 * np.sqrt(140 / 3) for count in counts.values())
    assert len(set(drawn)) > 15


@pytest.mark.parametrize("shown", [True, False])
def test_focal_players_observe_the_same_in_scenarios_as_in_training(shown: bool) -> None:
    """Compares the last action and reward of focal players; test_melting_pot compares pixels."""
    played = replace(among_themselves("coins"), is_focal=(False, True))
    config = load_config(
        overrides=["environment.substrate=coins", f"environment.last_action_and_reward={shown}"], environ={}
    )
    trained_in = environments.build(config.environment, seed=1)
    jobs = iter([(replace(played, bots={"default": ("noop_bot",)}), 0)])
    table = ScenarioTable(jobs, config.environment, seed=3, policies=1)
    assert table.begin()
    assert table.game.spec == trained_in.spec
    actions = table.game.spec.actions
    rng, earned = np.random.default_rng(0), 0.0
    assert not table.observation.features.any()
    for _ in range(150):
        table.action[:] = rng.integers(0, actions, 2)
        step = table.game.step(table.action)
        table.advance(step)
        earned += abs(step.reward[1])
        expected = [*np.eye(actions)[table.action[1]], step.reward[1]] if shown else []
        assert table.observation.features.tolist() == [expected]
    table.close()
    trained_in.close()
    assert earned > 0


def averaged(folder: RunFolder) -> None:
    """Creates a run with a checkpoint whose average of theta is not theta."""
    folder.create(CONFIG)
    tensors = {"theta": population(), "average": {name: 0 * x for name, x in population().items()}}
    checkpoint.save(folder.checkpoints, 7, tensors, {"updates": 7, "player_steps": 1000}, keep=None)


def test_the_average_of_theta_is_a_population_of_its_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    averaged(folder)
    (theta,), (average,) = (populations(folder, ["newest"], averaged=flag) for flag in (False, True))
    assert (theta.checkpoint, average.checkpoint) == ("00000007", "00000007-average")
    assert theta.weights != average.weights and theta.updates == average.updates
    assert average.theta is not None and not any(x.any() for x in average.theta.values())
    checkpoint.save(folder.checkpoints, 8, {"theta": population()}, {"updates": 8, "player_steps": 1000}, keep=None)
    with pytest.raises(CheckpointError, match="00000008: holds no average of theta"):
        populations(folder, ["newest"], averaged=True)


@needs_bots
@pytest.mark.slow
def test_an_evaluation_resumes_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "results.jsonl"
    trained = EvaluatedPopulation("r", "mappo", 3, "00000007", "abc", 7, 1000, CONFIG, population(1))
    stopping = threading.Event()
    stopping.set()
    assert not evaluate([trained], ["coins_1"], 2, out, workers=1, stopping=stopping)
    assert read_lines(out) == []
    assert evaluate([trained], ["coins_1"], 1, out, workers=1)
    first = read_lines(out)
    with out.open("a") as file:
        file.write('{"run": "torn')
    text = out.read_text()
    assert evaluate([trained, trained], ["coins_1", "coins_1"], 1, out, workers=1)
    assert out.read_text() == text, "nothing is played twice, however often it is requested"
    assert evaluate([trained], ["coins_1"], 3, out, workers=2)
    rows = read_lines(out)
    assert [row["episode"] for row in rows[1:]] != [], "the row after a torn line is complete"
    assert rows[0] == first[0]
    assert sorted(row["episode"] for row in rows) == [0, 1, 2]
    row = rows[0]
    assert {row[k] for k in ("run", "method", "checkpoint", "scenario")} == {"r", "mappo", "00000007", "coins_1"}
    assert row["versions"]["dm-meltingpot"] and row["player_steps"] == 1000 and not row["reference"]
    show([trained], out, seed=0, reference=False)
    assert "1 " in capsys.readouterr().out
    with pytest.raises(ConfigError, match="coop_mining_0: scenarios of another game than coins"):
        evaluate([trained], ["coop_mining_0"], 1, out)


@needs_bots
@pytest.mark.slow
def test_a_stopped_evaluation_finishes_the_episodes_in_progress(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    trained = EvaluatedPopulation("r", "mappo", 3, "00000007", "abc", 7, 1000, CONFIG, population(1))

    class AtTheFirstRow(threading.Event):
        """Set once there is a row."""

        def is_set(self) -> bool:
            return out.exists()

    assert not evaluate([trained], ["coins_1"], 40, out, workers=1, tables=2, stopping=AtTheFirstRow())
    begun = sorted(row["episode"] for row in read_lines(out))
    assert begun == list(range(len(begun))) and 2 <= len(begun) < 40


def test_the_map_of_coins_depends_on_the_seed() -> None:
    def size(game: MeltingPot) -> tuple[int, ...]:
        # Smaller maps are padded with black.
        return tuple(np.argwhere(game.world()[0].any(-1)).max(0))

    game = MeltingPot("coins", seed=3, located=True)
    sizes = []
    for seed in range(3, 6):
        game.reset(seed)
        sizes.append(size(game))
    assert len(set(sizes)) > 1, "each seed draws its own map"
    random.random()
    for seed, expected in zip(range(3, 6), sizes, strict=True):
        another = MeltingPot("coins", seed=seed, located=True)
        another.reset()
        assert size(another) == expected
        another.close()
    game.close()


@needs_bots
@pytest.mark.slow
@pytest.mark.parametrize("summary", [True, False])
def test_following_a_run_evaluates_its_newest_checkpoint_and_ends_with_it(tmp_path: Path, summary: bool) -> None:
    """It ends with the run's summary or, if roles are started one by one and nothing writes one, with its budget."""
    run = {"name": "followed", "folder": tmp_path, "player_steps": 10_000 if summary else 900}
    config = CONFIG.model_copy(update={"run": CONFIG.run.model_copy(update=run)})
    folder = RunFolder.of(config.run)
    folder.create(config)
    for updates in (3, 9):
        counters = {"updates": updates, "player_steps": 100 * updates}
        checkpoint.save(folder.checkpoints, updates, {"theta": population(1)}, counters, keep=5)
    if summary:
        folder.summary.write_text("{}")
    follow(folder, folder.evaluation, threading.Event(), scenarios=["coins_1"], episodes=1, workers=1)
    (row,) = read_lines(folder.evaluation)
    assert (row["run"], row["updates"], row["player_steps"]) == ("followed", 9, 900)
    assert [p.updates for p in populations(folder, ["all"])] == [3, 9]
    assert [p.updates for p in populations(folder, ["00000003"])] == [3]
    with pytest.raises(CheckpointError):
        populations(folder, ["00000004"])


@needs_bots
@pytest.mark.slow
def test_the_reference_plays_the_same_population_through_melting_pots_api(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    trained = EvaluatedPopulation("r", "mappo", 3, "00000007", "abc", 7, 1000, CONFIG, population(2))
    assert evaluate([trained], ["coins_0"], 1, out, workers=1, reference=True)
    (row,) = read_lines(out)
    assert row["reference"] and row["bots"][0] in scenario("coins_0").bots["default"]
    assert row["env_steps"] > 100 and row["policies"][0] in (0, 1)
    json.dumps(row)


def test_without_jobs_nothing_is_played() -> None:
    assert list(scenario_play.play([], CONFIG, None, 0)) == []
