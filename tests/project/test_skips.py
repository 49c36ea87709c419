"""`--strict-skips`: unexpected skips fail, listed ones stay skips."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_listed():
    pytest.skip("no Docker engine answers here")

@pytest.mark.skipif(True, reason="the moon is full")
def test_unlisted():
    pass

@pytest.mark.xfail
def test_expected_failure():
    assert False

def test_passes():
    pass
"""
MODULE = """
import pytest

pytest.importorskip("no_such_package_anywhere")
"""


def outcome(folder: Path, *options: str) -> tuple[int, str]:
    """The exit status and the output of pytest with the plugin."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "helpers"), "PYTEST_ADDOPTS": ""}
    settings = ["-c", str(folder / "pytest.ini"), "-p", "skips", "-p", "no:cacheprovider", "-rfE"]
    (folder / "pytest.ini").write_text("[pytest]\nallowed_skips =\n    Docker engine\n    full of stars\n")
    command = [sys.executable, "-m", "pytest", *settings, *options, str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_unlisted_skips_fail(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    status, output = outcome(tmp_path, "--strict-skips")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "1 passed, 1 skipped, 1 xfailed, 1 error" in output
    assert "test_unlisted" in output and "'Skipped: the moon is full' is not among allowed_skips" in output


def test_unlisted_skip_of_a_module_fails(tmp_path: Path) -> None:
    (tmp_path / "test_module.py").write_text(MODULE)
    status, output = outcome(tmp_path, "--strict-skips")
    assert status == pytest.ExitCode.INTERRUPTED
    assert "no_such_package_anywhere" in output


def test_skips_are_allowed_without_the_option(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    status, output = outcome(tmp_path)
    assert status == pytest.ExitCode.OK
    assert "1 passed, 2 skipped, 1 xfailed" in output
