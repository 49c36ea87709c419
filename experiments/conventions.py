"""Whether what a method meets in training helps it with strangers: an experiment on a game of five conventions.

Two players earn 1 in each step in which they act alike. Any of five actions will do, so a population settles on one,
its convention. A stranger keeps another one all episode long. Who has never met anybody who keeps to something else has
had no reason to learn to follow; who has, follows from the second step on.

    bidist conventions --seeds 10 --out results/conventions
"""

import json
import multiprocessing
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

from common.config import Config
from common.errors import ConfigError
from common.run_folder import RunFolder
from common.settings import load_config
from common.unroll import Unroll
from deploy.redis_server import RedisServer
from deploy.serial import Serial
from environments.matrix_game import PAYOFFS
from experiments.strangers import meet
from methods import METHODS, method, resolve
from reports.provenance import circumstances
from reports.statistics import interval, permutation_test
from reports.style import BLUE, GREY, ORANGE, STYLE

GAME, LENGTH = "matrix_conventions", 16
CONVENTIONS = len(PAYOFFS[GAME])
UPDATES = 300
# By label, the method and what is set otherwise. There are no images here, so RandNet is MAPPO and is left out.
FAR = ["distiller.reverse_learning_rate=0.002", "distiller.reverse_epochs=4"]
TRIED = {name: (name, list[str]()) for name in METHODS if name != "randnet"} | {
    "bidist, 3 nats": ("bidist", [*FAR, "distiller.reverse_bound=3"]),
    "bidist, unbounded": ("bidist", [*FAR, "distiller.reverse_bound=null"]),
}
# An episode is an unroll, of which a quarter warms the distiller's memories up, as by default; the rest of a small game
# and network. Everything else, rates and epochs and k_d among it, is as by default.
SETTINGS = [
    f"environment.substrate={GAME}", f"environment.episode_length={LENGTH}", "environment.players=2",
    f"actor.unroll_length={LENGTH}", f"distiller.burn_in={LENGTH // 4}", "actor.environments=32",
    "network.dense=32", "network.core_size=32", "learner.device=cpu", "learner.threads=1", "run.name=run",
]  # fmt: skip
KEPT = 0.9
"""Share of an episode's steps in one action from which on a player is said to keep a convention."""
MET = 0.01
"""Share of training episodes in which partners kept a convention from which on it is said to have been met."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What came of one run.

    Attributes:
      what, seed: the run, by its label in `TRIED`.
      convention: what theta mostly does among itself.
      alone: its reward per step among itself.
      same: with strangers who keep that convention.
      other: with strangers who keep one of the others, mean over those.
      with_each: with strangers who keep each convention.
      kept_by_learning: in what share of training episodes a partner kept each convention and was played by theta.
      kept_by_others: in what share one did who was played by phi or by a past policy.
      away: share of what such partners did, in the second half of training, that was not theta's convention; None if
        there were none.
    """

    what: str
    seed: int
    convention: int
    alone: float
    same: float
    other: float
    with_each: list[float]
    kept_by_learning: list[float]
    kept_by_others: list[float]
    away: float | None

    @property
    def left(self) -> list[int]:
        """The other conventions that partners kept who were not played by theta."""
        return [i for i, share in enumerate(self.kept_by_others) if i != self.convention and share >= MET]

    @property
    def never_kept(self) -> list[int]:
        """The other conventions that no partner kept."""
        both = np.add(self.kept_by_learning, self.kept_by_others)
        return [i for i, share in enumerate(both) if i != self.convention and share < MET]


