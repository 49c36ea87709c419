"""What defines a method: who learns in an episode, and which directions distillation takes."""

from itertools import pairwise

import numpy as np
import pytest

from common.config import MethodConfig
from common.errors import ConfigError
from common.methods import METHODS, method

DRAWS = 20_000


def draws(config: MethodConfig, players: int) -> np.ndarray:
    rng, made = np.random.default_rng(0), method(config)
    return np.array([made.learning(rng, players) for _ in range(DRAWS)])


@pytest.mark.parametrize(("players", "p"), [(2, 0.5), (8, 0.5), (3, 0.1), (4, 1.0)])
def test_bidist_draws_each_player_by_itself_and_never_nobody(players: int, p: float) -> None:
    v = draws(MethodConfig(name="bidist", learning_probability=p), players)
    assert v.any(1).all()
    # Given that somebody learns, each outcome keeps its share of the product of Bernoullis.
    somebody = 1 - (1 - p) ** players
    error = 4 * np.sqrt(0.25 / DRAWS)
    np.testing.assert_allclose(v.mean(0), p / somebody, atol=error)
    for first, second in pairwise(range(players)):
        assert (v[:, first] & v[:, second]).mean() == pytest.approx(p * p / somebody, abs=error)
    everybody = p**players / somebody
    assert v.all(1).mean() == pytest.approx(everybody, abs=error)


def test_mappo_plays_among_its_learning_policies() -> None:
    assert draws(MethodConfig(name="mappo"), 5).all()


def test_directions() -> None:
    assert {name: made.directions for name, made in METHODS.items()} == {
        "bidist": ("forward", "reverse"),
        "mappo": (),
    }


def test_an_unknown_method_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'bidst': did you mean bidist\? the methods are bidist, mappo"):
        method(MethodConfig(name="bidst"))
