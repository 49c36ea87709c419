"""The expected length of a substrate's episodes, from its own settings."""

import random
from functools import cache

from environments.substrates import substrate_config, substrates

_ENDING = "StochasticIntervalEpisodeEnding"


@cache
def expected_length(substrate: str) -> float | None:
    """Returns the mean number of steps of a substrate's episodes, which end by chance, whatever the players do.

    From its minimum on, an episode may end at each multiple of an interval, always with the same probability, and ends
    at the latest at the game's limit. The step that ends it is one short of the multiple.

    Returns: the mean; None if the game is not a substrate or ends differently.
    """
    if substrate not in substrates():
        return None
    config = substrate_config(substrate)
    before = random.getstate()
    try:
        settings = config.lab2d_settings_builder(config=config, roles=config.default_player_roles)
    finally:
        random.setstate(before)
    components = settings["simulation"].get("scene", {}).get("components", [])
    ending: list[dict[str, float]] = [
        component["kwargs"] for component in components if component["component"] == _ENDING
    ]
    if len(ending) != 1:
        return None
    limit: int = settings["maxEpisodeLengthFrames"]
    interval, chance = ending[0]["intervalLength"], ending[0]["probabilityTerminationPerInterval"]
    end = (ending[0]["minimumFramesPerEpisode"] // interval + 1) * interval - 1
    expected, left = 0.0, 1.0
    while end < limit:
        expected += left * chance * end
        left *= 1 - chance
        end += interval
    return expected + left * limit
