"""The package `bidist`, used as a user's script would: loading, acting, the games, the documentation."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dm_env
import numpy as np
import pytest
from short_games import Shortened
from trained import needs_bots, trained

import bidist
import environments
from bidist.population import State
from common.config import Config
from common.errors import CheckpointError, ConfigError
from common.run_folder import RunFolder
from environments.images import block_mean
from environments.melting_pot import MeltingPot
from evaluator import play as loop
from evaluator.drivers import PopulationDriver
from evaluator.external import timestep
from evaluator.play import Table
from evaluator.record import among_themselves
from evaluator.scenario_table import FOCAL, Bots, ScenarioTable, episode_seeds

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def coins(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(tmp_path_factory.mktemp("runs") / "coins")


@pytest.fixture(scope="module")
def population(coins: RunFolder) -> bidist.Population:
    return bidist.load(coins.path)


# Loading.


def test_a_run_is_loaded_by_its_folder_or_that_of_a_checkpoint(coins: RunFolder, tmp_path: Path) -> None:
    newest, named = bidist.load(coins.path), bidist.load(str(coins.checkpoints / "00000005"))
    assert newest.source.weights == named.source.weights
    assert (newest.substrate, newest.source.method, newest.source.player_steps) == ("coins", "mappo", 700)
    assert "mappo on coins, run coins, checkpoint 00000005, 700 player steps, 3 policies" in repr(newest)
    with pytest.raises(ConfigError, match="there is no run at"):
        bidist.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no average"):
        bidist.load(coins.path, averaged=True)


def test_parameters_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "matrix_chicken")
    run.create(run.read_config().model_copy(update={"network": Config().network}))
    with pytest.raises(CheckpointError, match=r"parameter dense\.\w+ does not fit"):
        bidist.load(run.path)


# Acting.


class Shadow:
    """Drives nobody: at every step, asks a population what the focal player would do, and keeps both answers."""

    def __init__(self, population: bidist.Population, seed: np.random.SeedSequence) -> None:
        self.population = population
        self.state = population.initial_state(seed)
        self.played: list[int] = []
        self.shadowed: list[int] = []

    def begin(self, i: int, table: Table[Any, Any]) -> None:
        """See `evaluator.play.Driver`."""

    def act(self, tables: Mapping[int, Table[Any, Any]]) -> None:
        """See `evaluator.play.Driver`."""
        (table,) = tables.values()
        assert isinstance(table, ScenarioTable)
        (seat,) = table.seating[FOCAL].seats.tolist()
        seen = timestep(table, seat)
        whole = seen.observation | {"RGB": table.game.melting_pot.observation(seat, "RGB")}
        assert len(whole["RGB"]) in (40, 88)
        action, self.state = self.population.step(seen._replace(observation=whole), self.state)
        self.shadowed.append(action)
        self.played.append(int(table.action[seat]))


@pytest.mark.slow
@pytest.mark.parametrize("substrate", ["coins", "prisoners_dilemma_in_the_matrix__repeated"])
@pytest.mark.parametrize("shown", [True, False])
def test_a_population_acts_as_the_evaluator_lets_it(tmp_path: Path, substrate: str, shown: bool) -> None:
    """The evaluator shows it 11x11 pixels of one game, and Melting Pot's own observations of the same game."""
    run = trained(tmp_path / "run", substrate, 3, f"environment.last_action_and_reward={shown}")
    population, config = bidist.load(run.path), run.read_config()
    played = replace(among_themselves(substrate), is_focal=(False, True), bots={"default": ("noop_bot",)})
    theta = population.source.theta
    assert theta is not None
    shadow = Shadow(population, episode_seeds(9, played, 0)[2])
    table = ScenarioTable(iter([(played, 0)]), config.environment, 9, policies=3)
    (result,) = loop.play([table], [Bots(), PopulationDriver(FOCAL, config, theta, 1), shadow], [Shortened(400)])
    assert shadow.state.policy == result.policies[0]
    assert len(shadow.played) == result.env_steps == 400
    assert shadow.shadowed == shadow.played
    assert len(set(shadow.played)) > 2, "a player without preferences would prove nothing"


def test_stepping_changes_nothing_but_the_state(population: bidist.Population) -> None:
    env = bidist.env("coins")
    observations, _ = env.reset(seed=3)
    seen = dm_env.TimeStep(dm_env.StepType.FIRST, 0.0, 0.0, observations["player_0"])
    start = population.initial_state(7)
    actions = [population.step(seen, start)[0] for _ in range(3)]
    assert len(set(actions)) == 1
    action, state = population.step(seen, start)
    assert (start.action, state.action) == (None, action) and not start.memory.any() and state.memory.any()
    assert {population.initial_state().policy for _ in range(60)} == {0, 1, 2}
    small = bidist.env("coins", block=8)
    reduced, _ = small.reset(seed=3)
    assert reduced["player_0"]["RGB"].shape == (11, 11, 3)
    means = block_mean([seen.observation["RGB"]], 8)[0]
    assert population.step(seen._replace(observation={"RGB": means}), start)[0] == action
    for game in (env, small):
        game.close()
    with pytest.raises(ConfigError, match=r"not observations of coins.*'FEATURES': \(7,\)"):
        population.step(seen._replace(observation={"FEATURES": np.zeros(7)}), start)


