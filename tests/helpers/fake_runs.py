"""Run folders and Redis entries as real runs leave them, made in milliseconds."""

import json
import math
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from common.config import Config
from common.run_folder import RunFolder
from common.settings import load_config
from common.store import Store

BATCH_STEPS = 2048


def config_of(
    root: Path, name: str, method: str = "bidist", game: str = "matrix_coordination", seed: int = 0
) -> Config:
    """A configuration like any other."""
    overrides = [
        f"run.name={name}",
        f"run.folder={root}",
        f"run.seed={seed}",
        f"environment.substrate={game}",
        f"method.name={method}",
        "run.player_steps=2000000",
    ]
    return load_config(overrides=overrides, environ={})


def update_of(number: int, seed: int = 0, best: float = 4.0) -> dict[str, float]:
    """One line of metrics, as a learner on its way to some return writes it."""
    noise = np.random.default_rng([seed, number]).normal(size=3)
    learned = 1 - math.exp(-number / 120)
    return {
        "time_s": 1.8e9 + number,
        "updates": number,
        "version": number,
        "player_steps": number * BATCH_STEPS,
        "env_steps": number * BATCH_STEPS // 8,
        "episodes": number * 16,
        "player_steps_per_s": 5200 + 300 * noise[0],
        "return_learning": best * learned + 0.15 * noise[1],
        "return_others": 0.8 * best * learned + 0.2 * noise[2],
        "policy_lag_min": 0,
        "policy_lag_mean": 1.2 + 0.3 * abs(noise[0]),
        "policy_lag_max": 3,
        "entropy_nats": 0.6 + 1.4 * math.exp(-number / 200) + 0.02 * noise[2],
        "policy_kl_nats": 0.008,
        "explained_variance": 0.85 * learned + 0.03 * noise[0],
        "wait_s": 0.03,
        "update_s": 0.36,
        "queue_unrolls": 12,
    }


def distillation_of(event: int, update: int) -> dict[str, float | str]:
    """One distillation event: phi is pulled towards theta for five events, then pushed away for five."""
    forward = event // 5 % 2 == 0
    before, after = (0.38, 0.07) if forward else (0.12, 0.55)
    drift = 0.05 * math.sin(event)
    return {
        "events": event,
        "direction": "forward" if forward else "reverse",
        "update": update,
        "gradient_steps": 32,
        "kl_before_nats": before + drift,
        "kl_after_nats": after + drift / 2,
        "phi_entropy_before_nats": 1.7,
        "phi_entropy_after_nats": 1.6,
        "theta_entropy_nats": 1.5,
        "phi_version": event,
    }


def write_run(root: Path, name: str, updates: int = 200, finished: bool = True, **kind: str | int) -> RunFolder:
    """A run's folder, with metrics and, if it is finished, a summary."""
    config = config_of(root, name, **kind)  # type: ignore[arg-type]
    folder = RunFolder.of(config.run)
    folder.create(config)
    best = 4.0 - 0.5 * (sum(map(ord, config.method.name)) % 4)
    lines = [json.dumps(update_of(n, config.run.seed, best)) for n in range(1, updates + 1)]
    folder.metrics.write_text("".join(f"{line}\n" for line in lines))
    if finished:
        folder.summary.write_text(json.dumps({"run": name, "random": None, "ledger": "produced 10 = trained 10"}))
    return folder


def write_evaluation(folder: RunFolder, scenarios: Sequence[str], episodes: int = 4) -> None:
    """Rows of an evaluation."""
    rows = [
        {
            "run": folder.path.name,
            "method": "bidist",
            "seed": 0,
            "checkpoint": "00000125",
            "weights": "ab12",
            "updates": 125,
            "player_steps": 256000,
            "substrate": scenario.rpartition("_")[0],
            "scenario": scenario,
            "episode": episode,
            "evaluation_seed": 0,
            "reference": False,
            "focal_return": 2.0 + episode,
        }
        for scenario in scenarios
        for episode in range(episodes)
    ]
    folder.evaluation.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_film(path: Path) -> None:
    """A film of a square that moves for three seconds."""
    container = av.open(str(path), "w")
    stream = container.add_stream("libx264", rate=Fraction(24))
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    for i in range(72):
        image = np.zeros((64, 64, 3), np.uint8)
        image[20:40, i % 44 : i % 44 + 20] = 255
        for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
            container.mux(packet)
    for packet in stream.encode(None):
        container.mux(packet)
    container.close()


class LiveRun:
    """A run in Redis that advances when told to.

    Args:
      store: its keys.
      root: where its folder would be.
      actors: how many report.
    """

    def __init__(self, store: Store, root: Path, actors: int = 4) -> None:
        self.store, self.actors, self.updates, self.events = store, actors, 0, 0
        store.put_config(config_of(root, store.run))
        store.put_event("learner", "learner", "start", incarnation="learner-1")
        self._produced = dict.fromkeys(map(str, range(actors)), 0)

    def advance(self, updates: int = 1) -> None:
        """Makes some updates, with all that goes with them."""
        store, actors = self.store, self._produced
        for _ in range(updates):
            self.updates += 1
            line = update_of(self.updates)
            store.put_metrics({key: value for key, value in line.items() if key != "time_s"})
            if self.updates % 5 == 0:
                self.events += 1
                store.put_event("distiller", "distiller", "distillation", **distillation_of(self.events, self.updates))
        for name in actors:
            actors[name] += 4 * updates
            store.ledger.produced(f"actor-{name}", actors[name])
            first = actors[name] - 4 * updates + 1
            last = actors[name] - 1  # one stays in flight
            store.ledger.account([(f"actor-{name}", n, "trained", "") for n in range(max(1, first - 1), last + 1)])
        store.put_event("learner", "learner", "checkpoint", path="checkpoints/x", updates=self.updates)
        self.report()

    def report(self) -> None:
        """What roles report every other second."""
        store, now = self.store, round(time.time(), 3)
        store.put_progress(
            {
                "state": "running",
                "updates": self.updates,
                "version": self.updates,
                "episodes": 16 * self.updates,
                "player_steps": BATCH_STEPS * self.updates,
                "budget_player_steps": 2_000_000,
                "player_steps_per_s": 5213,
            }
        )
        store.put_queue(
            {
                "unrolls": 12,
                "capacity_unrolls": 64,
                "malformed_messages": 0,
                "bottleneck": "the actors wait for the learner, which is busy 92% of its time",
            }
        )
        store.put_starvation(8.0)
        common: dict[str, str | int | float] = {
            "host": "pi",
            "pid": 1,
            "started": int(now) - 60,
            "reported": now,
            "advanced": now,
        }
        self._say("learner", "learner", common, state="learning", updates=self.updates, theta_version=self.updates)
        self._say("distiller", "distiller", common, state="waiting", phi_version=self.events, events=self.events)
        for i in range(self.actors):
            rate = 650 + 37 * (i * 7 % 11) - 20 * (i % 3)
            versions = {"theta_version": max(0, self.updates - i % 3), "phi_version": self.events}
            self._say("actor", str(i), common, state="playing", player_steps_per_s=rate, unaccounted=1, **versions)

    def _say(self, role: str, name: str, common: dict[str, str | int | float], **fields: str | int | float) -> None:
        incarnation = {"incarnation": f"{role}-{name}"}
        self.store.put_worker(role, name, {**incarnation, **common, **fields}, ttl_s=3600)
