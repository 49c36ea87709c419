"""The settings of runs that take seconds, for tests that train in their own process."""

from pathlib import Path

from common.config import Config
from common.settings import load_config

SMALL = [
    "environment.episode_length=8",
    "actor.environments=8",
    "actor.unroll_length=8",
    "learner.batch_unrolls=8",
    "learner.device=cpu",
    "distiller.every=3",
    "distiller.burn_in=1",
    "network.dense=16",
    "network.core_size=16",
]


FICTITIOUS = ("bidist", "bidist-forward-only", "bidist-no-distillation", "bidist-symmetric")


def early(method: str) -> list[str]:
    """Lets fictitious players play from the start, because these runs are short."""
    return ["method.alone_until=0"] if method in FICTITIOUS else []


def configuration(folder: Path, name: str, *overrides: str) -> Config:
    common = ["environment.substrate=matrix_coordination", f"run.name={name}", f"run.folder={folder}"]
    method = next((o.partition("=")[2] for o in overrides if o.startswith("method.name=")), "bidist")
    return load_config(overrides=[*common, *SMALL, *early(method), *overrides], environ={})
