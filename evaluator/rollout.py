"""Plays official scenarios, many episodes at once: one forward pass for all focal players, and one for all bots.

All that is drawn for an episode hangs on its own seed: who the bots are, which policies play the focal slots, the
game's seeds, what actions are drawn with. Which worker plays it, and what is played beside it, does not matter. Even so
the same seed is not the same episode to the last step: dmlab2d's games do not repeat themselves.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from common.config import Config
from common.spec import EnvironmentSpec
from common.weights import THETA, Weights
from environments.last import observe_last, spec_with_last
from environments.melting_pot import MeltingPot
from evaluator import bots
from evaluator.bots import Background
from evaluator.scenarios import Scenario
from methods import make_method
from networks.players import Players

TABLES = 16


@dataclass(frozen=True)
class Episode:
    """One episode of a scenario.

    Attributes:
      scenario: its name.
      episode: its number, from 0; with the seed it says all that is drawn.
      focal_return: mean over the focal players of their undiscounted returns.
      background_return: the same over the bots; nan if there are none.
      env_steps: its length.
      policies: which policy played each focal slot; empty if they acted at random.
      bots: who filled the other slots.
    """

    scenario: str
    episode: int
    focal_return: float
    background_return: float
    env_steps: int
    policies: list[int]
    bots: list[str]


def play(
    jobs: Iterable[tuple[Scenario, int]],
    config: Config,
    theta: Mapping[str, Tensor] | None,
    seed: int,
    tables: int = TABLES,
    watch: Callable[[MeltingPot], None] | None = None,
    located: bool = False,
) -> Iterator[Episode]:
    """Plays whole episodes and yields each as it ends.

    Every episode that is begun is finished, also when no more are taken, so short ones are not favoured.

    Args:
      jobs: scenarios of one substrate, each with the number of an episode; taken one by one as tables get free.
      config: of the run whose policies are focal.
      theta: its learning policies; a focal slot gets one of them at random, as Melting Pot does. None lets the focal
        players act uniformly at random.
      seed: of the evaluation.
      tables: episodes at once.
      watch: called with the game before each step, and after the last one.
      located: whether it will ask for the game's `world`.

    Raises:
      SetupError: if a bot is not installed.
    """
    jobs = iter(jobs)
    hall = [_Table(config, seed, located) for _ in range(tables)]
    focal: _Random | _Population | None = None
    try:
        while True:
            for i, table in enumerate(hall):
                if not table.playing and (job := next(jobs, None)) is not None:
                    table.begin(*job)
                    if focal is None:
                        focal = _Random() if theta is None else _Population(table.spec, tables, config, theta)
                    focal.welcome(i, table)
            playing = {i: table for i, table in enumerate(hall) if table.playing}
            if focal is None or not playing:
                return
            for table in playing.values():
                table.background.look()
                if watch is not None:
                    watch(table.game)
            bots.act([table.background for table in playing.values()])
            for i, action in focal.act(playing).items():
                if (episode := playing[i].step(action)) is not None:
                    if watch is not None:
                        watch(playing[i].game)
                    yield episode
    finally:
        for table in hall:
            table.close()


def episode_seeds(seed: int, scenario: Scenario, number: int) -> list[np.random.SeedSequence]:
    """The seeds of an episode: of the game, of the bots, of the focal players."""
    return np.random.SeedSequence([seed, zlib.crc32(scenario.name.encode()), number]).spawn(3)


class _Table:
    """One copy of the game, and the episode that is played in it."""

    game: MeltingPot
    background: Background

    def __init__(self, config: Config, seed: int, located: bool) -> None:
        self._block, self._seed, self._located = config.environment.block, seed, located
        self._shows_last = config.environment.last_action_and_reward
        self.playing = False
        self.scenario: Scenario | None = None
        self.policies: list[int] = []

    @property
    def spec(self) -> EnvironmentSpec:
        """What focal policies have to know of the game."""
        return spec_with_last(self.game.spec) if self._shows_last else self.game.spec

    def begin(self, scenario: Scenario, number: int) -> None:
        """Begins an episode."""
        game, background, focal = episode_seeds(self._seed, scenario, number)
        game_seed = int(game.generate_state(1)[0])
        if scenario == self.scenario:
            observation = self.game.reset(game_seed)
        else:
            self.close()
            self.game = MeltingPot(
                scenario.substrate, self._block, game_seed, scenario.roles, scenario.focal, self._located
            )
            observation = self.game.reset()
        self.observation = observe_last(observation, self.spec.actions) if self._shows_last else observation
        self.scenario, self.number, self.playing = scenario, number, True
        self.rng = np.random.default_rng(focal)
        self.background = Background(scenario, self.game, background)
        self._returns = np.zeros(len(scenario.roles))
        self._env_steps = 0

    def step(self, focal_action: NDArray[np.int32]) -> Episode | None:
        """Plays one step, focal_action [focal players]; returns the episode if it ended with it."""
        scenario = self.scenario
        if scenario is None:
            raise ValueError("step before begin")
        action = self.background.actions(len(scenario.roles))
        action[scenario.focal] = focal_action
        step = self.game.step(action)
        self.observation = step.observation
        if self._shows_last:
            earned = step.reward[scenario.focal]
            self.observation = observe_last(step.observation, self.spec.actions, focal_action, earned)
        self._returns += step.reward
        self._env_steps += 1
        if not (step.terminated or step.truncated):
            return None
        self.playing = False
        focal, background = (self._returns[players] for players in (scenario.focal, scenario.background))
        return Episode(
            scenario.name, self.number, float(focal.mean()), float(background.mean()) if len(background) else math.nan,
            self._env_steps, self.policies, self.background.names,
        )  # fmt: skip

    def close(self) -> None:
        """Frees the game."""
        if self.scenario is not None:
            self.game.close()
            self.scenario = None


class _Random:
    """Focal players who act uniformly at random."""

    def welcome(self, i: int, table: _Table) -> None:
        """Nothing has to be remembered."""

    def act(self, playing: Mapping[int, _Table]) -> dict[int, NDArray[np.int32]]:
        """Actions of each table's focal players."""
        return {
            i: table.rng.integers(0, table.game.spec.actions, len(table.observation.features), np.int32)
            for i, table in playing.items()
        }


