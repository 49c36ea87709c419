"""Films, in which the focal players are framed in white; test_commands records one."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigError
from common.settings import load_config
from environments.melting_pot import MeltingPot
from evaluator.evaluate import EvaluatedPopulation
from evaluator.record import SCALE, SQUARE, picture, record


def test_only_the_frames_of_marked_squares_change() -> None:
    world = np.zeros((4 * SQUARE, 5 * SQUARE, 3), np.uint8)
    image = picture(world, np.array([[3, 1]]))
    edge = SQUARE * SCALE
    white = image.min(-1) == 255
    assert white[edge : 2 * edge, 3 * edge : 4 * edge].sum() == white.sum() > 0
    assert not white[edge + edge // 2, 3 * edge + edge // 2], "the player itself stays visible"
    assert picture(np.zeros((17, 33, 3), np.uint8), np.empty((0, 2), np.int64)).shape == (50, 98, 3)


@pytest.mark.parametrize("name", ["coins", pytest.param("coop_mining", marks=pytest.mark.slow)])
def test_players_are_drawn_where_they_are_reported(name: str) -> None:
    game = MeltingPot(name, seed=4, located=True)
    plain = MeltingPot(name, seed=4)
    game.reset()
    plain.reset()
    for environment in (game, plain):
        environment.step(np.zeros(environment.spec.players, np.int32))
    world, squares = game.world()
    assert squares.shape == (game.spec.players, 2)
    assert len({tuple(square) for square in squares.tolist()}) == len(squares), "no two players share a square"
    pixels = [world[r * SQUARE : (r + 1) * SQUARE, c * SQUARE : (c + 1) * SQUARE] for c, r in squares]
    assert all(square.std() > 10 for square in pixels), "a figure is drawn where a player stands"
    assert game.spec == plain.spec
    game.close()
    plain.close()


def test_a_scenario_of_another_game_is_refused(tmp_path: Path) -> None:
    config = load_config(overrides=["environment.substrate=coins"], environ={})
    players = EvaluatedPopulation("r", "random", 0, "", "", 0, 0, config, None)
    with pytest.raises(ConfigError, match="coop_mining_0: this scenario belongs to another game than coins"):
        record(players, "coop_mining_0", 0, 0, tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []
