"""Players of the arenas are inactive while the game freezes them or has removed them, and active again afterwards."""

import importlib.util

import numpy as np
import pytest

from environments.melting_pot import MeltingPot

ARENA = "prisoners_dilemma_in_the_matrix__arena"
FROZEN_STEPS = 17
"""Steps that a player stands still in sight after an interaction, before the game removes it for a while."""
MAX_STEPS = 3000
RETURNS = 4

pytestmark = pytest.mark.skipif(importlib.util.find_spec("meltingpot") is None, reason="needs dm-meltingpot")


def test_players_are_inactive_after_an_interaction_and_active_again_when_they_return() -> None:
    game = MeltingPot(ARENA, seed=3)
    players, rng = game.spec.players, np.random.default_rng(0)
    active = game.reset().active
    since = np.full(players, MAX_STEPS)  # steps since each player's last interaction
    returns = 0
    for _ in range(MAX_STEPS):
        step = game.step(rng.integers(0, game.spec.actions, players).astype(np.int32))
        interacted = np.array([game.observation(i, "INTERACTED_THIS_STEP") > 0 for i in range(players)]).ravel()
        since = np.where(interacted, 0, since + 1)
        seen = step.observation.rgb.any(axis=(1, 2, 3))
        np.testing.assert_array_equal(step.observation.active, (since >= FROZEN_STEPS) & seen)
        returns += int((step.observation.active & ~active).sum())
        active = step.observation.active
        if returns >= RETURNS:
            break
        if step.truncated or step.terminated:
            active = game.reset().active
            since[:] = MAX_STEPS
    game.close()
    assert returns >= RETURNS