def train(what: str, seed: int, updates: int) -> tuple[Config, dict[str, Any], NDArray[np.bool_], Array]:
    """Trains in this process.

    Returns: the configuration, theta, and of the partners of players who were trained, in each of their episodes,
      oldest first, whether theta played them, [episodes], and what they did, in shares, [episodes, CONVENTIONS].
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
        trained = method(config).trained
        with Serial(config, server.url) as serial, _watched(serial) as unrolls:
            for _ in range(updates):
                serial.update()
                for unroll in unrolls:
                    for player in np.flatnonzero(trained(np.array(unroll.header.learning))):
                        shares = np.bincount(unroll.action[:, 1 - player], minlength=CONVENTIONS) / unroll.env_steps
                        learning.append(unroll.header.learning[1 - player])
                        partners.append(shares)
                unrolls.clear()
            theta = serial.store.wait_for_weights("theta")
    return config, dict(theta.parameters), np.array(learning), np.array(partners)


@contextmanager
def _watched(serial: Serial) -> Iterator[list[Unroll]]:
    """Collects the unrolls that the learner takes; each is a whole episode here."""
    feed, unrolls = serial.learner.feed, list[Unroll]()
    take = feed.next_batch

    def next_batch(version: int, timeout_s: float) -> list[Unroll] | None:
        batch = take(version, timeout_s)
        unrolls.extend(batch or [])
        return batch

    feed.next_batch = next_batch  # type: ignore[method-assign]
    yield unrolls


def experiment(what: str, seed: int, updates: int) -> Outcome:
    """One run, and how its population does among strangers."""
    config, theta, learning, partners = train(what, seed, updates)
    alone, actions = meet(config, theta, None, seed)
    convention = int(np.bincount(actions.ravel()).argmax())
    with_each = np.array([meet(config, theta, stranger, seed)[0] for stranger in range(CONVENTIONS)])
    kept = partners >= KEPT
    late = partners[len(partners) // 2 :][~learning[len(partners) // 2 :], convention]
    return Outcome(
        what, seed, convention, alone, float(with_each[convention]),
        float(with_each[np.arange(CONVENTIONS) != convention].mean()), with_each.round(4).tolist(),
        (kept & learning[:, None]).mean(0).round(4).tolist(), (kept & ~learning[:, None]).mean(0).round(4).tolist(),
        float(1 - late.mean()) if len(late) else None,
    )  # fmt: skip


def run(names: Sequence[str], seeds: int, updates: int, workers: int, out: Path) -> None:
    """Runs every method with every seed, and writes `outcomes.jsonl`, `conventions.json` and `conventions.png`.

    Raises:
      ConfigError: if a name is none of `TRIED`, or there is nothing to run.
    """
    if unknown := [name for name in names if name not in TRIED]:
        raise ConfigError(f"--methods {unknown[0]!r}: expected some of {', '.join(map(repr, TRIED))}")
    if min(seeds, updates, workers) < 1:
        raise ConfigError(f"--seeds {seeds} --updates {updates} --workers {workers}: expected 1 or more of each")
    out.mkdir(parents=True, exist_ok=True)
    jobs = [(name, seed, updates) for seed in range(seeds) for name in names]
    outcomes: list[Outcome] = []
    console = Console()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for done, future in enumerate(as_completed([pool.submit(experiment, *job) for job in jobs]), start=1):
            o = future.result()
            outcomes.append(o)
            console.print(f"{done} of {len(jobs)}: {o.what}, seed {o.seed}: with strangers {o.other:.2f} a step")
    outcomes.sort(key=lambda o: (names.index(o.what), o.seed))
    (out / "outcomes.jsonl").write_text("".join(json.dumps(asdict(o)) + "\n" for o in outcomes))
    summary = summarise(names, outcomes)
    command = shlex.join(["bidist", "conventions", "--seeds", str(seeds), "--updates", str(updates),
                          "--methods", *names])  # fmt: skip
    document = {"command": command, "methods": summary, **circumstances()}
    (out / "conventions.json").write_text(json.dumps(document, indent=1) + "\n")
    _draw(names, outcomes, out / "conventions.png")
    heads = ("method", "among itself", "own convention", "another (95%)", "p", "kept", "with those", "with the rest",
             "away")  # fmt: skip
    table = Table(*(Column(head, no_wrap=True) for head in heads), box=None)
    for s in summary:
        low, high = s["other_interval"]
        table.add_row(
            s["what"], f"{s['alone']:.2f}", f"{s['same']:.2f}", f"{s['other']:.3f} ({low:.3f} to {high:.3f})",
            _text(s["p"]), f"{s['left']:.1f}", _text(s["with_left"]), _text(s["with_never_kept"]), _text(s["away"]),
        )  # fmt: skip
    console.print(table)


def summarise(names: Sequence[str], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Means over seeds, with the bootstrap's interval over seeds.

    p is of a permutation of a method's seeds with MAPPO's, by Holm's correction for as many comparisons as there are.
    """
    rows: list[dict[str, Any]] = []
    base = [o.other for o in outcomes if o.what == "mappo"]
    for name in names:
        own = [o for o in outcomes if o.what == name]
        other, away = interval([o.other for o in own]), [o.away for o in own if o.away is not None]
        rows.append({
            "what": name, "runs": len(own), "alone": float(np.mean([o.alone for o in own])),
            "same": float(np.mean([o.same for o in own])), "other": other.mean,
            "other_interval": [other.low, other.high], "left": float(np.mean([len(o.left) for o in own])),
            "with_left": _mean(o.with_each[i] for o in own for i in o.left),
            "with_never_kept": _mean(o.with_each[i] for o in own for i in o.never_kept),
            "away": _mean(away),
            "p": permutation_test([o.other for o in own], base) if base and name != "mappo" else None,
        })  # fmt: skip
    compared = sorted((row for row in rows if row["p"] is not None), key=lambda row: row["p"])
    least = 0.0
    for i, row in enumerate(compared):
        least = row["p"] = min(1.0, max(least, row["p"] * (len(compared) - i)))
    return rows


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _mean(values: Iterable[float]) -> float | None:
    """None if there are no values."""
    given = list(values)
    return float(np.mean(given)) if given else None


def _draw(names: Sequence[str], outcomes: Sequence[Outcome], path: Path) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.42 * len(names) + 1.4))
        axes, left = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
        rng = np.random.default_rng(0)
        for y, name in enumerate(names):
            own = [o for o in outcomes if o.what == name]
            jitter = y + rng.uniform(-0.18, 0.18, len(own))
            axes.plot([o.other for o in own], jitter, "o", markersize=3, color=GREY, alpha=0.6)
            other = interval([o.other for o in own])
            axes.errorbar(other.mean, y, xerr=[[other.mean - other.low], [other.high - other.mean]], fmt="o",
                          color=BLUE, capsize=3)  # fmt: skip
            left.barh(y, np.mean([len(o.left) for o in own]), 0.6, color=ORANGE)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.axvline(1 / CONVENTIONS, color=GREY, linestyle=":")
        axes.set_xlabel("reward per step with strangers of another convention; dotted: random")
        left.set_xlim(0, CONVENTIONS - 1)
        left.set_xlabel("other conventions that partners kept,\nplayed by phi or a past policy")
        figure.savefig(path)
