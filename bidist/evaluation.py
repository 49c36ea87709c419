"""Evaluates any policy in official scenarios, with the batched bots of `bidist evaluate`."""

from collections.abc import Callable
from typing import Any

from bidist.population import Population
from evaluator import scenario_play
from evaluator.evaluate import check, foreign_population, row_of
from evaluator.external import Policy, as_policy
from evaluator.scenarios import scenario as find


def evaluate(
    policy: Population | Policy | Callable[[Any], int], scenario: str, episodes: int = 20, seed: int = 0
) -> list[dict[str, Any]]:
    """Plays a policy in all focal seats of one of Melting Pot's scenarios, in this process.

    `bidist evaluate` plays on all cores and can be resumed; it gives the same rows.

    Args:
      policy: a population; a policy with Melting Pot's interface, `initial_state()` and `step(timestep, prev_state)`;
        or a function from a timestep to an action. A timestep is a `dm_env.TimeStep` of one player, with the
        observations that Melting Pot's scenarios show to focal players.
      scenario: its name, such as `coins_3`.
      episodes: how many.
      seed: of the evaluation: the game, the bots and, for a population, its draws. Other policies seed themselves.

    Returns: one row per episode; docs/evaluation.md explains the columns. `pandas.DataFrame(rows)` makes a table.

    Raises:
      ConfigError: if there is no such scenario, or the population plays another game.
      SetupError: if the scenario's bots are not installed.
    """
    played = find(scenario)
    if isinstance(policy, Population):
        source, foreign = policy.source, None
    else:
        foreign = as_policy(policy)
        name = getattr(policy, "__name__", type(policy).__name__)
        source = foreign_population(name, played.substrate)
    check(source, [scenario])
    jobs = [(played, number) for number in range(episodes)]
    tables = max(1, min(scenario_play.TABLES, episodes))
    found = scenario_play.play(jobs, source.config, source.theta, seed, tables, policy=foreign)
    return sorted((row_of(source, result, seed) for result in found), key=lambda row: row["episode"])
