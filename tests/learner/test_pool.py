"""The pool of past policies: saved with their scores, restored from the folder."""

from pathlib import Path

import pytest
import torch
from method_cases import made

from common import checkpoint
from common.store import Store
from common.weights import Weights
from learner.pool import Pool

THETA = {"w": torch.arange(3.0)}


@pytest.mark.parametrize("written", ["score", "rank"])
def test_a_pool_restores_scores_under_today_s_name_and_the_former_one(
    store: Store, tmp_path: Path, written: str
) -> None:
    checkpoint.save(tmp_path, 10, {"theta": THETA}, {written: 2.5, "version": 7}, keep=None)
    pool = Pool(store, tmp_path)
    pool.restore(updates=10)
    assert pool.scores == store.pool() == {"pool:10": 2.5}
    restored = store.weights("pool:10")
    assert restored is not None and restored.version == 7 and torch.equal(restored.parameters["w"], THETA["w"])


def test_the_score_of_a_policy_is_saved_with_it_and_its_folder_leaves_with_it(store: Store, tmp_path: Path) -> None:
    method = made("rpm", "method.every=1", "method.rank_size=1", "method.rank_width=1")
    pool = Pool(store, tmp_path)
    pool.offer(method, 1, Weights(4, THETA), training_return=0.5)
    (saved,) = checkpoint.checkpoints(tmp_path)
    assert checkpoint.load(saved).state == {"score": 0.5, "version": 4}
    pool.offer(method, 2, Weights(5, THETA), training_return=0.6)
    assert checkpoint.checkpoints(tmp_path) == [checkpoint.path_of(tmp_path, 2)]
    assert pool.scores == store.pool() == {"pool:2": 0.6}
