"""The background players of many episodes at once: Melting Pot's puppeteers decide, one batched network acts."""

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
      network: theirs.
      players: the slots they play, from 0.
      puppeteers: decide their goals, one a bot.
      memories: the puppeteers'.
      seen: for each bot what it is told now, by Melting Pot's names.
      goals: [bots, G] one-hot, what the puppeteers want now.
      state: [bots, state_size], the network's.
      action: [bots] int64, the last one.
    """

    network: Puppet
    players: list[int] = field(default_factory=list)
    puppeteers: list[Any] = field(default_factory=list)
    memories: list[Any] = field(default_factory=list)
    seen: list["Seen"] = field(default_factory=list)
    goals: list[NDArray[np.int32]] = field(default_factory=list)
    state: Tensor = torch.empty(0)
    action: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class Seen(dict[str, NDArray[Any]]):
    """What a bot is told now, by Melting Pot's names; read from the game when it is asked for, and then kept."""

    def __init__(self, game: MeltingPot, player: int) -> None:
        super().__init__()
        self._game, self._player = game, player

    def __missing__(self, name: str) -> NDArray[Any]:
        found = self[name] = self._game.observation(self._player, name)
        return found


class Background:
    """All bots of one episode; who they are is drawn when it is made.

    Args:
      scenario: what is played.
      game: where it is played; to be reset before the first `look`.
      seed: of the episode.

    Attributes:
      names: the bots' names, in the order of their slots.
    """

    def __init__(self, scenario: Scenario, game: MeltingPot, seed: np.random.SeedSequence) -> None:
        dice, race = seed.spawn(2)
        self.game = game
        self._dice = random.Random(int(dice.generate_state(1, np.uint64)[0]))
        self._race = np.random.default_rng(race)
        self.names = [self._dice.choice(scenario.bots[scenario.roles[i]]) for i in scenario.background]
        self.troupes: dict[Path, Troupe] = {}
        for player, name in zip(scenario.background, self.names, strict=True):
            config = bot_config(name)
            if config.model is None:
                continue
            if config.model not in self.troupes:
                self.troupes[config.model] = Troupe(puppet(config.model))
            troupe = self.troupes[config.model]
            troupe.players.append(player)
            troupe.puppeteers.append(config.puppeteer())
        with _lent(self._dice):
            for troupe in self.troupes.values():
                bots = len(troupe.players)
                troupe.memories = [puppeteer.initial_state() for puppeteer in troupe.puppeteers]
                troupe.state = torch.zeros(bots, troupe.network.state_size)
                troupe.action = np.zeros(bots, np.int64)
        self._starting = True

    def look(self) -> None:
        """Lets the puppeteers see the game and choose their goals."""
        import dm_env

        kind = dm_env.StepType.FIRST if self._starting else dm_env.StepType.MID
        self._starting = False
        with _lent(self._dice):
            for troupe in self.troupes.values():
                troupe.seen = [Seen(self.game, player) for player in troupe.players]
                troupe.goals = []
                for k, (puppeteer, seen) in enumerate(zip(troupe.puppeteers, troupe.seen, strict=True)):
                    told, troupe.memories[k] = puppeteer.step(dm_env.TimeStep(kind, 0.0, 1.0, seen), troupe.memories[k])
                    troupe.goals.append(told.observation["GOAL"])

    def race(self, troupe: Troupe) -> NDArray[np.float64]:
        """What the actions of a troupe are drawn with: [bots, A]."""
        return self._race.standard_exponential((len(troupe.players), troupe.network.actions))

    def write(self, action: NDArray[np.int32]) -> None:
        """Writes what the bots do now to their seats in `action`, [N]; bots without a network do nothing."""
        for troupe in self.troupes.values():
            action[troupe.players] = troupe.action


@torch.no_grad()
def act(backgrounds: Sequence[Background]) -> None:
    """Moves all bots of several episodes on by one step, those of one network in one pass; they have looked before."""
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
        sizes = [len(troupe.players) for troupe in troupes]
        ends = np.cumsum(sizes)
        for troupe, own_state, size, end in zip(troupes, state.split(sizes), sizes, ends, strict=True):
            troupe.state, troupe.action = own_state, action[end - size : end]


class _lent:
    """Lets the puppeteers, which draw from Python's `random`, draw from an episode's own generator."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def __enter__(self) -> None:
        for module in _gamblers():
            module.random = self._dice

    def __exit__(self, *error: object) -> None:
        for module in _gamblers():
            module.random = random


@cache
def _gamblers() -> list[Any]:
    """The modules of puppeteers that draw lots."""
    from meltingpot.configs import bots

    del bots
    found = [module for name, module in sys.modules.items() if name.startswith("meltingpot.utils.puppeteers.")]
    return [module for module in found if getattr(module, "random", None) is random]