class _Population:
    """Focal players who play by learning policies, drawn for each slot and episode with replacement."""

    def __init__(self, spec: EnvironmentSpec, tables: int, config: Config, theta: Mapping[str, Tensor]) -> None:
        shape = (tables, spec.players)
        self._policies = len(next(iter(theta.values())))
        self._players = Players(make_method(config).evaluation_network(spec, self._policies), math.prod(shape), seed=0)
        self._players.load(THETA, Weights(0, theta))
        self._policy = np.full(shape, -1)
        self._rgb = np.zeros((*shape, *spec.rgb_shape), np.uint8)
        self._features = np.zeros((*shape, spec.features), np.float32)
        self._race = np.ones((*shape, spec.actions))

    def welcome(self, i: int, table: _Table) -> None:
        """Draws who plays the focal slots of a table, and empties their memories."""
        table.policies = table.rng.integers(0, self._policies, len(table.observation.features)).tolist()
        self._policy[i] = -1
        self._policy[i, : len(table.policies)] = table.policies
        self._players.state.view(*self._policy.shape, -1)[i] = 0
        self._players.assign(self._policy.ravel())

    def act(self, playing: Mapping[int, _Table]) -> dict[int, NDArray[np.int32]]:
        """Actions of each table's focal players."""
        for i, table in playing.items():
            focal = len(table.policies)
            self._rgb[i, :focal], self._features[i, :focal] = table.observation.rgb, table.observation.features
            self._race[i, :focal] = table.rng.standard_exponential((focal, self._race.shape[-1]))
        rows = self._policy.size
        action, _ = self._players.act(
            self._rgb.reshape(rows, *self._rgb.shape[2:]), self._features.reshape(rows, -1),
            self._race.reshape(rows, -1),
        )  # fmt: skip
        table_actions = action.reshape(self._policy.shape)
        return {i: table_actions[i, : len(table.policies)] for i, table in playing.items()}
