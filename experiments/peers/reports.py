"""What a peer reports of its training, as the lines of a run's metrics: player steps and returns so far.

`return_learning` is a mean over the players of the newest 20 episodes, as in `metrics.jsonl` (docs/metrics.md). Both
peers keep that mean themselves; their settings give its length.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

EPISODES = 20


def of_sample_factory(env_steps: Mapping[int, int], newest: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Any]:
    """Returns the line of Sample Factory's runner.

    Args:
      env_steps: by policy, the steps it was trained on, which Sample Factory counts for each player.
      newest: by name and policy, the newest numbers of single players' episodes.
    """
    returns = [value for policy in newest.get("reward", ()) for value in policy]
    return {"player_steps": sum(env_steps.values()), "return_learning": fmean(returns) if returns else None}


def of_rllib(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the line of one of RLlib's iterations; PPO trains on all that it sampled.

    Args:
      result: what `Algorithm.train` returns.
    """
    sampled = result["env_runners"]
    steps = sum(sampled["num_agent_steps_sampled_lifetime"].values())
    returns = [float(value) for value in sampled.get("agent_episode_returns_mean", {}).values()]
    known = [value for value in returns if math.isfinite(value)]
    return {"player_steps": int(steps), "return_learning": fmean(known) if known else None}
