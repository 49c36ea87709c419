"""Plays official scenarios, many episodes at once: one forward pass for all focal players and one for all bots.

All randomness of an episode derives from its own seed: who the bots are, which policies play the focal seats, the
game's seeds, and the draws of actions. It does not matter which worker plays it or what else is being played. Even so,
the same seed does not repeat an episode to its last step, because dmlab2d's games do not repeat themselves.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from common.config import Config
from evaluator import play as loop
from evaluator.drivers import PopulationDriver, Random, policy_count
from evaluator.external import Foreign, Policy
from evaluator.play import Driver, Observer
from evaluator.scenario_table import FOCAL, Bots, ScenarioResult, ScenarioTable
from evaluator.scenarios import Scenario

TABLES = 16


def play(
    jobs: Iterable[tuple[Scenario, int]],
    config: Config,
    theta: Mapping[str, Tensor] | None,
    seed: int,
    tables: int = TABLES,
    observers: Sequence[Observer] = (),
    located: bool = False,
    policy: Policy | None = None,
) -> Iterator[ScenarioResult]:
    """Plays whole episodes and yields the result of each as it ends.

    Args:
      jobs: scenarios of one substrate, each with the number of an episode; taken one by one as tables become free.
      config: of the run whose policies are focal.
      theta: its learning policies; each focal seat draws one of them, as in Melting Pot. None makes the focal players
        act uniformly at random.
      seed: of the evaluation.
      tables: episodes at once.
      observers: see every episode, step by step.
      located: whether an observer asks for the game's `world`.
      policy: acts at the focal seats instead; `config.environment` must be `whole_images`.

    Raises:
      ConfigError: if the policy returns something that is not an action.
      SetupError: if a bot is not installed.
    """
    jobs = iter(jobs)
    policies = 0 if theta is None else policy_count(theta)
    hall = [ScenarioTable(jobs, config.environment, seed, policies, located) for _ in range(tables)]
    focal: Driver
    if policy is not None:
        focal = Foreign(policy)
    else:
        focal = Random(FOCAL) if theta is None else PopulationDriver(FOCAL, config, theta, tables)
    return loop.play(hall, [Bots(), focal], observers)
