"""What defines RPM: which policies are kept, in which rank, and which of them play."""

import math
from collections import Counter

import pytest
from method_cases import drawn, error, made

from common.weights import THETA
from methods.rpm import RankedPolicyMemory

POOL = {"pool:10": 0.1, "pool:20": 2.2, "pool:30": 2.9, "pool:40": 2.5, "pool:50": -0.4, "pool:60": 7.7}


def rpm(*overrides: str) -> RankedPolicyMemory:
    chosen = made("rpm", "method.rank_width=1", *overrides)
    assert isinstance(chosen, RankedPolicyMemory)
    return chosen


def test_rpm_draws_a_rank_and_then_a_policy_from_it() -> None:
    who = drawn(rpm(), 3, POOL)
    assert (who == THETA).any(1).all()
    theta = 0.5 / (1 - 0.5**3)
    assert (who == THETA).mean() == pytest.approx(theta, abs=error(theta))
    past = Counter(who[who != THETA].tolist())
    shares = {name: past[name] / past.total() for name in POOL}
    # Four ranks: -1, 0, 2 and 7; three policies share the third.
    expected = {"pool:50": 1 / 4, "pool:10": 1 / 4, "pool:60": 1 / 4} | dict.fromkeys(
        ["pool:20", "pool:30", "pool:40"], 1 / 12
    )
    assert shares == pytest.approx(expected, abs=error(1 / 4))


def test_rpm_plays_learning_policies_while_its_memory_is_empty() -> None:
    assert (drawn(rpm(), 3) == THETA).all()


def test_theta_joins_the_memory_every_so_many_updates_with_its_return_as_score() -> None:
    chosen = rpm("method.every=10")
    scores = [chosen.score(updates, 3.25, {}) for updates in range(1, 31)]
    assert [i + 1 for i, score in enumerate(scores) if score is not None] == [10, 20, 30]
    assert chosen.score(10, 3.25, {}) == 3.25
    assert chosen.score(10, math.nan, {}) is None, "no episode has ended yet: there is no return to score it by"


def test_the_oldest_policy_of_a_full_rank_is_evicted() -> None:
    chosen = rpm("method.rank_size=2")
    assert chosen.evict(POOL) == ["pool:20"]
    assert chosen.evict({**POOL, "pool:100": 2.0}) == ["pool:20", "pool:30"]
    assert rpm("method.rank_size=3").evict(POOL) == []


def test_the_width_of_a_rank_depends_on_the_game() -> None:
    of_coins = made("rpm", "environment.substrate=coins")
    assert of_coins.ranks({"pool:1": 4.9, "pool:2": 5.0, "pool:3": -0.1}) == {
        -1: ["pool:3"],
        0: ["pool:1"],
        1: ["pool:2"],
    }
    # An unknown game: a tenth of the spread.
    unknown = made("rpm")
    assert unknown.ranks({"pool:1": 0.0, "pool:2": 0.99, "pool:3": 10.0}) == {0: ["pool:1", "pool:2"], 10: ["pool:3"]}
    assert unknown.ranks({"pool:1": 0.3, "pool:2": 0.3}) == {0: ["pool:1", "pool:2"]}


@pytest.mark.parametrize(("climb", "warnings"), [(0.0, 1), (0.3, 0)])
def test_rpm_warns_once_if_all_policies_have_the_same_rank(
    caplog: pytest.LogCaptureFixture, climb: float, warnings: int
) -> None:
    chosen, pool = rpm(), dict[str, float]()
    for updates in range(1, 301):
        score = chosen.score(updates, 0.5 + climb * updates / 10, pool)
        if score is not None:
            pool[f"pool:{updates}"] = score
            for name in chosen.evict(pool):
                del pool[name]
    assert len(pool) == 8 or climb
    assert caplog.text.count("method.rank_width may be too large") == warnings
