"""What defines each method: who plays with whom. And their names and settings."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from method_cases import DRAWS, GAME, P, S, T, configuration, drawn, error, made, sequences

from actors.draws import draw_drivers, draw_policy_indices
from common.errors import ConfigError
from common.weights import PHI, THETA
from learner.objective import Objective, Prepared
from methods import METHODS, Method, make_method, resolve


@pytest.mark.parametrize("name", ["bidist", "bidist-forward-only", "bidist-no-distillation"])
@pytest.mark.parametrize(("players", "p"), [(2, 0.5), (8, 0.5), (3, 0.1), (4, 1.0)])
def test_bidist_draws_every_player_independently_and_at_least_one_learns(name: str, players: int, p: float) -> None:
    v = drawn(made(name, f"method.learning_probability={p}"), players) == THETA
    assert v.any(1).all()
    # Conditioned on at least one learning player, outcomes keep the probabilities of independent Bernoullis.
    at_least_one = 1 - (1 - p) ** players
    np.testing.assert_allclose(v.mean(0), p / at_least_one, atol=error(0.5))
    for first, second in pairwise(range(players)):
        assert (v[:, first] & v[:, second]).mean() == pytest.approx(p * p / at_least_one, abs=error(0.5))
    assert v.all(1).mean() == pytest.approx(p**players / at_least_one, abs=error(0.5))


def test_a_fictitious_player_is_driven_by_one_of_the_kept_versions_of_phi() -> None:
    pool = {"phi:7": 7.0, "phi:8": 8.0, "pool:3": 1.0}
    names = drawn(made("bidist"), 3, pool)
    assert set(names.ravel()) == {THETA, "phi:7", "phi:8"}
    fictitious = names != THETA
    assert (names[fictitious] == "phi:8").mean() == pytest.approx(0.5, abs=2 * error(0.5))
    both = fictitious[:, 0] & fictitious[:, 1]
    assert (names[both, 0] == names[both, 1]).mean() == pytest.approx(0.5, abs=3 * error(0.5)), "each draws its own"
    assert made("bidist", "method.versions=5").phi_versions == 5


def test_phi_alone_means_its_newest_version() -> None:
    chosen, pool = made("bidist-all-fictitious"), {"phi:9": 9.0, "phi:10": 10.0}
    assert draw_drivers(chosen, np.random.default_rng(0), 3, pool) == ["phi:10"] * 3


def test_each_player_may_have_a_phi_of_its_own() -> None:
    own, shared = made("bidist", "method.phi_per_player=true"), made("bidist")
    indices = np.zeros((2, 4), np.int64)
    assert (own.phi_policies(4), shared.phi_policies(4)) == (4, 1)
    assert own.phi_policy_indices(indices).tolist() == [[0, 1, 2, 3]] * 2
    assert shared.phi_policy_indices(indices).tolist() == indices.tolist()


def test_theta_may_learn_from_the_steps_of_phi_too() -> None:
    learning = np.array([False, True, True])
    assert made("bidist", "method.train_on_phi=true").training_mask(learning).all()


@pytest.mark.parametrize("name", ["mappo", "pp", "randnet", "opre", "bidist-no-fictitious"])
def test_learning_policies_play_among_themselves(name: str) -> None:
    assert (drawn(made(name), 5) == THETA).all()


def test_all_fictitious_plays_phi_everywhere_and_trains_on_it() -> None:
    chosen = made("bidist-all-fictitious")
    assert (drawn(chosen, 5) == PHI).all()
    assert chosen.training_mask(np.array([False, False, True])).tolist() == [True, True, False]


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"bidist-all-fictitious"}))
def test_every_other_method_trains_on_the_learning_players(name: str) -> None:
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


def test_population_play_draws_a_learner_per_seat() -> None:
    chosen = made("pp", "method.population=4")
    assert chosen.policies(7) == 4
    rng = np.random.default_rng(0)
    indices = np.array([chosen.policy_indices(rng, 7) for _ in range(DRAWS)])
    for seat in range(7):
        np.testing.assert_allclose(np.bincount(indices[:, seat]) / DRAWS, 1 / 4, atol=error(1 / 4))
    for first, second in pairwise(range(7)):
        assert (indices[:, first] == indices[:, second]).mean() == pytest.approx(1 / 4, abs=error(1 / 4))


def test_population_play_rejects_parameters_per_seat() -> None:
    with pytest.raises(ConfigError, match=r"needs network\.parameters=shared"):
        made("pp", "network.parameters=per_player").policies(7)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"pp"}))
def test_every_other_method_has_one_policy_or_one_per_player(name: str) -> None:
    shared, own = made(name), made(name, "network.parameters=per_player")
    assert (shared.policies(3), own.policies(3)) == (1, 3)
    rng = np.random.default_rng(0)
    assert (shared.policy_indices(rng, 3).tolist(), own.policy_indices(rng, 3).tolist()) == ([0, 0, 0], [0, 1, 2])


# Their names and settings.


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'bidst': did you mean bidist\? the methods are bidist, mappo"):
        made("bidst")
    with pytest.raises(ConfigError, match=r"'no_such_module:Mine'.*is its folder on PYTHONPATH"):
        made("no_such_module:Mine")
    with pytest.raises(ConfigError, match=r"is not a subclass of methods\.Method"):
        made("common.config:Config")


def test_a_method_whose_import_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_method.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"importing broken_method failed: RuntimeError\('no licence'\)"):
        made("broken_method:Mine")


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"phi": "copies"}, "phi='copies': expected None or one of"),
        ({"phi": "copy", "directions": ("forwards",)}, r"directions=\('forwards',\): expected a tuple of"),
        ({"phi": "copy", "directions": "forward"}, "directions='forward': expected a tuple of"),
        ({"directions": ("forward",)}, "but phi=None says there is none: set phi"),
        ({"symmetric": True}, "symmetric=True is for players driven by phi, but phi=None"),
        ({"score": lambda *_: 1.0}, "set pooled = True"),
    ],
)
def test_contradictory_attributes_are_rejected(
    attributes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "Mine", type("Mine", (Method,), attributes), raising=False)
    with pytest.raises(ConfigError, match=rf"method\.name='{__name__}:Mine': Mine\..*{words}"):
        made(f"{__name__}:Mine")


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (["theta", "phi", "theta"], "lets 'phi' drive a player, but nobody publishes it"),
        (["theta", "pool:9", "theta"], "lets 'pool:9' drive a player, but nobody publishes it"),
        (["theta", "theta"], "names 2 drivers for 3 players"),
    ],
)
def test_invalid_drivers_are_rejected(draw: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, rng = made("mappo"), np.random.default_rng(0)
    monkeypatch.setattr(chosen, "drivers", lambda *_: draw)
    with pytest.raises(ConfigError, match=f"method mappo {words}"):
        draw_drivers(chosen, rng, 3, {"pool:8": 1.0})


@pytest.mark.parametrize("draw", [[0, 1, 4], [0, -1, 2], [0, 1], [[0, 1, 2]]])
def test_invalid_policy_indices_are_rejected(draw: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, rng = made("pp", "method.population=4"), np.random.default_rng(0)
    monkeypatch.setattr(chosen, "policy_indices", lambda *_: np.array(draw))
    with pytest.raises(
        ConfigError, match=r"method pp gives 3 players the policy indices \[.*expected one of 0 to 3 for each"
    ):
        draw_policy_indices(chosen, rng, 3)


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        (
            {"policy_loss": (1.0, torch.zeros(P))},
            "penalty 'policy_loss' has the name of a term of PPO's loss; rename it",
        ),
        ({"mine": (1.0, torch.zeros(()))}, rf"penalty 'mine' has shape \[\], expected \[{P}\], one value per policy"),
    ],
)
def test_invalid_penalties_are_rejected(penalty: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, part = made("mappo"), sequences()
    monkeypatch.setattr(chosen, "penalties", lambda *_: penalty)
    objective = Objective(chosen.network(GAME, P), chosen, chosen.config.learner)
    numbers = torch.zeros(P, T, S)
    others, values = torch.zeros(P, T + 1, S, 10), torch.zeros(P, T + 1, S)
    with pytest.raises(ConfigError, match=f"method mappo: {words}"):
        objective(Prepared(part, others, numbers, values, numbers, numbers), 0.01)


def test_settings_of_other_methods_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"method\.rank_width: no such setting; there are population"):
        made("pp", "method.rank_width=3")
    with pytest.raises(ConfigError, match=r"method\.population: .*greater than or equal to 1, found 0"):
        made("pp", "method.population=0")
    with pytest.raises(ConfigError, match=r"method\.learning_probability: no such setting; there are none"):
        made("mappo", "method.learning_probability=0.5")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_resolved_configuration_has_all_settings_of_its_method(name: str) -> None:
    resolved = resolve(configuration(name))
    assert resolved.method.model_dump() == {"name": name, **make_method(resolved).settings.model_dump()}
    assert resolve(resolved) == resolved
