"""The actor's loop: play, record, ship."""

import contextlib
import logging
import time
import zlib
from types import TracebackType
from typing import Self

import numpy as np
import torch
from redis.exceptions import NoPermissionError

import environments
from actors.draws import draw_policy_indices
from actors.perspectives import Perspectives
from actors.policy_source import PolicySource
from actors.unrolls import Recorder
from actors.watchdog import Watchdog
from common.config import Config
from common.errors import StoreError
from common.keys import ActorKeys
from common.lifecycle import Presence, new_incarnation
from common.outbox import Outbox
from common.store import Store
from common.unroll import PROTOCOL, EpisodeSummary, Unroll, UnrollHeader, UnrollSpec
from common.weights import THETA, is_phi_version
from environments.lengths import expected_length
from environments.symmetries import symmetries
from methods import make_method
from networks.players import Players

log = logging.getLogger(__name__)

FLUSH_S = 10.0
SILENCE_S = 5.0


def run(store: Store, name: str, keys: ActorKeys | None = None) -> None:
    """Runs an actor until it is stopped or the run is finished."""
    config = store.config()
    if store.over():
        return
    torch.set_num_threads(config.actor.threads)
    log.info("actor %s joins run %s", name, store.run)
    with (
        Actor(config, store, name, keys) as actor,
        Presence(store, "actor", name, actor.incarnation, config.run.heartbeat_s) as presence,
        Watchdog(config.actor.hang_s) as watchdog,
    ):
        since, steps, sent = time.monotonic(), 0, 0
        while not (store.stopping.is_set() or actor.outbox.finished):
            watchdog.alive()
            room = actor.wait()
            if room:
                actor.step()
            if actor.outbox.produced > sent:
                sent = actor.outbox.produced
                presence.advanced()
            if (elapsed := time.monotonic() - since) > config.run.heartbeat_s:
                presence.say(
                    state="playing" if room else "waiting for the learner",
                    player_steps=actor.player_steps,
                    player_steps_per_s=round((actor.player_steps - steps) / elapsed),
                    theta_version=actor.players.version(THETA),
                    phi_version=actor.policies.phi_version,
                    unaccounted=actor.outbox.unaccounted,
                )
                since, steps = time.monotonic(), actor.player_steps
                if not room and actor.outbox.silence_s > SILENCE_S and store.finished:
                    log.info("run %s finished, but the learner never notified this actor", store.run)
                    break
        presence.say(state="leaving")
        actor.flush()
    log.info("actor %s left after %d player steps", name, actor.player_steps)


