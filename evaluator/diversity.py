"""Measures the diversity of the policies that learning players met in training: the paper's second claim.

A learning player of BiDist meets the current theta, and phi after forward and after reverse events; one of MAPPO meets
theta alone. All policies in a run's checkpoints are shown the same observations. The distance between two policies is
the total variation between their action distributions, averaged over observations: from 0 (identical) to 1 (disjoint).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import environments
from common import checkpoint
from common.config import Config
from common.errors import CheckpointError, ConfigError
from common.run_folder import RunFolder
from common.spec import EnvironmentSpec
from environments import Environment, Observation
from environments.interface import Step
from evaluator.drivers import PopulationDriver, policy_count
from evaluator.play import Observer, Table, play
from evaluator.self_play import ALL, SelfPlayTable, in_turn
from methods import make_method, resolve
from networks.arrangement import arrange

STEPS, COPIES = 200, 2

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Met:
    """A policy that learning players met.

    Attributes:
      kind: `theta`, one of several learners such as `theta 2`, `phi initial`, `phi forward`, `phi reverse`, or `past`.
      updates: the learner's, when the policy was met; for phi, when it was distilled.
      parameters: each with the policy axis first.
    """

    kind: str
    updates: int
    parameters: Mapping[str, Tensor]

    @property
    def label(self) -> str:
        """Its name in pictures."""
        return f"{self.kind} {self.updates}"


@dataclass(frozen=True)
class Observed:
    """What players saw in the first T steps: rgb [T, R, H, W, 3], features [T, R, F], R = sources * copies * N."""

    rgb: NDArray[np.uint8]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class Distances:
    """The distances between the policies of one run.

    Attributes:
      config: the run's.
      met: the policies, by kind, oldest first.
      newest: the index of the newest theta.
      apart: total variation of each pair, mean over steps: [policies, policies, R].
    """

    config: Config
    met: list[Met]
    newest: int
    apart: Array


def policies_met(folder: RunFolder) -> list[Met]:
    """Returns the policies in the learner's and the distiller's checkpoints, by kind, oldest first.

    Raises:
      CheckpointError: if there are fewer than two.
    """
    found: dict[tuple[str, int], Met] = {}
    for path in checkpoint.checkpoints(folder.checkpoints):
        saved = checkpoint.load(path)
        found["theta", saved.state["updates"]] = Met("theta", saved.state["updates"], saved.tensors["theta"])
        if "phi" in saved.tensors:
            kind = f"phi {saved.state['phi']['direction']}"
            found[kind, saved.state["phi"]["version"]] = Met(kind, saved.state["updates"], saved.tensors["phi"])
    for path in checkpoint.checkpoints(folder.distiller):
        saved = checkpoint.load(path)
        kind = f"phi {saved.state['direction']}"
        found[kind, saved.state["version"]] = Met(kind, saved.state["update"], saved.tensors["phi"])
    for path in checkpoint.checkpoints(folder.pool):
        found["past", int(path.name)] = Met("past", int(path.name), checkpoint.load(path).tensors["theta"])
    if folder.read_config().network.parameters == "shared":
        found = {(one.kind, key[1]): one for key, met in found.items() for one in _learners(met)}
    if len(found) < 2:
        raise CheckpointError(
            f"{folder.path}: its checkpoints hold {len(found)} policies; a comparison needs at least two"
        )
    return sorted(found.values(), key=lambda met: (met.kind, met.updates))


def _learners(met: Met) -> list[Met]:
    """Separates several learners, because each may play every seat."""
    count = policy_count(met.parameters)
    if count == 1:
        return [met]
    return [
        Met(f"{met.kind} {i + 1}", met.updates, {name: x[i : i + 1] for name, x in met.parameters.items()})
        for i in range(count)
    ]


def observe(config: Config, theta: Mapping[str, Tensor], seed: int) -> Observed:
    """Plays a population against itself and keeps what its players see."""
    rng, policies = np.random.default_rng(seed), policy_count(theta)
    seeds = rng.integers(1, 2**31, COPIES)
    tables = [_ExcerptTable([0], config.environment, int(s), in_turn(i, policies, rng)) for i, s in enumerate(seeds)]
    seen = _Seen()
    for _ in play(tables, [PopulationDriver(ALL, config, theta, COPIES, seed)], [seen]):
        pass
    shown = [seen.of[table] for table in tables]
    rgb = np.concatenate([np.stack([o.rgb for o in own]) for own in shown], axis=1)
    features = np.concatenate([np.stack([o.features for o in own]) for own in shown], axis=1)
    return Observed(rgb, features)


class _Seen(Observer):
    """Keeps the observation of each step, by table."""

    def __init__(self) -> None:
        self.of: dict[Table[Any, Any], list[Observation]] = defaultdict(list)

    def step(self, table: Table[Any, Any], step: Step) -> None:
        """See `Observer`."""
        self.of[table].append(table.observation)


class _Excerpt:
    """The first `STEPS` steps of a game as one episode; if an episode of the game ends sooner, the next one follows.

    The players' memories carry over, as they do in `probabilities`.
    """

    def __init__(self, game: Environment) -> None:
        self._game, self.spec = game, game.spec

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`."""
        self._left = STEPS
        return self._game.reset(seed)

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        self._left -= 1
        step = self._game.step(action)
        observation = self._game.reset() if step.terminated or step.truncated else step.observation
        return Step(observation, step.reward, truncated=not self._left)

    def close(self) -> None:
        """See `Environment`."""
        self._game.close()


