"""The rates that benchmarks report, each measured alone: the bare game, one actor, one learner, the whole system."""

import contextlib
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from actors.actor import Actor
from common.config import Config
from common.errors import BidistError
from common.files import read_lines
from common.inbox import Inbox
from common.run_folder import RunFolder
from common.store import Store
from common.third_party import foreign
from common.unroll import Unroll
from common.weights import THETA, Weights
from deploy.processes import bidist
from deploy.redis_server import RedisServer
from deploy.serial import Serial
from environments.melting_pot import MeltingPot
from learner.batch import collate
from learner.service import unroll_spec
from methods import make_method

RUN = "bench"
WARM_UP_STEPS = 50
WARM_UP_UPDATES = 8
POOL = 24
"""Past policies in the pool of a method that keeps some."""
POOL_FROM = 10**9
"""Their numbers, which no short run reaches."""


@dataclass(frozen=True)
class System:
    """A whole run: player steps/s, mean seconds per update, and each role's resident memory at the end in MiB."""

    player_steps_per_s: float
    update_s: float
    memory_mib: dict[str, float]


def game_alone(substrate: str, seconds: float) -> float:
    """Player steps/s of dmlab2d on one core: asked for what the adapter reads, which is not processed any further."""
    with _one_core():
        game = MeltingPot(substrate)
        players = game.spec.players
        actions = np.random.default_rng(0).integers(0, game.spec.actions, (4096, players), dtype=np.int32)
        game.reset()
        steps, started = 0, time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            over, _ = game.lab2d.act(actions[steps % len(actions)])
            for name in game.observed:
                game.lab2d.observe(name)
            if over:
                game.reset()
            steps += 1
        game.close()
    return steps * players / elapsed


def one_actor(config: Config, seconds: float) -> float:
    """Player steps/s of one actor on one core, while another process receives its unrolls on the other cores."""
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        store = Store(server.url, RUN)
        store.put_config(config)
        spec = unroll_spec(config)
        theta = dict(make_method(config).network(spec.environment, spec.policies).named_parameters())
        store.publish("theta", Weights(1, theta, 1))
        store.publish_phi(Weights(1, theta, 1, "initial"), keep=1)
        _fill_pool(store, config)
        drain = multiprocessing.get_context("spawn").Process(
            target=_drain, args=(server.url, foreign(config)), daemon=True
        )
        drain.start()
        try:
            with _one_core(), Actor(config, store, "0") as actor:
                _play(actor, WARM_UP_STEPS, 0.0)
                before, started = actor.player_steps, time.monotonic()
                _play(actor, 0, seconds)
                rate = (actor.player_steps - before) / (time.monotonic() - started)
        finally:
            drain.terminate()
            drain.join()
    return rate


def _play(actor: Actor, steps: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while steps > 0 or time.monotonic() < deadline:
        if actor.wait():
            actor.step()
            steps -= 1


def _drain(url: str, allowed: list[str]) -> None:
    """Stands in for a learner that accepts every unroll at once."""
    store = Store(url, RUN, allowed=allowed)
    with Inbox("tcp://127.0.0.1:*", RUN, "drain", unroll_spec(store.config()), 64, {}) as inbox:
        store.put_endpoint(f"tcp://127.0.0.1:{inbox.port}")
        while True:
            inbox.poll(1.0)
            while (arrival := inbox.take()) is not None:
                inbox.account(arrival.incarnation, arrival.sequence)
            inbox.answer_all()


def one_learner(config: Config, seconds: float) -> float:
    """Player steps/s of updates alone, on one core; they repeat a batch that an actor has played."""
    played: list[Unroll] = []
    with tempfile.TemporaryDirectory() as parent, RedisServer(Path(parent) / "redis") as server:
        run = config.run.model_copy(update={"folder": parent})
        with Serial(config.model_copy(update={"run": run}), server.url, played.extend) as serial:
            serial.update()
    learner = serial.learner.learner
    batch = collate(played, config.actor.unroll_length, torch.device("cpu"))
    with _one_core():
        learner.update(batch)
        updates, started = 0, time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            learner.update(batch)
            updates += 1
    return updates * batch.player_steps / elapsed


def whole_system(config: Config, seconds: float) -> System:
    """Runs `bidist train` and measures what the learner trained on between two updates."""
    with tempfile.TemporaryDirectory() as parent:
        folder = RunFolder(Path(parent) / RUN)
        named = ["--run", RUN, "--substrate", config.environment.substrate, "--method", config.method.name]
        parameters = ["--set", f"network.parameters={config.network.parameters}"]
        parameters += ["--network", config.network.name] if config.network.name else []
        command = bidist("train", "--folder", parent, *named, "--steps", str(10**12), *parameters)
        with (Path(parent) / "output").open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            lines: list[dict[str, Any]] = []
            filled = False
            while len(lines) <= WARM_UP_UPDATES or lines[-1]["time_s"] - lines[WARM_UP_UPDATES]["time_s"] < seconds:
                if process.poll() is not None:
                    raise BidistError(f"the run ended before it was measured:\n{Path(output.name).read_text()[-2000:]}")
                time.sleep(0.2)
                lines = read_lines(folder.metrics)
                if lines and not filled:
                    _fill_pool(Store((folder.redis / "url").read_text().strip(), RUN), config)
                    filled = True
            memory = _memory(process.pid)
        finally:
            process.terminate()
            process.wait()
    first, last = lines[WARM_UP_UPDATES], lines[-1]
    rate = (last["player_steps"] - first["player_steps"]) / (last["time_s"] - first["time_s"])
    return System(float(rate), statistics.mean(line["update_s"] for line in lines[WARM_UP_UPDATES:]), memory)


def _fill_pool(store: Store, config: Config) -> None:
    """Adds `POOL` copies of theta, each with its own score, to a method's past policies, if it keeps any."""
    if make_method(config).pooled and (theta := store.weights(THETA)) is not None:
        for number in range(POOL):
            store.put_in_pool(POOL_FROM + number, theta, score=number)


def system_rate(config: Config, seconds: float) -> float:
    """Player steps/s of `whole_system`."""
    return whole_system(config, seconds).player_steps_per_s


def _memory(supervisor: int) -> dict[str, float]:
    """The resident memory of each role of a run in MiB; of several actors, the largest."""
    found: dict[str, float] = {}
    for child in psutil.Process(supervisor).children():
        for role in {"learner", "actor", "distiller"}.intersection(child.cmdline()):
            found[role] = max(found.get(role, 0.0), round(child.memory_info().rss / 2**20))
    return found


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Pins this thread and the threads it starts to one core, and limits torch to one thread."""
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(before)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(threads)
