"""The update: whose steps train theta, and that a restored learner resumes exactly."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from unrolls import make_unroll

from common.config import Config
from common.errors import ConfigError
from common.settings import load_config
from common.spec import EnvironmentSpec
from common.unroll import Unroll, UnrollSpec
from learner.batch import collate, trained_sequences
from learner.learner import Learner
from learner.ranks import Ranks
from methods import make_method

CPU = torch.device("cpu")
PLAYERS, LENGTH, STATE = 3, 6, 8
GAME = EnvironmentSpec("made_up", PLAYERS, 4, (7, 7, 3), 5)

SMALL = [
    "network.dense=12",
    f"network.core_size={STATE}",
    f"actor.unroll_length={LENGTH}",
    "learner.batch_unrolls=5",
    "learner.minibatches=2",
    "learner.epochs=2",
    "distiller.burn_in=1",
    "run.name=r",
]

Build = Callable[..., Learner]


@pytest.fixture
def build() -> Build:
    def learner(*overrides: str, ranks: Ranks | None = None) -> Learner:
        config: Config = load_config(overrides=[*SMALL, *overrides], environ={})
        policies = PLAYERS if config.network.parameters == "per_player" else 1
        spec = UnrollSpec(GAME, LENGTH, STATE, policies)
        return Learner(config.learner, config.run, make_method(config), spec, ranks or Ranks(CPU))

    return learner


def unrolls(learning: Sequence[Sequence[bool]], seed: int = 0, lengths: Sequence[int] = ()) -> list[Unroll]:
    """Makes up one plausible unroll for each row of v: log-probabilities are negative, discounts 1."""
    made = []
    for i, v in enumerate(learning):
        unroll = make_unroll(
            UnrollSpec(GAME, LENGTH, STATE, 1), sequence=1 + i + 100 * seed, env_steps=lengths[i] if lengths else LENGTH
        )
        unroll.log_prob[:] = -1.4 + 0.1 * unroll.log_prob
        unroll.active[:] = True
        unroll.discount[:] = 1
        drivers = ["theta" if one else "phi:1:forward" for one in v]
        made.append(Unroll(unroll.header.model_copy(update={"drivers": drivers}), **arrays(unroll)))
    return made


def arrays(unroll: Unroll) -> dict[str, Any]:
    return {name: np.copy(array) for name, array in vars(unroll).items() if name != "header"}


def with_policies(made: list[Unroll]) -> list[Unroll]:
    """Returns the same unrolls with a policy for each player."""
    own = {"policy": list(range(PLAYERS))}
    return [Unroll(u.header.model_copy(update=own), **arrays(u)) for u in made]


def theta(learner: Learner) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learner.network.named_parameters()}


def same(x: dict[str, Tensor], y: dict[str, Tensor]) -> bool:
    return all(torch.equal(x[name], y[name]) for name in x)


V = [[True, False, True], [False, True, False], [True, True, True], [False, False, True], [True, False, False]]


def test_steps_of_fictitious_players_do_not_train_theta(build: Build) -> None:
    made = unrolls(V)
    changed = copy.deepcopy(made)
    for unroll in changed:
        away = ~np.array(unroll.header.learning)
        unroll.action[:, away] = (unroll.action[:, away] + 1) % GAME.actions
        unroll.reward[:, away] += 50
        unroll.log_prob[:, away] -= 3
        unroll.state[away] += 1
        unroll.discount[:, away] = 0
    first, second = build(), build()
    before = theta(first)
    first.update(collate(made, LENGTH, CPU))
    second.update(collate(changed, LENGTH, CPU))
    assert same(theta(first), theta(second))
    assert not same(theta(first), before)
    # The same change to the learning players moves theta: the test can fail.
    for unroll in changed:
        unroll.reward[:, np.array(unroll.header.learning)] *= -2
    third = build()
    third.update(collate(changed, LENGTH, CPU))
    assert not same(theta(first), theta(third))


def test_the_policy_of_a_player_that_is_always_fictitious_does_not_change(build: Build) -> None:
    learner = build("network.parameters=per_player")
    before = theta(learner)
    made = with_policies(unrolls([[True, False, v[2]] for v in V]))
    batch = collate(made, LENGTH, CPU)
    for _ in range(3):
        learner.update(batch)
    after = theta(learner)
    moved = [any(not torch.equal(after[name][p], before[name][p]) for name in before) for p in range(PLAYERS)]
    assert moved == [True, False, True]


def test_each_policy_learns_only_from_its_own_steps(build: Build) -> None:
    made = with_policies(unrolls([[True] * PLAYERS] * 5))
    changed = copy.deepcopy(made)
    for unroll in changed:
        unroll.reward[:, 0] += np.linspace(0, 5, LENGTH, dtype=np.float32)
    learners = [build("network.parameters=per_player") for _ in range(2)]
    for learner, data in zip(learners, (made, changed), strict=True):
        learner.update(collate(data, LENGTH, CPU))
    first, second = (theta(learner) for learner in learners)
    differs = [any(not torch.equal(first[name][p], second[name][p]) for name in first) for p in range(PLAYERS)]
    assert differs == [True, False, False]


def test_actions_of_frozen_players_do_not_matter(build: Build) -> None:
    made = unrolls([[True] * PLAYERS] * 5)
    for i, unroll in enumerate(made):
        unroll.active[i : i + 2, i % PLAYERS] = False
    changed = copy.deepcopy(made)
    for unroll in changed:
        unroll.action[~unroll.active] = (unroll.action[~unroll.active] + 1) % GAME.actions
        unroll.log_prob[~unroll.active] -= 2
    learners = [build(), build()]
    metrics = [
        learner.update(collate(data, LENGTH, CPU)) for learner, data in zip(learners, (made, changed), strict=True)
    ]
    assert same(theta(learners[0]), theta(learners[1]))
    assert metrics[0] == metrics[1]


def test_padding_of_short_unrolls_does_not_matter(build: Build) -> None:
    made = unrolls([[True] * PLAYERS] * 4, lengths=[3] * 4)
    longer, exact = build("learner.minibatches=1"), build("learner.minibatches=1")
    padded = longer.update(collate(made, LENGTH, CPU))
    trimmed = exact.update(collate(made, 3, CPU))
    assert padded == pytest.approx(trimmed, rel=1e-4)
    for name, x in theta(longer).items():
        torch.testing.assert_close(x, theta(exact)[name], rtol=1e-4, atol=1e-5)


def test_steps_of_an_older_theta_are_weighted_by_rho(build: Build) -> None:
    """Nothing is learnt where rho is 0; ratios above 1 are truncated to 1."""
    made = unrolls([[True] * PLAYERS] * 5)
    options = ("learner.entropy_coef=0", "learner.value_coef=0")

    def after(log_prob: float) -> dict[str, Tensor]:
        learner = build(*options)
        for unroll in made:
            unroll.log_prob[:] = log_prob
        learner.update(collate(made, LENGTH, CPU))
        return theta(learner)

    likely, certain, unlikely, never = (after(x) for x in (300.0, -1e-9, -20.0, -30.0))
    assert same(likely, theta(build(*options)))
    assert not same(certain, likely)
    assert same(unlikely, never)


@pytest.mark.parametrize("options", [(), ("network.parameters=per_player", "learner.targets=vtrace")])
def test_a_restored_learner_makes_a_bit_identical_next_update(build: Build, options: tuple[str, ...]) -> None:
    dealt = with_policies if options else list
    batches = [collate(dealt(unrolls(V, seed)), LENGTH, CPU) for seed in (1, 2, 3)]
    whole = build(*options)
    for batch in batches[:2]:
        whole.update(batch)
        whole.updates += 1
    tensors, counters = whole.tensors(), copy.deepcopy(whole.counters())
    expected = whole.update(batches[2])
    torch.manual_seed(99)  # whatever the process did in the meantime
    resumed = build(*options, "run.seed=7")
    resumed.restore(tensors, counters)
    assert resumed.updates == 2
    assert resumed.update(batches[2]) == expected
    assert same(theta(resumed), theta(whole))


def test_repeated_updates_on_one_batch_lower_the_value_loss_and_explain_the_returns(build: Build) -> None:
    # With gamma 0 a return is its reward and stays the same; otherwise it would follow the values as they change.
    learner = build("learner.learning_rate=0.003", "learner.gamma=0")
    made = unrolls([[True] * PLAYERS] * 5)
    for unroll in made:
        unroll.log_prob[:] = -np.log(GAME.actions)
    history = [learner.update(collate(made, LENGTH, CPU)) for _ in range(40)]
    assert history[-1]["value_loss"] < 0.5 * history[0]["value_loss"]
    assert history[0]["explained_variance"] < 0.2 and history[-1]["explained_variance"] > 0.7


def test_the_critic_learns_rewards_that_arrive_while_the_player_is_frozen(build: Build) -> None:
    """As in the arenas: the first observation tells whether the frozen player will be rewarded."""
    made = unrolls([[True] * PLAYERS] * 5)
    for i, unroll in enumerate(made):
        lucky = np.arange(PLAYERS) % 2 == i % 2
        unroll.features[:] = 0
        unroll.features[:, lucky] = 3
        unroll.log_prob[:] = -np.log(GAME.actions)
        unroll.active[1:] = False
        unroll.reward[:] = 0
        unroll.reward[2, lucky] = 1
        unroll.discount[-1] = 0
    batch = collate(made, LENGTH, CPU)
    learner = build("learner.learning_rate=0.01", "learner.entropy_coef=0")
    history = [learner.update(batch)["explained_variance"] for _ in range(30)]
    assert history[-1] > 0.7
    # Returns are normalised by the moments over all steps: 8 of 15 players are lucky, through 3 of 6 steps.
    mean, _ = learner.value_norm.moments()
    assert float(mean) == pytest.approx(8 / 15 / 2, abs=0.05)


def test_step_size_and_entropy_bonus_are_annealed_over_the_run(build: Build) -> None:
    batch = collate(unrolls(V), LENGTH, CPU)
    ends = ("learner.final_learning_rate=0", "learner.final_entropy_coef=0.002")
    learner = build("learner.learning_rate=1e-3", *ends, f"run.player_steps={4 * batch.player_steps}")
    history = [learner.update(batch) for _ in range(6)]
    assert [m["learning_rate"] for m in history] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4, 0, 0])
    assert [m["entropy_coef"] for m in history] == pytest.approx([0.01, 0.008, 0.006, 0.004, 0.002, 0.002])
    before = theta(learner)
    learner.update(batch)
    assert same(theta(learner), before)


def test_the_running_average_of_theta_is_kept_and_restored(build: Build) -> None:
    batch = collate(unrolls(V), LENGTH, CPU)
    learner = build("learner.average_decay=0.75")
    expected = theta(learner)
    for _ in range(3):
        learner.update(batch)
        expected = {name: 0.75 * expected[name] + 0.25 * x for name, x in theta(learner).items()}
    average = learner.tensors()["average"]
    for name, x in expected.items():
        torch.testing.assert_close(average[name], x)
    resumed = build("learner.average_decay=0.75")
    resumed.restore(learner.tensors(), learner.counters())
    assert same(resumed.tensors()["average"], average)


@pytest.mark.parametrize(("unrolled", "sizes"), [(5, [15]), (29, [43, 44])])
def test_minibatches_have_about_256_steps(build: Build, unrolled: int, sizes: list[int]) -> None:
    """15 sequences of 6 steps make one minibatch; 87 of them, 522 steps, make two."""
    ranks = CountingRanks(CPU)
    learner = build("learner.minibatches=0", "learner.epochs=1", ranks=ranks)
    learner.update(collate(unrolls([[True] * PLAYERS] * unrolled), LENGTH, CPU))
    assert sorted(ranks.sizes) == sizes


class CountingRanks(Ranks):
    """Notes the number of sequences in each minibatch."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.sizes: list[int] = []

    def share(self, columns: Tensor) -> Tensor:
        self.sizes.append(len(columns))
        return super().share(columns)


