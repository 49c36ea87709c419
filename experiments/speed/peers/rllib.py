"""Trains with RLlib's PPO until it is stopped: `python -m experiments.speed.peers.rllib FOLDER`."""

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
from gymnasium import spaces
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from torch import Tensor, nn

import environments
from common.config import EnvironmentConfig, NetworkConfig
from experiments.speed.peers.embedding import Embedding
from experiments.speed.peers.games import observation_space, rows
from experiments.speed.peers.reports import OfRLlib
from experiments.speed.peers.settings import MODULE
from experiments.speed.peers.task import Task, report


class Game(MultiAgentEnv):  # type: ignore[misc]
    """A game as RLlib plays those of several agents: dictionaries with an entry for each."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self._game = environments.build(EnvironmentConfig.model_validate(config["environment"]), seed=1)
        spec = self._game.spec
        self.agents = self.possible_agents = [f"player_{i}" for i in range(spec.players)]
        self.observation_spaces = self._each([observation_space(spec)] * spec.players)
        self.action_spaces = self._each([spaces.Discrete(spec.actions)] * spec.players)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the next episode."""
        return self._each(rows(self._game.reset(seed))), {}

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        """Plays a step."""
        step = self._game.step(np.array([actions[agent] for agent in self.agents], np.int32))
        ends = {"__all__": step.terminated}, {"__all__": step.truncated}
        return self._each(rows(step.observation)), self._each(step.reward.tolist()), *ends, {}

    def close(self) -> None:
        """Frees the game."""
        self._game.close()

    def _each(self, values: list[Any]) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))


class SameNetwork(TorchRLModule, ValueFunctionAPI):  # type: ignore[misc]
    """This project's embedding, an LSTM of torch's, and heads for policy and value."""

    def setup(self) -> None:
        """Builds the layers."""
        network = NetworkConfig.model_validate(self.model_config["network"])
        space = self.observation_space
        self._size = network.core_size
        self._embedding = Embedding(space["rgb"].shape, space["features"].shape[0], network)
        self._core = nn.LSTM(network.dense, network.core_size, batch_first=True)
        self._policy, self._value = nn.Linear(self._size, self.action_space.n), nn.Linear(self._size, 1)

    def get_initial_state(self) -> dict[str, Any]:
        """Returns the recurrent state of one player before the first step."""
        return {name: np.zeros(self._size, np.float32) for name in ("h", "c")}

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        hidden, state = self._remember(batch)
        return {Columns.ACTION_DIST_INPUTS: self._policy(hidden), Columns.STATE_OUT: state}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        hidden, state = self._remember(batch)
        logits = self._policy(hidden)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.STATE_OUT: state, Columns.EMBEDDINGS: hidden}

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """Returns values [B, T]."""
        values: Tensor = self._value(self._remember(batch)[0] if embeddings is None else embeddings)
        return values.squeeze(-1)

    def _remember(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns hidden [B, T, core] of observations [B, T, ...], and the state after them."""
        seen, state = batch[Columns.OBS], batch[Columns.STATE_IN]
        rgb, features = seen["rgb"], seen["features"]
        embedding = self._embedding(rgb.flatten(0, 1), features.flatten(0, 1)).unflatten(0, features.shape[:2])
        hidden, (h, c) = self._core(embedding, (state["h"][None], state["c"][None]))
        return hidden, {"h": h[0], "c": c[0]}


def main(folder: Path) -> None:
    """Trains."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that Ray ends its processes
    task = Task.read(folder)
    settings = task.settings
    config = (
        PPOConfig()
        .environment(Game, env_config={"environment": task.config.environment.model_dump()})
        .env_runners(**settings["env_runners"])
        .training(**settings["training"])
        .multi_agent(policies={MODULE}, policy_mapping_fn=lambda *_, **__: MODULE)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=SameNetwork, model_config=settings["model"]))
        .debugging(**settings["debugging"])
    )
    ray.init(**settings["ray"], _temp_dir=str(folder / "ray"))
    try:
        algorithm, reports = config.build_algo(), OfRLlib()
        while True:
            report(folder, reports.line(algorithm.train()))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
