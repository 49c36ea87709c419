"""The report's figures show the numbers in its rows."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from artists import boxes, lines, segments, texts, titles
from result_rows import row, rows

from reports.comparison import ABLATIONS
from reports.evaluation import write_report
from reports.pictures import draw_bars, draw_over_training, draw_returns
from reports.published import Scale
from reports.returns import ORDER, Results
from reports.style import COLOURS


def test_ten_methods_fit_into_the_figures(tmp_path: Path) -> None:
    names = [*ORDER, *ABLATIONS[1:], "random"]
    data = [
        row(m, seed, s, e, float(k + s)) for k, m in enumerate(names) for seed in (0, 1) for s in (0, 1) for e in (0, 1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(data, tmp_path)
    assert len(set(COLOURS)) >= 10


def test_returns_are_drawn_as_intervals_beside_published_returns(tmp_path: Path) -> None:
    results, scale = Results(rows()), Scale()
    figure = draw_returns(results, scale, tmp_path / "returns.png")
    assert titles(figure) == ["scenario 0", "scenario 1"]
    assert texts(figure.axes[0].get_yticklabels()) == list(results.methods)
    for axes, scenario in zip(figure.axes, ("coins_0", "coins_1"), strict=True):
        cells = {k: cell for k, m in enumerate(results.methods) if (cell := results.cell(m, scenario)) is not None}
        ends = [(left, right) for left, _, right, _ in boxes(axes.patches)]
        means = [float(segments(mean)[0, 0, 0]) for mean in axes.collections]
        assert np.allclose([(mean, *end) for mean, end in zip(means, ends, strict=True)], list(cells.values()))
        levels = [float(np.asarray(line.get_xdata())[0]) for line in axes.lines]
        assert levels == [pytest.approx(np.mean(scale.returns[scenario][name])) for name in ("random", "acb")]
    assert results.cell("pp", "coins_0") is None or results.cell("pp", "coins_1") is None, "one stays empty"


def test_intervals_are_drawn_one_below_another(tmp_path: Path) -> None:
    bars = {"mappo": (0.5, 0.25, 0.75), "bidist": (2.0, 1.0, 4.0)}
    (axes,) = draw_bars(bars, "scaled return", tmp_path / "bars.png").axes
    assert axes.get_xlabel() == "scaled return"
    names = texts(axes.get_yticklabels())
    drawn = zip(names, boxes(axes.patches), axes.collections, strict=True)
    found = {name: (float(segments(mean)[0, 0, 0]), left, right) for name, (left, _, right, _), mean in drawn}
    assert found == bars


def test_only_runs_with_several_checkpoints_are_drawn_over_training(tmp_path: Path) -> None:
    old = [row("mappo", 0, 1, e, 5.0 + e, checkpoint="00000003", player_steps=300) for e in range(3)]
    figure = draw_over_training(rows() + old, tmp_path / "over.png")
    assert figure is not None
    assert titles(figure) == ["coins_1"]
    (line,) = lines(figure.axes[0]).values()
    newest = [r["focal_return"] for r in rows() if (r["run"], r["scenario"]) == ("mappo-0", "coins_1")]
    assert line.tolist() == [[300, 6.0], [900, pytest.approx(np.mean(newest))]]
    assert draw_over_training(rows(), tmp_path / "none.png") is None and not (tmp_path / "none.png").exists()
