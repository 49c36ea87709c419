"""The report's figures show the numbers in its rows."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from artists import boxes, lines, segments, texts, titles
from matplotlib.container import BarContainer, ErrorbarContainer
from result_rows import GAME, row, rows

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


def test_returns_are_drawn_as_bars_with_intervals_beside_published_returns(tmp_path: Path) -> None:
    results, scale = Results(rows()), Scale()
    figure = draw_returns(results, scale, tmp_path / "returns.png")
    assert titles(figure) == [GAME]
    (axes,) = figure.axes
    assert texts(axes.get_xticklabels()) == ["scenario 0", "scenario 1"]
    bars = [c for c in axes.containers if isinstance(c, BarContainer)]
    errors = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    assert len(bars) == len(errors) == len(results.methods)
    for method, bar, error in zip(results.methods, bars, errors, strict=True):
        cells = [cell for s in ("coins_0", "coins_1") if (cell := results.cell(method, s)) is not None]
        assert [height for *_, height in boxes(bar)] == pytest.approx([mean for mean, *_ in cells])
        assert np.allclose(segments(error.lines[2][0])[:, :, 1], [cell[1:] for cell in cells])
    assert len(bars[results.methods.index("pp")]) == 1, "no bar where nothing was played"
    (legend,) = figure.legends
    assert texts(legend.get_texts()) == [*results.methods, "ACB, published"]
    intervals = {id(error.lines[2][0]) for error in errors}
    levels = [float(segments(c)[0, 0, 1]) for c in axes.collections if id(c) not in intervals]
    assert levels == [pytest.approx(np.mean(scale.returns[s]["acb"])) for s in ("coins_0", "coins_1")]


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
