"""What `scripts/setup` decides, and that it neither hangs nor hides a failure; CI runs all of it."""

import hashlib
import socket
import sys
import tarfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from waiting import until

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module whose environment is an empty folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("setup_script", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    venv = tmp_path / ".venv"
    venv.mkdir()
    monkeypatch.setattr(module, "VENV", venv)
    monkeypatch.setattr(module, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(module, "STAMPS", venv / "setup.json")
    return module


@pytest.mark.parametrize(
    ("installed", "archive", "retry", "source"),
    [
        (None, "sha", False, "archive"),
        (None, None, False, "download"),
        ("sha", "sha", False, "keep"),
        ("sha", None, False, "keep"),
        ("sha", None, True, "keep"),
        ("older sha", "sha", False, "archive"),
        ("no bots", "sha", False, "archive"),
        ("no bots", None, False, "keep"),
        ("no bots", None, True, "download"),
        ("all bots", None, True, "keep"),
        ("all bots", "sha", False, "keep"),
    ],
)
def test_source_of_the_bots(
    setup: ModuleType, installed: str | None, archive: str | None, retry: bool, source: str
) -> None:
    assert setup.choose_source(installed, archive, retry) == source


def test_configured_archive_goes_first_and_must_exist(setup: ModuleType, tmp_path: Path) -> None:
    configured, default = tmp_path / "configured", tmp_path / "default"
    assert setup.find_archive(None, default) is None
    default.touch()
    assert setup.find_archive(None, default) == setup.find_archive("", default) == default
    with pytest.raises(setup.Failure, match="no such file"):
        setup.find_archive(str(configured), default)
    configured.touch()
    assert setup.find_archive(str(configured), default) == configured


def test_archive_is_verified(setup: ModuleType, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(b"bots")
    found = hashlib.sha256(b"bots").hexdigest()
    assert setup.verify(archive, found.upper()) == found
    with pytest.raises(setup.Failure, match=f"SHA-256 is {found}, expected {setup.ARCHIVE_SHA256}"):
        setup.verify(archive, setup.ARCHIVE_SHA256)


def test_a_wrong_archive_leaves_what_is_installed_stamped(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(b"damaged")
    monkeypatch.setenv("BIDIST_MELTINGPOT_ASSETS", str(archive))
    monkeypatch.delenv("BIDIST_MELTINGPOT_ASSETS_SHA256", raising=False)
    setup.stamp("melting pot", setup.NO_BOTS)
    with pytest.raises(setup.Failure, match="expected"):
        setup.install_melting_pot(retry_bots=False)
    assert setup.stamps() == {"melting pot": setup.NO_BOTS}


def test_archive_without_bots(setup: ModuleType, tmp_path: Path) -> None:
    with tarfile.open(setup.empty_archive(tmp_path)) as archive:
        assert archive.getnames() == ["assets", "assets/saved_models"]


def test_bots_that_someone_removed_are_missing(setup: ModuleType) -> None:
    package = setup.VENV / "lib" / "python3.11" / "site-packages" / "meltingpot"
    setup.stamp("melting pot", "sha")
    assert setup.installed_bots() is None
    (package / "assets" / "saved_models").mkdir(parents=True)
    assert setup.installed_bots() is None
    setup.stamp("melting pot", setup.NO_BOTS)
    assert setup.installed_bots() == setup.NO_BOTS
    (package / "assets" / "saved_models" / "coins__puppet_1").mkdir()
    setup.stamp("melting pot", "sha")
    assert setup.installed_bots() == "sha"


@pytest.mark.parametrize("given", [True, False])
def test_melting_pot_is_built_with_the_archive_given(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    """Melting Pot's build finds an archive, or nothing and so downloads it, in its own temporary folder."""
    found: list[bool] = []

    def pip_install(*arguments: str, **variables: str) -> None:
        found.append((Path(variables["TMPDIR"]) / setup.ARCHIVE).exists())

    monkeypatch.setattr(setup, "pip_install", pip_install)
    archive = tmp_path / "a copy"
    archive.write_bytes(b"bots")
    sha = hashlib.sha256(b"bots").hexdigest()
    if given:
        monkeypatch.setenv("BIDIST_MELTINGPOT_ASSETS", str(archive))
        monkeypatch.setenv("BIDIST_MELTINGPOT_ASSETS_SHA256", sha)
    else:
        monkeypatch.delenv("BIDIST_MELTINGPOT_ASSETS", raising=False)
    monkeypatch.setattr(setup, "ARCHIVE_DEFAULT", tmp_path / "none")
    setup.install_melting_pot(retry_bots=False)
    assert found == [given]
    assert setup.stamps() == {"melting pot": sha if given else setup.ALL_BOTS}


def test_failed_download_builds_without_bots(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[list[str]] = []

    def pip_install(*arguments: str, **variables: str) -> None:
        assert setup.stamps() == {}
        archive = Path(variables["TMPDIR"]) / setup.ARCHIVE
        if not archive.exists():
            raise setup.Failure("no route to host")
        with tarfile.open(archive) as opened:
            built.append(opened.getnames())

    monkeypatch.setattr(setup, "pip_install", pip_install)
    monkeypatch.setattr(setup, "ARCHIVE_DEFAULT", tmp_path / "none")
    monkeypatch.delenv("BIDIST_MELTINGPOT_ASSETS", raising=False)
    setup.install_melting_pot(retry_bots=False)
    assert built == [["assets", "assets/saved_models"]]
    assert setup.stamps() == {"melting pot": setup.NO_BOTS}
    assert "no route to host; building without bots" in capsys.readouterr().out


def test_step_that_fails_is_not_stamped(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: str) -> None:
        raise setup.Failure("no space left")

    monkeypatch.setattr(setup, "pip_install", fail)
    setup.stamp("venv", "here")
    setup.stamp("requirements.txt", "older")
    with pytest.raises(setup.Failure):
        setup.once("requirements.txt", "newer", "--requirement", "requirements.txt")
    assert setup.stamps() == {"venv": "here"}


@pytest.fixture
def installed(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is installed into a checkout that has an environment and Melting Pot already."""
    calls: list[str] = []
    monkeypatch.setattr(setup, "pip_install", lambda *arguments: calls.append(Path(arguments[-1]).name))
    monkeypatch.setattr(setup, "install_melting_pot", lambda retry_bots: None)
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    setup.PYTHON.parent.mkdir()
    setup.PYTHON.touch()
    setup.stamp("venv", str(tmp_path))
    setup.stamp("melting pot", setup.ALL_BOTS)
    return calls


def test_each_level_installs_once_and_includes_the_lower_ones(
    setup: ModuleType, installed: list[str], tmp_path: Path
) -> None:
    for name in ("requirements.txt", "requirements-test.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    setup.set_up("runtime", retry_bots=False)
    assert installed == ["requirements.txt", tmp_path.name]
    for level in ("test", "runtime", "test"):
        setup.set_up(level, retry_bots=False)
        assert installed[2:] == ["requirements-test.txt"]
    (tmp_path / "requirements.txt").write_text("changed")
    setup.set_up("test", retry_bots=False)
    assert installed[3:] == ["requirements.txt"]


def test_a_container_installs_packages_before_the_project_is_there(
    setup: ModuleType, installed: list[str], tmp_path: Path
) -> None:
    (tmp_path / "requirements.txt").touch()
    for _ in range(2):
        setup.set_up("packages", retry_bots=False)
        assert installed == ["requirements.txt"]


@pytest.mark.parametrize("moved", [True, False])
def test_an_environment_that_moved_or_broke_is_created_anew(
    setup: ModuleType, installed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    """The scripts of a virtual environment name the place where it was created, so nothing of it can be kept."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ntest "$1 $2 $3" = "-m venv --clear" && rm -r "$4" && mkdir "$4"\n')
    python.chmod(0o755)
    monkeypatch.setattr(setup, "find_python", lambda: str(python))
    monkeypatch.setattr(setup, "install_melting_pot", lambda retry_bots: setup.stamp("melting pot", setup.ALL_BOTS))
    (tmp_path / "requirements.txt").touch()
    setup.set_up("packages", retry_bots=False)
    assert installed == ["requirements.txt"]
    if moved:
        setup.stamp("venv", "elsewhere")
    else:
        setup.PYTHON.unlink()
    setup.set_up("packages", retry_bots=False)
    assert not setup.PYTHON.exists()
    assert installed == 2 * ["requirements.txt"]
    assert setup.stamps()["venv"] == str(tmp_path)


def test_a_failure_shows_the_output(setup: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    program = "print('the reason'); raise SystemExit(3)"
    with pytest.raises(setup.Failure, match="exit status 3; its output is above"):
        setup.run([sys.executable, "-c", program], {})
    assert capfd.readouterr().out == "the reason\n"


def test_a_command_that_takes_too_long_is_ended_with_its_children(
    setup: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    program = "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
    with pytest.raises(setup.Failure, match="took longer than"):
        setup.run([sys.executable, "-c", program], {}, limit_s=3.0)
    child = int(capfd.readouterr().out)
    command = Path(f"/proc/{child}/cmdline")
    until(lambda: not command.exists() or not command.read_bytes())


def test_a_download_that_stalls_fails(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        program = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{silent.getsockname()[1]}/')"

        def pip_install(*arguments: str, **variables: str) -> None:
            setup.run([sys.executable, "-c", program], variables)

        monkeypatch.setattr(setup, "STALL_S", 0.2)
        monkeypatch.setattr(setup, "pip_install", pip_install)
        with pytest.raises(setup.Failure, match="exit status 1"):
            setup.build_melting_pot(None, setup.ALL_BOTS)
    assert "TimeoutError: timed out" in capfd.readouterr().err
