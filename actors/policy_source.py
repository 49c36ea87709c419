"""Who may drive players: the current theta, versions of phi, and past policies, under their names in Redis."""

from collections.abc import Iterable

import numpy as np

from actors.draws import draw_drivers
from common.store import Store
from common.weights import PHI, THETA, is_phi_version
from methods import Method
from networks.players import Players


class PolicySource:
    """Loads the policies that may drive players and draws the drivers of each episode.

    Args:
      store: the run's keys.
      method: decides which of them play.
      players: where weights are loaded.
      rng: of the draws.
      alone_until: the version of theta before which it drives all players.
    """

    def __init__(
        self, store: Store, method: Method, players: Players, rng: np.random.Generator, alone_until: int
    ) -> None:
        self._store, self._method, self._players, self._rng = store, method, players, rng
        self._alone_until = alone_until
        self._pool: dict[str, float] = {}

    @property
    def phi_version(self) -> int:
        """The newest version of phi that may drive players; -1 if the method has none."""
        return int(max((n for name, n in self._pool.items() if is_phi_version(name)), default=-1))

    def refresh(self, playing: Iterable[str]) -> None:
        """Loads a newer version of theta, if there is one, and reads who else may play; keeps whoever is `playing`."""
        players, store = self._players, self._store
        if players.version(THETA) != store.version(THETA):
            players.load(THETA, store.wait_for_weights(THETA))
        self._read_pool()
        players.keep({THETA, *self._pool, *playing})

    def draw(self, players: int) -> list[str]:
        """Draws who drives the players of an episode, and loads them; redraws if one has just left the pool."""
        if self._players.version(THETA) < self._alone_until:
            return [THETA] * players
        while True:
            drivers = draw_drivers(self._method, self._rng, players, self._pool)
            for name in {name for name in drivers if self._players.version(name) < 0}:
                if (weights := self._store.weights(name)) is None:
                    self._read_pool()
                    break
                self._players.load(name, weights)
            else:
                return drivers

    def _read_pool(self) -> None:
        self._pool = self._store.pool() if self._method.pooled else {}
        if self._method.phi:
            while not (phis := self._store.phis()):  # the run has just begun, or Redis has lost it
                self._store.wait_for_weights(PHI)
                if self._store.stopping.wait(0.1):
                    break
            self._pool |= phis
