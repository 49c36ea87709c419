"""What `scripts/setup` decides, and that it neither hangs nor hides a failure; CI is what runs all of it."""

import hashlib
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
    stamp: dict[str, str] = {}
    assert setup.install_melting_pot(stamp, retry_bots=False)
    assert [archive and archive.name for archive in built] == [None, setup.ARCHIVE]
    assert setup.read_stamp() == {"melting pot": setup.NO_BOTS}
    assert "without bots" in capsys.readouterr().out


def test_step_that_fails_is_not_stamped(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: str) -> None:
        raise setup.Failure("no space left")

    monkeypatch.setattr(setup, "pip", fail)
    stamp = {"venv": "here", "requirements.txt": "older"}
    with pytest.raises(setup.Failure):
        setup.install_requirements(stamp, "runtime")
    assert setup.read_stamp() == {"venv": "here"}


def test_levels_install_once_and_the_higher_holds_the_lower(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(setup, "pip", lambda *arguments: calls.append(Path(arguments[-1]).name))
    stamp: dict[str, str] = {}
    assert [setup.install_requirements(stamp, level) for level in ("test", "runtime", "test")] == [
        True,
        False,
        False,
    ]
    assert calls == ["requirements-test.txt"]


def test_failure_shows_the_end_of_the_output(setup: ModuleType) -> None:
    program = "print('the reason'); raise SystemExit(3)"
    with pytest.raises(setup.Failure, match=r"(?s)exit status 3.*setup\.log.*the reason"):
        setup.run([sys.executable, "-c", program])


def test_command_that_stands_still_is_ended(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "DOWNLOAD_SILENCE_S", 0.5)
    watched = tmp_path / "watched"
    watched.mkdir()
    started = time.monotonic()
    with pytest.raises(setup.Failure, match="stood still"):
        setup.run(["sleep", "60"], watched=watched)
    with pytest.raises(setup.Failure, match="took more than"):
        setup.run(["sleep", "60"], limit_s=0.5)
    assert time.monotonic() - started < 20
