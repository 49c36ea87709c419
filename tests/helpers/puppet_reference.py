"""Plays bots through Melting Pot's own classes and records the inputs and outputs of their networks.

    python puppet_reference.py STEPS FOLDER SCENARIO...

It runs in a process of its own, because Melting Pot imports TensorFlow. Every seat of a scenario's game is played by
one of the bots of its scenarios, so the networks see what they see in play. FOLDER gets a file for each game.
"""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tree

sys.path.insert(0, str(Path(__file__).parents[2]))


def main() -> None:
    """Plays the games of the scenarios named on the command line."""
    steps, folder, names = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    from meltingpot import scenario

    games: dict[str, list[Any]] = {}
    for config in map(scenario.get_config, names):
        games.setdefault(config.substrate, []).append(config)
    for name, configs in games.items():
        play(configs, steps, folder / f"{name}.npz")


def play(configs: list[Any], steps: int, out: Path) -> None:
    """Plays the game of some scenarios and records it."""
    from meltingpot import bot, substrate

    random.seed(0)
    known = sorted({name for config in configs for bots in config.bots_by_role.values() for name in bots})
    environment = substrate.build(configs[0].substrate, roles=configs[0].roles)
    timestep = environment.reset()
    players = [random.choice(known) for _ in timestep.reward]
    policies = {name: bot.build(name) for name in sorted(set(players))}
    states = [policies[name].initial_state() for name in players]
    log: dict[str, list[Any]] = {}
    for _ in range(steps):
        actions = []
        for i, name in enumerate(players):
            own = timestep._replace(observation=timestep.observation[i], reward=timestep.reward[i])
            puppeteer_memory, (key, state) = states[i]
            told, puppeteer_memory = policies[name]._puppeteer.step(own, puppeteer_memory)
            seen = {k: np.asarray(v, np.float32) if v.dtype == np.float64 else v for k, v in told.observation.items()}
            told = told._replace(step_type=int(told.step_type), observation=seen)
            key, ((action, thought), state) = policies[name]._puppet._model.step(key, told, state)
            states[i] = puppeteer_memory, (key, state)
            actions.append(int(action))
            entry = {name: seen[name] for name in ("RGB", "GOAL", "INVENTORY", "READY_TO_SHOOT") if name in seen}
            entry |= {"logits": thought["policy"].numpy(), "action": int(action)}
            entry |= {part: getattr(state["lstm_state"], part).numpy() for part in ("hidden", "cell")}
            for what, value in entry.items():
                log.setdefault(what, []).append(value)
        timestep = environment.step(actions)
    shape = (steps, len(players))
    arrays = {what: np.stack(values).reshape(*shape, *np.shape(values[0])) for what, values in log.items()}
    environment.close()
    np.savez(out, **{"bots": np.array(players), **arrays})  # type: ignore[arg-type]
    tree.map_structure(lambda p: p.close(), policies)


if __name__ == "__main__":
    main()
