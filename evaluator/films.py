"""Films a run while it trains: an episode of self-play from time to time, in its folder and in TensorBoard."""

import contextlib
import io
import logging
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from tensorboardX import SummaryWriter
from tensorboardX.proto.summary_pb2 import Summary

from common.errors import CheckpointError, ConfigError
from common.run_folder import RunFolder
from environments.interface import Step
from environments.substrates import substrates
from evaluator.evaluate import NEWEST, EvaluatedPopulation, populations
from evaluator.play import Observer, OnStep, Table
from evaluator.record import FRAMES_PER_S, record
from evaluator.scenario_table import FocalGame

log = logging.getLogger(__name__)

LOOK_S = 5.0
PREVIEW_EVERY = 4
TAG = "film/self-play"


class Stopped(Exception):
    """Raised to abandon the film in progress."""


def require_picture(substrate: str) -> None:
    """Checks that a game can be filmed.

    Raises:
      ConfigError: if not.
    """
    if substrate not in substrates():
        raise ConfigError(f"{substrate} has no picture to film; only Melting Pot's substrates have one")


def film_training(folder: RunFolder, every_s: float, stopping: threading.Event) -> None:
    """Films an episode of the newest checkpoint every so often, until the run is finished.

    Args:
      folder: the run's; the films are called `training-CHECKPOINT.mp4`.
      every_s: seconds from one film to the next; no checkpoint is filmed twice.
      stopping: set to stop at once; the film in progress is abandoned.

    Raises:
      ConfigError: if there is no such run, or its game has no picture.
    """
    last, due = "", time.monotonic()
    with contextlib.closing(SummaryWriter(str(folder.tensorboard / "films"))) as writer:
        while not stopping.is_set():
            finished = folder.summary.exists()
            newest = _newest(folder)
            if newest is not None:
                require_picture(newest.config.environment.substrate)
                finished = finished or newest.player_steps >= newest.config.run.player_steps
                if newest.checkpoint != last and (finished or time.monotonic() >= due):
                    due, last = time.monotonic() + every_s, newest.checkpoint
                    with contextlib.suppress(Stopped):
                        _film(newest, folder.path / f"training-{last}.mp4", writer, stopping)
            if finished:
                return
            stopping.wait(min(LOOK_S, every_s))


def _newest(folder: RunFolder) -> EvaluatedPopulation | None:
    try:
        return populations(folder, [NEWEST])[0]
    except CheckpointError:
        return None


def _film(population: EvaluatedPopulation, out: Path, writer: SummaryWriter, stopping: threading.Event) -> None:
    def check() -> None:
        if stopping.is_set():
            raise Stopped

    unfinished = out.with_name(".training.mp4")
    try:
        with Preview() as preview:
            episode = record(population, None, 0, 0, unfinished, [preview, OnStep(check)])
        unfinished.rename(out)
    finally:
        unfinished.unlink(missing_ok=True)
    writer.file_writer.add_summary(preview.summary(), population.player_steps)
    writer.flush()
    log.info("%s: %d steps, return per player %.2f", out, episode.env_steps, episode.focal_return)


class Preview(Observer):
    """A small film for TensorBoard, which shows animated GIFs: every fourth frame, 8 pixels per square."""

    def __enter__(self) -> Self:
        import av

        self._data = io.BytesIO()
        self._container = av.open(self._data, "w", format="gif")
        self._stream = self._container.add_stream("gif", rate=Fraction(FRAMES_PER_S, PREVIEW_EVERY))
        self._stream.pix_fmt = "rgb8"
        self._shape: tuple[int, ...] = ()
        return self

    def __exit__(self, *error: object) -> None:
        if self._shape:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def begin(self, table: Table[Any, Any]) -> None:
        """See `Observer`."""
        self._add(_world(table))

    def step(self, table: Table[Any, Any], step: Step) -> None:
        """See `Observer`."""
        if (table.env_steps + 1) % PREVIEW_EVERY == 0:
            self._add(_world(table))

    def summary(self) -> Summary:
        """Returns the film for TensorBoard, once this is closed."""
        height, width = self._shape[:2]
        picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=self._data.getvalue())
        return Summary(value=[Summary.Value(tag=TAG, image=picture)])

    def _add(self, world: NDArray[np.uint8]) -> None:
        import av

        if not self._shape:
            self._shape = world.shape
            self._stream.height, self._stream.width = world.shape[:2]
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(world, format="rgb24")))


def _world(table: Table[Any, Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(cast(FocalGame, table.game).melting_pot.world()[0])
