"""From arguments to the configuration of a run, new or resumed."""

import argparse
import time
from functools import cache
from pathlib import Path

import psutil

from cli.arguments import steps
from cli.fits import check_fits
from common.config import Config, EnvironmentConfig
from common.errors import ConfigError
from common.run_folder import RunFolder
from common.settings import differences, load_config, preset_names
from common.spec import EnvironmentSpec
from methods import METHODS, make_method, resolve

PRESET = "small"


def add_configuration(parser: argparse.ArgumentParser, name: bool = True) -> None:
    """Adds the options that configure a run."""
    group = parser.add_argument_group("configuration")
    group.add_argument(
        "--substrate",
        metavar="GAME",
        help="a Melting Pot substrate, a matrix game (`bidist list substrates`) or pettingzoo:module:function",
    )
    group.add_argument("--method", metavar="METHOD", help=f"one of {', '.join(METHODS)}, or your own module:Class")
    group.add_argument("--network", metavar="MODULE:CLASS", help="your own network (docs/methods.md)")
    group.add_argument(
        "--preset", metavar="PRESET", help=f"{', '.join(preset_names())} or a YAML file (default: {PRESET})"
    )
    group.add_argument(
        "--steps",
        type=steps,
        metavar="N",
        help="length of the run in player steps, which is env steps times players; 2e6 and 2_000_000 work too",
    )
    group.add_argument("--seed", type=int, metavar="N", help="seed of all randomness (default: 0)")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="overrides",
        help="any setting (`bidist settings` lists them), with or without `--set` in front; repeatable",
    )
    group.add_argument("--folder", type=Path, help="the folder of all runs (default: runs)")
    if name:
        group.add_argument("--run", metavar="NAME", help="name of the run (default: from method, game and time)")


def new(arguments: argparse.Namespace) -> Config:
    """Returns the configuration of a new run, named, and checked: its game, method and network exist and fit."""
    preset, values = arguments.preset or PRESET, _named(arguments)
    config = load_config(preset, arguments.overrides, values)
    if not config.run.name:
        game = config.environment.substrate.replace("_in_the_matrix", "").rpartition(":")[2]
        chosen = config.method.name.rpartition(":")[2]
        name = f"{chosen}-{game}-{time.strftime('%m%d-%H%M%S')}"
        config = load_config(preset, arguments.overrides, {**values, "run.name": name})
    spec = spec_of(config.environment)  # raises if the game cannot be built
    method = make_method(config)
    if method.symmetric or method.other_play:
        from environments.symmetries import symmetries

        symmetries(config.environment, spec)  # raises if none are known
    if config.network.name:
        from networks.registry import network_class

        network_class(config.network)  # raises if there is none
    config = resolve(config)
    check_fits(config, spec, psutil.virtual_memory().total)
    return config


def resolved(arguments: argparse.Namespace) -> Config:
    """Returns the configuration of a new run without building its game; the name may be empty."""
    return resolve(load_config(arguments.preset or PRESET, arguments.overrides, _named(arguments)))


@cache
def spec_of(environment: EnvironmentConfig) -> EnvironmentSpec:
    """Returns the spec of a game, which takes building it once.

    Raises:
      BidistError: if the game cannot be built.
    """
    import environments

    return environments.spec(environment)


def resumed(arguments: argparse.Namespace, folder: RunFolder) -> Config:
    """Returns the configuration of an existing run, with another budget if asked for.

    Raises:
      ConfigError: if the arguments ask for any other change.
    """
    config = folder.read_config()
    # The run's folder may have moved since it started, or been named relative to another directory.
    config = config.model_copy(update={"run": config.run.model_copy(update={"folder": folder.path.parent})})
    config = resolve(config, f"{folder.config}: ")
    if arguments.method not in (None, config.method.name):
        raise ConfigError(
            f"run {folder.path} uses {config.method.name} and cannot continue with {arguments.method}: leave --method "
            "out, or start another run"
        )
    asked = resolve(load_config(arguments.preset, arguments.overrides, _named(arguments), base=config))
    changed = [
        f"{name} is {value!r} and cannot become {wanted!r}"
        for name, (value, wanted) in differences(config, asked).items()
        if name != "run.player_steps"
    ]
    if changed:
        raise ConfigError(f"run {folder.path} keeps its settings: {'; '.join(changed)}; only --steps can change")
    return asked


def _named(arguments: argparse.Namespace) -> dict[str, object]:
    named = {
        "environment.substrate": arguments.substrate,
        "method.name": arguments.method,
        "network.name": arguments.network,
        "run.player_steps": arguments.steps,
        "run.seed": arguments.seed,
        "run.name": arguments.run,
        "run.folder": arguments.folder,
    }
    return {path: value for path, value in named.items() if value is not None}
