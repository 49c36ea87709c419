"""The systems that a benchmark compares: this project's methods, and peers with the same network on the same game."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from common.config import Config
from common.errors import BidistError
from common.settings import load_config
from experiments.speed.peers.installation import PEERS, Installed, Peer, named
from experiments.speed.peers.systems import System, of_peer
from methods import resolve

Install = Callable[[Peer, Path], Installed]
Found = TypeVar("Found")


@dataclass
class LineUp:
    """Peers that are installed here, and why others are missing.

    Attributes:
      installed: by name.
      missing: by label, the reason.
    """

    installed: dict[str, Installed] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Sequence[str], folder: Path, install: Install, say: Callable[[str], None]) -> "LineUp":
        """Installs peers.

        Args:
          names: of the peers; none for all.
          folder: for their environments.
          install: installs one into the folder.
          say: is told of each that takes a while.

        Raises:
          ConfigError: if there is no such peer.
        """
        made = cls()
        for peer in named(names):
            say(f"{peer.label}: its environment is {folder / peer.name}")
            try:
                made.installed[peer.name] = install(peer, folder)
            except BidistError as error:
                made.missing[peer.label] = str(error)
        return made

    def systems(self, config: Config) -> list[System]:
        """Returns the peers that are not missing, with this project's settings."""
        made = [of_peer(PEERS[name], installed, config) for name, installed in self.installed.items()]
        return [system for system in made if system.label not in self.missing]

    def attempt(self, system: System, measure: Callable[[System], Found]) -> Found | None:
        """Measures a system; if it is a peer and fails, it is missing from now on, and the result None."""
        if system.label in self.missing:
            return None
        try:
            return measure(system)
        except BidistError as error:
            if system.task is None:
                raise
            self.missing[system.label] = str(error)
            return None


def shared(substrate: str, seed: int) -> dict[str, Any]:
    """Returns settings that all systems share: the game, the seed, and training on the CPU, by `section.key`."""
    return {"environment.substrate": substrate, "run.seed": seed, "learner.device": "cpu"}


def as_peers(epochs: int) -> dict[str, Any]:
    """Returns the settings of MAPPO as close to peers as can be: an LSTM, which they all have, and their epochs."""
    return {"method.name": "mappo", "network.core": "lstm", "learner.epochs": epochs}


def same(substrate: str, epochs: int, seed: int = 0) -> Config:
    """Returns the settings that peers train with, in their own words.

    Raises:
      ConfigError: if the number of epochs is not positive.
    """
    return resolve(load_config(None, values=shared(substrate, seed) | as_peers(epochs), environ={}))
