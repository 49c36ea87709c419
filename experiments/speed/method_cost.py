"""The cost of each method relative to MAPPO: speed of one actor and of the whole system, and memory."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from common.config import Config
from common.errors import ConfigError
from common.files import write
from common.settings import load_config
from experiments.speed.rates import RUN, one_actor, whole_system
from methods import METHODS, make_method, resolve
from reports.provenance import circumstances

BASE = "mappo"


@dataclass(frozen=True)
class Cost:
    """The measurements of one method, an entry per round.

    Attributes:
      method: its name.
      actor: player steps/s of one actor on one core, with a full pool if the method has one.
      system: player steps/s of `bidist train` on all cores, likewise with a full pool.
      update_s: mean seconds per update in that run.
      learner_mib, actor_mib: resident memory of its learner and of an actor at the end, in MiB.
    """

    method: str
    actor: list[float] = field(default_factory=list)
    system: list[float] = field(default_factory=list)
    update_s: list[float] = field(default_factory=list)
    learner_mib: list[float] = field(default_factory=list)
    actor_mib: list[float] = field(default_factory=list)

    def ratio(self, name: str, to: "Cost") -> float:
        """The median over rounds of the ratio to another method."""
        own, base = asdict(self)[name], asdict(to)[name]
        return float(statistics.median(x / y for x, y in zip(own, base, strict=True)))


def run(names: Sequence[str], substrate: str, seconds: float, rounds: int, out: Path | None) -> int:
    """Measures methods in turn, in several rounds, and prints a table.

    Args:
      names: of methods, or `all`; MAPPO is always included.
      substrate: the game.
      seconds: length of each measurement, without start-up.
      rounds: the number of rounds.
      out: JSON file for the figures; None writes none.

    Raises:
      ConfigError: if a method is unknown, or there is nothing to measure.
    """
    if seconds <= 0 or rounds < 1:
        raise ConfigError(f"--seconds {seconds:g} --rounds {rounds}: both must be positive")
    wanted = list(METHODS) if "all" in names else names
    wanted = [BASE, *(name for name in wanted if name != BASE)]
    values = {"environment.substrate": substrate, "run.name": RUN}
    configs = {name: _config({**values, "method.name": name}) for name in wanted}
    costs = {name: Cost(name) for name in wanted}
    console = Console()
    for number in range(1, rounds + 1):
        for name, config in configs.items():
            cost = costs[name]
            cost.actor.append(round(one_actor(config, seconds), 1))
            system = whole_system(config, seconds)
            cost.system.append(round(system.player_steps_per_s, 1))
            cost.update_s.append(round(system.update_s, 3))
            cost.learner_mib.append(system.memory_mib["learner"])
            cost.actor_mib.append(system.memory_mib["actor"])
            console.print(f"round {number} of {rounds}: {name}: {cost.actor[-1]:,.0f} and {cost.system[-1]:,.0f}/s")
    _print(console, list(costs.values()))
    if out is not None:
        command = f"bidist bench methods {' '.join(f'--method {n}' for n in names)} --substrate {substrate} "
        command += f"--seconds {seconds:g} --rounds {rounds}"
        document = {"command": command, "results": [asdict(cost) for cost in costs.values()], **circumstances()}
        write(out, json.dumps(document, indent=1).encode())
    return 0


def _config(values: Mapping[str, Any]) -> Config:
    """Returns a method's configuration, in which fictitious players join at once if they would join later."""
    config = resolve(load_config(None, values=values, environ={}))
    if make_method(config).alone_until == 0:
        return config
    return resolve(load_config(None, values={**values, "method.alone_until": 0}, environ={}))


def _print(console: Console, costs: list[Cost]) -> None:
    table = Table("method", "one actor", "of MAPPO", "whole system", "of MAPPO", "update", "learner", "actor", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for cost in costs:
        middle = {name: statistics.median(values) for name, values in asdict(cost).items() if name != "method"}
        table.add_row(
            cost.method,
            f"{middle['actor']:,.0f}/s",
            f"{cost.ratio('actor', costs[0]):.0%}",
            f"{middle['system']:,.0f}/s",
            f"{cost.ratio('system', costs[0]):.0%}",
            f"{middle['update_s']:.2f} s",
            f"{middle['learner_mib']:,.0f} MiB",
            f"{middle['actor_mib']:,.0f} MiB",
        )
    console.print(table)