def test_a_population_of_a_matrix_game_plays_its_env(tmp_path: Path) -> None:
    """Its players see what they saw in training, the last action and reward included."""
    run = trained(tmp_path / "run", "matrix_chicken", 1)
    population, env = bidist.load(run.path), bidist.env("matrix_chicken", episode_length=5)
    game = environments.build(run.read_config().environment, 1)
    observation, observations = game.reset(), env.reset()[0]
    states: dict[str, State] = {agent: population.initial_state(i) for i, agent in enumerate(env.agents)}
    rewards = dict.fromkeys(env.agents, 0.0)
    while env.agents:
        actions = {}
        for i, agent in enumerate(env.agents):
            seen = dm_env.TimeStep(dm_env.StepType.MID, rewards[agent], 1.0, observations[agent])
            np.testing.assert_array_equal(population._see(seen, states[agent].action).features[0], observation[1][i])
            actions[agent], states[agent] = population.step(seen, states[agent])
        step = game.step(np.array([*actions.values()], np.int32))
        observations, rewards, *_ = env.step(actions)
        observation = step.observation
    assert any(rewards.values())


# The games.


@pytest.mark.parametrize("substrate", ["coins", "prisoners_dilemma_in_the_matrix__repeated", "matrix_conventions"])
@pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning")
def test_a_game_passes_pettingzoos_own_test(substrate: str) -> None:
    from pettingzoo.test import parallel_api_test

    env = bidist.env(substrate)
    parallel_api_test(env)
    observations, _ = env.reset(seed=2)
    rng, earned = np.random.default_rng(0), 0.0
    while env.agents:
        assert all(env.observation_space(agent).contains(seen) for agent, seen in observations.items())
        actions = {agent: int(rng.integers(env.action_space(agent).n)) for agent in env.agents}
        observations, rewards, terminations, truncations, _ = env.step(actions)
        earned += sum(map(abs, rewards.values()))
    assert {*terminations.values()} | {*truncations.values()} == {True, False} and earned > 0
    with pytest.raises(ConfigError, match="call reset"):
        env.step({})
    env.reset()
    with pytest.raises(ConfigError, match="no action for player_1"):
        env.step({"player_0": 0})
    env.close()


def test_agents_see_and_earn_what_dmlab2d_says() -> None:
    env = bidist.env("coins", seed=5)
    game = env._game
    assert isinstance(game, MeltingPot)
    observations, _ = env.reset()
    for number in range(200):
        for i, agent in enumerate(env.agents):
            np.testing.assert_array_equal(observations[agent]["RGB"], game.lab2d.observe(f"{i + 1}.RGB"))
        observations, rewards, *_ = env.step({"player_0": number % 7, "player_1": (number + 3) % 7})
        told = [float(game.lab2d.observe(f"{i + 1}.REWARD")) for i in range(2)]
        assert [*rewards.values()] == told
        assert observations["player_1"]["COLLECTIVE_REWARD"] == sum(told)
    env.close()


def test_an_unknown_game_or_setting_is_explained() -> None:
    with pytest.raises(ConfigError, match="no substrate is called 'coin'.*coins"):
        bidist.env("coin")
    with pytest.raises(ConfigError, match=r"environment\.player: no such setting; did you mean environment\.players"):
        bidist.env("matrix_chicken", player=3)
    assert len(bidist.env("matrix_chicken", players=3).possible_agents) == 3


# Melting Pot's own loop, and the documentation.

PUBLIC_API = ("meltingpot", "tensorflow", "chex", "reactivex", "pandas")


@needs_bots
@pytest.mark.slow
def test_melting_pots_own_loop_plays_a_population(coins: RunFolder) -> None:
    missing = [package for package in PUBLIC_API if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"Melting Pot's own scenarios need {', '.join(missing)}")
    script = """
        import sys
        import bidist
        from meltingpot import scenario
        from meltingpot.utils.evaluation import evaluation

        population = bidist.load(sys.argv[1])
        found = evaluation.evaluate_population({"ours": population}, {"default": ["ours"]}, "coins_1", num_episodes=1)
        (row,) = found.to_dict("records")
        assert row["focal_player_names"] == ["ours"], row
        env, official = bidist.env("coins"), scenario.build("coins_1")
        (told,) = official.observation_spec()
        space = env.observation_space("player_0")
        assert {*told} == {*space}, (told, space)
        for name, spec in told.items():
            assert (spec.shape, spec.dtype) == (space[name].shape, space[name].dtype), name
        print("return", row["focal_per_capita_return"])
    """
    done = run(script, str(coins.path), cwd=coins.path)
    assert float(done.splitlines()[-1].removeprefix("return ")) > -1000


def run(script: str, *arguments: str, cwd: Path) -> str:
    lines = script.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    text = "\n".join(line[indent:] for line in lines)
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", text, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@needs_bots
@pytest.mark.slow
def test_the_snippets_of_the_documentation_run(tmp_path: Path) -> None:
    """One after another, in a folder with a run, as a reader would; those marked `py` need other packages."""
    snippets = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 3
    trained(tmp_path / "runs" / "NAME")
    printed = run("\n".join(snippets), cwd=tmp_path)
    assert "Population(mappo on coins, run NAME" in printed and "player_1" in printed


@pytest.mark.slow
def test_foreign_folders_beside_a_script_are_not_imported(tmp_path: Path) -> None:
    for name in ("common", "evaluator", "networks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"print('imported a foreign {name}')\n")
    trained(tmp_path / "runs" / "NAME", "matrix_chicken")
    script = "import bidist; print(bidist.load('NAME')); import methods.bidist"
    assert "imported" not in run(script, cwd=tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import common; import bidist"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert f"{tmp_path}/common/__init__.py was imported before bidist" in done.stderr
