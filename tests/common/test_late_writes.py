"""What a broken connection delivers late, after the role has repeated it on another and gone on, changes nothing."""

import pytest
import torch

from common.errors import SetupError
from common.store import Store
from common.weights import Weights
from learner.ownership import Ownership

PARAMETERS = {"dense.weight": torch.ones(1, 2)}


def test_a_version_does_not_replace_a_newer_one(store: Store) -> None:
    store.publish("theta", Weights(9, PARAMETERS))
    store.publish("theta", Weights(10, PARAMETERS, 10))
    store.publish("theta", Weights(10, PARAMETERS, 10))
    store.publish("theta", Weights(9, {"dense.weight": torch.zeros(1, 2)}, 9))
    theta = store.weights("theta")
    assert theta is not None
    assert (theta.version, theta.source_version) == (10, 10) and torch.equal(
        theta.parameters["dense.weight"], torch.ones(1, 2)
    )


def test_a_version_replaces_a_damaged_one(store: Store) -> None:
    store.client.hset(store.key("theta"), "version", "garbage")
    store.publish("theta", Weights(2, PARAMETERS))
    assert store.version("theta") == 2


def test_a_run_that_redis_lost_is_not_taken_back_from_the_next_learner(store: Store) -> None:
    first, second = (Ownership(store, name, silence_s=1.0) for name in ("first", "second"))
    first.claim()
    store.client.delete(*store.client.keys(store.key("*")))
    first.restore()
    first.check()
    store.client.delete(*store.client.keys(store.key("*")))
    second.claim()
    first.restore()
    second.check()
    with pytest.raises(SetupError, match="another learner, second, took run"):
        first.check()