def test_an_update_that_diverges_raises(build: Build) -> None:
    learner, made = build("learner.learning_rate=0.5"), unrolls(V)
    made[0].reward[:] = 1e38
    with pytest.raises(ConfigError, match=r"update 1 diverged: .* loss .*learner\.learning_rate=0\.5 may be too high"):
        learner.update(collate(made, LENGTH, CPU))


def test_trained_sequences_are_the_learning_rows_sorted_by_policy() -> None:
    made = with_policies(unrolls(V, lengths=[LENGTH, 4, LENGTH, 2, 5]))
    batch = collate(made, LENGTH, CPU)
    numbers = torch.arange(len(V) * PLAYERS).float().expand(LENGTH + 1, -1)[..., None]
    sequences, (rows,) = trained_sequences(batch, batch.learning, PLAYERS, numbers)
    for player in range(PLAYERS):
        expected = [i for i, v in enumerate(V) if v[player]]
        for column, i in enumerate(expected):
            length = made[i].env_steps
            assert rows[player, 0, column].item() == i * PLAYERS + player
            np.testing.assert_array_equal(sequences.action[player, :length, column], made[i].action[:, player])
            np.testing.assert_array_equal(sequences.rgb[player, : length + 1, column], made[i].rgb[:, player])
            np.testing.assert_array_equal(sequences.state[player, column], made[i].state[player])
            assert sequences.mask[player, :, column].sum() == length
        assert not sequences.mask[player, :, len(expected) :].any()
