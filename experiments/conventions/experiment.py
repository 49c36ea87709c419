"""Whether the partners that a method meets in training help it with strangers: an experiment with five conventions.

Two players earn 1 in each step in which they act alike. Any of five actions will do, so a population settles on one,
its convention. A stranger keeps to another one for a whole episode. A policy that has only ever met its own convention
had no reason to learn to follow; one that has met others follows from the second step on.

    bidist conventions --seeds 10 --out results/conventions
"""

import json
import multiprocessing
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from common.config import Config
from common.errors import ConfigError
from common.files import append_line, read_lines, write
from common.run_folder import RunFolder
from common.settings import load_config
from common.unroll import Unroll
from deploy.redis_server import RedisServer
from deploy.serial import Serial
from evaluator.workers import leave_with_parent
from experiments.conventions.report import CONVENTIONS, GAME, Outcome, draw, summarise, table
from experiments.conventions.strangers import meet
from methods import METHODS, make_method, resolve
from reports.provenance import circumstances, commit

LENGTH = 16
OUTCOMES = "outcomes.jsonl"
# By label: the method, and settings that differ from the defaults. The game has no images, so RandNet would be MAPPO.
# Fictitious players are there from the start: theta needs fewer updates to settle on a convention than it has alone.
EARLY, LUCK = "method.alone_until=0", "method.luck=episode"
ALONE = ("bidist", "bidist-forward-only", "bidist-no-distillation", "bidist-symmetric")
TRIED = {name: (name, [EARLY] if name in ALONE else []) for name in METHODS if name != "randnet"} | {
    "bidist, luck by episode": ("bidist", [EARLY, LUCK]),
    "bidist, luck by episode, not smoothed": ("bidist", [EARLY, LUCK, "distiller.forward_smoothing=0"]),
    "bidist-no-distillation, luck by episode": ("bidist-no-distillation", [EARLY, LUCK]),
    "bidist-forward-only, luck by episode": ("bidist-forward-only", [EARLY, LUCK]),
}
# An unroll is an episode, and a quarter of it is burn-in, as by default. The network is small; everything else, such as
# step sizes, epochs and k_d, has its default.
SETTINGS = [
    f"environment.substrate={GAME}",
    f"environment.episode_length={LENGTH}",
    "environment.players=2",
    f"actor.unroll_length={LENGTH}",
    "actor.environments=32",
    f"distiller.burn_in={LENGTH // 4}",
    "network.dense=32",
    "network.core_size=32",
    "learner.device=cpu",
    "learner.threads=1",
    "run.name=run",
]
EPISODES = 50
KEPT = 0.9
"""Share of an episode's steps that a player must spend on one action to keep that convention."""
Array = NDArray[np.float64]


def train(what: str, seed: int, updates: int) -> tuple[Config, dict[str, Any], NDArray[np.bool_], Array]:
    """Trains in this process.

    Returns: the configuration, theta, and two arrays about the partners of trained players, an entry per episode,
      oldest first: whether theta drove the partner, [episodes], and the shares of its actions, [episodes, CONVENTIONS].
    """
    name, overrides = TRIED[what]
    learning: list[bool] = []
    partners: list[Array] = []
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as server:
        config = load_config(
            overrides=[*SETTINGS, *overrides, f"run.folder={folder}"],
            values={"method.name": name, "run.seed": seed},
            environ={},
        )
        config = resolve(config)
        RunFolder.of(config.run).create(config)
        trained = make_method(config).training_mask
        unrolls: list[Unroll] = []  # of the newest batch; each is a whole episode
        with Serial(config, server.url, on_batch=unrolls.extend) as serial:
            for _ in range(updates):
                unrolls.clear()
                serial.update()
                for unroll in unrolls:
                    for player in np.flatnonzero(trained(np.array(unroll.header.learning))):
                        shares = np.bincount(unroll.action[:, 1 - player], minlength=CONVENTIONS) / unroll.env_steps
                        learning.append(unroll.header.learning[1 - player])
                        partners.append(shares)
            theta = serial.store.wait_for_weights("theta")
    return config, dict(theta.parameters), np.array(learning), np.array(partners)


def experiment(what: str, seed: int, updates: int) -> Outcome:
    """Trains one run and lets its population meet strangers."""
    config, theta, learning, partners = train(what, seed, updates)
    alone, actions = meet(config, theta, None, seed)
    convention = int(np.bincount(actions.ravel()).argmax())
    with_each = np.array([meet(config, theta, stranger, seed)[0] for stranger in range(CONVENTIONS)])
    kept = partners >= KEPT
    late = partners[len(partners) // 2 :][~learning[len(partners) // 2 :], convention]
    return Outcome(
        what=what,
        seed=seed,
        convention=convention,
        alone=alone,
        same=float(with_each[convention]),
        other=float(with_each[np.arange(CONVENTIONS) != convention].mean()),
        with_each=with_each.round(4).tolist(),
        kept_by_learning=(kept & learning[:, None]).mean(0).round(4).tolist(),
        kept_by_others=(kept & ~learning[:, None]).mean(0).round(4).tolist(),
        away=float(1 - late.mean()) if len(late) else None,
    )


def _finished(path: Path, kind: Mapping[str, Any]) -> dict[tuple[str, int], Outcome]:
    """Reads the outcomes of as many updates by the same commit; outcomes by other code are run again."""
    own = [line for line in read_lines(path) if kind.items() <= line.items()]
    found = [Outcome(**{name: value for name, value in line.items() if name not in kind}) for line in own]
    return {(outcome.what, outcome.seed): outcome for outcome in found}


def run(names: Sequence[str], seeds: int, updates: int, workers: int, out: Path) -> None:
    """Runs every method with every seed, and writes `outcomes.jsonl`, `conventions.json` and `conventions.png`.

    Outcomes are appended as runs end; the same command, at the same commit, resumes.

    Args:
      names: labels in `TRIED`.
      seeds: runs per method.
      updates: learner updates per run.
      workers: runs at a time.
      out: the folder to write to.

    Raises:
      ConfigError: if a name is unknown.
    """
    if unknown := [name for name in names if name not in TRIED]:
        raise ConfigError(f"--methods {unknown[0]!r}: expected some of {', '.join(map(repr, TRIED))}")
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    jobs = [(name, seed, updates) for seed in range(seeds) for name in names]
    kind = {"updates": updates, "commit": commit()}
    known = _finished(out / OUTCOMES, kind)
    outcomes = [known[job[:2]] for job in jobs if job[:2] in known]
    left = [job for job in jobs if job[:2] not in known]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), leave_with_parent) as pool:
        for future in as_completed([pool.submit(experiment, *job) for job in left]):
            o = future.result()
            append_line(out / OUTCOMES, asdict(o) | kind)
            outcomes.append(o)
            done = f"{len(outcomes)} of {len(jobs)}"
            console.print(f"{done}: {o.what}, seed {o.seed}: {o.other:.2f} per step with strangers")
    outcomes.sort(key=lambda o: (names.index(o.what), o.seed))
    write(out / OUTCOMES, "".join(json.dumps(asdict(o) | kind) + "\n" for o in outcomes).encode())
    summary = summarise(names, outcomes)
    options = ["--seeds", str(seeds), "--updates", str(updates), "--methods", *names]
    document = {"command": shlex.join(["bidist", "conventions", *options]), "methods": summary, **circumstances()}
    write(out / "conventions.json", f"{json.dumps(document, indent=1)}\n".encode())
    draw(names, outcomes, out / "conventions.png")
    console.print(table(summary))
