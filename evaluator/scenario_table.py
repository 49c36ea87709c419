"""Tables at which episodes of scenarios are played: the game as its focal players observe it, and its bots."""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import EnvironmentConfig
from environments import Observation
from environments.interface import Step
from environments.last_action_reward import observe_last, spec_with_last
from environments.melting_pot import MeltingPot
from evaluator.bots import Background, act
from evaluator.play import Seating, Table
from evaluator.scenarios import Scenario

FOCAL = "focal"


@dataclass(frozen=True)
class ScenarioResult:
    """What is kept of one episode of a scenario.

    Attributes:
      scenario: its name.
      episode: its number, from 0; with the seed it determines everything that is drawn.
      focal_return: mean undiscounted return of the focal players.
      background_return: the same for the bots; nan if there are none.
      env_steps: its length.
      policies: the policy that played each focal seat; empty if they acted at random.
      bots: who filled the other seats.
    """

    scenario: str
    episode: int
    focal_return: float
    background_return: float
    env_steps: int
    policies: list[int]
    bots: list[str]


def episode_seeds(seed: int, scenario: Scenario, number: int) -> list[np.random.SeedSequence]:
    """Returns the seeds of an episode: for the game, the bots and the focal players."""
    return np.random.SeedSequence([seed, zlib.crc32(scenario.name.encode()), number]).spawn(3)


class FocalGame:
    """A scenario's game, observed as in training, but only by its focal players.

    Args:
      game: shows the focal players.
      focal: their seats.
      shows_last: whether they observe their last action and reward.
    """

    def __init__(self, game: MeltingPot, focal: Sequence[int], shows_last: bool) -> None:
        self.melting_pot, self._focal, self._shows_last = game, list(focal), shows_last
        self.spec = spec_with_last(game.spec) if shows_last else game.spec

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`."""
        observation = self.melting_pot.reset(seed)
        return observe_last(observation, self.spec.actions) if self._shows_last else observation

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        step = self.melting_pot.step(action)
        if not self._shows_last:
            return step
        action, reward = action[self._focal], step.reward[self._focal]
        return replace(step, observation=observe_last(step.observation, self.spec.actions, action, reward))

    def close(self) -> None:
        """See `Environment`."""
        self.melting_pot.close()


class ScenarioTable(Table[tuple[Scenario, int], ScenarioResult]):
    """A table at which episodes of scenarios are played.

    Args:
      jobs: scenarios, each with the number of an episode.
      config: the game's section of the configuration.
      seed: of the evaluation.
      policies: P, from which each focal seat draws one; 0 draws none.
      located: whether the game's `world` is asked for.

    Attributes:
      background: the bots of the current episode.
    """

    game: FocalGame
    background: Background

    def __init__(
        self,
        jobs: Iterator[tuple[Scenario, int]],
        config: EnvironmentConfig,
        seed: int,
        policies: int,
        located: bool = False,
    ) -> None:
        super().__init__(jobs)
        self._config, self._seed, self._policies, self._located = config, seed, policies, located
        self._scenario: Scenario | None = None

    def open(self, job: tuple[Scenario, int]) -> Observation:
        """See `Table`."""
        scenario, number = job
        game, background, focal = episode_seeds(self._seed, scenario, number)
        game_seed = int(game.generate_state(1)[0])
        if scenario == self._scenario:
            observation = self.game.reset(game_seed)
        else:
            self.use(self._build(scenario, game_seed))
            observation = self.game.reset()
            self._scenario = scenario
        self.background = Background(scenario, self.game.melting_pot, background)
        self.observed = scenario.focal
        seats, rng = np.array(scenario.focal), np.random.default_rng(focal)
        drawn = rng.integers(0, self._policies, len(seats)) if self._policies else np.empty(0, np.int64)
        self.seating = {FOCAL: Seating(seats, rng, drawn)}
        return observation

    def result(self) -> ScenarioResult:
        """See `Table`."""
        scenario, number = self.job
        focal, background = self.returns[scenario.focal], self.returns[scenario.background]
        return ScenarioResult(
            scenario=scenario.name,
            episode=number,
            focal_return=float(focal.mean()),
            background_return=float(background.mean()) if len(background) else math.nan,
            env_steps=self.env_steps,
            policies=self.seating[FOCAL].policy_index.tolist(),
            bots=self.background.names,
        )

    def _build(self, scenario: Scenario, seed: int) -> FocalGame:
        block, roles, focal = self._config.block, scenario.roles, scenario.focal
        game = MeltingPot(scenario.substrate, block, seed, roles, shown=focal, located=self._located)
        return FocalGame(game, focal, self._config.last_action_and_reward)


class Bots:
    """Drives the bots of all tables at which scenarios are played."""

    def begin(self, i: int, table: Table[Any, Any]) -> None:
        """A table that opens an episode draws its bots itself."""

    def act(self, tables: Mapping[int, Table[Any, Any]]) -> None:
        """Chooses the actions of all bots."""
        own = [table for table in tables.values() if isinstance(table, ScenarioTable)]
        for table in own:
            table.background.look()
        act([table.background for table in own])
        for table in own:
            table.background.write(table.action)
