"""How different the policies are that the learning players met while they trained: the paper's second claim.

A learning player of BiDist meets theta as it was at the time, and phi after forward and after reverse events; one of
MAPPO meets theta alone. Every policy that the checkpoints of a run hold is shown the same observations, and two
policies are as far apart as their action distributions are on average: total variation, the largest difference in the
probability of anything that they might do, from 0 (the same) to 1 (nothing in common).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from common import checkpoint, environments
from common.config import Config
from common.environments import EnvironmentSpec
from common.errors import CheckpointError, ConfigError
from common.files import write
from common.methods import THETA, method, resolve
from common.network import arrange
from common.players import Players
from common.run_folder import RunFolder
from common.store import Weights
from evaluator.statistics import DRAWS, limits
from evaluator.style import COLOURS, STYLE

STEPS, COPIES = 200, 2

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Met:
    """A policy that learning players met.

    Attributes:
      kind: `theta`, one of several learners such as `theta 2`, `phi initial`, `phi forward`, `phi reverse`, or `past`.
      updates: of the learner, when it was met; for phi when it was distilled.
      parameters: each with the policy axis in front.
    """

    kind: str
    updates: int
    parameters: Mapping[str, Tensor]

    @property
    def label(self) -> str:
        """For pictures."""
        return f"{self.kind} {self.updates}"


@dataclass(frozen=True)
class Observed:
    """What players saw in episodes' first steps: rgb [T, R, H, W, 3], features [T, R, F], R = sources * copies * N."""

    rgb: NDArray[np.uint8]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class Diversity:
    """What was found of one run.

    Attributes:
      run, method: whose.
      policies: labels of the policies that were met, in the order of `distances`.
      distances: total variation between each two, mean over observations.
      mean: over all pairs; low, high: its 95% interval by a bootstrap over the observed players.
      by_kind: mean distance of the newest theta from the policies of each kind.
    """

    run: str
    method: str
    policies: list[str]
    distances: list[list[float]]
    mean: float
    low: float
    high: float
    by_kind: dict[str, float]


