"""Distances between the policies met in training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from artists import boxes, grid, texts
from serial_runs import configuration

import environments
from common.errors import CheckpointError, ConfigError
from common.run_folder import RunFolder
from deploy.serial import Serial
from evaluator.diversity import Met, observe, policies_met, probabilities, total_variation
from reports.diversity import compare, draw_distances


@pytest.fixture(scope="module")
def runs(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Short runs of several methods on one game, with three checkpoints each."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for method, more in (("bidist", ()), ("mappo", ()), ("pp", ("method.population=4",)), ("rpm", ("method.every=2",))):
        settings = [f"method.name={method}", "learner.learning_rate=0.003", *more]
        config = configuration(folder, f"diverse-{method}", *settings)
        found[method] = RunFolder.of(config.run)
        found[method].create(config)
        with Serial(config, redis_url) as serial:
            for update in range(9):
                serial.update()
                if update in (2, 5):
                    serial.learner.save()
    return found


def test_policies_of_all_checkpoints_are_found(runs: dict[str, RunFolder]) -> None:
    kinds = [met.kind for met in policies_met(runs["mappo"])]
    assert kinds == ["theta"] * 3
    both = policies_met(runs["bidist"])
    assert {met.kind for met in both} == {"theta", "phi forward", "phi reverse"}
    assert len({(met.kind, met.updates) for met in both}) == len(both)
    assert {met.kind for met in policies_met(runs["pp"])} == {f"theta {i}" for i in range(1, 5)}, (
        "one policy per learner"
    )
    past = [met.updates for met in policies_met(runs["rpm"]) if met.kind == "past"]
    assert past == sorted(past) and set(past) <= set(range(2, 10, 2)) and past


def test_distances_match_those_computed_by_hand(runs: dict[str, RunFolder]) -> None:
    folder = runs["bidist"]
    config, met = folder.read_config(), policies_met(folder)
    observed = observe(config, met[-1].parameters, seed=3)
    spec = environments.spec(config.environment)
    first, last = (probabilities(config, spec, m, observed) for m in (met[0], met[-1]))
    assert torch.allclose(first.sum(-1), torch.ones(first.shape[:2]))
    by_hand = [
        np.mean([sum(max(0.0, float(p - q)) for p, q in zip(x, y, strict=True)) for x, y in zip(a, b, strict=True)])
        for a, b in zip(first.transpose(0, 1), last.transpose(0, 1), strict=True)
    ]
    assert total_variation(first, last) == pytest.approx(np.array(by_hand), abs=1e-5)
    assert total_variation(first, first) == pytest.approx(np.zeros(first.shape[1]))


def test_a_policy_remembers_earlier_observations(runs: dict[str, RunFolder]) -> None:
    folder = runs["mappo"]
    config, met = folder.read_config(), policies_met(folder)
    observed = observe(config, met[-1].parameters, seed=3)
    spec = environments.spec(config.environment)
    whole = probabilities(config, spec, met[-1], observed)
    late = type(observed)(observed.rgb[50:], observed.features[50:])
    assert not torch.allclose(whole[50], probabilities(config, spec, met[-1], late)[0])


def test_runs_are_compared_on_common_observations(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    found = compare(list(runs.values()), tmp_path / "out")
    assert [d.method for d in found] == ["bidist", "mappo", "pp", "rpm"]
    for d in found:
        distances = np.array(d.distances)
        assert distances.shape == (len(d.policies),) * 2
        assert np.allclose(distances, distances.T, atol=1e-3) and np.allclose(np.diag(distances), 0)
        assert 0 < d.low <= d.mean <= d.high < 1
    assert {"phi forward", "phi reverse", "theta"} == found[0].by_kind.keys()
    written = json.loads((tmp_path / "out" / "diversity.json").read_text())
    assert [w["run"] for w in written] == [d.run for d in found]
    assert (tmp_path / "out" / "diversity.png").exists()
    bars, *maps = draw_distances(found, tmp_path / "again.png").axes
    assert [height for *_, height in boxes(bars.patches)] == pytest.approx([d.mean for d in found])
    assert texts(bars.get_xticklabels()) == [d.run for d in found]
    for axes, d in zip(maps, found, strict=False):  # the last axes are the colour bar
        assert axes.get_title("left") == d.run
        assert np.array_equal(grid(axes), d.distances)
        assert texts(axes.get_yticklabels()) == d.policies


def test_runs_that_cannot_be_compared_are_rejected(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    other = configuration(tmp_path, "other", "environment.substrate=matrix_chicken")
    RunFolder.of(other.run).create(other)
    with pytest.raises(ConfigError, match="different games"):
        compare([runs["mappo"], RunFolder.of(other.run)], tmp_path / "out")
    with pytest.raises(CheckpointError, match="hold 0 policies"):
        compare([RunFolder.of(other.run)], tmp_path / "out")
    assert Met("phi forward", 8, {}).label == "phi forward 8"
