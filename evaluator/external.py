"""Policies that were trained elsewhere, through Melting Pot's own interface: one player, one timestep, one action.

They see what Melting Pot's scenarios show to focal players: whole images, the same names, shapes and numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from common import imports
from common.config import EnvironmentConfig
from common.errors import ConfigError
from environments.named import by_name
from evaluator.play import Table
from evaluator.scenario_table import FOCAL, ScenarioTable


@runtime_checkable
class Policy(Protocol):
    """Chooses one player's actions; the interface of `meltingpot.utils.policies.policy.Policy`."""

    def initial_state(self) -> Any:
        """Returns a player's state at the start of an episode."""

    def step(self, timestep: Any, prev_state: Any) -> tuple[int, Any]:
        """Returns the action, from 0, and the next state; `timestep` is a `dm_env.TimeStep` of one player."""


@runtime_checkable
class BatchedPolicy(Policy, Protocol):
    """A policy that also chooses the actions of many players of many games in one call."""

    def step_batch(self, timesteps: Sequence[Any], prev_states: Sequence[Any]) -> Sequence[tuple[int, Any]]:
        """Returns what `step` would for each timestep and state, in the same order."""


def as_policy(found: Any) -> Policy:
    """Returns a policy as it is, and a function from a timestep to an action as a policy without memory.

    Raises:
      ConfigError: if it is neither.
    """
    if isinstance(found, Policy) and not isinstance(found, type):
        return found
    if callable(found) and not isinstance(found, type):
        return _Memoryless(found)
    raise ConfigError(
        f"expected a policy, with initial_state() and step(timestep, prev_state), or a function from a timestep to an "
        f"action; found {found!r}"
    )


def build_policy(path: str) -> Policy:
    """Calls `module:build`, a function without arguments that returns a policy.

    Raises:
      ConfigError: if there is no such function, it fails, or it returns something else.
    """
    build, name = imports.load(path, f"--policy {path}", "module:function"), path.partition(":")[2]
    try:
        return as_policy(build())
    except Exception as error:
        reason = str(error) if isinstance(error, ConfigError) else f"calling {name}() failed: {error!r}"
        raise ConfigError(f"--policy {path}: {reason}") from error


def whole_images(substrate: str) -> EnvironmentConfig:
    """Returns the configuration of a game as foreign policies see it."""
    return EnvironmentConfig(substrate=substrate, block=1, last_action_and_reward=False)


class Foreign:
    """Drives the focal seats of scenarios by a foreign policy: one call per player and step, or per step if batched.

    The tables must show `whole_images`.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._states: dict[tuple[int, int], Any] = {}

    def begin(self, i: int, table: Table[Any, Any]) -> None:
        """Clears the memories of the players at a table."""
        for seat in table.seating[FOCAL].seats.tolist():
            self._states[i, seat] = self._policy.initial_state()

    def act(self, tables: Mapping[int, Table[Any, Any]]) -> None:
        """Chooses the actions of the focal seats.

        Raises:
          ConfigError: if the policy returns what is not one of the game's actions, or not one for each player.
        """
        players = [(i, seat) for i, table in tables.items() for seat in table.seating[FOCAL].seats.tolist()]
        seen = [timestep(cast(ScenarioTable, tables[i]), seat) for i, seat in players]
        for (i, seat), (chosen, state) in zip(players, self._choose(seen, players), strict=True):
            actions = tables[i].game.spec.actions
            if not 0 <= (action := int(chosen)) < actions:
                raise ConfigError(f"the policy chose action {chosen}; this game's are 0 to {actions - 1}")
            tables[i].action[seat], self._states[i, seat] = action, state

    def _choose(self, seen: list[Any], players: list[tuple[int, int]]) -> Sequence[tuple[int, Any]]:
        """Asks the policy for the action and the next state of each player."""
        states = [self._states[player] for player in players]
        if not isinstance(self._policy, BatchedPolicy):
            both = zip(seen, states, strict=True)
            return [self._policy.step(timestep=shown, prev_state=state) for shown, state in both]
        chosen = self._policy.step_batch(timesteps=seen, prev_states=states)
        if len(chosen) != len(players):
            raise ConfigError(f"step_batch returned {len(chosen)} actions and states for {len(players)} players")
        return chosen


def timestep(table: ScenarioTable, seat: int) -> Any:
    """Returns what Melting Pot would show the focal player in a seat now, as a `dm_env.TimeStep`."""
    import dm_env

    first = table.env_steps == 0
    row = list(table.observed).index(seat)  # type: ignore[arg-type]
    seen = by_name(table.game.melting_pot, table.observation, row, seat, float(np.sum(table.reward, dtype=np.float64)))
    kind = dm_env.StepType.FIRST if first else dm_env.StepType.MID
    return dm_env.TimeStep(kind, np.float64(table.reward[seat]), 0.0 if first else 1.0, seen)


class _Memoryless:
    """A function from a timestep to an action."""

    def __init__(self, choose: Callable[[Any], int]) -> None:
        self._choose = choose

    def initial_state(self) -> None:
        """See `Policy`."""

    def step(self, timestep: Any, prev_state: None) -> tuple[int, None]:
        """See `Policy`."""
        return self._choose(timestep), prev_state
