"""Who plays in each seat: the method's own draws pass unchanged; test_methods has those that are refused."""

import numpy as np
import pytest
from method_cases import made

from actors.draws import draw_drivers, draw_policy_indices
from common.errors import ConfigError
from common.weights import PHI, THETA

POOL = {"pool:3": 1.0, "pool:5": 9.0}
VERSIONS = {"phi:10": 10.0, "phi:9": 9.0}


@pytest.mark.parametrize(("name", "pool"), [("mappo", POOL), ("bidist", VERSIONS), ("rpm", POOL)])
def test_drivers_are_those_that_the_method_draws(name: str, pool: dict[str, float]) -> None:
    method, seen = made(name), set()
    rng, again = (np.random.default_rng(5) for _ in range(2))
    for _ in range(50):
        drivers = draw_drivers(method, rng, 4, pool)
        assert drivers == method.drivers(again, 4, pool)
        seen |= set(drivers)
    assert seen == ({THETA} if name == "mappo" else {THETA, *pool})


def test_phi_alone_is_its_newest_version(monkeypatch: pytest.MonkeyPatch) -> None:
    method, rng = made("bidist"), np.random.default_rng(0)
    monkeypatch.setattr(method, "drivers", lambda *_: [THETA, PHI])
    assert draw_drivers(method, rng, 2, VERSIONS) == [THETA, "phi:10"]
    with pytest.raises(ConfigError, match="method bidist lets 'phi' drive a player, but nobody publishes it"):
        draw_drivers(method, rng, 2, POOL)


def test_a_method_with_phi_has_no_pool_unless_it_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    method = made("bidist")
    monkeypatch.setattr(method, "drivers", lambda *_: [THETA, "pool:3"])
    with pytest.raises(ConfigError, match="method bidist lets 'pool:3' drive a player, but nobody publishes it"):
        draw_drivers(method, np.random.default_rng(0), 2, {"pool:5": 9.0})
    assert draw_drivers(method, np.random.default_rng(0), 2, POOL) == [THETA, "pool:3"]


@pytest.mark.parametrize("overrides", [("pp",), ("mappo",), ("mappo", "network.parameters=per_player")])
def test_policy_indices_are_those_that_the_method_draws(overrides: tuple[str, ...]) -> None:
    method, seen = made(*overrides), set()
    rng, again = (np.random.default_rng(5) for _ in range(2))
    for _ in range(20):
        indices = draw_policy_indices(method, rng, 5)
        assert indices.tolist() == method.policy_indices(again, 5).tolist()
        seen |= set(indices.tolist())
    assert seen == set(range(method.policies(5)))
