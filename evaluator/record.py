"""A film of an episode: the whole map from above, the focal players in white frames."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import ConfigError
from environments.melting_pot import MeltingPot
from environments.substrates import default_roles
from evaluator import rollout
from evaluator.evaluate import Population
from evaluator.rollout import Episode
from evaluator.scenarios import Scenario, require_bots, scenario

SQUARE, SCALE, FRAME = 8, 3, 2
FRAMES_PER_S = 24
WHITE = 255


def record(person: Population, name: str | None, number: int, seed: int, out: Path) -> Episode:
    """Plays one episode and writes an mp4 (H.264) with one frame a step, 24 a second.

    Args:
      person: the focal players.
      name: the scenario's; None lets the population play among itself, for which no bots are needed.
      number: the episode's, as in `evaluate`.
      seed: of the evaluation.
      out: the film.

    Raises:
      ConfigError: if the scenario is unknown, or of another game than the population's.
      SetupError: if bots are not installed.
    """
    game = person.config.environment.substrate
    played = among_themselves(game) if name is None else scenario(name)
    if played.substrate != game:
        raise ConfigError(f"{name}: a scenario of another game than {game}, which {person.run} plays")
    require_bots([played])
    out.parent.mkdir(parents=True, exist_ok=True)
    film = _Film(out)
    torch.set_num_threads(1)  # a forward pass for one table is small, and the encoder wants the other cores
    marked = played.focal if name is not None else []
    jobs = [(played, number)]
    episodes = rollout.play(
        jobs, person.config, person.theta, seed, tables=1, watch=lambda game: film.add(game, marked), located=True
    )
    try:
        return next(episodes)
    finally:
        film.close()


def among_themselves(substrate: str) -> Scenario:
    """A game in which the population plays all slots."""
    roles = default_roles(substrate)
    return Scenario(f"{substrate} among themselves", substrate, roles, (True,) * len(roles), {})


class _Film:
    def __init__(self, path: Path) -> None:
        import av

        self._container = av.open(str(path), "w")
        options = {"preset": "veryfast", "crf": "20"}
        self._stream = self._container.add_stream("libx264", rate=Fraction(FRAMES_PER_S), options=options)
        self._stream.pix_fmt = "yuv420p"
        self._begun = False

    def add(self, game: MeltingPot, marked: list[int]) -> None:
        """Adds what the map looks like now."""
        import av

        world, places = game.world()
        there = [i for i in marked if game.observation(i, "RGB").any()]  # who was removed from the game sees black
        image = picture(world, places[there])
        if not self._begun:
            self._stream.height, self._stream.width = image.shape[:2]
            self._begun = True
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
            self._container.mux(packet)

    def close(self) -> None:
        """Writes what is left."""
        if self._begun:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
        self._container.close()


def picture(world: NDArray[np.uint8], marked: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The map, enlarged, with frames around some squares.

    Args:
      world: [H, W, 3].
      marked: [M, 2], columns and rows of squares.

    Returns: [SCALE * H, SCALE * W, 3], both edges even, as the encoder needs them.
    """
    image = world.repeat(SCALE, 0).repeat(SCALE, 1)
    edge = SQUARE * SCALE
    for column, row in marked:
        square = image[row * edge : (row + 1) * edge, column * edge : (column + 1) * edge]
        square[:FRAME] = square[-FRAME:] = WHITE
        square[:, :FRAME] = square[:, -FRAME:] = WHITE
    return np.ascontiguousarray(image[: len(image) // 2 * 2, : image.shape[1] // 2 * 2])
