"""What `scripts/setup` decides, and that it neither hangs nor hides a failure; CI runs all of it."""

import hashlib
import json
import socket
import sys
import tarfile
import time
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "setup"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module whose environment is an empty folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("setup_script", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path)
    monkeypatch.setattr(module, "STAMP", tmp_path / "setup.json")
    monkeypatch.setattr(module, "LOG", tmp_path / "setup.log")
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
    stamps = {"melting pot": setup.NO_BOTS}
    with pytest.raises(setup.Failure, match="expected"):
        setup.install_melting_pot(stamps, retry_bots=False)
    assert stamps == {"melting pot": setup.NO_BOTS}


def test_archive_without_bots(setup: ModuleType, tmp_path: Path) -> None:
    with tarfile.open(setup.empty_archive(tmp_path)) as archive:
        assert archive.getnames() == ["assets", "assets/saved_models"]


def test_failed_download_builds_without_bots(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[Path | None] = []

    def build(archive: Path | None) -> None:
        built.append(archive)
        if archive is None:
            raise setup.Failure("no route to host")

    monkeypatch.setattr(setup, "build_melting_pot", build)
    monkeypatch.setattr(setup, "ARCHIVE_DEFAULT", tmp_path / "none")
    monkeypatch.delenv("BIDIST_MELTINGPOT_ASSETS", raising=False)
    stamps: dict[str, str] = {}
    setup.install_melting_pot(stamps, retry_bots=False)
    assert [archive and archive.name for archive in built] == [None, setup.ARCHIVE]
    assert json.loads(setup.STAMP.read_text()) == stamps == {"melting pot": setup.NO_BOTS}
    assert "without bots" in capsys.readouterr().out


def test_step_that_fails_is_not_stamped(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: str) -> None:
        raise setup.Failure("no space left")

    monkeypatch.setattr(setup, "pip", fail)
    stamps = {"venv": "here", "requirements.txt": "older"}
    with pytest.raises(setup.Failure):
        setup.install_requirements(stamps, "runtime")
    assert json.loads(setup.STAMP.read_text()) == stamps == {"venv": "here"}


def test_each_level_installs_once_and_includes_the_lower_ones(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(setup, "pip", lambda *arguments: calls.append(Path(arguments[-1]).name))
    stamps: dict[str, str] = {}
    for level, called in (("test", 1), ("runtime", 1), ("test", 1)):
        setup.install_requirements(stamps, level)
        assert len(calls) == called
    assert calls == ["requirements-test.txt"]
    setup.install_requirements({}, "runtime")
    assert calls[1:] == ["requirements.txt"]


@pytest.mark.parametrize(("level", "installs"), [("packages", 0), ("runtime", 1)])
def test_a_container_installs_packages_before_the_project_is_there(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, installs: int
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(setup, "pip", lambda *arguments: calls.append(arguments[-1]))
    monkeypatch.setattr(setup, "install_melting_pot", lambda stamps, retry_bots: None)
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "PYTHON", tmp_path / "python")
    setup.PYTHON.touch()
    (tmp_path / "requirements.txt").touch()
    if installs:
        (tmp_path / "pyproject.toml").touch()
    setup.STAMP.write_text(json.dumps({"venv": str(tmp_path), "melting pot": setup.ALL_BOTS}))
    for _ in range(2):
        setup.set_up(level, retry_bots=False)
        assert calls == [str(tmp_path / "requirements.txt"), str(tmp_path)][: 1 + installs]


def test_a_failure_shows_the_end_of_the_output(setup: ModuleType) -> None:
    program = "print('the reason'); raise SystemExit(3)"
    with pytest.raises(setup.Failure, match=r"(?s)exit status 3.*setup\.log.*the reason"):
        setup.run([sys.executable, "-c", program], 60.0, {})


def test_a_command_that_takes_too_long_is_ended_with_its_children(setup: ModuleType) -> None:
    program = "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
    with pytest.raises(setup.Failure, match="took longer than") as failure:
        setup.run([sys.executable, "-c", program], 3.0, {})
    child = int(str(failure.value).splitlines()[1])
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_download_that_stalls_fails(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        program = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{silent.getsockname()[1]}/')"

        def build(*arguments: str, **variables: str) -> None:
            setup.run([sys.executable, "-c", program], 60.0, variables)

        monkeypatch.setattr(setup, "STALL_S", 0.2)
        monkeypatch.setattr(setup, "pip", build)
        with pytest.raises(setup.Failure, match=r"(?s)exit status 1.*TimeoutError: timed out"):
            setup.build_melting_pot(None)
