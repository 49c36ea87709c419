"""Trains with Sample Factory until it is stopped: `python -m experiments.speed.peers.sample_factory FOLDER`."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from sample_factory.algo.runners.runner import AlgoObserver, Runner
from sample_factory.algo.utils.context import global_model_factory
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.model.encoder import Encoder
from sample_factory.train import make_runner
from torch import Tensor

import environments
from common.config import Config, EnvironmentConfig, NetworkConfig
from environments import Observation
from experiments.speed.peers.embedding import Embedding
from experiments.speed.peers.games import observation_space, rows
from experiments.speed.peers.reports import of_sample_factory
from experiments.speed.peers.settings import GAME
from experiments.speed.peers.task import Task, report


class Game(gymnasium.Env[Any, Any]):
    """A game as Sample Factory plays those of several players: lists with an entry for each, and resets by itself."""

    is_multiagent = True

    def __init__(self, config: EnvironmentConfig, seed: int) -> None:
        self._game = environments.build(config, seed)
        spec = self._game.spec
        self.num_agents = spec.players
        self.observation_space, self.action_space = observation_space(spec), spaces.Discrete(spec.actions)

    def reset(self, **_: Any) -> tuple[list[Any], list[Any]]:  # type: ignore[override]
        """Starts the next episode."""
        return rows(self._game.reset()), self._each({})

    def step(self, actions: list[int]) -> tuple[list[Any], ...]:  # type: ignore[override]
        """Plays a step."""
        step = self._game.step(np.array(actions, np.int32))
        over = step.terminated or step.truncated
        seen: Observation = self._game.reset() if over else step.observation
        each = self._each
        return rows(seen), step.reward.tolist(), each(step.terminated), each(step.truncated), each({})

    def close(self) -> None:
        """Frees the game."""
        self._game.close()

    def _each(self, value: Any) -> list[Any]:
        return [value] * self.num_agents


class SameEmbedding(Encoder):  # type: ignore[misc]
    """This project's embedding, as an encoder of Sample Factory's."""

    def __init__(self, config: NetworkConfig, cfg: Any, space: Any) -> None:
        super().__init__(cfg)
        self._size = config.dense
        self.embedding = Embedding(space["rgb"].shape, space["features"].shape[0], config)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Embeds a batch."""
        embedded: Tensor = self.embedding(observation["rgb"], observation["features"])
        return embedded

    def get_out_size(self) -> int:
        """Returns the length of an embedding."""
        return self._size


class Reporter(AlgoObserver):  # type: ignore[misc]
    """Reports after each training iteration."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_training_step(self, runner: Runner, training_iteration_since_resume: int) -> None:
        """See `AlgoObserver`."""
        report(self._folder, of_sample_factory(runner.env_steps, runner.policy_avg_stats))


def make_game(config: Config, name: str, cfg: Any, place: Any, render_mode: str | None = None) -> Game:
    """Builds a game; `place` has its number, unless it is built only to look at its spaces."""
    return Game(config.environment, 1000 * config.run.seed + (place.env_id if place else 0))


def main(folder: Path) -> None:
    """Trains."""
    task = Task.read(folder)
    register_env(GAME, partial(make_game, task.config))
    global_model_factory().register_encoder_factory(partial(SameEmbedding, task.config.network))
    arguments = [f"--{name}={value}" for name, value in {**task.settings, "train_dir": folder}.items()]
    parser, _ = parse_sf_args(arguments)
    _, runner = make_runner(parse_full_cfg(parser, arguments))
    runner.register_observer(Reporter(folder))
    runner.init()
    sys.exit(int(runner.run()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
