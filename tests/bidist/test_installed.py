"""Installed from a wheel, no role imports a folder of the working directory that has the name of a package."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from common.files import read_lines

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOREIGN = ("common", "environments", "networks", "learner", "actors", "distiller", "reports", "cli")
TINY = ["--set", "environment.episode_length=8", "--set", "actor.unroll_length=8", "--set", "distiller.burn_in=1"]


def packages() -> list[str]:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    return [pattern.rstrip("*") for pattern in patterns]


def run(*command: str | Path, cwd: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def bidist(tmp_path: Path) -> Path:
    """The command `bidist` of a virtual environment with the wheel, which sees this environment's other packages."""
    source = tmp_path / "source"
    source.mkdir()
    for name in packages():
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "wheel", source, cwd=tmp_path)
    (wheel,) = (tmp_path / "wheel").glob("bidist-*.whl")
    environment = tmp_path / "venv"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    folder = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    (folder / "packages.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return environment / "bin" / "bidist"


def test_foreign_folders_in_the_working_directory_are_not_imported(bidist: Path, tmp_path: Path) -> None:
    here = tmp_path / "elsewhere"
    for name in FOREIGN:
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text(f"raise SystemExit('imported a foreign {name}')\n")
    with pytest.raises(AssertionError, match="imported a foreign common"):
        run(bidist.with_name("python"), "-c", "import common", cwd=here)
    options = ["--run", "run", "--substrate", "matrix_coordination", "--actors", "1", "--steps", "2000", "--games", "0"]
    run(bidist, "train", *options, *TINY, cwd=here)
    folder = here / "runs" / "run"
    assert read_lines(folder / "metrics.jsonl")[-1]["player_steps"] >= 2000
    assert {path.name for path in (folder / "logs").iterdir()} >= {"learner.log", "actor-0.log", "distiller.log"}
    script = "import bidist; print(bidist.load('runs/run'), bidist.env('matrix_coordination').possible_agents)"
    assert "run run, checkpoint" in run(bidist.with_name("python"), "-c", script, cwd=here)
    for log in (folder / "logs").iterdir():
        assert "imported a foreign" not in log.read_text()
