"""Made-up rows of results, as evaluations write them."""

from itertools import product
from typing import Any

import numpy as np

from environments.lengths import expected_length

GAME = "coins"


def row(method: str, seed: int, scenario: int, episode: int, focal: float, **more: Any) -> dict[str, Any]:
    return {
        "run": f"{method}-{seed}",
        "method": method,
        "seed": seed,
        "checkpoint": "00000009",
        "updates": 9,
        "player_steps": 900,
        "weights": "",
        "substrate": GAME,
        "scenario": f"{GAME}_{scenario}",
        "episode": episode,
        "focal_return": focal,
        "env_steps": expected_length(GAME),
        "evaluation_seed": 0,
        "reference": False,
        **more,
    }


def rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    means = {"mappo": 10.0, "bidist": 30.0, "pp": 20.0, "random": -50.0}
    return [
        row(m, seed, s, e, mean + 10 * s + rng.normal())
        for (m, mean), seed, s, e in product(means.items(), range(2), range(2), range(5))
        if (m, s) != ("pp", 1)
    ]
