"""A learner under load stays as small as it was; and the report of one that grew says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.stress.load import Report, run

WHOLE = {"produced": 9, "trained": 4, "stale": 1, "rejected": 0, "rewound": 2, "lost": 1, "in_flight": 1}


def report(grown: float = 1.0, **changes: Any) -> Report:
    made = Report(actors=2, seconds=1.0, seed=1, unrolls_in_checkpoint=4, produced=7, policy_lag_bound=4)
    made.produced_by_the_real_actor = 2
    made.ledger, made.back_s = dict(WHOLE), [1.0]
    sizes = [1.0] * 8 + [grown] * 4
    made.samples = [{"s": 1.0, "learner_bytes": 1e8 * size, "learner_handles": 50 * size} for size in sizes]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_run_that_stayed_as_it_was_has_no_problems() -> None:
    assert report().problems == []
    assert report(grown=1.1).problems == [], "within what is allowed"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"produced": 6}, "8 unrolls were produced, 9 are in the ledger"),
        ({"unbalanced_samples": 1}, "the ledger did not balance in 1 samples"),
        ({"unrolls_in_checkpoint": 3}, "4 unrolls are trained in the ledger, 3 in the checkpoint"),
        ({"closed_while_alive": 2}, "2 actors were closed while alive"),
        ({"policy_lag_max": 5.0}, "the policy lag reached 5"),
        ({"produced_while_stopped": [0, 3]}, "actors produced [0, 3] unrolls for a learner that was stopped"),
        ({"back_s": [1.0, 7.0]}, "it took up to 7.0 s until the learner trained again"),
        ({"ledger": WHOLE | {"rejected": 2}}, "2 unrolls were rejected"),
    ],
)
def test_a_broken_promise_is_a_problem(changes: dict[str, Any], problem: str) -> None:
    assert report(**changes).problems == [problem]


def test_growth_is_a_problem() -> None:
    assert report(grown=1.25).problems == [
        "learner_bytes grew from 100,000,000 to 125,000,000",
        "learner_handles grew from 50 to 62",
    ]


@pytest.mark.slow
def test_a_real_learner_bears_a_crowd_that_comes_and_goes(tmp_path: Path) -> None:
    lines: list[str] = []
    found = run(8, 20.0, seed=3, out=tmp_path / "out" / "report.json", say=lines.append)
    slow = [problem for problem in found.problems if "until the learner trained again" in problem]
    assert [problem for problem in found.problems if problem not in slow] == [], "\n".join(lines)
    assert {"actor_bytes", "actor_handles", "learner_bytes", "redis_bytes"} <= found.growth().keys()
    assert found.stops == len(found.back_s) == 6 and found.lives >= 8 and found.ledger["trained"] > 0
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["ledger"] == found.ledger and len(written["samples"]) == len(found.samples)
