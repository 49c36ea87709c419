"""The background players of many episodes: Melting Pot's puppeteers choose goals, one batched network acts."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from environments.melting_pot import MeltingPot
from evaluator.puppets import Puppet, puppet
from evaluator.scenarios import Scenario, bot_config
from networks.players import draw


@dataclass
class Troupe:
    """The bots of one episode that share a network.

    Attributes:
      network: the network.
      seats: the seats they play, from 0.
      puppeteers: choose their goals, one per bot.
      memories: the puppeteers' states.
      seen: each bot's current observations, by Melting Pot's names.
      goals: [bots, G] one-hot, the current goals.
      state: [bots, state_size], the network's recurrent state.
      action: [bots] int64, the last actions.
    """

    network: Puppet
    seats: list[int] = field(default_factory=list)
    puppeteers: list[Any] = field(default_factory=list)
    memories: list[Any] = field(default_factory=list)
    seen: list["Seen"] = field(default_factory=list)
    goals: list[NDArray[np.int32]] = field(default_factory=list)
    state: Tensor = torch.empty(0)
    action: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class Seen(dict[str, NDArray[Any]]):
    """A bot's current observations by Melting Pot's names, each read from the game on first use."""

    def __init__(self, game: MeltingPot, player: int) -> None:
        super().__init__()
        self._game, self._player = game, player

    def __missing__(self, name: str) -> NDArray[Any]:
        found = self[name] = self._game.observation(self._player, name)
        return found


class Background:
    """All bots of one episode; the constructor draws who they are.

    Args:
      scenario: the scenario.
      game: its game; must be reset before the first `look`.
      seed: of the episode.

    Attributes:
      names: the bots' names, in the order of their seats.
    """

    def __init__(self, scenario: Scenario, game: MeltingPot, seed: np.random.SeedSequence) -> None:
        dice, race = seed.spawn(2)
        self.game = game
        self._dice = random.Random(int(dice.generate_state(1, np.uint64)[0]))
        self._race = np.random.default_rng(race)
        self.names = [self._dice.choice(scenario.bots[scenario.roles[i]]) for i in scenario.background]
        self.troupes: dict[Path, Troupe] = {}
        for seat, name in zip(scenario.background, self.names, strict=True):
            config = bot_config(name)
            if config.model is None:
                continue
            if config.model not in self.troupes:
                self.troupes[config.model] = Troupe(puppet(config.model))
            troupe = self.troupes[config.model]
            troupe.seats.append(seat)
            troupe.puppeteers.append(config.puppeteer())
        with _borrow_random(self._dice):
            for troupe in self.troupes.values():
                bots = len(troupe.seats)
                troupe.memories = [puppeteer.initial_state() for puppeteer in troupe.puppeteers]
                troupe.state = torch.zeros(bots, troupe.network.state_size)
                troupe.action = np.zeros(bots, np.int64)
        self._starting = True

    def look(self) -> None:
        """Shows the game to the puppeteers, which choose their goals."""
        import dm_env

        kind = dm_env.StepType.FIRST if self._starting else dm_env.StepType.MID
        self._starting = False
        with _borrow_random(self._dice):
            for troupe in self.troupes.values():
                troupe.seen = [Seen(self.game, seat) for seat in troupe.seats]
                troupe.goals = []
                for k, (puppeteer, seen) in enumerate(zip(troupe.puppeteers, troupe.seen, strict=True)):
                    told, troupe.memories[k] = puppeteer.step(dm_env.TimeStep(kind, 0.0, 1.0, seen), troupe.memories[k])
                    troupe.goals.append(told.observation["GOAL"])

    def race(self, troupe: Troupe) -> NDArray[np.float64]:
        """Returns the exponential variables that draw a troupe's actions: [bots, A]."""
        return self._race.standard_exponential((len(troupe.seats), troupe.network.actions))

    def write(self, action: NDArray[np.int32]) -> None:
        """Writes the bots' actions to their seats in `action`, [N]; bots without a network do nothing."""
        for troupe in self.troupes.values():
            action[troupe.seats] = troupe.action


@torch.no_grad()
def act(backgrounds: Sequence[Background]) -> None:
    """Chooses the actions of all bots of several episodes after `look`, with one forward pass per network."""
    for model in dict.fromkeys(model for background in backgrounds for model in background.troupes):
        present = [(b, b.troupes[model]) for b in backgrounds if model in b.troupes]
        troupes = [troupe for _, troupe in present]
        network = troupes[0].network
        images = [seen["RGB"] for troupe in troupes for seen in troupe.seen]
        inputs = [[x for n in network.inputs for x in seen[n].flat] for troupe in troupes for seen in troupe.seen]
        logits, state = network.step(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.array(inputs, np.float32)),
            torch.from_numpy(np.array([goal for troupe in troupes for goal in troupe.goals], np.float32)),
            torch.from_numpy(np.concatenate([troupe.action for troupe in troupes])),
            torch.cat([troupe.state for troupe in troupes]),
        )
        race = np.concatenate([b.race(troupe) for b, troupe in present])
        action = draw(logits, torch.from_numpy(race).to(logits.dtype)).numpy()
        sizes = [len(troupe.seats) for troupe in troupes]
        ends = np.cumsum(sizes)
        for troupe, own_state, size, end in zip(troupes, state.split(sizes), sizes, ends, strict=True):
            troupe.state, troupe.action = own_state, action[end - size : end]


class _borrow_random:
    """Makes the puppeteers, which use Python's `random`, draw from an episode's own generator."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def __enter__(self) -> None:
        for module in _drawing_modules():
            module.random = self._dice

    def __exit__(self, *error: object) -> None:
        for module in _drawing_modules():
            module.random = random


@cache
def _drawing_modules() -> list[Any]:
    """Returns the puppeteers' modules that use `random`."""
    from meltingpot.configs import bots

    del bots
    found = [module for name, module in sys.modules.items() if name.startswith("meltingpot.utils.puppeteers.")]
    return [module for module in found if getattr(module, "random", None) is random]
