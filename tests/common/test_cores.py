"""Cores are counted with the limits of affinity and of control groups."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import LearnerConfig, learner_threads
from common.cores import control_groups, core_count, usable_cores


@pytest.fixture
def affinity(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that may run on 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    yield


def control_group(folder: Path, group: str, **limits: str) -> dict[str, Path]:
    """Makes `group` below `folder`, with the `cpu.max` of its levels, from the outermost in."""
    (folder / "membership").write_text(f"4:memory:/elsewhere\n0::{group}\n")
    path = folder / "root"
    for level in ("", *filter(None, group.split("/"))):
        path /= level
        path.mkdir(exist_ok=True)
        if level in limits:
            (path / "cpu.max").write_text(limits[level] + "\n")
    return {"membership": folder / "membership", "root": folder / "root"}


@pytest.mark.usefixtures("affinity")
@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"inner": "200000 100000"}, 2),
        ({"inner": "150000 100000"}, 1.5),
        ({"outer": "400000 100000", "inner": "max 100000"}, 4),
        ({"outer": "100000 100000", "inner": "300000 100000"}, 1),
        ({"outer": "max 100000", "inner": "max 100000"}, 64),
        ({"inner": "nonsense"}, 64),
        ({}, 64),
    ],
)
def test_the_tightest_limit_of_all_levels_counts(tmp_path: Path, limits: dict[str, str], cores: float) -> None:
    assert usable_cores(**control_group(tmp_path, "/outer/inner", **limits)) == cores


@pytest.mark.usefixtures("affinity")
def test_a_container_sees_its_limit_at_the_root_of_its_namespace(tmp_path: Path) -> None:
    paths = control_group(tmp_path, "/")
    (paths["root"] / "cpu.max").write_text("200000 100000\n")
    assert control_groups(**paths) == [paths["root"]]
    assert usable_cores(**paths) == 2


@pytest.mark.usefixtures("affinity")
def test_machines_without_control_groups_have_no_limit(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "missing", tmp_path) == 64
    (tmp_path / "membership").write_text("3:cpuset:/\n1:cpu:/\n")
    assert usable_cores(tmp_path / "membership", tmp_path) == 64


def test_without_an_affinity_all_cores_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path / "missing", tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path / "missing", tmp_path) == 1


@pytest.mark.parametrize(("usable", "count", "threads"), [(0.5, 1, 1), (1.5, 1, 1), (2.0, 2, 1), (8.0, 8, 3)])
def test_whole_cores_and_the_threads_of_the_learner(
    monkeypatch: pytest.MonkeyPatch, usable: float, count: int, threads: int
) -> None:
    monkeypatch.setattr("common.cores.usable_cores", lambda: usable)
    assert core_count() == count
    assert learner_threads(LearnerConfig()) == threads
    assert learner_threads(LearnerConfig(threads=7)) == 7
