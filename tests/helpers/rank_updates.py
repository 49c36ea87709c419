"""Run by each rank of `test_ranks.py`: makes updates from made-up batches and writes its parameters to a folder."""

import json
import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from unrolls import make_unroll

from common.settings import load_config
from common.spec import EnvironmentSpec
from common.unroll import Unroll, UnrollSpec
from learner.batch import collate
from learner.learner import Learner
from learner.ranks import Launch, Ranks
from methods import make_method, resolve

CPU = torch.device("cpu")
GAME = EnvironmentSpec("made_up", 3, 4, (7, 7, 3), 5)
LENGTH = 6
SETTINGS = [
    "network.dense=12",
    "network.core_size=8",
    "network.precision=float32",  # bfloat16 rounds differently where a minibatch is split
    "learner.minibatches=2",
    "learner.epochs=2",
    f"actor.unroll_length={LENGTH}",
    "learner.batch_unrolls=6",
    "distiller.burn_in=1",
]
METRICS = ("policy_loss", "value_loss", "entropy_nats", "option_kl_nats", "option_information_nats")


def main(out: Path, overrides: list[str]) -> None:
    """Makes three updates."""
    torch.set_num_threads(1)
    config = resolve(load_config(overrides=[*SETTINGS, *overrides], environ={}))
    method = make_method(config)
    spec = UnrollSpec(GAME, LENGTH, 8, method.policies(GAME.players))
    with Ranks(CPU, Launch.from_environment()) as ranks:
        learner = Learner(config.learner, config.run, method, spec, ranks)
        learner.restore(*ranks.share_state(learner.tensors(), learner.counters()))
        metrics = {}
        for update in range(3):
            unrolls = [_unroll(spec, 10 * update + i) for i in range(6)]
            shared = ranks.share_batch(collate(unrolls, LENGTH, CPU) if ranks.rank == 0 else None)
            assert shared is not None
            metrics = learner.update(shared)
        assert ranks.share_batch(None) is None
    safetensors.torch.save_file(learner.tensors()["theta"], out / f"{ranks.rank}.safetensors")
    (out / f"{ranks.rank}.json").write_text(json.dumps({name: metrics[name] for name in METRICS if name in metrics}))


def _unroll(spec: UnrollSpec, number: int) -> Unroll:
    unroll = make_unroll(spec, sequence=1 + number)
    unroll.log_prob[:] = -np.log(GAME.actions)
    unroll.active[:] = True
    return unroll


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
