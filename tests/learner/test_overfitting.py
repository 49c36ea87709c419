"""The learner learns on unrolls of a Melting Pot game that an actor recorded."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from common.run_folder import RunFolder
from common.settings import load_config
from common.unroll import Unroll
from deploy.serial import Serial
from learner.batch import collate
from learner.learner import Learner
from learner.preparation import prepare
from learner.ranks import Ranks
from methods import make_method, resolve

CPU = torch.device("cpu")
UPDATES = 60
REWARDED_ACTION = 1  # a step forward

pytestmark = pytest.mark.skipif(importlib.util.find_spec("meltingpot") is None, reason="needs dm-meltingpot")


def paid(unroll: Unroll) -> Unroll:
    """The same unroll in a game that pays 1 for a step forward by a player that is free to act, and nothing else."""
    rewarded = (unroll.action == REWARDED_ACTION) & unroll.active
    arrays = {name: np.copy(array) for name, array in vars(unroll).items() if name != "header"}
    return Unroll(unroll.header, **{**arrays, "reward": rewarded.astype(np.float32)})


@pytest.mark.slow
def test_recorded_unrolls_of_the_prisoners_dilemma_can_be_overfitted(redis_url: str, tmp_path: Path) -> None:
    """The likelihood of the rewarded actions and the explained variance rise, though the images are the game's own."""
    settings = [
        "environment.substrate=prisoners_dilemma_in_the_matrix__arena",
        "method.name=mappo",
        "actor.environments=2",
        "actor.unroll_length=16",
        "learner.batch_unrolls=4",
        "learner.device=cpu",
        "network.dense=64",
        "network.core_size=64",
    ]
    names = [f"run.folder={tmp_path}", "run.name=overfit"]
    learning = ["learner.learning_rate=0.002", "learner.entropy_coef=0", "learner.gamma=0.5"]
    config = resolve(load_config(overrides=[*settings, *names, *learning], environ={}))
    RunFolder.of(config.run).create(config)
    recorded: list[Unroll] = []
    with Serial(config, redis_url, recorded.extend) as serial:
        serial.update()
        spec = serial.learner.learner.spec
    made = [paid(unroll) for unroll in recorded]
    assert len(made) == 4 and sum(float(unroll.reward.sum()) for unroll in made) > 20
    method = make_method(config)
    learner = Learner(config.learner, config.run, method, spec, Ranks(CPU))
    batch = collate(made, config.actor.unroll_length, CPU)

    def likelihood() -> float:
        """The mean probability of the rewarded actions that were taken."""
        prepared = prepare(batch, learner.network, method, learner.value_norm, config.learner)
        return float(prepared.log_prob[prepared.sequences.reward > 0].exp().mean())

    before = likelihood()
    history = [learner.update(batch)["explained_variance"] for _ in range(UPDATES)]
    assert before == pytest.approx(1 / spec.environment.actions, abs=0.05)
    assert likelihood() > 2 * before
    assert history[0] < 0.2 and history[-1] > 0.6
