"""The project's games in the terms of gymnasium, for peers."""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from common.spec import EnvironmentSpec
from environments import Observation


def observation_space(spec: EnvironmentSpec) -> spaces.Dict:
    """Returns the space of what one player observes: `rgb` [H, W, 3] uint8 and `features` [F] float32."""
    features = spaces.Box(-np.inf, np.inf, (spec.features,), np.float32)
    return spaces.Dict(rgb=spaces.Box(0, 255, spec.rgb_shape, np.uint8), features=features)


def rows(observation: Observation) -> list[dict[str, NDArray[Any]]]:
    """Returns what each player observes."""
    pairs = zip(observation.rgb, observation.features, strict=True)
    return [{"rgb": rgb, "features": features} for rgb, features in pairs]
