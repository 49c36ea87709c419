"""What defines each method: who plays with whom; and their names and settings."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from method_cases import DRAWS, GAME, P, S, T, configuration, drawn, error, made, sequences

from actors.seats import draw_drivers, draw_policy_indices
from common.errors import ConfigError
from common.weights import PHI, THETA
from learner.objective import Objective, Prepared
from methods import METHODS, Method, make_method, resolve


@pytest.mark.parametrize("name", ["bidist", "bidist-forward-only", "bidist-no-distillation"])
@pytest.mark.parametrize(("players", "p"), [(2, 0.5), (8, 0.5), (3, 0.1), (4, 1.0)])
def test_bidist_draws_each_player_by_itself_and_never_nobody(name: str, players: int, p: float) -> None:
    v = drawn(made(name, f"method.learning_probability={p}"), players) == THETA
    assert v.any(1).all()
    # Given that somebody learns, each outcome keeps its share of the product of Bernoullis.
    somebody = 1 - (1 - p) ** players
    np.testing.assert_allclose(v.mean(0), p / somebody, atol=error(0.5))
    for first, second in pairwise(range(players)):
        assert (v[:, first] & v[:, second]).mean() == pytest.approx(p * p / somebody, abs=error(0.5))
    assert v.all(1).mean() == pytest.approx(p**players / somebody, abs=error(0.5))


@pytest.mark.parametrize("name", ["mappo", "pp", "randnet", "opre", "bidist-no-fictitious"])
def test_learning_policies_among_themselves(name: str) -> None:
    assert (drawn(made(name), 5) == THETA).all()


def test_all_fictitious_is_phi_everywhere_and_trains_on_it() -> None:
    chosen = made("bidist-all-fictitious")
    assert (drawn(chosen, 5) == PHI).all()
    assert chosen.training_mask(np.array([False, False, True])).tolist() == [True, True, False]


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"bidist-all-fictitious"}))
def test_all_others_train_on_the_learning_players(name: str) -> None:
    learning = np.array([False, True, True])
    assert made(name).training_mask(learning).tolist() == learning.tolist()


@pytest.mark.parametrize(
    ("name", "phi", "directions"),
    [
        ("bidist", "copy", ("forward", "reverse")),
        ("bidist-forward-only", "copy", ("forward",)),
        ("bidist-no-distillation", "random", ()),
        ("bidist-no-fictitious", "copy", ("forward", "reverse")),
        ("bidist-all-fictitious", "copy", ("forward", "reverse")),
        *[(name, None, ()) for name in ("mappo", "pp", "rpm", "randnet", "opre")],
    ],
)
def test_how_phi_starts_and_moves(name: str, phi: str | None, directions: tuple[str, ...]) -> None:
    chosen = made(name)
    assert (chosen.phi, chosen.directions) == (phi, directions)


def test_population_play_draws_a_learner_for_each_seat() -> None:
    chosen = made("pp")
    assert chosen.policies(7) == 4
    rng = np.random.default_rng(0)
    places = np.array([chosen.policy_indices(rng, 7) for _ in range(DRAWS)])
    for seat in range(7):
        np.testing.assert_allclose(np.bincount(places[:, seat]) / DRAWS, 1 / 4, atol=error(1 / 4))
    for first, second in pairwise(range(7)):
        assert (places[:, first] == places[:, second]).mean() == pytest.approx(1 / 4, abs=error(1 / 4))


def test_population_play_has_no_parameters_of_a_seat() -> None:
    with pytest.raises(ConfigError, match=r"needs network\.parameters=shared"):
        made("pp", "network.parameters=per_player").policies(7)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"pp"}))
def test_every_other_method_has_one_policy_or_one_a_player(name: str) -> None:
    shared, own = made(name), made(name, "network.parameters=per_player")
    assert (shared.policies(3), own.policies(3)) == (1, 3)
    rng = np.random.default_rng(0)
    assert (shared.policy_indices(rng, 3).tolist(), own.policy_indices(rng, 3).tolist()) == ([0, 0, 0], [0, 1, 2])


# Their names and settings.


def test_an_unknown_method_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'bidst': did you mean bidist\? the methods are bidist, mappo"):
        made("bidst")
    with pytest.raises(ConfigError, match=r"'no_such_module:Mine'.*is its folder on PYTHONPATH"):
        made("no_such_module:Mine")
    with pytest.raises(ConfigError, match=r"is no subclass of methods\.Method"):
        made("common.config:Config")


def test_a_module_that_breaks_as_it_is_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_method.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"broken_method broke as it was imported: RuntimeError\('no licence'\)"):
        made("broken_method:Mine")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"phi": "copies"}, "phi='copies': expected None or one of"),
        ({"phi": "copy", "directions": ("forwards",)}, r"directions=\('forwards',\): expected a tuple of"),
        ({"phi": "copy", "directions": "forward"}, "directions='forward': expected a tuple of"),
        ({"directions": ("forward",)}, "phi=None says there is none: set phi"),
        ({"score": lambda *_: 1.0}, "set pooled = True"),
    ],
)
def test_what_a_method_says_has_to_agree(says: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "Mine", type("Mine", (Method,), says), raising=False)
    with pytest.raises(ConfigError, match=rf"method\.name='{__name__}:Mine': Mine\..*{words}"):
        made(f"{__name__}:Mine")


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (["theta", "phi", "theta"], "lets 'phi' drive a player: nobody publishes that"),
        (["theta", "pool:9", "theta"], "lets 'pool:9' drive a player: nobody publishes that"),
        (["theta", "theta"], "names 2 drivers for 3 players"),
    ],
)
def test_drivers_who_cannot_be_are_refused(draw: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, rng = made("mappo"), np.random.default_rng(0)
    monkeypatch.setattr(chosen, "drivers", lambda *_: draw)
    with pytest.raises(ConfigError, match=f"method mappo {words}"):
        draw_drivers(chosen, rng, 3, {"pool:8": 1.0})


@pytest.mark.parametrize("draw", [[0, 1, 4], [0, -1, 2], [0, 1], [[0, 1, 2]]])
def test_places_that_there_are_not_are_refused(draw: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, rng = made("pp"), np.random.default_rng(0)
    monkeypatch.setattr(chosen, "policy_indices", lambda *_: np.array(draw))
    with pytest.raises(ConfigError, match=r"method pp gives 3 players the places \[.*expected one of 0 to 3 for each"):
        draw_policy_indices(chosen, rng, 3)


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        ({"policy_loss": (1.0, torch.zeros(P))}, "called 'policy_loss', as a part of PPO's loss is: rename it"),
        ({"mine": (1.0, torch.zeros(()))}, rf"'mine' has the shape \[\], expected \[{P}\], a value for each policy"),
    ],
)
def test_penalties_that_cannot_be_are_refused(penalty: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, part = made("mappo"), sequences()
    monkeypatch.setattr(chosen, "penalties", lambda *_: penalty)
    objective = Objective(chosen.network(GAME, P), chosen, chosen.config.learner)
    numbers = torch.zeros(P, T, S)
    others, values = torch.zeros(P, T + 1, S, 10), torch.zeros(P, T + 1, S)
    with pytest.raises(ConfigError, match=words):
        objective(Prepared(part, others, numbers, values, numbers, numbers, 0.01))


def test_a_setting_of_another_method_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.rank_width: no such setting; there are population"):
        made("pp", "method.rank_width=3")
    with pytest.raises(ConfigError, match=r"method\.population: .*greater than or equal to 1, found 0"):
        made("pp", "method.population=0")
    with pytest.raises(ConfigError, match=r"method\.learning_probability: no such setting; there are none"):
        made("mappo", "method.learning_probability=0.5")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_resolved_configuration_holds_all_of_a_methods_settings(name: str) -> None:
    resolved = resolve(configuration(name))
    assert resolved.method.model_dump() == {"name": name, **make_method(resolved).settings.model_dump()}
    assert resolve(resolved) == resolved
