"""Matrix games and PettingZoo behind the one interface."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv

from common.config import EnvironmentConfig
from common.errors import ConfigError, SubstrateError
from environments import build, spec
from environments.matrix_game import PAYOFFS, MatrixGame
from environments.pettingzoo import PettingZoo


def literal_rewards(payoff: Any, action: Any) -> list[float]:
    """Each player's mean payoff, computed meeting by meeting."""
    rewards = []
    for i, own in enumerate(action):
        meetings = [float(payoff[own][other]) for j, other in enumerate(action) if j != i]
        rewards.append(sum(meetings) / len(meetings))
    return rewards


@pytest.mark.parametrize("name", sorted(PAYOFFS))
@pytest.mark.parametrize("players", [2, 3, 5])
def test_matrix_rewards_are_the_mean_over_meetings(name: str, players: int) -> None:
    game = MatrixGame(name, players, episode_length=10**6)
    actions = len(PAYOFFS[name])
    rng = np.random.default_rng(0)
    game.reset()
    for _ in range(200):
        action = rng.integers(0, actions, players, dtype=np.int32)
        step = game.step(action)
        assert step.reward.dtype == np.float32
        assert step.reward == pytest.approx(literal_rewards(PAYOFFS[name], action), abs=1e-6)
        for i, row in enumerate(step.observation.features):
            others = np.delete(action, i)
            assert row[:actions].tolist() == [float(action[i] == a) for a in range(actions)]
            assert row[actions:-1] == pytest.approx([np.mean(others == a) for a in range(actions)])
            assert row[-1] == 0


def test_the_payoffs_are_those_of_the_named_games() -> None:
    (reward, sucker), (temptation, punishment) = PAYOFFS["matrix_prisoners_dilemma"]
    assert temptation > reward > punishment > sucker and 2 * reward > temptation + sucker
    (both_swerve, chicken), (dare, crash) = PAYOFFS["matrix_chicken"]
    assert dare > both_swerve > chicken > crash


def test_a_matrix_game_terminates_after_its_episode_length_and_restarts() -> None:
    game = MatrixGame("matrix_chicken", players=3, episode_length=4)
    for _ in range(2):
        first = game.reset()
        assert first.features.tolist() == [[0, 0, 0, 0, 1]] * 3
        assert first.rgb.shape == (3, 0, 0, 3) and first.active.all()
        steps = [game.step(np.zeros(3, np.int32)) for _ in range(4)]
        assert [step.terminated for step in steps] == [False, False, False, True]
        assert not any(step.truncated for step in steps)


def test_the_configuration_decides_players_and_length() -> None:
    config = EnvironmentConfig(
        substrate="matrix_coordination", players=4, episode_length=2, last_action_and_reward=False
    )
    game = build(config, seed=1)
    assert (game.spec.players, game.spec.actions, game.spec.features) == (4, 3, 7)
    assert spec(config) == game.spec
    game.reset()
    game.step(np.zeros(4, np.int32))
    assert game.step(np.zeros(4, np.int32)).terminated
    assert build(EnvironmentConfig(substrate="matrix_coordination"), seed=1).spec.players == 2


def test_players_observe_their_last_action_and_reward() -> None:
    config = EnvironmentConfig(substrate="matrix_chicken", players=3, episode_length=2)
    plain, game = build(config.model_copy(update={"last_action_and_reward": False}), 1), build(config, 1)
    assert game.spec.features == plain.spec.features + 3
    assert spec(config) == game.spec
    for _ in range(2):
        first = game.reset()
        assert not first.features[:, -3:].any()
        plain.reset()
        for action in ([0, 1, 1], [1, 0, 1]):
            chosen = np.array(action, np.int32)
            step, expected = game.step(chosen), plain.step(chosen)
            np.testing.assert_array_equal(step.observation.features[:, :-3], expected.observation.features)
            np.testing.assert_array_equal(step.observation.features[:, -3:-1], np.eye(2)[chosen])
            np.testing.assert_array_equal(step.observation.features[:, -1], expected.reward)
            assert (step.terminated, step.truncated) == (expected.terminated, expected.truncated)
            np.testing.assert_array_equal(step.reward, expected.reward)


class Meadow(ParallelEnv):  # type: ignore[misc]
    """Two agents whose observations encode step and actions; the constructor chooses what goes wrong."""

    metadata = {"name": "meadow"}

    def __init__(self, image: bool = False, ending: str = "", different: str = "", side: int = 16) -> None:
        self.possible_agents = ["ann", "bob"]
        self._image, self._ending, self._different, self._side = image, ending, different, side
        self.seeds: list[int | None] = []
        self.closed = False

    def observation_space(self, agent: str) -> Any:
        if self._image:
            return spaces.Box(0, 255, (self._side, self._side, 3), np.uint8)
        return spaces.Box(-9, 9, (2, 3) if self._different != "observation" or agent == "ann" else (2, 2), np.float64)

    def action_space(self, agent: str) -> Any:
        if self._different == "continuous":
            return spaces.Box(0, 1, (2,))
        return spaces.Discrete(4 if self._different == "action" and agent == "bob" else 5)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.seeds.append(seed)
        self.agents = list(self.possible_agents)
        self._steps = 0
        return self._see({"ann": 0, "bob": 0}), {}

    def step(self, actions: dict[str, int]) -> Any:
        self._steps += 1
        over = self._steps == 3
        rewards = {"bob": float(actions["ann"]), "ann": -float(actions["bob"])}
        flags = {kind: {agent: over and self._ending == kind for agent in self.agents} for kind in ("term", "trunc")}
        if over and self._ending == "both":
            flags["term"]["ann"], flags["trunc"]["bob"] = True, True
        seen = self._see(actions)
        if over and self._ending == "leave":
            del seen["bob"]
        return seen, rewards, flags["term"], flags["trunc"], {}

    def close(self) -> None:
        self.closed = True

    def _see(self, actions: dict[str, int]) -> dict[str, Any]:
        if not self._image:
            return {agent: np.full((2, 3), self._steps + actions[agent] / 10) for agent in ("bob", "ann")}
        images = {}
        for agent in ("bob", "ann"):
            images[agent] = np.zeros((self._side, self._side, 3), np.uint8)
            images[agent][:8, :8] = 10 * actions[agent] + self._steps
            images[agent][8:, 8:, 1] = 200
        return images


