"""What peers report of their training, as the lines of a run's metrics."""

from typing import Any

import pytest

from experiments.speed.peers.reports import OfRLlib, of_sample_factory


def test_reports_of_sample_factory() -> None:
    returns = [0.0, 0.0, -1.0, 1.0, 1.8589743375778198, -1.8589743375778198, 2.857142925262451]
    line = of_sample_factory({0: 11264}, {"len": [[70.0, 105.0]], "reward": [returns]})
    assert line == {"player_steps": 11264, "return_learning": pytest.approx(2.857142925262451 / 7)}
    assert of_sample_factory({0: 0}, {}) == {"player_steps": 0, "return_learning": None}


def iteration(steps: float, episodes: float, **returns: float) -> dict[str, Any]:
    """What RLlib returned of an iteration, without the rest of its 40 numbers."""
    runners = {
        "num_agent_steps_sampled_lifetime": {"player_0": steps, "player_1": steps},
        "num_env_steps_sampled_lifetime": steps,
        "num_episodes": episodes,
        "agent_episode_returns_mean": returns,
        "episode_return_mean": sum(returns.values()),
    }
    return {"env_runners": runners, "learners": {"shared": {"num_module_steps_trained_lifetime": 3050.0}}}


def test_reports_of_rllib() -> None:
    """The mean over the newest 20 episodes; iterations in which none ended do not change it."""
    reports = OfRLlib()
    assert reports.line(iteration(1031.0, 0)) == {"player_steps": 2062, "return_learning": None}
    assert reports.line(iteration(5154.0, 2, player_0=4.0, player_1=6.0))["return_learning"] == 5.0
    assert reports.line(iteration(6182.0, 6, player_0=0.0, player_1=2.0))["return_learning"] == 2.0
    last = reports.line(iteration(7213.0, float("nan"), player_0=float("nan"), player_1=float("nan")))
    assert last == {"player_steps": 14426, "return_learning": 2.0}
    assert reports.line(iteration(8244.0, 20, player_0=3.0, player_1=3.0))["return_learning"] == 3.0