class Actor:
    """Plays E copies of a game and ships what happened.

    A context manager: on entering it builds the games, connects to the learner and loads the policies; on exit it
    closes the games and the connection.

    Args:
      config: the run's, as read from Redis.
      store: the run's keys.
      name: unique among the run's living actors.
      keys: this actor's CURVE keys; None if the learner does not use keys.
    """

    players: Players
    policies: PolicySource
    outbox: Outbox

    def __init__(self, config: Config, store: Store, name: str, keys: ActorKeys | None = None) -> None:
        self.config, self.store, self.name, self._keys = config, store, name, keys
        self.incarnation = new_incarnation(name)
        self.player_steps = 0
        self._method = make_method(config)
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._resources:  # closes what is open if a later step fails
            self._open()
            self._resources = self._resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def step(self) -> None:
        """Plays one step in every environment; ships the unrolls that end with it."""
        recorder = self._recorder
        t, rows = recorder.clock, recorder.rows
        players = self._policy_index.size
        rgb, features = (rows[name][t].reshape(players, *rows[name].shape[3:]) for name in ("rgb", "features"))
        action, log_prob = self._perspectives.act(self.players, rgb, features)
        rows["action"][t], rows["log_prob"][t] = action.reshape(self._shape), log_prob.reshape(self._shape)
        recorder.clock += 1
        self.player_steps += action.size
        ended = [self._play(i, t) for i in range(len(self._environments))]
        if recorder.full:
            self._ship_all()
        if any(ended):
            self._assign()

    def wait(self, timeout_s: float = 1.0) -> bool:
        """Exchanges messages with the learner; returns whether there is room for more unrolls.

        Waits up to the timeout until there is.
        """
        deadline = time.monotonic() + timeout_s
        self.outbox.pump()
        while self.outbox.waiting and not self.outbox.finished and (left := deadline - time.monotonic()) > 0:
            self.outbox.pump(min(left, 0.2))
        if self.outbox.silence_s > SILENCE_S and (endpoint := self.store.endpoint()) != self.outbox.endpoint:
            log.info("the learner moved from %s to %s", self.outbox.endpoint, endpoint)
            self.outbox.connect(endpoint or self.outbox.endpoint)
        return not self.outbox.waiting

    def flush(self) -> None:
        """Waits up to `FLUSH_S` for the learner to receive everything, and says goodbye."""
        deadline = time.monotonic() + FLUSH_S
        self.outbox.leave()
        while self.outbox.unreceived and time.monotonic() < deadline:
            self.outbox.pump(0.1)
        if self.outbox.unreceived:
            log.warning("leaving although the learner has not received %d unrolls", self.outbox.unreceived)
            if self.store.finished:  # no learner will receive them any more, so they are lost
                try:
                    self.store.ledger.close(self.incarnation)
                except NoPermissionError:  # as a user of Redis that `bidist keys` made
                    log.info("only the learner may close this actor's account; it closes all when a run is finished")
        self.outbox.close()

    def _open(self) -> None:
        config, e = self.config, self.config.actor.environments
        starts = self.store.count_start("actor", self.name)
        seeds = np.random.SeedSequence([config.run.seed, zlib.crc32(self.name.encode()), starts])
        self._rng = np.random.default_rng(seeds)
        self._environments: list[environments.Environment] = []
        drawn = [int(seed) for seed in self._rng.integers(1, 2**32 - 1, e)]
        for seed in drawn:
            self._environments.append(environments.guarded(config.environment, seed, self._method.other_play))
            self._resources.callback(self._environments[-1].close)
        game = self._environments[0].spec
        log.info("plays %s, seeds %s", game.name, ", ".join(map(str, drawn)))
        policies = self._method.policies(game.players)
        network = self._method.network(game, policies)
        self._shape = (e, game.players)
        self._drivers = [[THETA] * game.players for _ in range(e)]
        self._policy_index = np.zeros(self._shape, np.int64)
        self._returns = np.zeros(self._shape)
        self._episode_steps = [0] * e
        # The first episodes end one after another, and so do later ones: building a game for the next may take seconds.
        length = expected_length(config.environment.substrate) or 0
        self._cuts = [round(length * i / e) for i in range(1, e)] + [0]
        self.players = Players(network, e * game.players, int(self._rng.integers(2**62)))
        spec = UnrollSpec(game, config.actor.unroll_length, network.state_size, policies)
        self._recorder = Recorder(spec, e)
        updates = config.run.player_steps // (config.learner.batch_unrolls * spec.unroll_length * game.players)
        alone_until = min(self._method.alone_until, updates // 2)
        self.policies = PolicySource(self.store, self._method, self.players, self._rng, alone_until)
        known = symmetries(config.environment, game) if self._method.symmetric else []
        self._perspectives = Perspectives(known, self._shape, self._rng)
        endpoint = self.store.wait_for_endpoint()
        outbox = Outbox(config.run.name, self.name, self.incarnation, endpoint, keys=self._keys)
        self.outbox = self._resources.enter_context(outbox)
        self._refresh()
        for i in range(e):
            self._begin_episode(i, row=0)
        self._assign()

    def _play(self, i: int, t: int) -> bool:
        """Plays step t of environment i; returns whether its episode ended."""
        rows = self._recorder.rows
        step = self._environments[i].step(rows["action"][t, i])
        self._recorder.observe(i, t + 1, step.observation)
        rows["reward"][t, i] = step.reward
        rows["discount"][t, i] = 0.0 if step.terminated else 1.0
        self._returns[i] += step.reward
        self._episode_steps[i] += 1
        over = step.terminated or step.truncated
        if not (over or self._episode_steps[i] == self._cuts[i]):
            return False
        self._cuts[i] = 0
        returns = self._returns[i].tolist()
        summary = EpisodeSummary(env_steps=self._episode_steps[i], returns=returns, statistics=step.statistics)
        self._ship(i, t + 1, summary if over else None)
        self._begin_episode(i, row=t + 1)
        return True

    def _begin_episode(self, i: int, row: int) -> None:
        self._recorder.observe(i, row, self._environments[i].reset())
        self._returns[i] = 0
        self._episode_steps[i] = 0
        self._drivers[i] = self.policies.draw(self._shape[1])
        self._policy_index[i] = draw_policy_indices(self._method, self._rng, self._shape[1])
        players = self._shape[1]
        by_phi = np.array([is_phi_version(name) for name in self._drivers[i]])
        self._perspectives.begin(i, by_phi)
        self.players.begin(slice(i * players, (i + 1) * players), by_phi & self._method.phi_keeps_luck)
        self._recorder.begin(i, row, self.players.state.view(*self._shape, -1)[i].numpy())

    def _refresh(self) -> None:
        self.policies.refresh(name for drivers in self._drivers for name in drivers)

    def _assign(self) -> None:
        names = [name for drivers in self._drivers for name in drivers]
        by_phi = np.array([is_phi_version(name) for name in names]).reshape(self._shape)
        index = np.where(by_phi, self._method.phi_policy_indices(self._policy_index), self._policy_index)
        self.players.assign(index.ravel(), names)

    def _ship_all(self) -> None:
        end = self._recorder.clock
        for i in range(self._shape[0]):
            self._ship(i, end, None)
        self._recorder.wrap()
        self._refresh()
        state = self.players.state.view(*self._shape, -1).numpy()
        for i in range(self._shape[0]):
            self._recorder.begin(i, 0, state[i])

    def _ship(self, i: int, end: int, episode: EpisodeSummary | None) -> None:
        arrays = self._recorder.cut(i, end)
        if arrays is None:
            return
        header = UnrollHeader(
            protocol=PROTOCOL,
            run=self.config.run.name,
            actor=self.name,
            incarnation=self.incarnation,
            sequence=self.outbox.produced + 1,
            environment=i,
            theta_version=self.players.version(THETA),
            drivers=[self.players.label(name) for name in self._drivers[i]],
            policy=self._policy_index[i].tolist(),
            episode=episode,
            arrays=[(name, array.dtype.str, array.shape) for name, array in arrays.items()],
        )
        if not self.store.ledger.produced(self.incarnation, header.sequence):
            raise StoreError(f"actor {self.name} missed its heartbeats and was closed; restart it")
        self.outbox.put(Unroll(header, **arrays))
