"""A batch against the unrolls that it was collated from; test_learner and test_preparation train on batches."""

import numpy as np
import pytest
import torch
from unrolls import SPEC, make_unroll

from learner.batch import Batch, collate, trained_sequences

T, PLAYERS = SPEC.unroll_length, SPEC.environment.players
LENGTHS = [T, 4, 1]
UNROLLS = [make_unroll(sequence=1 + i, env_steps=length) for i, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def batch() -> Batch:
    return collate(UNROLLS, T, torch.device("cpu"))


def test_every_row_is_a_player_of_an_unroll(batch: Batch) -> None:
    for row in range(len(UNROLLS) * PLAYERS):
        unroll, player = UNROLLS[row // PLAYERS], row % PLAYERS
        steps = unroll.env_steps
        for name in ("action", "log_prob", "reward", "discount"):
            found = getattr(batch, name)[:, row]
            np.testing.assert_array_equal(found[:steps], getattr(unroll, name)[:, player])
            assert found.shape == (T,) and not found[steps:].any()
        for name in ("rgb", "features"):
            found = getattr(batch, name)[:, row]
            np.testing.assert_array_equal(found[: steps + 1], getattr(unroll, name)[:, player])
            assert len(found) == T + 1 and not found[steps + 1 :].any()
        assert batch.valid[:, row].tolist() == [t < steps for t in range(T)]
        assert batch.mask[:, row].tolist() == [t < steps and bool(unroll.active[t, player]) for t in range(T)]
        np.testing.assert_array_equal(batch.state[row], unroll.state[player])
        assert batch.version[row] == unroll.header.theta_version
        assert batch.learning[row] == unroll.header.learning[player]
        assert batch.policy_index[row] == unroll.header.policy[player]
    assert batch.action.dtype == torch.int64 and batch.policy_index.dtype == np.int64
    assert batch.players == PLAYERS
    assert batch.player_steps == PLAYERS * sum(LENGTHS)


def test_a_batch_is_put_on_the_learners_device() -> None:
    batch = collate(UNROLLS, T, torch.device("meta"))
    assert {x.device.type for x in vars(batch).values() if isinstance(x, torch.Tensor)} == {"meta"}
    sequences, (extra,) = trained_sequences(
        batch, batch.learning, SPEC.policies, torch.zeros(T + 1, 6, 1, device="meta")
    )
    found = {x.device.type for x in (*vars(sequences).values(), extra)}
    assert found == {"meta"}


def test_the_distiller_gets_the_observations_of_all_players(batch: Batch) -> None:
    found = batch.observations(update=5)
    assert found.update == 5
    shape = (T, len(UNROLLS), PLAYERS)
    assert found.rgb.shape == (*shape, *SPEC.environment.rgb_shape) and found.rgb.dtype == np.uint8
    assert found.features.shape == (*shape, SPEC.environment.features) and found.mask.shape == shape
    for b, unroll in enumerate(UNROLLS):
        steps = unroll.env_steps
        np.testing.assert_array_equal(found.rgb[:steps, b], unroll.rgb[:-1])
        np.testing.assert_array_equal(found.features[:steps, b], unroll.features[:-1])
        np.testing.assert_array_equal(found.mask[:steps, b], unroll.active)
        assert not found.mask[steps:, b].any()
        assert found.policy[b].tolist() == unroll.header.policy


def test_only_states_that_theta_made_are_kept(batch: Batch) -> None:
    everyone = np.ones(len(UNROLLS) * PLAYERS, bool)
    numbers = torch.arange(len(everyone)).float().expand(T + 1, -1)[..., None]
    sequences, (rows,) = trained_sequences(batch, everyone, SPEC.policies, numbers)
    for policy in range(SPEC.policies):
        for column, row in enumerate(rows[policy, 0, :, 0].int().tolist()):
            assert batch.policy_index[row] == policy
            expected = batch.state[row] if batch.learning[row] else torch.zeros(SPEC.state_size)
            assert torch.equal(sequences.state[policy, column], expected)


def test_a_batch_of_one_unroll() -> None:
    (unroll,) = UNROLLS[:1]
    alone = collate([unroll], T, torch.device("cpu"))
    np.testing.assert_array_equal(alone.reward, unroll.reward)
