"""Melting Pot's substrates, asked only for what a policy sees.

Melting Pot's own wrapper asks dmlab2d for every observation of every player on every step, and importing it brings
TensorFlow and JAX along. This adapter takes the substrate's configuration and Lua from the installed package, builds
the same game with the same seeds, and reads RGB, INVENTORY and READY_TO_SHOOT alone. What it returns is, byte for
byte, what `meltingpot.substrate.build` shows (`tests/test_melting_pot.py` compares the two), with RGB then reduced to
the mean of each block of pixels.

From the game's events it takes two things that no policy sees: who is frozen after an interaction, and counts of what
happened in an episode.
"""

import difflib
import functools
import importlib.util
import itertools
import logging
import random
import sys
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, SetupError, SubstrateError
from common.spec import EnvironmentSpec
from environments.interface import Observation, Step

# Focal players in the official scenarios see these and COLLECTIVE_REWARD, which no method uses.
FEATURES = ("INVENTORY", "READY_TO_SHOOT")
MAX_SEED = 2**32 - 1
# After an interaction both players stand still for this many steps more than `freezeOnInteraction` says.
THAW = 2
ORES = {1: "iron", 2: "gold"}
# Substrates, besides those in a matrix, that start a standing game as they start one that was just built. Tests show
# it; commons_harvest__open, for one, draws numbers of its own.
RESTARTING = ("clean_up", "coins", "coop_mining", "territory__")


@cache
def light_meltingpot() -> None:
    """Lets Melting Pot's sub-packages be imported without running the package's own `__init__`.

    That file imports the bots' machinery, and with it TensorFlow. An empty module of its name with the same path
    lets the sub-packages be found; where the real package was imported before, it stays.

    Raises:
      SetupError: if Melting Pot is not installed.
    """
    if "meltingpot" not in sys.modules:
        spec = importlib.util.find_spec("meltingpot")
        if spec is None or spec.submodule_search_locations is None:
            raise SetupError("dm-meltingpot is not installed: run `make setup`, and see `bidist doctor`")
        module = types.ModuleType("meltingpot")
        module.__path__ = list(spec.submodule_search_locations)
        module.__spec__ = spec
        sys.modules["meltingpot"] = module
    logging.getLogger("absl").setLevel(logging.WARNING)


def _package() -> types.ModuleType:
    light_meltingpot()
    from meltingpot.configs import substrates

    return substrates  # type: ignore[no-any-return]


def substrates() -> list[str]:
    """Names of all substrates that the installed Melting Pot has."""
    return sorted(_package().SUBSTRATES)


def default_roles(name: str) -> tuple[str, ...]:
    """The roles of a substrate's players.

    Raises:
      ConfigError: if there is no such substrate.
    """
    return tuple(_config(name).default_player_roles)


def _config(name: str) -> Any:
    known = substrates()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or known
        raise ConfigError(f"no substrate is called {name!r}; near it are {', '.join(near)}")
    return _package().get_config(name)


