"""Tables and figures from rows: the numbers match those computed by hand, and cells that were not played are empty."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from result_rows import GAME, row, rows

from common.errors import ConfigError
from common.files import append_line
from environments.lengths import expected_length
from evaluator.results import read_results
from reports.comparison import compare
from reports.evaluation import write_report
from reports.published import Scale, published
from reports.returns import Results


def test_cells_are_means_over_runs_or_empty() -> None:
    data = rows()
    results = Results(data)
    assert results.methods == ["mappo", "pp", "bidist", "random"]
    mine = [r["focal_return"] for r in data if (r["method"], r["scenario"]) == ("bidist", "coins_1")]
    cell = results.cell("bidist", "coins_1")
    assert cell is not None and cell[0] == pytest.approx(np.mean(mine))
    assert cell[1] < cell[0] < cell[2]
    assert results.cell("pp", "coins_1") is None
    assert results.cell("rpm", "coins_0") is None


def test_table_1_is_min_max_over_learning_methods() -> None:
    results = Results(rows())
    found = results.normalised("coins_0")
    mean = {m: results.cell(m, "coins_0")[0] for m in ("mappo", "pp", "bidist")}  # type: ignore[index]
    assert found["mappo"] == 0 and found["bidist"] == 1
    assert found["pp"] == pytest.approx((mean["pp"] - mean["mappo"]) / (mean["bidist"] - mean["mappo"]))
    assert "random" not in found
    alone = Results([r for r in rows() if r["method"] in ("mappo", "random")])
    assert alone.normalised("coins_0") == {}


def test_returns_are_scaled_by_published_ones() -> None:
    scale, theirs = Scale(), published()["returns"]["coins_0"]
    assert scale("coins_0", theirs["random"]) == 0
    assert scale("coins_0", np.mean(theirs["acb"])) == pytest.approx(1)
    assert scale("coop_mining_2", 1.0) is None, "random players and ACB hardly differ there"
    assert scale("nowhere_0", 1.0) is None


def test_published_figures_are_complete() -> None:
    found = published()
    games = ["chicken_in_the_matrix", "prisoners_dilemma_in_the_matrix", "pure_coordination_in_the_matrix"]
    names = ["coins", "coop_mining", *(f"{g}__{v}" for g in games for v in ("arena", "repeated"))]
    assert found["returns"].keys() >= {f"{name}_{i}" for name in names for i in range(5)}
    # The scenarios used for validation, which the paper did not use: from 5 on.
    clean = {f"pure_coordination_in_the_matrix__arena_{i}" for i in (5, 6, 7, 8)}
    assert found["returns"].keys() >= clean | {"coins_6", "coop_mining_5", "chicken_in_the_matrix__arena_6"}
    assert all(len(r["acb"]) == 3 for r in found["returns"].values())
    assert len(found["table_1"]) == 6
    for method, games_of in found["table_1"].items():
        assert len(games_of) == 5 and all(len(cells) == 5 for cells in games_of.values()), method
    best = np.array([[cells for cells in games_of.values()] for games_of in found["table_1"].values()]).max(0)
    assert np.all(best == 1)


def test_methods_are_compared_in_the_scenarios_both_played() -> None:
    """Paired by position, the result would be the opposite: X is worse in the one scenario that both played."""
    data = [row("mappo", seed, s, e, 10.0 * s + e) for seed, s, e in product(range(2), (0, 1), range(3))]
    data += [row("bidist", seed, s, e, 10.0 * s - 5 + e) for seed, s, e in product(range(2), (1, 2), range(3))]
    results = Results(data)
    assert compare(results, Scale(), "bidist", "mappo") == ["1", "0.00"]


def test_ablations_do_not_affect_the_papers_scale(tmp_path: Path) -> None:
    data = rows() + [row("bidist-no-fictitious", 0, s, e, -900.0) for s, e in product(range(2), range(3))]
    assert Results(data).normalised("coins_0") == Results(rows()).normalised("coins_0")
    text = write_report(data, tmp_path).read_text()
    assert "| bidist-no-fictitious | -900.00 |" in text
    assert (tmp_path / "ablations-coins.png").exists()
    write_report(rows(), tmp_path)
    assert not (tmp_path / "ablations-coins.png").exists(), "figures of an earlier report are removed"


def test_a_cell_averages_the_runs_that_played_it() -> None:
    data = [row("mappo", 0, s, 0, 4.0) for s in (0, 1)] + [row("mappo", 1, 1, 0, 8.0)]
    results = Results(data)
    assert results.cell("mappo", "coins_0") == (4.0, 4.0, 4.0)
    cell = results.cell("mappo", "coins_1")
    assert cell is not None and cell[0] == 6.0


def test_one_run_gives_no_interval_across_games(tmp_path: Path) -> None:
    data = [r for r in rows() if r["seed"] == 0]
    text = write_report(data, tmp_path).read_text()
    assert "bidist over mappo | 2 | 1.00 |" in text
    assert "Fewer than two runs" in text


def test_methods_that_played_different_games_are_not_compared(tmp_path: Path) -> None:
    other = [
        row("rpm", 0, s, e, 3.0) | {"substrate": "coop_mining", "scenario": f"coop_mining_{s}"}
        for s, e in product(range(2), range(3))
    ]
    text = write_report(rows() + other, tmp_path).read_text()
    assert "| coop_mining 0 |  |  / " in text, "a single method gives no scale"
    assert "rpm over" not in text and "over rpm" not in text
    assert "Empty: no two methods have scaled returns in the same scenarios" in text


def test_runs_that_are_not_repetitions_cause_warnings(tmp_path: Path) -> None:
    data = [row("mappo", 0, 0, 0, 1.0), row("mappo", 0, 0, 0, 2.0, run="again", player_steps=90)]
    text = write_report(data, tmp_path).read_text()
    assert "mappo in coins: two runs have the same seed" in text
    assert "its runs are 90 to 900 player steps long" in text


def test_two_runs_with_the_same_name_are_rejected(tmp_path: Path) -> None:
    for name, weights in (("a", "x"), ("b", "y")):
        (tmp_path / name).mkdir()
        append_line(tmp_path / name / "evaluation.jsonl", row("mappo", 0, 0, 0, 1.0, weights=weights))
    with pytest.raises(ConfigError, match="two runs are called 'mappo-0'"):
        read_results([tmp_path])


@pytest.mark.parametrize(
    ("text", "words"),
    [("{}\n{}\n", "a line lacks checkpoint"), ("3\n\xff\n", "no results"), ("[]", "no results")],
)
def test_other_files_are_rejected(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=words):
        read_results([path])


def test_a_partly_evaluated_checkpoint_does_not_replace_a_complete_one() -> None:
    whole = [row("mappo", 0, s, 0, 1.0) for s in range(3)]
    part = [row("mappo", 0, 0, 0, 9.0, updates=12, checkpoint="00000012")]
    reference = [row("mappo", 0, 0, 0, 9.0, updates=20, checkpoint="00000020", reference=True)]
    results = Results(whole + part + reference)
    assert [results.cell("mappo", f"coins_{s}") for s in range(3)] == [(1.0, 1.0, 1.0)] * 3


def test_a_report_needs_rows_of_our_own_evaluator(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="played with --reference"):
        write_report([row("mappo", 0, 0, 0, 1.0, reference=True)], tmp_path / "out")


def test_only_the_newest_checkpoint_of_a_run_counts() -> None:
    old = [row("mappo", 0, 0, e, 1000.0, updates=3, checkpoint="00000003", player_steps=300) for e in range(5)]
    new = [row("mappo", 0, 0, e, 1.0) for e in range(5)]
    cell = Results(old + new).cell("mappo", "coins_0")
    assert cell == (1.0, 1.0, 1.0)


def test_an_episode_in_two_files_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for r in rows():
            append_line(tmp_path / name / "evaluation.jsonl", r)
    assert len(read_results([tmp_path / "a", tmp_path / "b" / "evaluation.jsonl"])) == len(rows())
    with pytest.raises(ConfigError, match="no results"):
        read_results([tmp_path / "c"])


def test_the_report_contains_all_tables_and_figures(tmp_path: Path) -> None:
    data = rows() + [row("mappo", 0, 0, e, 5.0, updates=3, checkpoint="00000003", player_steps=300) for e in range(5)]
    text = write_report(data, tmp_path / "report").read_text()
    assert "| coins 0 | 3 of 6 | 0.00 / 0.97 |" in text
    assert "1.00 / 1.00" in text
    assert "| coins 1 | 2 of 6 | 0.00 / 0.87 |  / 0.00 |  / 0.92 |  / 0.64 |" in text, "PP was not played there"
    assert "bidist over mappo | 2 | 1.00 |" in text
    assert "pp over mappo | 1 | 1.00 |" in text, "PP was not played in scenario 1: it is compared in scenario 0 alone"
    assert "Scenarios: coins 0." in text, "only there all methods were played"
    assert "Fewer than five runs" in text
    assert "no ablations" in text
    for name in ("returns.png", "across.png", "over_training.png"):
        assert (tmp_path / "report" / name).exists() and f"({name})" in text
    with (tmp_path / "report" / "returns.csv").open() as file:
        cells = {(c["scenario"], c["method"]): c for c in csv.DictReader(file)}
    assert ("coins_1", "pp") not in cells
    assert cells["coins_0", "bidist"]["runs"] == "2" and cells["coins_0", "bidist"]["episodes"] == "10"
    assert cells["coins_0", "bidist"]["paper_min_max"] == "1.0"


def test_reference_episodes_are_listed_beside_ours_and_not_mixed_with_them(tmp_path: Path) -> None:
    ours = [row("mappo", 0, 0, e, float(e % 3)) for e in range(12)]
    theirs = [row("mappo", 0, 0, e, 100.0 + e, reference=True) for e in range(6)]
    assert Results(ours + theirs).cell("mappo", "coins_0")[0] == 1.0  # type: ignore[index]
    text = write_report(ours + theirs, tmp_path).read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| mappo-0 | coins_0 |")]
    assert "1.00 (" in line and "102.50 (" in line and line.endswith("| 0.00 |")


def test_the_expected_length_is_that_of_the_games_own_ending() -> None:
    """Pure coordination ends at step 1,099 with probability 0.2, else at 1,199 with 0.2, and so on up to 5,000."""
    lengths, left = np.arange(1099, 5000, 100), 0.8 ** np.arange(41)
    expected = (0.2 * left[:40] * lengths[:40]).sum() + left[40 - (len(lengths) < 40)] * 5000
    assert expected_length("pure_coordination_in_the_matrix__arena") == pytest.approx(expected, abs=0.5)
    assert expected_length("coins") == pytest.approx(2119.6, abs=0.1)
    assert expected_length("matrix_chicken") is None


def test_returns_are_adjusted_to_the_expected_length() -> None:
    expected = expected_length(GAME)
    assert expected is not None
    rng = np.random.default_rng(0)
    lengths = rng.integers(400, 4000, 40)
    data = [row("mappo", 0, 0, e, 0.01 * n + rng.normal(), env_steps=int(n)) for e, n in enumerate(lengths)]
    results = Results(data)
    rate = sum(r["focal_return"] for r in data) / lengths.sum()
    found = [r["focal_return"] for r in results.rows]
    assert found == pytest.approx([r["focal_return"] - rate * (r["env_steps"] - expected) for r in data])
    assert np.mean(found) == pytest.approx(rate * expected)
    assert np.std(found) < 2 < 5 < np.std([r["focal_return"] for r in data])
    assert results.length_saving > 0.9
    unknown = [{k: v for k, v in r.items() if k != "env_steps"} for r in data]
    assert Results(unknown).rows == unknown and not Results(unknown).length_saving


def test_firsts_and_wins_are_counted_over_common_scenarios(tmp_path: Path) -> None:
    """Five runs each: BiDist beats both others in scenario 0, is first by a hair in 1, and loses in 2."""
    means = {"bidist": (9.0, 5.1, 1.0), "mappo": (2.0, 5.0, 2.0), "pp": (1.0, 4.9, 2.1)}
    data = [
        row(m, seed, s, e, mean[s] + 0.3 * (seed - 2))
        for (m, mean), seed, s, e in product(means.items(), range(5), range(3), range(2))
    ]
    text = write_report(data, tmp_path).read_text()
    assert "| bidist | 2 of 3 | 1 of 3 |" in text
    assert "| pp | 1 of 3 | 0 of 3 |" in text
    assert "| mappo | 0 of 3 | 0 of 3 |" in text


def test_the_adaptation_index_is_the_worst_over_the_best_of_each_run(tmp_path: Path) -> None:
    game = "pure_coordination_in_the_matrix__arena"
    returns = {0: (2.0, 4.0, 3.0), 1: (4.0, 2.0, 3.0)}  # each run half as good with one colour, the means alike
    data = [
        row("mappo", seed, number, e, x, substrate=game, env_steps=expected_length(game))
        | {"scenario": f"{game}_{number}"}
        for seed, own in returns.items()
        for number, x in zip((6, 7, 8), own, strict=True)
        for e in range(3)
    ]
    text = write_report([*rows(), *data], tmp_path).read_text()
    assert "| mappo | 2 | 3.00 | 3.00 | 3.00 | 3.00 | 0.50 |" in text
    assert "## Strangers of one colour" not in write_report(rows(), tmp_path).read_text()
    assert "| 3.00 | 0.50 |" in write_report(rows(), tmp_path, validation=data).read_text()
