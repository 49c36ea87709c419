"""Your own environment, through PettingZoo's Parallel API.

It is named `pettingzoo:package.module:function`, where the function takes no arguments and returns a `ParallelEnv`. All
agents must stay for the whole episode, act in `Discrete` spaces of the same size, and observe either an RGB image
(uint8, three dimensions) or an array of numbers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import imports
from common.errors import ConfigError, SubstrateError
from common.spec import EnvironmentSpec
from environments.images import block_mean
from environments.interface import Observation, Step


class PettingZoo:
    """A game that implements PettingZoo's Parallel API.

    Args:
      path: `package.module:function`.
      block: edge in pixels of the squares whose mean a policy sees; 1 is used for images that it does not divide.
      seed: seeds the first episode.

    Raises:
      ConfigError: if there is no such function, it fails, or its agents are not supported.
    """

    def __init__(self, path: str, block: int, seed: int) -> None:
        make = imports.load(path, f"pettingzoo:{path}", "pettingzoo:package.module:function")
        try:
            self._env: Any = make()
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"pettingzoo:{path}: {error}") from error
        self._agents: list[str] = list(self._env.possible_agents)
        self._seed: int | None = seed
        observed, actions = self._space("observation_space"), self._space("action_space")
        if not hasattr(actions, "n"):
            raise ConfigError(f"pettingzoo:{path}: expected Discrete actions, found {actions}")
        shape = observed.shape
        self._image = observed.dtype == np.uint8 and len(shape) == 3 and shape[2] == 3
        fits = self._image and not (shape[0] % block or shape[1] % block)
        self._block = block if fits else 1
        rgb_shape = (shape[0] // self._block, shape[1] // self._block, 3) if self._image else (0, 0, 3)
        features = 0 if self._image else int(np.prod(shape))
        self.spec = EnvironmentSpec(f"pettingzoo:{path}", len(self._agents), int(actions.n), rgb_shape, features)

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`."""
        observations, _ = self._env.reset(seed=self._seed if seed is None else seed)
        self._seed = None
        return self._observation(observations)

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        actions = {agent: int(a) for agent, a in zip(self._agents, action, strict=True)}
        observations, rewards, terminated, truncated, _ = self._env.step(actions)
        missing = [agent for agent in self._agents if agent not in observations]
        if missing:
            raise SubstrateError(f"{self.spec.name}: {missing[0]} left before the end of the episode; all must stay")
        reward = np.array([rewards[agent] for agent in self._agents], np.float32)
        over = any(terminated.values())
        return Step(self._observation(observations), reward, over, any(truncated.values()) and not over)

    def close(self) -> None:
        """See `Environment`."""
        self._env.close()

    def _space(self, kind: str) -> Any:
        spaces = [getattr(self._env, kind)(agent) for agent in self._agents]
        if any(space != spaces[0] for space in spaces):
            raise ConfigError(f"the agents' {kind}s differ; all agents share one network and need the same spaces")
        return spaces[0]

    def _observation(self, observations: dict[str, Any]) -> Observation:
        n = len(self._agents)
        if self._image:
            images = [np.ascontiguousarray(observations[agent]) for agent in self._agents]
            return Observation(block_mean(images, self._block), np.zeros((n, 0), np.float32), np.ones(n, bool))
        rows = [np.ravel(observations[agent]) for agent in self._agents]
        return Observation(np.zeros((n, 0, 0, 3), np.uint8), np.array(rows, np.float32), np.ones(n, bool))