def block_mean(rgb: Sequence[NDArray[np.uint8]], block: int) -> NDArray[np.uint8]:
    """Reduces images to the mean of each square of block x block pixels, halves rounded to even.

    Args:
      rgb: N images [H, W, 3], H and W multiples of `block`.
      block: edge of a square in pixels.

    Returns: [N, H / block, W / block, 3].
    """
    if block == 1:
        return np.stack(rgb)
    n, (height, width, _) = len(rgb), rgb[0].shape
    # What is added up lies in front, first for rows, then for columns: numpy adds long arrays fast and short axes
    # slowly. Not by BLAS, whose threads cost more than they save.
    rows = np.empty((block, n, height // block, width * 3), np.uint16 if block <= 16 else np.uint32)
    for i, image in enumerate(rgb):
        rows[:, i] = image.reshape(height // block, block, width * 3).swapaxes(0, 1)
    bands = np.add.reduce(rows, axis=0, dtype=rows.dtype).reshape(-1, block * 3)
    total = np.add.reduce(np.ascontiguousarray(bands.T).reshape(block, 3, -1), axis=0, dtype=rows.dtype)
    means: NDArray[np.uint8] = np.rint(total.astype(np.float32) / np.float32(block**2)).astype(np.uint8)
    return np.ascontiguousarray(means.T).reshape(n, height // block, width // block, 3)


class MeltingPot:
    """One substrate.

    Args:
      name: its name.
      block: edge of the squares of pixels whose mean a policy sees.
      seed: seeds the game as Melting Pot's own builder does with the same number.
      roles: one role a player; None takes the substrate's own.
      shown: the players, from 0, that an `Observation` has rows for; None shows all.
      located: whether `world` is asked for; the players then carry a component that reports where they are.

    Attributes:
      restarts: whether an episode starts the standing game anew instead of building another, which looks the same.

    Raises:
      ConfigError: if there is no such substrate, or its image cannot be cut into such squares.
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
        config = _config(name)
        from dmlab2d import runfiles_helper

        self._name, self._block = name, block
        roles = config.default_player_roles if roles is None else roles
        self._build_settings = functools.partial(_settings, config, roles, located)
        self._settings = self._build_settings(seed)
        self._root = runfiles_helper.find()
        self._seeds = _seeds(seed)
        players = range(1, len(roles) + 1)
        individual = config.individual_observation_names
        self._shown = list(range(len(roles))) if shown is None else list(shown)
        self._rgb = [f"{i}.RGB" for i in players]
        self._reward = [f"{i}.REWARD" for i in players]
        features = [name for name in FEATURES if name in individual]
        self._action_set = config.action_set
        freezes = [int(v) for k, v in self._settings.items() if k.endswith(".freezeOnInteraction")]
        self._freeze = max(freezes, default=0)
        self.restarts = name.startswith(RESTARTING) or "_in_the_matrix__" in name
        self._build()
        self._unplayed = True
        shape = self._env.observation_spec(self._rgb[0])["shape"]
        if shape[0] % block or shape[1] % block:
            raise ConfigError(
                f"environment.block={block}: the image of {name} has {shape[0]}x{shape[1]} pixels, which squares of "
                f"{block}x{block} do not fill; 8, 4, 2 and 1 do"
            )
        widths = [int(np.prod(self._env.observation_spec(f"1.{f}")["shape"])) for f in features]
        ends = np.cumsum(widths).tolist()
        self._features = [
            (row, slice(end - width, end), f"{i + 1}.{f}")
            for row, i in enumerate(self._shown)
            for f, width, end in zip(features, widths, ends, strict=True)
        ]
        reduced = (shape[0] // block, shape[1] // block, 3)
        self.spec = EnvironmentSpec(name, len(roles), len(self._action_set), reduced, sum(widths))

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`.

        Melting Pot builds the game anew for each episode. Where starting a standing game is the same, this does not:
        building takes as long as hundreds of steps.

        Args:
          seed: starts everything anew that depends on it, the map too where a substrate draws one; None continues.
        """
        changed = False
        if seed is not None:
            settings, self._seeds = self._build_settings(seed), _seeds(seed)
            self._settings, changed = settings, settings != self._settings
        if changed or not (self._unplayed or self.restarts):
            self._build()
        elif seed is not None or not self._unplayed:
            self._draw_seed()
        self._unplayed = False
        self._env.start(0, seed=self._start_seed)
        self._frozen = np.zeros(self.spec.players, np.int64)
        self._counts: Counter[str] = Counter()
        return self._observe()

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        from dmlab2d import INTERRUPTED, RUNNING

        self._env.act_discrete(self._table[action[self._owner], self._columns])
        try:
            status, _ = self._env.advance()
        except RuntimeError as error:
            raise SubstrateError(f"{self._name}: dmlab2d cannot go on: {error}") from error
        observe = self._env.observation
        reward = np.array([observe(name) for name in self._reward], np.float32)
        self._frozen -= 1
        for event, payload in self._env.events():
            self._hear(event, dict(zip(payload[1::2], payload[2::2], strict=False)))
        over, truncated = status != RUNNING, status == INTERRUPTED
        statistics = {name: count / self.spec.players for name, count in self._counts.items()} if over else {}
        return Step(self._observe(), reward, over and not truncated, truncated, statistics)

    def close(self) -> None:
        """See `Environment`; dmlab2d frees the game when nobody refers to it."""
        del self._env

    def rgb(self) -> list[NDArray[np.uint8]]:
        """The whole images that the shown players see now, each [H, W, 3]."""
        return [self._env.observation(self._rgb[i]) for i in self._shown]

    def world(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The whole map [H, W, 3], and where each player is on it, [N, 2] as column and row of squares."""
        places = [self._env.observation(f"{i + 1}.POSITION") for i in range(self.spec.players)]
        return self._env.observation("WORLD.RGB"), np.array(places, np.int64)

    def observation(self, player: int, name: str) -> NDArray[Any]:
        """What a player, from 0, shown or not, is told now under one of Melting Pot's names, such as RGB [H, W, 3]."""
        found: NDArray[Any] = self._env.observation(f"{player + 1}.{name}")
        return found

    def _observe(self) -> Observation:
        features = np.empty((len(self._shown), self.spec.features), np.float32)
        for row, place, name in self._features:
            features[row, place] = self._env.observation(name)
        rgb = block_mean(self.rgb(), self._block)
        # Who was removed from the game sees black.
        active = (self._frozen[self._shown] <= 0) & rgb.any(axis=(1, 2, 3))
        return Observation(rgb, features, active)

    def _hear(self, event: str, payload: dict[bytes, Any]) -> None:
        if event == "interaction":
            players = [int(payload[b"row_player_idx"]) - 1, int(payload[b"col_player_idx"]) - 1]
            self._frozen[players] = self._freeze + THAW
            self._counts["interactions"] += 2
        elif event == "coin_consumed":
            same = payload[b"player_coin_type"] == payload[b"coin_type"]
            self._counts["coins_matched" if same else "coins_mismatched"] += 1
        elif event == "extraction":
            self._counts[f"ore_{ORES[int(payload[b'ore_type'])]}_extracted"] += 1

    def _build(self) -> None:
        from dmlab2d import Lab2d

        self._env = Lab2d(self._root, {**self._settings, "env_seed": str(self._draw_seed())})
        # dmlab2d lists the players' actions in an order of its own, which differs from build to build.
        names = self._env.action_discrete_names()
        self._owner = np.array([int(name.partition(".")[0]) - 1 for name in names])
        self._table = np.array(
            [[entry[name.partition(".")[2]] for name in names] for entry in self._action_set], np.int32
        )
        self._columns = np.arange(len(names))

    def _draw_seed(self) -> int:
        """Goes on to the next episode's seed, from which Melting Pot draws the one that dmlab2d starts with."""
        seed = next(self._seeds)
        self._start_seed = int(np.random.RandomState(seed).randint(0, 2**31))
        return seed


def _seeds(first: int) -> Iterator[int]:
    return (s % (MAX_SEED + 1) for s in itertools.count(first))


def _settings(config: Any, roles: Sequence[str], located: bool, seed: int) -> dict[str, Any]:
    """Does to a substrate's settings what Melting Pot's builder does before it starts dmlab2d.

    Some substrates draw their map, with Python's own generator, while their settings are made: coins does.
    """
    from meltingpot.utils.substrates import builder
    from ml_collections import config_dict

    before = random.getstate()
    random.seed(seed)
    try:
        lab2d_settings = config.lab2d_settings_builder(config=config, roles=roles)
    finally:
        random.setstate(before)
    settings = config_dict.ConfigDict(lab2d_settings).unlock()
    builder.apply_prefab_overrides(settings)
    builder.maybe_build_and_add_avatar_objects(settings)
    if located:
        for thing in settings.simulation.gameObjects:
            kinds = {component["component"] for component in thing["components"]}
            if "Avatar" in kinds and "LocationObserver" not in kinds:
                thing["components"].append({"component": "LocationObserver", "kwargs": {"objectIsAvatar": True}})
    builder.locate_and_overwrite_level_directory(settings)
    return builder.parse_python_settings_for_dmlab2d(settings)  # type: ignore[no-any-return]