def policies_met(folder: RunFolder) -> list[Met]:
    """The policies in a run's checkpoints, of the learner and of the distiller, oldest first.

    Raises:
      CheckpointError: if there are not two.
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
            f"{folder.path}: its checkpoints hold {len(found)} policies, and two are needed to compare"
        )
    return sorted(found.values(), key=lambda met: (met.kind, met.updates))


def _learners(met: Met) -> list[Met]:
    """Each of several learners by itself, for each may play every seat."""
    count = len(next(iter(met.parameters.values())))
    if count == 1:
        return [met]
    return [
        Met(f"{met.kind} {i + 1}", met.updates, {name: x[i : i + 1] for name, x in met.parameters.items()})
        for i in range(count)
    ]


def observe(config: Config, theta: Mapping[str, Tensor], seed: int) -> Observed:
    """Lets a population play among itself and keeps what its players see."""
    seeds = np.random.default_rng(seed).integers(1, 2**31, COPIES)
    games = [environments.build(config.environment, int(s)) for s in seeds]
    spec = games[0].spec
    rows = COPIES * spec.players
    policies = len(next(iter(theta.values())))
    players = Players(method(config).evaluated(spec, policies), rows, seed)
    players.load(THETA, Weights(0, theta))
    players.assign(np.arange(rows) % policies)
    seen = [game.reset() for game in games]
    rgb, features = [], []
    for _ in range(STEPS):
        rgb.append(np.concatenate([s.rgb for s in seen]))
        features.append(np.concatenate([s.features for s in seen]))
        action = players.act(rgb[-1], features[-1])[0].reshape(COPIES, -1)
        steps = [game.step(own) for game, own in zip(games, action, strict=True)]
        # An episode that is shorter begins again; the memories of its players go on, for all policies alike.
        ended = [step.terminated or step.truncated for step in steps]
        seen = [g.reset() if over else s.observation for g, s, over in zip(games, steps, ended, strict=True)]
    for game in games:
        game.close()
    return Observed(np.stack(rgb), np.stack(features))


@torch.no_grad()
def probabilities(config: Config, spec: EnvironmentSpec, met: Met, observed: Observed) -> Tensor:
    """What a policy would do at each observation, with its own memory of those before: [T, R, A]."""
    policies = len(next(iter(met.parameters.values())))
    network = method(config).evaluated(spec, policies).eval()
    network.load_state_dict(dict(met.parameters))
    rows = observed.rgb.shape[1]
    places = arrange(np.arange(rows) % policies, policies)
    rgb, features = (places.gather(torch.from_numpy(x), 1) for x in (observed.rgb, observed.features))
    state = torch.zeros(*places.index.shape, network.state_size)
    log_probs, _ = network.act(rgb, features, state, torch.zeros_like(places.index))
    return places.scatter(log_probs.exp().transpose(1, 2), rows).transpose(0, 1)


def compare(folders: Sequence[RunFolder], out: Path, seed: int = 0) -> list[Diversity]:
    """Measures runs of one game on common observations, and writes `diversity.json` and `diversity.png`.

    The observations are what the newest population of each run sees when it plays among itself, of each as many.

    Args:
      folders: the runs'.
      out: a folder; made if missing.
      seed: of the games that are played.

    Raises:
      ConfigError: if the runs are of different games, or see them differently.
      CheckpointError: if a run's checkpoints hold fewer than two policies.
    """
    configs = [resolve(folder.read_config(), f"{folder.config}: ") for folder in folders]
    if len({config.environment.model_dump_json() for config in configs}) > 1:
        games = sorted({f"{c.environment.substrate} (block {c.environment.block})" for c in configs})
        raise ConfigError(f"runs of different games have no observations in common: {', '.join(games)}")
    spec = environments.spec(configs[0].environment)
    met = [policies_met(folder) for folder in folders]
    newest = [max((m for m in own if m.kind.startswith("theta")), key=lambda m: m.updates) for own in met]
    seen = [observe(c, theta.parameters, seed + i) for i, (c, theta) in enumerate(zip(configs, newest, strict=True))]
    observed = Observed(np.concatenate([s.rgb for s in seen], 1), np.concatenate([s.features for s in seen], 1))
    found = [
        _diversity(config, spec, own, theta, observed) for config, own, theta in zip(configs, met, newest, strict=True)
    ]
    out.mkdir(parents=True, exist_ok=True)
    write(out / "diversity.json", json.dumps([asdict(d) for d in found], indent=1).encode())
    _draw(found, out / "diversity.png")
    return found


def _diversity(config: Config, spec: EnvironmentSpec, met: list[Met], newest: Met, observed: Observed) -> Diversity:
    acts = [probabilities(config, spec, m, observed) for m in met]
    # [policies, policies, R], mean over steps.
    apart = np.array([[total_variation(x, y) for y in acts] for x in acts])
    pairs = apart[np.triu_indices(len(met), 1)]
    rng = np.random.default_rng(0)
    draws = rng.choice(pairs.mean(0), (DRAWS, pairs.shape[1])).mean(1)
    distances = apart.mean(-1)
    own = distances[met.index(newest)]
    kinds = sorted({m.kind for m in met})
    by_kind = {k: [d for m, d in zip(met, own, strict=True) if m.kind == k and m is not newest] for k in kinds}
    low, high = limits(draws)
    return Diversity(
        config.run.name, config.method.name, [m.label for m in met], np.round(distances, 4).tolist(),
        float(pairs.mean()), low, high, {k: float(np.mean(ds)) for k, ds in by_kind.items() if ds},
    )  # fmt: skip


def total_variation(x: Tensor, y: Tensor) -> Array:
    """Total variation between two policies' [T, R, A], mean over steps: [R]."""
    return np.asarray((0.5 * (x - y).abs().sum(-1)).mean(0).numpy(), np.float64)


def _draw(found: Sequence[Diversity], path: Path) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 + 3.4 * len(found), 4.2))
        panels = figure.subplots(1, 1 + len(found), width_ratios=[1, *[1.6] * len(found)])
        for i, d in enumerate(found):
            panels[0].bar(i, d.mean, 0.6, color=COLOURS[i % len(COLOURS)])
            panels[0].errorbar(i, d.mean, [[d.mean - d.low], [d.high - d.mean]], color="#202020", capsize=3)
        panels[0].set_xticks(range(len(found)), [d.run for d in found], rotation=30, ha="right")
        panels[0].set_ylabel("total variation, mean over pairs")
        panels[0].set_title("policies met in training")
        top = max(max(map(max, d.distances)) for d in found) or 1.0
        for axes, d in zip(panels[1:], found, strict=True):
            image = axes.imshow(d.distances, vmin=0, vmax=top, cmap="viridis")
            axes.set_xticks(range(len(d.policies)), d.policies, rotation=90)
            axes.set_yticks(range(len(d.policies)), d.policies)
            axes.grid(False)
            axes.set_title(d.run)
        figure.colorbar(image, ax=panels[1:].tolist(), label="total variation", shrink=0.8)
        figure.savefig(path)
