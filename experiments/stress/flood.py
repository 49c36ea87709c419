"""`bidist bench flood`: what a learner trains on while a peer floods its port with mutated messages.

A real learner trains on what honest synthetic actors send, for a while alone and for a while beside that peer, in turn.
"""

import contextlib
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import zmq

from common.errors import ConfigError, SetupError
from common.store import Store
from common.unroll import UnrollSpec
from common.weights import PHI
from common.wire import pack_unroll
from deploy.redis_server import RedisServer
from experiments.stress.crowd import Crowd, made_up
from experiments.stress.load import RUN, START_S, roles
from learner.service import unroll_spec
from reports.provenance import write_json

ACTORS, WARM_S, ENDLESS_S, EDITS = 4, 3.0, 1e9, 3


def run(seconds: float, rounds: int, out: Path | None) -> int:
    """Measures both in turn and prints the ratio.

    Args:
      seconds: length of each measurement.
      rounds: how often both are measured.
      out: JSON file for the figures; None writes none.

    Raises:
      ConfigError: if a number is not positive.
    """
    if seconds <= 0 or rounds <= 0:
        raise ConfigError(f"--seconds {seconds} and --rounds {rounds}: both have to be positive")
    alone, flooded, ratios = list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="bidist-flood-") as parent, RedisServer(Path(parent) / "redis") as server:
        store = Store(server.url, RUN)
        with roles(Path(parent), server.url):
            store.wait_for_weights(PHI, START_S)
            config, spec = store.config(), unroll_spec(store.config())
            with Crowd(store, config, spec, ACTORS, ENDLESS_S, seed=0) as crowd:
                crowd.play(WARM_S)
                for _ in range(rounds):
                    alone.append(_trained_per_s(store, crowd, seconds))
                    with _flood(store.wait_for_endpoint(), spec):
                        flooded.append(_trained_per_s(store, crowd, seconds))
                    ratios.append(flooded[-1] / alone[-1] if alone[-1] else 0.0)
                    print(f"{alone[-1]:.0f} unrolls/s alone, {flooded[-1]:.0f} under the flood: {ratios[-1]:.2f}")
                crowd.play(2 * config.run.heartbeat_s)
                dropped = int(store.hash("queue")["malformed_messages"])
    print(f"median ratio {statistics.median(ratios):.2f}; {dropped:,} mutated messages were dropped")
    if out is not None:
        figures = {"alone_unrolls_per_s": alone, "flooded_unrolls_per_s": flooded, "ratios": ratios, "dropped": dropped}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, figures)
    return 0


def _trained_per_s(store: Store, crowd: Crowd, seconds: float) -> float:
    before, started = store.ledger.balance().trained, time.monotonic()
    crowd.play(seconds)
    return (store.ledger.balance().trained - before) / (time.monotonic() - started)


@contextlib.contextmanager
def _flood(endpoint: str, spec: UnrollSpec) -> Iterator[None]:
    """Sends mutated messages from another process, as fast as the learner takes them, for the length of the block.

    The block begins when that process has started, because that takes a core for seconds.
    """
    spawn = multiprocessing.get_context("spawn")
    flowing = spawn.Event()
    process = spawn.Process(target=_send_forever, args=(endpoint, spec, flowing), daemon=True)
    process.start()
    try:
        if not flowing.wait(START_S):
            raise SetupError(f"the process that floods the port did not start within {START_S:.0f} s")
        yield
    finally:
        process.terminate()
        process.join()


def _send_forever(endpoint: str, spec: UnrollSpec, flowing: Event) -> None:
    rng = random.Random(0)
    messages = [[bytes(frame) for frame in pack_unroll(unroll)] for unroll in made_up(spec, seed=1)]
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.connect(endpoint)
        flowing.set()
        while True:
            frames = list(rng.choice(messages))
            header = bytearray(frames[0])
            for _ in range(EDITS):
                header[rng.randrange(len(header))] = rng.randrange(256)
            peer.send_multipart([bytes(header), *frames[1 : rng.randrange(1, len(frames) + 1)]])
