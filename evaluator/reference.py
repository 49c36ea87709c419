"""The slow original: official scenarios through Melting Pot's own API, its bots in TensorFlow one at a time.

Here to be compared with `evaluator/rollout.py`, which has to give the same returns, and for bots whose networks that
cannot read.
"""

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
from common.weights import THETA, Weights
from environments import Observation
from environments.images import block_mean
from environments.last import observe_last
from environments.melting_pot import FEATURES
from environments.substrates import light_meltingpot
from evaluator.rollout import Episode, episode_seeds
from evaluator.scenarios import Scenario, require_bots
from methods import method
from networks.players import Players


def play(
    jobs: Iterable[tuple[Scenario, int]], config: Config, theta: Mapping[str, Tensor] | None, seed: int,
    watch: Callable[[Any], None] | None = None,
) -> Iterator[Episode]:  # fmt: skip
    """Plays whole episodes one after the other; arguments and result as in `evaluator.rollout.play`.

    `watch` gets Melting Pot's timestep before each step. The same number and seed draw other bots and actions here than
    there: the two agree in distribution.

    Raises:
      SetupError: if bots, or what Melting Pot needs to run them, are not installed.
    """
    light_meltingpot()
    try:
        from meltingpot import scenario as scenarios
    except ImportError as error:
        raise SetupError(f"Melting Pot's own scenarios need {error.name}: `make setup-test` installs it") from None

    for scenario, number in jobs:
        require_bots([scenario])
        # Anew for each episode, for coins draws its map while it is built.
        random.seed(int(episode_seeds(seed, scenario, number)[0].generate_state(1)[0]))
        environment = scenarios.build(scenario.name)
        yield _play(environment, scenario, number, config, theta, seed, watch)
        environment.close()


def _play(
    environment: Any, scenario: Scenario, number: int, config: Config, theta: Mapping[str, Tensor] | None, seed: int,
    watch: Callable[[Any], None] | None,
) -> Episode:  # fmt: skip
    background, focal = (int(s.generate_state(1)[0]) for s in episode_seeds(seed, scenario, number)[1:])
    random.seed(background)
    rng = np.random.default_rng(focal)
    names: list[Sequence[str]] = []
    rewards: list[NDArray[np.float64]] = []
    heard = environment.observables().background
    with heard.names.subscribe(names.append), heard.timestep.subscribe(lambda t: rewards.append(np.array(t.reward))):
        timestep = environment.reset()
        actions = environment.action_spec()[0].num_values
        players = len(timestep.reward)
        acting: Players | None = None
        policies: list[int] = []
        returns, env_steps = np.zeros(players), 0
        action: NDArray[np.int32] | None = None
        while not timestep.last():
            if watch is not None:
                watch(timestep)
            if theta is None:
                action = rng.integers(0, actions, players, np.int32)
            else:
                seen = _observe(timestep.observation, config.environment.block)
                if config.environment.last_action_and_reward:
                    seen = observe_last(seen, actions, action, np.array(timestep.reward, np.float32))
                if acting is None:
                    shape, features = seen.rgb.shape[1:], seen.features.shape[1]
                    spec = EnvironmentSpec(scenario.substrate, players, actions, shape, features)
                    acting, policies = _players(spec, config, theta, rng)
                action, _ = acting.act(seen.rgb, seen.features)
            timestep = environment.step(action)
            returns += timestep.reward
            env_steps += 1
    background_returns = np.sum(rewards[1:], 0)
    return Episode(
        scenario.name, number, float(returns.mean()),
        float(background_returns.mean()) if len(background_returns) else math.nan, env_steps, policies, list(names[-1]),
    )  # fmt: skip


def _observe(observations: Sequence[Mapping[str, Any]], block: int) -> Observation:
    """What focal players see, from Melting Pot's observations."""
    rows = [[x for name in FEATURES if name in seen for x in np.ravel(seen[name])] for seen in observations]
    features = np.array(rows, np.float32).reshape(len(observations), -1)
    rgb = block_mean([seen["RGB"] for seen in observations], block)
    return Observation(rgb, features, np.ones(len(rgb), bool))


def _players(
    spec: EnvironmentSpec, config: Config, theta: Mapping[str, Tensor], rng: np.random.Generator
) -> tuple[Players, list[int]]:
    policies = len(next(iter(theta.values())))
    drawn = rng.integers(0, policies, spec.players)
    players = Players(method(config).evaluated(spec, policies), spec.players, int(rng.integers(2**62)))
    players.load(THETA, Weights(0, theta))
    players.assign(drawn)
    return players, drawn.tolist()
