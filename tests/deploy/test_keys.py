"""`bidist keys` makes whole files, whatever interrupts it, and never takes away or gives more than it should."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import main
from common.errors import ConfigError, SetupError
from common.keys import ALLOWED, SECRET, ActorKeys, AllowList, KeyPair, LearnerKeys, public_key
from deploy.keys import ACL, PASSWORD, make

ROOT = Path(__file__).parents[2]
RUN = "mine"
SHA256_OF_NOTHING = "e3b0c442"
KEYS_ON_A_FULL_DISK = """
import resource, sys
from cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(["keys", sys.argv[2], "--run", "mine"]))
"""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make(tmp_path / "keys", RUN, ["actor", "other"])
    return tmp_path / "keys"


def everything_works(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert path.is_dir() or path.read_text().strip(), f"{path} is empty"
    admitted = LearnerKeys.read(folder / "learner").allowed
    actor = ActorKeys.read(folder / "actor")
    assert admitted.name(actor.own.public) == "actor"
    assert actor.learner == KeyPair.read(folder / "learner").public
    assert SHA256_OF_NOTHING not in (folder / "redis" / ACL).read_text()


@pytest.mark.parametrize("largest", [0, 42, 45, 100], ids=["password", "password, not key", "admission", "users"])
def test_keys_whose_making_a_full_disk_interrupted_are_finished_by_the_next_call(tmp_path: Path, largest: int) -> None:
    """A limit on the size of files stands for the full disk: the first file that is longer fails."""
    keys = tmp_path / "keys"
    command = [sys.executable, "-c", KEYS_ON_A_FULL_DISK, str(largest), str(keys)]
    interrupted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert interrupted.returncode == 3 and "File too large" in interrupted.stderr
    assert not (keys / "redis" / ACL).exists()
    assert make(keys, RUN, ["actor"])
    everything_works(keys)


def test_an_empty_file_counts_as_missing(tmp_path: Path) -> None:
    make(tmp_path, RUN, ["actor"])
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_text("\n")
    made = make(tmp_path, RUN, ["actor"])
    assert set(made) == {path for path in tmp_path.rglob("*") if path.is_file()}
    everything_works(tmp_path)


def test_an_empty_password_of_another_actor_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path, RUN, ["actor", "other"])
    before = (tmp_path / "redis" / ACL).read_text()
    (tmp_path / "other" / PASSWORD).write_text("")
    with pytest.raises(SetupError, match=rf"other/{PASSWORD} is empty: `bidist keys .* --actor other` fills it"):
        make(tmp_path, RUN, ["actor"])
    assert (tmp_path / "redis" / ACL).read_text() == before
    make(tmp_path, RUN, ["other"])
    assert (tmp_path / "redis" / ACL).read_text() != before


def test_an_actor_that_lost_its_key_gets_another_in_the_place_of_the_old(tmp_path: Path) -> None:
    make(tmp_path, RUN, ["actor", "other"])
    allowed = tmp_path / "learner" / ALLOWED
    allowed.write_text("# two hosts\n" + allowed.read_text())
    before = AllowList(allowed).read()
    (tmp_path / "actor" / SECRET).unlink()
    make(tmp_path, RUN, ["actor"])
    after = AllowList(allowed).read()
    assert after["other"] == before["other"] and after["actor"] != before["actor"]
    assert after["actor"] == ActorKeys.read(tmp_path / "actor").own.public
    assert allowed.read_text().startswith("# two hosts\n")


def test_the_list_keeps_its_owner_and_mode_when_an_actor_is_added(tmp_path: Path) -> None:
    """A learner that suddenly could not read the list would shut out all its actors."""
    make(tmp_path, RUN, ["actor"])
    allowed = tmp_path / "learner" / ALLOWED
    allowed.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(allowed, 12345, 12345)
    before = allowed.stat()
    make(tmp_path, RUN, ["third"])
    after = allowed.stat()
    assert after.st_size > before.st_size
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_keys_are_made_once_and_only_their_owner_may_read_them(keys: Path) -> None:
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    assert make(keys, RUN, ["actor", "other"]) == []
    assert {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == before
    for path in before:
        assert path.stat().st_mode & 0o077 == (0o044 if path.parent.name in ("redis", "grafana") else 0), path
    assert keys.stat().st_mode & 0o077 == 0
    secret = (keys / "actor" / SECRET).read_text().strip().encode()
    assert f"actor {public_key(secret).decode()}\n" in (keys / "learner" / ALLOWED).read_text()
    assert repr(ActorKeys.read(keys / "actor")).count(secret.decode()) == 0


def test_a_withdrawn_key_does_not_come_back_when_keys_are_made_again(keys: Path) -> None:
    (keys / "learner" / ALLOWED).write_text("")
    make(keys, RUN, ["actor", "other", "third"])
    assert set(AllowList(keys / "learner" / ALLOWED).read()) == {"third"}


def test_another_actors_keys_open_no_other_run(keys: Path, tmp_path: Path) -> None:
    users = keys / "redis" / "users.acl"
    make(keys, None, ["third"])
    assert "user third on" in users.read_text() and "bidist:*" not in users.read_text()
    assert f"%R~bidist:{RUN}:* " in users.read_text()
    make(keys, "next", ["third"])
    assert "%R~bidist:next:* " in users.read_text() and f"bidist:{RUN}:" not in users.read_text()
    make(tmp_path / "fresh", None, ["actor"])
    assert "%R~bidist:*:* " in (tmp_path / "fresh" / "redis" / "users.acl").read_text()


@pytest.mark.parametrize("name", ["learner", "redis", "../up", ""])
def test_an_actor_cannot_take_another_partys_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be an actor's name"):
        make(tmp_path, RUN, [name])


@pytest.mark.parametrize("run", ["a b", "a*", "x %R~y ~* +@all", "x\n", "x" * 201])
def test_a_run_that_cannot_exist_gets_no_keys(tmp_path: Path, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", str(tmp_path / "keys"), "--run", run]) == ConfigError.status
    error = capsys.readouterr().err
    assert "run.name: " in error and error.count("\n") == 1
    assert not (tmp_path / "keys").exists()
