"""A game as a `ParallelEnv`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

import environments
from common.errors import ConfigError
from common.settings import validate
from environments import Observation
from environments.named import RGB, Named, by_name


class Game(ParallelEnv):  # type: ignore[misc]
    """A game of the fast adapter; see `bidist.env` for the arguments.

    The agents `player_0`, `player_1`, ... act at once, in `Discrete` spaces, and all stay to the end of an episode.
    Each observes a dictionary with the names, shapes and values of Melting Pot's own API.

    Attributes:
      possible_agents: all agents.
      agents: the same, or none between the end of an episode and `reset`.
    """

    metadata: dict[str, Any] = {"name": "bidist", "render_modes": []}
    render_mode = None

    def __init__(self, substrate: str, block: int, seed: int, options: Mapping[str, Any]) -> None:
        section = {**options, "substrate": substrate, "block": block, "last_action_and_reward": False}
        self._game = environments.build(validate({"environment": section}).environment, seed)
        self.possible_agents = [f"player_{i}" for i in range(self._game.spec.players)]
        self.agents: list[str] = []
        # The spaces follow from the first observation, which waits for the first call of `reset`.
        self._first: Observation | None = self._game.reset()
        self._observed = {
            agent: spaces.Dict({name: _box(name, x) for name, x in seen.items()})
            for agent, seen in self._named(self._first, 0.0).items()
        }
        self._acts = {agent: spaces.Discrete(self._game.spec.actions) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> Any:
        """Returns the space of an agent's observations, a `Dict`."""
        return self._observed[agent]

    def action_space(self, agent: str) -> Any:
        """Returns the space of an agent's actions, a `Discrete`."""
        return self._acts[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Named], dict[str, Any]]:
        """Starts the next episode; a seed reseeds everything random in the game, None continues.

        Args:
          seed: from 0.
          options: ignored; part of the API.
        """
        del options
        fresh, self._first = self._first, None
        observation = fresh if seed is None and fresh is not None else self._game.reset(seed)
        self.agents = list(self.possible_agents)
        return self._named(observation, 0.0), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[dict[str, Named], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Plays one step of all agents; the statistics of an episode come with its last step, in `infos`.

        Raises:
          ConfigError: if an agent's action is missing, or no episode is in progress.
        """
        if not self.agents:
            raise ConfigError("no episode is in progress: call reset")
        if missing := [agent for agent in self.agents if agent not in actions]:
            raise ConfigError(f"no action for {', '.join(missing)}: all agents act at every step")
        step = self._game.step(np.array([actions[agent] for agent in self.agents], np.int32))
        everybody = self.agents
        if step.terminated or step.truncated:
            self.agents = []
        total = float(np.sum(step.reward, dtype=np.float64))
        return (
            self._named(step.observation, total),
            {agent: float(x) for agent, x in zip(everybody, step.reward, strict=True)},
            dict.fromkeys(everybody, step.terminated),
            dict.fromkeys(everybody, step.truncated),
            {agent: dict(step.statistics) for agent in everybody},
        )

    def close(self) -> None:
        """Frees the game's resources."""
        self._game.close()

    def _named(self, observation: Observation, total: float) -> dict[str, Named]:
        return {agent: by_name(self._game, observation, i, i, total) for i, agent in enumerate(self.possible_agents)}


def _box(name: str, example: Any) -> spaces.Box:
    low, high = (0, 255) if name == RGB else (-np.inf, np.inf)
    return spaces.Box(low, high, np.shape(example), np.asarray(example).dtype.type)
