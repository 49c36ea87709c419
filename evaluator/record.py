"""Films an episode: the whole map from above, with the focal players framed in white."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import ConfigError
from environments.interface import Step
from environments.melting_pot import MeltingPot
from environments.substrates import default_roles
from evaluator import scenario_play
from evaluator.evaluate import EvaluatedPopulation
from evaluator.play import Observer, Table
from evaluator.scenario_table import FocalGame, ScenarioResult
from evaluator.scenarios import Scenario, require_bots, scenario

SQUARE, SCALE, FRAME = 8, 3, 2
FRAMES_PER_S = 24
WHITE = 255


def record(
    population: EvaluatedPopulation,
    name: str | None,
    number: int,
    seed: int,
    out: Path,
    observers: Sequence[Observer] = (),
) -> ScenarioResult:
    """Plays one episode and writes an mp4 (H.264) with one frame a step, 24 a second.

    Args:
      population: the focal population.
      name: of the scenario; None lets the population play all seats, which needs no bots.
      number: of the episode, as in `evaluate`.
      seed: of the evaluation.
      out: the film.
      observers: see the episode, too.

    Raises:
      ConfigError: if the scenario is unknown, or belongs to another game than the population.
      SetupError: if bots are not installed.
    """
    game = population.config.environment.substrate
    played = among_themselves(game) if name is None else scenario(name)
    if played.substrate != game:
        raise ConfigError(f"{name}: this scenario belongs to another game than {game}, which {population.run} plays")
    require_bots([played])
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # a forward pass for one table is small, and the encoder needs the other cores
    marked = played.focal if name is not None else []
    with Film(out, marked) as film:
        jobs, all_observers = [(played, number)], [film, *observers]
        return next(scenario_play.play(jobs, population.config, population.theta, seed, 1, all_observers, located=True))


def among_themselves(substrate: str) -> Scenario:
    """Returns a scenario in which the focal population plays all seats."""
    roles = default_roles(substrate)
    return Scenario(f"{substrate} among themselves", substrate, roles, (True,) * len(roles), {})


class Film(Observer):
    """Writes a frame of the whole map at the start of an episode and after each step.

    Args:
      path: the mp4.
      marked: the players, from 0, who are framed in white while they are on the map.
    """

    def __init__(self, path: Path, marked: Sequence[int]) -> None:
        self._path, self._marked = path, marked

    def __enter__(self) -> "Film":
        import av

        self._container = av.open(str(self._path), "w")
        options = {"preset": "veryfast", "crf": "20"}
        self._stream = self._container.add_stream("libx264", rate=Fraction(FRAMES_PER_S), options=options)
        self._stream.pix_fmt = "yuv420p"
        self._begun = False
        return self

    def begin(self, table: Table[Any, Any]) -> None:
        """See `Observer`."""
        self._add(cast(FocalGame, table.game).melting_pot)

    def step(self, table: Table[Any, Any], step: Step) -> None:
        """See `Observer`."""
        self._add(cast(FocalGame, table.game).melting_pot)

    def _add(self, game: MeltingPot) -> None:
        import av

        world, squares = game.world()
        # Players who were removed from the game see black.
        present = [i for i in self._marked if game.observation(i, "RGB").any()]
        image = picture(world, squares[present])
        if not self._begun:
            self._stream.height, self._stream.width = image.shape[:2]
            self._begun = True
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
            self._container.mux(packet)

    def __exit__(self, *error: object) -> None:
        if self._begun:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
        self._container.close()


def picture(world: NDArray[np.uint8], marked: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Returns the enlarged map, with frames around some squares.

    Args:
      world: [H, W, 3].
      marked: [M, 2], columns and rows of squares.

    Returns: [SCALE * H, SCALE * W, 3], cropped to even edges, which the encoder requires.
    """
    image = world.repeat(SCALE, 0).repeat(SCALE, 1)
    edge = SQUARE * SCALE
    for column, row in marked:
        square = image[row * edge : (row + 1) * edge, column * edge : (column + 1) * edge]
        square[:FRAME] = square[-FRAME:] = WHITE
        square[:, :FRAME] = square[:, -FRAME:] = WHITE
    return np.ascontiguousarray(image[: len(image) // 2 * 2, : image.shape[1] // 2 * 2])
