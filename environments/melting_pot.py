"""Melting Pot's substrates, reading only what a policy sees.

Melting Pot's own wrapper asks dmlab2d for every observation of every player at every step. This adapter builds the same
game with the same seeds from the installed package's configurations and Lua, and reads only RGB, INVENTORY and
READY_TO_SHOOT. Its observations equal those of `meltingpot.substrate.build` byte for byte (`test_melting_pot.py`
compares the two); RGB is then reduced to block means.

Two things that no policy sees come from the game's events: who is frozen after an interaction, and counts of what
happened in an episode.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from common.spec import EnvironmentSpec
from environments.images import block_mean
from environments.interface import Observation, Step
from environments.lab2d import Lab2dGame
from environments.substrates import lab2d_settings, restarts, substrate_config

# Focal players in the official scenarios see these and COLLECTIVE_REWARD, which no method uses.
FEATURES = ("INVENTORY", "READY_TO_SHOOT")
MAX_SEED = 2**32 - 1
# After an interaction both players are frozen for this many steps more than `freezeOnInteraction` says.
THAW = 2
ORES = {1: "iron", 2: "gold"}


class MeltingPot:
    """One substrate.

    Args:
      name: its name.
      block: edge in pixels of the squares whose mean a policy sees.
      seed: seeds the game as Melting Pot's own builder does with the same number.
      roles: one for each player; None takes the substrate's own.
      shown: the players, from 0, that an `Observation` has rows for; None shows all.
      located: whether players carry a component that reports where they are, which `world` needs.

    Attributes:
      features: the names of what the players observe besides RGB.
      restarts: whether an episode restarts the game instead of building it again, with the same result but faster.
      lab2d: the game itself.
      observed: names of everything that is read from `lab2d` at each step.

    Raises:
      ConfigError: if there is no such substrate, or `block` does not divide its image.
      SetupError: if Melting Pot is not installed.
    """

    def __init__(
        self,
        name: str,
        block: int = 8,
        seed: int = 1,
        roles: Sequence[str] | None = None,
        shown: Sequence[int] | None = None,
        located: bool = False,
    ) -> None:
        config = substrate_config(name)
        roles = config.default_player_roles if roles is None else roles
        self._block = block
        self._make_settings = functools.partial(lab2d_settings, config, roles, located)
        self._settings = self._make_settings(seed)
        self._seeds = _seeds(seed)
        self._shown = list(range(len(roles))) if shown is None else list(shown)
        self._rgb = [f"{i + 1}.RGB" for i in self._shown]
        self._reward = [f"{i + 1}.REWARD" for i in range(len(roles))]
        freezes = [int(v) for k, v in self._settings.items() if k.endswith(".freezeOnInteraction")]
        self._freeze = max(freezes, default=0)
        self.restarts = restarts(name)
        self.lab2d = Lab2dGame(name, config.action_set)
        self._build()
        self._unplayed = True
        height, width, _ = self.lab2d.shape("1.RGB")
        if height % block or width % block:
            raise ConfigError(
                f"environment.block={block}: the image of {name} has {height}x{width} pixels, which squares of "
                f"{block}x{block} do not fill; 8, 4, 2 and 1 do"
            )
        self.features = [name for name in FEATURES if name in config.individual_observation_names]
        widths = [int(np.prod(self.lab2d.shape(f"1.{feature}"))) for feature in self.features]
        ends = np.cumsum(widths).tolist()
        self._features = [
            (row, slice(end - width, end), f"{i + 1}.{feature}")
            for row, i in enumerate(self._shown)
            for feature, width, end in zip(self.features, widths, ends, strict=True)
        ]
        self.observed = [*self._rgb, *self._reward, *(name for _, _, name in self._features)]
        reduced = (height // block, width // block, 3)
        self.spec = EnvironmentSpec(name, len(roles), len(config.action_set), reduced, sum(widths))

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`.

        Melting Pot builds the game again for each episode, which takes as long as hundreds of steps. Where a restart
        gives the same game, this restarts it.

        Args:
          seed: reseeds everything random, including the map where a substrate draws one; None continues.
        """
        changed = False
        if seed is not None:
            settings, self._seeds = self._make_settings(seed), _seeds(seed)
            self._settings, changed = settings, settings != self._settings
        if changed or not (self._unplayed or self.restarts):
            self._build()
        elif seed is not None or not self._unplayed:
            self._draw_seed()
        self._unplayed = False
        self.lab2d.start(self._start_seed)
        self._frozen = np.zeros(self.spec.players, np.int64)
        self._counts: Counter[str] = Counter()
        return self._observe()

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        over, truncated = self.lab2d.act(action)
        reward = np.array([self.lab2d.observe(name) for name in self._reward], np.float32)
        self._frozen -= 1
        for event, fields in self.lab2d.events():
            self._hear(event, fields)
        statistics = {name: count / self.spec.players for name, count in self._counts.items()} if over else {}
        return Step(self._observe(), reward, over and not truncated, truncated, statistics)

    def close(self) -> None:
        """See `Environment`."""
        self.lab2d.close()

    def rgb(self) -> list[NDArray[np.uint8]]:
        """Returns the full images that the shown players see now, each [H, W, 3]."""
        return [self.lab2d.observe(name) for name in self._rgb]

    def world(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Returns the whole map [H, W, 3], and each player's position on it, [N, 2] as column and row of squares."""
        positions = [self.lab2d.observe(f"{i + 1}.POSITION") for i in range(self.spec.players)]
        return self.lab2d.observe("WORLD.RGB"), np.array(positions, np.int64)

    def observation(self, player: int, name: str) -> NDArray[Any]:
        """Returns what a player, from 0, shown or not, observes now under one of Melting Pot's names."""
        return self.lab2d.observe(f"{player + 1}.{name}")

    def _observe(self) -> Observation:
        features = np.empty((len(self._shown), self.spec.features), np.float32)
        for row, columns, name in self._features:
            features[row, columns] = self.lab2d.observe(name)
        rgb = block_mean(self.rgb(), self._block)
        # A player that was removed from the game sees black.
        active = (self._frozen[self._shown] <= 0) & rgb.any(axis=(1, 2, 3))
        return Observation(rgb, features, active)

    def _hear(self, event: str, fields: dict[bytes, Any]) -> None:
        if event == "interaction":
            players = [int(fields[b"row_player_idx"]) - 1, int(fields[b"col_player_idx"]) - 1]
            self._frozen[players] = self._freeze + THAW
            self._counts["interactions"] += 2
        elif event == "coin_consumed":
            same = fields[b"player_coin_type"] == fields[b"coin_type"]
            self._counts["coins_matched" if same else "coins_mismatched"] += 1
        elif event == "extraction":
            self._counts[f"ore_{ORES[int(fields[b'ore_type'])]}_extracted"] += 1

    def _build(self) -> None:
        self.lab2d.build(self._settings, self._draw_seed())

    def _draw_seed(self) -> int:
        """Moves on to the next episode's seed, from which Melting Pot draws the one that dmlab2d starts with."""
        seed = next(self._seeds)
        self._start_seed = int(np.random.RandomState(seed).randint(0, 2**31))
        return seed


def _seeds(first: int) -> Iterator[int]:
    return (s % (MAX_SEED + 1) for s in itertools.count(first))
