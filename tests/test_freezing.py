"""Players of the arenas count as inactive exactly while the game freezes them."""

import importlib.util

import numpy as np
import pytest

from environments.melting_pot import MeltingPot

ARENA = "prisoners_dilemma_in_the_matrix__arena"
FROZEN_STEPS = 18
"""Steps that a player cannot act after an interaction: Melting Pot's freezeOnInteraction of 16, and two more."""
STEPS = 250

pytestmark = pytest.mark.skipif(importlib.util.find_spec("meltingpot") is None, reason="needs dm-meltingpot")


def test_players_are_inactive_after_an_interaction_and_then_active_again() -> None:
    game = MeltingPot(ARENA, seed=3, located=True)
    players, rng = game.spec.players, np.random.default_rng(0)
    active = game.reset().active
    _, before = game.world()
    since = np.full(players, FROZEN_STEPS)
    thawed = moved_when_active = 0
    for _ in range(STEPS):
        step = game.step(rng.integers(0, game.spec.actions, players).astype(np.int32))
        interacted = [game.observation(player, "INTERACTED_THIS_STEP") > 0 for player in range(players)]
        since = np.where(np.array(interacted).ravel(), 0, since + 1)
        seen = step.observation.rgb.any(axis=(1, 2, 3))
        np.testing.assert_array_equal(step.observation.active, (since >= FROZEN_STEPS) & seen)
        _, places = game.world()
        moved = (places != before).any(1)
        moved_when_active += int((moved & active).sum())
        thawed += int((step.observation.active & ~active).sum())
        if step.truncated or step.terminated:
            break
        before, active = places, step.observation.active
    game.close()
    assert thawed >= 2, "somebody was frozen, and free again"
    assert moved_when_active > 100
