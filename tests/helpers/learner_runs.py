"""A learner service in the test's own process, on a small matrix game."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from common.config import Config
from common.run_folder import RunFolder
from common.settings import load_config
from common.store import Store
from learner.ranks import Ranks
from learner.service import LearnerService

CPU = torch.device("cpu")


def configuration(store: Store, folder: Path, *overrides: str) -> Config:
    small = [
        "environment.substrate=matrix_coordination",
        "environment.episode_length=8",
        "actor.unroll_length=8",
        "learner.batch_unrolls=3",
        "learner.device=cpu",
        "network.dense=8",
        "network.core_size=8",
        "method.name=mappo",
        "distiller.burn_in=1",
        "run.heartbeat_s=0.2",
    ]
    names = [f"run.folder={folder}", f"run.name={store.run}"]
    config = load_config(overrides=[*small, *names, *overrides], environ={})
    RunFolder.of(config.run).create(config)
    return config


@contextlib.contextmanager
def learning(store: Store, config: Config, listen: str = "tcp://127.0.0.1:*") -> Iterator[LearnerService]:
    with LearnerService(store, config, listen, "127.0.0.1", Ranks(CPU)) as learner:
        yield learner
