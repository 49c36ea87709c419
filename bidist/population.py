"""Trained populations, as policies with Melting Pot's own interface."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

import environments
from bidist.hub import SCHEME, download
from common.checkpoint import STATE
from common.errors import CheckpointError, ConfigError
from common.run_folder import RunFolder, find_run
from common.spec import EnvironmentSpec
from environments import Observation
from environments.last_action_reward import observe_last
from environments.named import RGB, from_names
from evaluator import evaluate
from evaluator.drivers import policy_count
from methods import make_method
from networks.network import Network
from networks.players import draw


@dataclass(frozen=True)
class State:
    """A player's memory between two steps.

    Attributes:
      policy: which of the population's policies plays, from 0.
      memory: [state_size], the network's recurrent state.
      action: its last action; None at the start of an episode.
      rng: draws its actions.
    """

    policy: int
    memory: Tensor
    action: int | None
    rng: np.random.Generator


class Population:
    """A trained population: any number of players, each with a `State` of its own.

    It has the interface of `meltingpot.utils.policies.policy.Policy` and, like every such policy, no state: `step`
    leaves its arguments as they are. Players see what they saw in training, and draw actions as in `bidist evaluate`.

    Args:
      source: the checkpoint to play, and the run it comes from.

    Raises: what building the run's game raises, from which the sizes of the networks follow.
    """

    def __init__(self, source: evaluate.EvaluatedPopulation) -> None:
        self._source = source
        self._spec = environments.spec(source.config.environment)
        self._networks = _networks(source, self._spec)

    @property
    def source(self) -> evaluate.EvaluatedPopulation:
        """Where it comes from: the run, with method, seed and configuration, and the checkpoint, with its steps."""
        return self._source

    @property
    def substrate(self) -> str:
        """The game that it was trained in."""
        return self._source.config.environment.substrate

    def __repr__(self) -> str:
        s, count = self._source, len(self._networks)
        return (
            f"Population({s.method} on {self.substrate}, run {s.run}, checkpoint {s.checkpoint}, "
            f"{s.player_steps:,} player steps, {count} {'policy' if count == 1 else 'policies'})"
        )

    def initial_state(self, seed: int | np.random.SeedSequence | None = None) -> State:
        """Returns the state of a player at the start of an episode.

        Args:
          seed: of the draw of one of the population's policies, and of all actions. An episode's focal seed, see
            `evaluator.scenario_table.episode_seeds`, gives the actions of the evaluator if there is one focal player.
        """
        rng = np.random.default_rng(seed)
        policy = int(rng.integers(0, len(self._networks), 1)[0])
        return State(policy, torch.zeros(self._networks[policy].state_size), None, rng)

    @torch.no_grad()
    def step(self, timestep: Any, prev_state: State) -> tuple[int, State]:
        """Chooses a player's action.

        Args:
          timestep: a `dm_env.TimeStep` of this player alone, with Melting Pot's observations by name, or those of
            `bidist.env`. After the first step, its reward is that of the last action.
          prev_state: the player's state.

        Returns: the action, from 0, and the player's next state.

        Raises:
          ConfigError: if these are not observations of the population's game.
        """
        seen = self._see(timestep, prev_state.action)
        rng, network = copy.deepcopy(prev_state.rng), self._networks[prev_state.policy]
        log_probs, memory = network.act(
            torch.from_numpy(seen.rgb)[None, None],
            torch.from_numpy(seen.features)[None, None],
            prev_state.memory[None, None],
            torch.zeros(1, 1, dtype=torch.int64),
        )
        race = torch.from_numpy(rng.standard_exponential((1, self._spec.actions)))
        action = int(draw(log_probs[0, 0], race.to(log_probs.dtype)))
        return action, State(prev_state.policy, memory[0, 0], action, rng)

    def close(self) -> None:
        """Does nothing; part of Melting Pot's interface."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _see(self, timestep: Any, action: int | None) -> Observation:
        """What the player's network sees: N = 1."""
        named, spec = timestep.observation, self._spec
        block = len(named[RGB]) // spec.rgb_shape[0] if spec.rgb_shape[0] and RGB in named else 1
        seen = from_names([named], max(1, block))
        if self._source.config.environment.last_action_and_reward:
            last = None if action is None else np.array([action], np.int32)
            seen = observe_last(seen, spec.actions, last, np.array([timestep.reward or 0], np.float32))
        if seen.rgb.shape[1:] != spec.rgb_shape or seen.features.shape[1] != spec.features:
            shapes = {name: np.shape(x) for name, x in named.items()}
            raise ConfigError(f"these are not observations of {self.substrate}: {shapes}")
        return seen


def load(path: str | Path, averaged: bool = False) -> Population:
    """Loads what a run has learned.

    Args:
      path: the run's folder, whose newest checkpoint is loaded, its name in `runs/`, the folder of a checkpoint, or
        `hf://user/name[@revision]` for what `bidist push` published on the Hugging Face Hub.
      averaged: whether to load the running average of theta instead of theta.

    Raises:
      ConfigError: if there is no such run.
      CheckpointError: if it has no complete checkpoint.
      SetupError: if the Hub's package is needed and not installed.
    """
    if str(path).startswith(SCHEME):
        path = download(str(path))
    folder, which = find_run(Path("runs"), str(path)), evaluate.NEWEST
    if (folder.path / STATE).exists():
        which, folder = folder.path.name, RunFolder(folder.path.resolve().parents[1])
    return Population(evaluate.populations(folder, [which], averaged)[0])


def _networks(source: evaluate.EvaluatedPopulation, spec: EnvironmentSpec) -> list[Network]:
    """One network per policy; each is small, and a player uses one."""
    theta = source.theta
    assert theta is not None, "checkpoints hold policies"
    found = []
    for i in range(policy_count(theta)):
        network = make_method(source.config).evaluation_network(spec, 1).eval().requires_grad_(False)
        for name, parameter in network.named_parameters():
            if name not in theta or theta[name].shape[1:] != parameter.shape[1:]:
                raise CheckpointError(f"{source.run}: parameter {name} does not fit the network of its configuration")
            parameter.data = theta[name][i : i + 1]
        found.append(network)
    return found
