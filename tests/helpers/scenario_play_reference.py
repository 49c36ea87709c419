"""Plays a scenario through `evaluator.reference`, and the same game through `evaluator.scenario_play`.

    python scenario_play_reference.py SCENARIO FOCAL

It runs in a process of its own, because Melting Pot imports TensorFlow. FOCAL is `policies` or `random`. The bots do
nothing, since those of the two paths draw different actions. While the reference plays, a `Tape` records dmlab2d's
game; then `scenario_play` plays the tape: a `Replay` insists on the same settings, seeds and actions at every step, and
shows what was recorded. One line of JSON on standard output holds both results.
"""

import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from melting_pot_reference import MAX_SEED, Lab2dLog, LoggedGame, Twin
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from common.config import Config
from common.settings import load_config
from environments.last_action_reward import spec_with_last
from environments.melting_pot import MeltingPot
from evaluator import reference, scenario_play
from evaluator.scenario_table import episode_seeds
from evaluator.scenarios import NOOP, Scenario, scenario
from networks.network import Network

SEED, EPISODE = 3, 1
READ = ("RGB", "REWARD", "INVENTORY", "READY_TO_SHOOT")


class Tape(LoggedGame):
    """A game that records what a player is shown, and what it is told, at every step."""

    def __init__(self, game: Any, root: str, settings: dict[str, str]) -> None:
        super().__init__(game, root, settings)
        self.names = [n for n in game.observation_names() if n.rpartition(".")[2] in READ and n[0].isdigit()]
        self.specs = {name: game.observation_spec(name) for name in self.names}
        self.action_names = game.action_discrete_names()
        self.shown: list[dict[str, NDArray[Any]]] = []
        self.events_seen: list[Any] = []
        self.actions: list[NDArray[np.int32]] = []
        self.statuses: list[Any] = []

    def start(self, episode: int, seed: int) -> None:
        super().start(episode, seed)
        self._record()

    def act_discrete(self, action: NDArray[np.int32]) -> None:
        super().act_discrete(action)
        self.actions.append(self.acted)

    def advance(self) -> Any:
        self.statuses.append(super().advance())
        self._record()
        return self.status

    def _record(self) -> None:
        self.shown.append({name: np.array(self.game.observation(name)) for name in self.names})
        self.events_seen.append(self.game.events())


class Replay(Twin):
    """The recorded game, for a second player who must act as the first did."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(tape)
        self._tape, self.step = tape, 0

    def act_discrete(self, action: NDArray[np.int32]) -> None:
        expected = self._tape.actions[self.step]
        assert np.array_equal(action, expected), f"step {self.step}: {action}, expected {expected}"

    def advance(self) -> Any:
        self.step += 1
        return self._tape.statuses[self.step - 1]

    def observation(self, name: str) -> NDArray[Any]:
        return self._tape.shown[self.step][name]

    def observation_spec(self, name: str) -> Any:
        return self._tape.specs[name]

    def action_discrete_names(self) -> list[str]:
        names: list[str] = self._tape.action_names
        return names

    def events(self) -> Any:
        return self._tape.events_seen[self.step]


class Tapes(Lab2dLog):
    """Builds tapes for Melting Pot and replays for the adapter."""

    def build(self, root: str, settings: dict[str, str]) -> Tape:
        self.tape = Tape(self._real(root, settings), root, dict(settings))
        self.games.append(self.tape)
        return self.tape

    def twin(self, root: str, settings: dict[str, str]) -> Replay:
        super().twin(root, settings)
        self.replay = Replay(self.tape)
        return self.replay


@contextmanager
def env_seed(seed: int) -> Iterator[None]:
    """Makes Melting Pot draw this seed for its game."""
    randint = random.randint
    random.randint = lambda a, b: seed if (a, b) == (1, MAX_SEED) else randint(a, b)
    yield
    random.randint = randint


def population(config: Config, played: Scenario) -> dict[str, Tensor]:
    """Two policies, still so random that they play with everything in the game."""
    game = MeltingPot(played.substrate, roles=played.roles)
    torch.manual_seed(0)
    network = Network(spec_with_last(game.spec), config.network, 2)
    game.close()
    return {name: p.detach() for name, p in network.named_parameters()}


def main() -> None:
    name, focal = sys.argv[1:]
    import dmlab2d

    torch.set_num_threads(1)
    official = scenario(name)
    played = replace(official, bots={role: (NOOP,) for role in official.bots})
    overrides = [f"environment.substrate={played.substrate}", "network.dense=16", "network.core_size=16"]
    config = load_config(overrides=overrides, environ={})
    policies = population(config, played)
    theta, other = (policies, None) if focal == "policies" else (None, policies)
    jobs = [(played, EPISODE)]
    tapes = Tapes(dmlab2d.Lab2d)

    dmlab2d.Lab2d = tapes.build
    with env_seed(int(episode_seeds(SEED, played, EPISODE)[0].generate_state(1)[0])):
        (expected,) = reference.play(jobs, config, theta, SEED)
    dmlab2d.Lab2d = tapes.twin
    (found,) = scenario_play.play(jobs, config, theta, SEED, tables=1)
    tape, steps = tapes.tape, tapes.replay.step

    objection = ""
    try:
        list(scenario_play.play(jobs, config, other, SEED, tables=1))
    except AssertionError as error:
        objection = str(error)
    rewards = [shown[n] for shown in tape.shown for n in tape.names if n.endswith(".REWARD")]
    record = {
        "reference": asdict(expected),
        "ours": asdict(found),
        "replayed": steps,
        "recorded": len(tape.actions),
        "actions": len(np.unique(tape.actions, axis=0)),
        "rewards": int(np.count_nonzero(rewards)),
        "objection": objection,
    }
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