class _ExcerptTable(SelfPlayTable):
    """A table at which an excerpt of a game is played."""

    def build(self) -> Environment:
        """See `SelfPlayTable`."""
        return _Excerpt(super().build())


@torch.no_grad()
def probabilities(config: Config, spec: EnvironmentSpec, met: Met, observed: Observed) -> Tensor:
    """Returns a policy's action probabilities at each observation, with memory of the earlier ones: [T, R, A]."""
    policies = policy_count(met.parameters)
    network = make_method(config).evaluation_network(spec, policies).eval()
    network.load_state_dict(dict(met.parameters))
    rows = observed.rgb.shape[1]
    arrangement = arrange(np.arange(rows) % policies, policies)
    rgb, features = (arrangement.gather(torch.from_numpy(x), 1) for x in (observed.rgb, observed.features))
    state = torch.zeros(*arrangement.index.shape, network.state_size)
    log_probs, _ = network.act(rgb, features, state, torch.zeros_like(arrangement.index))
    return arrangement.scatter(log_probs.exp().transpose(1, 2), rows).transpose(0, 1)


def distances(folders: Sequence[RunFolder], seed: int = 0) -> list[Distances]:
    """Measures runs of one game on common observations.

    The newest population of each run plays against itself, and each contributes as many observations.

    Args:
      folders: the runs'.
      seed: of the games played.

    Raises:
      ConfigError: if the runs' games, or what their players observe, differ.
      CheckpointError: if a run's checkpoints hold fewer than two policies.
    """
    configs = [resolve(folder.read_config(), f"{folder.config}: ") for folder in folders]
    if len({config.environment.model_dump_json() for config in configs}) > 1:
        games = sorted({f"{c.environment.substrate} (block {c.environment.block})" for c in configs})
        raise ConfigError(f"these runs play different games and have no observations in common: {', '.join(games)}")
    spec = environments.spec(configs[0].environment)
    met = [policies_met(folder) for folder in folders]
    newest = [max((m for m in own if m.kind.startswith("theta")), key=lambda m: m.updates) for own in met]
    seen = [observe(c, theta.parameters, seed + i) for i, (c, theta) in enumerate(zip(configs, newest, strict=True))]
    observed = Observed(np.concatenate([s.rgb for s in seen], 1), np.concatenate([s.features for s in seen], 1))
    found = []
    for config, own, theta in zip(configs, met, newest, strict=True):
        acts = [probabilities(config, spec, m, observed) for m in own]
        apart = np.array([[total_variation(x, y) for y in acts] for x in acts])
        found.append(Distances(config, own, own.index(theta), apart))
    return found


def total_variation(x: Tensor, y: Tensor) -> Array:
    """Returns the total variation between two policies' probabilities [T, R, A], mean over steps: [R]."""
    return np.asarray((0.5 * (x - y).abs().sum(-1)).mean(0).numpy(), np.float64)
