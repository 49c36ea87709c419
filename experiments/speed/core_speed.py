"""What the hand-written GRU is worth on a CPU: the whole system with it, relative to the whole system with torch's."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from common.config import Config, NetworkConfig
from common.cores import core_count
from common.errors import ConfigError
from common.files import write
from common.settings import load_config
from common.spec import EnvironmentSpec
from experiments.speed.rates import RUN, System, whole_system
from experiments.speed.throughput import PARAMETERS, Result
from methods import resolve
from networks.layers import StackedCore
from networks.network import Network
from reports.provenance import circumstances

NAMES = {"torch's": f"{__name__}:TorchNetwork", "hand-written": ""}
"""Networks by their GRU; the first is what the other is compared with."""


class TorchCore(StackedCore):
    """The same core, computed by torch, one policy after another."""

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `StackedCore`."""
        return self.one_by_one(x, state)


class TorchNetwork(Network):
    """The same network with torch's core."""

    def __init__(self, spec: EnvironmentSpec, config: NetworkConfig, policies: int) -> None:
        super().__init__(spec, config, policies)
        self.core = TorchCore(policies, config.core, config.dense, config.core_size)


def run(
    substrate: str,
    seconds: float,
    rounds: int,
    out: Path | None,
    measure: Callable[[Config, float], System] = whole_system,
) -> int:
    """Measures both in turn, with shared parameters and with those of each player, and prints a table.

    Args:
      substrate: the game.
      seconds: length of each measurement, without start-up.
      rounds: the number of rounds.
      out: JSON file for the figures; None writes none.
      measure: trains with a configuration for some seconds.

    Raises:
      ConfigError: if there is nothing to measure.
    """
    if seconds <= 0 or rounds < 1:
        raise ConfigError(f"--seconds {seconds:g} --rounds {rounds}: both must be positive")
    console, cores = Console(), core_count()
    results = {
        (kind, name): Result(f"{name} GRU, {kind} parameters", cores, []) for kind in PARAMETERS for name in NAMES
    }
    for number in range(1, rounds + 1):
        for (kind, name), result in results.items():
            values = {"environment.substrate": substrate, "network.parameters": kind, "run.name": RUN}
            config = resolve(load_config(None, values=values | {"network.name": NAMES[name]}, environ={}))
            result.player_steps_per_s.append(round(measure(config, seconds).player_steps_per_s, 1))
            console.print(f"round {number} of {rounds}: {result.what}: {result.player_steps_per_s[-1]:,.0f}/s")
    table = Table("whole system", "player steps/s", "of torch's", box=None)
    for (kind, _), result in results.items():
        ratio = result.ratio(results[kind, next(iter(NAMES))])
        table.add_row(result.what, f"{result.median:,.0f}", f"{ratio:.0%}")
    console.print(table)
    if out is not None:
        command = f"bidist bench core --substrate {substrate} --seconds {seconds:g} --rounds {rounds}"
        rows = [asdict(result) for result in results.values()]
        write(out, json.dumps({"command": command, "results": rows, **circumstances()}, indent=1).encode())
    return 0
