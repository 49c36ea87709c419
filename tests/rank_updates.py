"""What each rank of `test_ranks.py` does: makes updates of made-up batches, and leaves its parameters in a folder."""

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
from learner.ranks import Ranks
from methods import make_method, resolve

CPU = torch.device("cpu")
GAME = EnvironmentSpec("made_up", 3, 4, (7, 7, 3), 5)
LENGTH = 6


def main(out: Path, overrides: list[str]) -> None:
    """See above."""
    torch.set_num_threads(1)
    settings = ["network.dense=12", "network.core_size=8", "learner.minibatches=2", "learner.epochs=2",
                f"actor.unroll_length={LENGTH}", "learner.batch_unrolls=6", "distiller.burn_in=1"]  # fmt: skip
    config = resolve(load_config(overrides=[*settings, *overrides], environ={}))
    policies = make_method(config).policies(GAME.players)
    spec = UnrollSpec(GAME, LENGTH, 8, policies)
    ranks = Ranks(CPU)
    learner = Learner(config, spec, ranks)
    learner.restore(*ranks.share_state(learner.tensors(), learner.counters()))
    metrics = {}
    for update in range(3):
        batch = collate([_unroll(spec, 10 * update + i) for i in range(6)], LENGTH, CPU) if ranks.rank == 0 else None
        shared = ranks.share_batch(batch)
        assert shared is not None
        metrics = learner.update(shared)
    assert ranks.share_batch(None) is None
    safetensors.torch.save_file(learner.tensors()["theta"], out / f"{ranks.rank}.safetensors")
    (out / f"{ranks.rank}.json").write_text(json.dumps({k: metrics[k] for k in ("policy_loss", "value_loss")}))
    ranks.close()


def _unroll(spec: UnrollSpec, number: int) -> Unroll:
    unroll = make_unroll(spec, sequence=1 + number)
    unroll.log_prob[:] = -np.log(GAME.actions)
    unroll.active[:] = True
    return unroll


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
