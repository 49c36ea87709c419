"""Plays a substrate through Melting Pot's public API and prints a transcript; run by `test_melting_pot.py`.

    python melting_pot_reference.py SEED EPISODES STEPS SUBSTRATE...

This needs a process of its own, because Melting Pot imports TensorFlow. A transcript has one entry per step and reset,
with a digest of everything that is compared. One line of JSON per substrate goes to standard output.

`public` is Melting Pot's transcript, to be compared with another game of the same seed. `adapter` is what the adapter
reads from that very game. The same settings and seeds do not repeat a game in all substrates, because their Lua walks
tables in an order that depends on memory addresses. So Melting Pot plays, and instead of the `dmlab2d.Lab2d` that it
would build, the adapter gets a `Twin`. It checks that the adapter asks for the same game with the same settings and
seeds, and acts the same, down to dmlab2d's own action vector; then it lets the adapter read the state that Melting Pot
reads.
"""

import hashlib
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

Entry = dict[str, str]
MAX_SEED = 2**32 - 1


def entry(
    rgb: Sequence[NDArray[Any]],
    features: NDArray[np.float32],
    reward: Sequence[Any] | NDArray[Any],
    last: bool,
) -> Entry:
    """Returns the digests of one step."""
    assert all(image.dtype == np.uint8 for image in rgb)
    return {
        "rgb": _digest(np.stack(rgb)),
        "features": _digest(features),
        "reward": _digest(np.array(reward, np.float32)),
        "last": str(bool(last)),
    }


def features_of(observations: Sequence[Any]) -> NDArray[np.float32]:
    """Returns INVENTORY and READY_TO_SHOOT from Melting Pot's observations, where it has them: [N, F].

    Melting Pot has them as float64, policies get float32. Most are whole numbers; a weapon's cool-down is not.
    """
    names = [name for name in ("INVENTORY", "READY_TO_SHOOT") if name in observations[0]]
    rows = [[x for name in names for x in np.ravel(player[name])] for player in observations]
    return np.array(rows, np.float32).reshape(len(observations), -1)


@dataclass(frozen=True)
class Length:
    """Whole episodes to play, and the steps of one more."""

    episodes: int
    steps: int


def transcript(
    reset: Callable[[], Entry], step: Callable[[NDArray[np.int32]], Entry], actions: Iterator[Any], length: Length
) -> list[Entry]:
    """Plays whole episodes, then some steps of one more."""
    entries = []
    for episode in range(length.episodes + 1):
        entries.append(reset())
        taken = 0
        while entries[-1]["last"] == "False" and (episode < length.episodes or taken < length.steps):
            entries.append(step(next(actions)))
            taken += 1
    return entries


class Lab2dLog:
    """Records the games that Melting Pot builds, and what it last told them."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.games: list[LoggedGame] = []

    def build(self, root: str, settings: dict[str, str]) -> "LoggedGame":
        """Replaces `dmlab2d.Lab2d` while Melting Pot builds."""
        self.games.append(LoggedGame(self._real(root, settings), root, dict(settings)))
        return self.games[-1]

    def twin(self, root: str, settings: dict[str, str]) -> "Twin":
        """Replaces `dmlab2d.Lab2d` while the adapter builds."""
        game = self.games[-1]
        assert root == game.root
        wrong = {k for k in settings.keys() | game.settings.keys() if settings.get(k) != game.settings.get(k)}
        assert not wrong, f"the adapter builds another game: {sorted(wrong)[:5]}"
        return Twin(game)


class LoggedGame:
    """A `dmlab2d.Lab2d` that records what it was told."""

    def __init__(self, game: Any, root: str, settings: dict[str, str]) -> None:
        self.game, self.root, self.settings = game, root, settings

    def __getattr__(self, name: str) -> Any:
        return getattr(self.game, name)

    def start(self, episode: int, seed: int) -> None:
        self.started = (episode, seed)
        self.game.start(episode, seed=seed)

    def act_discrete(self, action: NDArray[np.int32]) -> None:
        self.acted = np.array(action)
        self.game.act_discrete(action)

    def advance(self) -> Any:
        self.status = self.game.advance()
        return self.status


class Twin:
    """The same game for a second reader, which must do what the first did and gets the same answers."""

    def __init__(self, game: LoggedGame) -> None:
        self._game = game

    def __getattr__(self, name: str) -> Any:
        assert name in ("observation", "observation_spec", "action_discrete_names", "events"), name
        return getattr(self._game.game, name)

    def start(self, episode: int, seed: int) -> None:
        assert (episode, seed) == self._game.started, f"{(episode, seed)}, expected {self._game.started}"

    def act_discrete(self, action: NDArray[np.int32]) -> None:
        assert action.dtype == np.int32
        assert np.array_equal(action, self._game.acted), f"{action}, expected {self._game.acted}"

    def advance(self) -> Any:
        return self._game.status


def play(substrate: Any, dmlab2d: Any, name: str, seed: int, length: Length) -> dict[str, Any]:
    """Plays one substrate and returns both transcripts."""
    from environments.melting_pot import MeltingPot

    real, randint = dmlab2d.Lab2d, random.randint
    log = Lab2dLog(real)
    # Melting Pot draws a seed for the game, which must be this one. Some substrates draw their map or colours with the
    # same generator while their settings are made; the adapter seeds it with the game's seed.
    env_seed = 2000 + seed
    random.seed(env_seed)
    random.randint = lambda a, b: env_seed if (a, b) == (1, MAX_SEED) else randint(a, b)
    dmlab2d.Lab2d = log.build
    roles = substrate.get_config(name).default_player_roles
    game = substrate.build(name, roles=roles)
    random.randint = randint
    players, actions = len(roles), int(game.action_spec()[0].num_values)

    dmlab2d.Lab2d = log.twin
    adapter = MeltingPot(name, block=8, seed=env_seed)
    adapter.restarts = False  # so that it asks for every game that Melting Pot builds
    readings: list[Entry] = []
    counts: Counter[str] = Counter()

    def read(timestep: Any) -> Entry:
        images = [player["RGB"] for player in timestep.observation]
        return entry(images, features_of(timestep.observation), timestep.reward, timestep.last())

    def reset() -> Entry:
        dmlab2d.Lab2d = log.build
        timestep = game.reset()
        dmlab2d.Lab2d = log.twin
        observation = adapter.reset()
        readings.append(entry(adapter.rgb(), observation.features, np.zeros(players), False))
        return read(timestep)

    def step(action: NDArray[np.int32]) -> Entry:
        timestep = game.step(action)
        seen = adapter.step(action)
        features = seen.observation.features
        readings.append(entry(adapter.rgb(), features, seen.reward, seen.terminated or seen.truncated))
        counts["rewards"] += int(np.count_nonzero(timestep.reward))
        return read(timestep)

    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, actions, players, dtype=np.int32) for _ in itertools.count())
    entries = transcript(reset, step, drawn, length)
    dmlab2d.Lab2d = real
    game.close()
    sizes = {"players": players, "actions": actions, "features": adapter.spec.features}
    played = {"public": entries, "adapter": readings, "rewards": counts["rewards"]}
    return {"name": name, "env_seed": env_seed, **sizes, **played}


def main() -> None:
    """Plays the substrates named on the command line."""
    seed, episodes, steps = map(int, sys.argv[1:4])
    import dmlab2d
    from meltingpot import substrate

    for name in sys.argv[4:]:
        print(json.dumps(play(substrate, dmlab2d, name, seed, Length(episodes, steps))), flush=True)


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()[:16]


if __name__ == "__main__":
    main()
