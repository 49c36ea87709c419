"""The slow reference: official scenarios through Melting Pot's own API, with its bots in TensorFlow, one at a time.

It steps the game by itself, as an oracle must: `test_scenario_play.py` plays the same game through this loop and
through `evaluator/scenario_play.py` and expects the same actions and returns. It also plays bots whose networks
`scenario_play` cannot read.
"""

import dataclasses
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from common.config import Config
from common.errors import SetupError
from common.spec import EnvironmentSpec
from environments.last_action_reward import observe_last
from environments.named import from_names
from environments.substrates import light_meltingpot
from evaluator.drivers import make_players, policy_count
from evaluator.scenario_table import ScenarioResult, episode_seeds
from evaluator.scenarios import Scenario, require_bots
from networks.players import Players


def play(
    jobs: Iterable[tuple[Scenario, int]],
    config: Config,
    theta: Mapping[str, Tensor] | None,
    seed: int,
    count: Callable[[], None] = lambda: None,
) -> Iterator[ScenarioResult]:
    """Plays whole episodes one after another; arguments and results are those of `evaluator.scenario_play.play`.

    `count` is called after each step. For the same number and seed, focal players draw the same policies in both loops
    and, as long as they see the same, the same actions; the bots do not, so the two loops agree in distribution.

    Raises:
      SetupError: if bots, or what Melting Pot needs to run them, are not installed.
    """
    light_meltingpot()
    try:
        from meltingpot import scenario as scenarios
    except ImportError as error:
        raise SetupError(
            f"Melting Pot's own scenarios need {error.name}: run `make setup-test` in a checkout, "
            "pip install 'bidist[meltingpot]' elsewhere"
        ) from None

    for scenario, number in jobs:
        require_bots([scenario])
        game, background, focal = episode_seeds(seed, scenario, number)
        # Rebuilt for each episode, because coins draws its map while it is built.
        random.seed(int(game.generate_state(1)[0]))
        official = scenarios.get_config(scenario.name)
        environment = scenarios.build_from_config(dataclasses.replace(official, bots_by_role=scenario.bots))
        random.seed(int(background.generate_state(1)[0]))
        focal_players = _Focal(scenario.substrate, config, theta, np.random.default_rng(focal))
        yield _play(environment, scenario, number, focal_players, count)
        environment.close()


def _play(
    environment: Any, scenario: Scenario, number: int, focal: "_Focal", count: Callable[[], None]
) -> ScenarioResult:
    names: list[Sequence[str]] = []
    rewards: list[NDArray[np.float64]] = []
    background = environment.observables().background
    with (
        background.names.subscribe(names.append),
        background.timestep.subscribe(lambda timestep: rewards.append(np.array(timestep.reward))),
    ):
        timestep = environment.reset()
        actions = environment.action_spec()[0].num_values
        returns, env_steps = np.zeros(len(timestep.reward)), 0
        while not timestep.last():
            timestep = environment.step(focal.act(timestep, actions))
            returns += timestep.reward
            env_steps += 1
            count()
    background_returns = np.sum(rewards[1:], 0)
    return ScenarioResult(
        scenario=scenario.name,
        episode=number,
        focal_return=float(returns.mean()),
        background_return=float(background_returns.mean()) if len(background_returns) else math.nan,
        env_steps=env_steps,
        policies=focal.policies,
        bots=list(names[-1]),
    )


class _Focal:
    """The focal players of one episode, fed with Melting Pot's timesteps."""

    def __init__(
        self, substrate: str, config: Config, theta: Mapping[str, Tensor] | None, rng: np.random.Generator
    ) -> None:
        self._substrate, self._config, self._theta, self._rng = substrate, config, theta, rng
        self._players: Players | None = None
        self._action: NDArray[np.int32] | None = None
        self.policies: list[int] = []

    def act(self, timestep: Any, actions: int) -> NDArray[np.int32]:
        """Chooses the players' actions, each from 0 to actions - 1: [N]."""
        count = len(timestep.reward)
        if self._theta is None:
            return self._rng.integers(0, actions, count, np.int32)
        seen = from_names(timestep.observation, self._config.environment.block)
        if self._config.environment.last_action_and_reward:
            seen = observe_last(seen, actions, self._action, np.array(timestep.reward, np.float32))
        if self._players is None:
            shape, features = seen.rgb.shape[1:], seen.features.shape[1]
            spec = EnvironmentSpec(self._substrate, count, actions, shape, features)
            drawn = self._rng.integers(0, policy_count(self._theta), count)
            self._players, self.policies = make_players(self._config, self._theta, spec, count), drawn.tolist()
            self._players.assign(drawn)
        race = self._rng.standard_exponential((count, actions))
        self._action, _ = self._players.act(seen.rgb, seen.features, race)
        return self._action
