"""From arguments to the configuration of a run: a new one's, or that of one which goes on."""

import argparse
import time
from pathlib import Path

from common.config import Config
from common.errors import ConfigError
from common.run_folder import RunFolder
from common.settings import load_config, preset_names
from methods import METHODS, resolve

PRESET = "small"


def add_configuration(parser: argparse.ArgumentParser, name: bool = True) -> None:
    """Adds the options that set a run up."""
    group = parser.add_argument_group("configuration")
    group.add_argument("--substrate", help="a Melting Pot substrate, a matrix game or pettingzoo:module:function")
    group.add_argument("--method", help=f"one of {', '.join(METHODS)}")
    group.add_argument("--preset", help=f"{', '.join(preset_names())} or a YAML file (default: {PRESET})")
    group.add_argument("--steps", type=int, metavar="N", help="length of the run in steps, summed over players")
    group.add_argument("--seed", type=int)
    group.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides",
                       help="any setting of common/config.py; may be given more than once")  # fmt: skip
    group.add_argument("--folder", type=Path, help="where run folders are made (default: runs)")
    if name:
        group.add_argument("--run", metavar="NAME", help="name of the run (default: made from method, game and time)")


def new(arguments: argparse.Namespace) -> Config:
    """The configuration of a run that is to be made; it is checked, and has a name."""
    import environments

    preset, values = arguments.preset or PRESET, _named(arguments)
    config = load_config(preset, arguments.overrides, values)
    if not config.run.name:
        game = config.environment.substrate.replace("_in_the_matrix", "").rpartition(":")[2]
        chosen = config.method.name.rpartition(":")[2]
        name = f"{chosen}-{game}-{time.strftime('%m%d-%H%M%S')}"
        config = load_config(preset, arguments.overrides, {**values, "run.name": name})
    environments.spec(config.environment)
    return resolve(config)


def resumed(arguments: argparse.Namespace, folder: RunFolder) -> Config:
    """A run's own configuration, with another budget if one is asked for.

    Raises:
      ConfigError: if anything else is asked for than the run has.
    """
    config = folder.read_config()
    # The run lies where it was found, whatever the place it was started from was called there.
    config = config.model_copy(update={"run": config.run.model_copy(update={"folder": folder.path.parent})})
    config = resolve(config, f"{folder.config}: ")
    if arguments.method not in (None, config.method.name):
        raise ConfigError(
            f"run {folder.path} is one of {config.method.name} and cannot go on as one of {arguments.method}: leave "
            "--method out, or start another run"
        )
    asked = resolve(load_config(arguments.preset, arguments.overrides, _named(arguments), base=config))
    is_now, would_be = config.model_dump(), asked.model_dump()
    changed = [
        f"{section}.{key} is {value!r} and cannot become {would_be[section][key]!r}"
        for section, settings in is_now.items()
        for key, value in settings.items()
        if value != would_be[section][key] and (section, key) != ("run", "player_steps")
    ]
    if changed:
        raise ConfigError(f"run {folder.path} has its settings already: {'; '.join(changed)}; --steps alone can change")
    return asked


def _named(arguments: argparse.Namespace) -> dict[str, object]:
    named = {
        "environment.substrate": arguments.substrate,
        "method.name": arguments.method,
        "run.player_steps": arguments.steps,
        "run.seed": arguments.seed,
        "run.name": arguments.run,
        "run.folder": arguments.folder,
    }
    return {path: value for path, value in named.items() if value is not None}
