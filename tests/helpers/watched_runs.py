"""Small runs of a method, all roles in one process, that keep what was trained on and published."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import serial_runs

from common.config import Config
from common.run_folder import RunFolder
from common.settings import load_config
from common.unroll import Unroll
from common.weights import Weights
from deploy.serial import Serial
from methods import resolve

SMALL = [*serial_runs.SMALL, "environment.players=3"]


def configuration(folder: Path, method: str, *overrides: str) -> Config:
    names = [f"method.name={method}", f"run.name={folder.name}", f"run.folder={folder}"]
    game = "environment.substrate=matrix_coordination"
    return resolve(load_config(overrides=[game, *names, *SMALL, *serial_runs.early(method), *overrides], environ={}))


class Watched(Serial):
    """A run that keeps every unroll that was trained on and every version of the policies."""

    def __init__(self, config: Config, url: str) -> None:
        self.unrolls: list[Unroll] = []
        self.published: dict[tuple[str, int], Weights] = {}
        super().__init__(config, url, self.unrolls.extend)

    def __enter__(self) -> "Watched":
        super().__enter__()
        self.keep()
        return self

    def keep(self) -> None:
        for name in ("theta", "phi"):
            if (weights := self.store.weights(name)) is not None:
                self.published[name, weights.version] = weights

    def update(self) -> None:
        super().update()
        self.keep()


@contextmanager
def running(config: Config, url: str) -> Iterator[Watched]:
    RunFolder.of(config.run).create(config)
    with Watched(config, url) as serial:
        yield serial