MAKERS: dict[str, Any] = {
    "vectors": Meadow,
    "images": lambda: Meadow(image=True),
    "odd_images": lambda: Meadow(image=True, side=15),
    "terminates": lambda: Meadow(ending="term"),
    "truncates": lambda: Meadow(ending="trunc"),
    "does_both": lambda: Meadow(ending="both"),
    "leaves": lambda: Meadow(ending="leave"),
    "observations_differ": lambda: Meadow(different="observation"),
    "actions_differ": lambda: Meadow(different="action"),
    "continuous": lambda: Meadow(different="continuous"),
}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes `pettingzoo:meadows:NAME` importable, however this file was imported."""
    module = type(sys)("meadows")
    vars(module).update(MAKERS)
    monkeypatch.setitem(sys.modules, "meadows", module)
    yield


def meadow(name: str, block: int = 8) -> PettingZoo:
    config = EnvironmentConfig(substrate=f"pettingzoo:meadows:{name}", block=block, last_action_and_reward=False)
    game = build(config, seed=7)
    assert isinstance(game, PettingZoo)
    return game


def test_vectors_become_features_in_the_order_of_the_agents() -> None:
    game = meadow("vectors")
    assert (game.spec.players, game.spec.actions, game.spec.rgb_shape, game.spec.features) == (2, 5, (0, 0, 3), 6)
    assert game.spec.name == "pettingzoo:meadows:vectors"
    first = game.reset()
    assert first.rgb.shape == (2, 0, 0, 3) and first.active.tolist() == [True, True]
    step = game.step(np.array([3, 1], np.int32))
    assert step.observation.features.dtype == np.float32
    assert step.observation.features == pytest.approx(np.array([[1.3] * 6, [1.1] * 6]))
    assert step.reward.tolist() == [-1, 3]
    assert not step.terminated and not step.truncated


def test_images_are_reduced_if_the_block_divides_them() -> None:
    game = meadow("images")
    assert (game.spec.rgb_shape, game.spec.features) == ((2, 2, 3), 0)
    game.reset()
    seen = game.step(np.array([3, 1], np.int32)).observation
    assert seen.features.shape == (2, 0) and seen.rgb.dtype == np.uint8
    assert seen.rgb.tolist() == [[[[c] * 3, [0] * 3], [[0] * 3, [0, 200, 0]]] for c in (31, 11)]
    assert meadow("images", block=1).spec.rgb_shape == (16, 16, 3)
    whole = meadow("odd_images")
    assert whole.spec.rgb_shape == (15, 15, 3)
    assert whole.reset().rgb.shape == (2, 15, 15, 3)


@pytest.mark.parametrize(
    ("name", "terminated", "truncated"),
    [("terminates", True, False), ("truncates", False, True), ("does_both", True, False)],
)
def test_termination_and_truncation_stay_distinct(name: str, terminated: bool, truncated: bool) -> None:
    game = meadow(name)
    game.reset()
    steps = [game.step(np.zeros(2, np.int32)) for _ in range(3)]
    assert [(s.terminated, s.truncated) for s in steps[:2]] == [(False, False)] * 2
    assert (steps[2].terminated, steps[2].truncated) == (terminated, truncated)


def test_an_agent_that_leaves_is_an_error() -> None:
    game = meadow("leaves")
    game.reset()
    game.step(np.zeros(2, np.int32))
    game.step(np.zeros(2, np.int32))
    with pytest.raises(SubstrateError, match="bob left before the end of the episode"):
        game.step(np.zeros(2, np.int32))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("observations_differ", "the agents' observation_spaces differ"),
        ("actions_differ", "the agents' action_spaces differ"),
        ("continuous", "expected Discrete actions, found Box"),
        ("nobody", "no attribute 'nobody'"),
    ],
)
def test_unsupported_agents_are_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        meadow(name)


@pytest.mark.parametrize("path", ["pettingzoo:no.such.module:make", "pettingzoo:meadows", "pettingzoo:"])
def test_a_path_without_an_environment_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="expected pettingzoo:package.module:function"):
        build(EnvironmentConfig(substrate=path), seed=1)


def test_only_the_first_episode_is_seeded_and_close_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Meadow()
    monkeypatch.setitem(vars(sys.modules["meadows"]), "kept", lambda: world)
    game = meadow("kept")
    game.reset()
    game.reset()
    game.close()
    assert world.seeds == [7, None] and world.closed
