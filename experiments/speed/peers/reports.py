"""What a peer reports of its training, as the lines of a run's metrics: player steps and returns so far.

`return_learning` is a mean over the players of the newest 20 episodes, as in `metrics.jsonl` (docs/metrics.md).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

EPISODES = 20


def of_sample_factory(env_steps: Mapping[int, int], newest: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Any]:
    """Returns the line of Sample Factory's runner.

    Args:
      env_steps: by policy, the steps it was trained on, which Sample Factory counts for each player.
      newest: by name and policy, the newest numbers of single players' episodes; a setting limits how many.
    """
    returns = [value for policy in newest.get("reward", ()) for value in policy]
    return {"player_steps": sum(env_steps.values()), "return_learning": fmean(returns) if returns else None}


class OfRLlib:
    """Makes the lines of RLlib's iterations, whose returns are means over the episodes that ended in one iteration."""

    def __init__(self) -> None:
        self._returns: deque[float] = deque(maxlen=EPISODES)

    def line(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the line of an iteration; PPO trains on all that it sampled.

        Args:
          result: what `Algorithm.train` returns.
        """
        sampled = result["env_runners"]
        ended = sampled.get("num_episodes", 0)
        if ended > 0:  # it may be NaN
            self._returns.extend([fmean(sampled["agent_episode_returns_mean"].values())] * int(ended))
        steps = sum(sampled["num_agent_steps_sampled_lifetime"].values())
        return {"player_steps": int(steps), "return_learning": fmean(self._returns) if self._returns else None}
