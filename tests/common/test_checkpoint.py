"""Checkpoints are written atomically, and a damaged one never stops a run that has an older one."""

import hashlib
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from common import checkpoint
from common.checkpoint import STATE, checkpoints, load, newest, save
from common.errors import CheckpointError

TENSORS = {
    "theta": {"w": torch.arange(12.0).reshape(3, 4), "turned": torch.arange(6.0).reshape(2, 3).T},
    "random": {"torch": torch.get_rng_state(), "f64": torch.tensor([0.1], dtype=torch.float64)},
}
STATE_SAVED: dict[str, Any] = {
    "updates": 2**60,
    "random": {"bit_generator": "PCG64", "state": {"state": 2**127 + 1}},
    "returns": [0.1, 1 / 3],
    "direction": None,
}


def save_numbers(folder: Path, *numbers: int, keep: int = 10) -> None:
    for number in numbers:
        tensors = {"theta": {"w": torch.full((64,), float(number))}, "optimiser": {"m": torch.zeros(64)}}
        save(folder, number, tensors, {"number": number}, keep)


def test_a_checkpoint_reads_back_unchanged(tmp_path: Path) -> None:
    path = save(tmp_path / "deep" / "folder", 41, TENSORS, STATE_SAVED, keep=2)
    assert path == tmp_path / "deep" / "folder" / "00000041"
    for found in (load(path), newest(path.parent)):
        assert found is not None and found.path == path
        assert found.state == STATE_SAVED
        assert found.tensors.keys() == TENSORS.keys()
        for group, tensors in TENSORS.items():
            assert found.tensors[group].keys() == tensors.keys()
            for name, x in tensors.items():
                got = found.tensors[group][name]
                assert got.dtype == x.dtype and torch.equal(got, x)
    files = {p.name for p in path.iterdir()}
    assert files == {STATE, "theta.safetensors", "random.safetensors"}
    assert {p.name for p in path.parent.iterdir()} == {"00000041"}, "nothing temporary is left"


def test_a_missing_or_empty_folder_has_no_checkpoints(tmp_path: Path) -> None:
    assert newest(tmp_path / "none") is None and checkpoints(tmp_path / "none") == []
    assert newest(tmp_path) is None


def test_the_newest_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    save_numbers(tmp_path, 99, 100, 9)
    found = newest(tmp_path)
    assert found is not None and found.state["number"] == 100
    save_numbers(tmp_path, 99_999_999, 100_000_000)
    found = newest(tmp_path)
    assert found is not None and found.state["number"] == 100_000_000


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save_numbers(tmp_path, 1, 2, 3, 4, 5, keep=3)
    assert [p.name for p in checkpoints(tmp_path)] == ["00000003", "00000004", "00000005"]
    save_numbers(tmp_path, 6, keep=1)
    assert [p.name for p in checkpoints(tmp_path)] == ["00000006"]


def test_saving_the_same_number_again_replaces_it(tmp_path: Path) -> None:
    save_numbers(tmp_path, 1, 2)
    save(tmp_path, 2, {"theta": {"w": torch.ones(1)}}, {"again": True}, keep=5)
    found = load(tmp_path / "00000002")
    assert found.state == {"again": True} and found.tensors.keys() == {"theta"}
    assert not (found.path / "optimiser.safetensors").exists()


DAMAGES: dict[str, Any] = {
    "a byte changed": lambda p: (p / "theta.safetensors").write_bytes(flip((p / "theta.safetensors").read_bytes())),
    "tensors truncated": lambda p: os.truncate(p / "theta.safetensors", 100),
    "tensors empty": lambda p: os.truncate(p / "optimiser.safetensors", 0),
    "tensors missing": lambda p: (p / "optimiser.safetensors").unlink(),
    "state truncated": lambda p: os.truncate(p / STATE, 30),
    "state empty": lambda p: os.truncate(p / STATE, 0),
    "state missing": lambda p: (p / STATE).unlink(),
    "state of another type": lambda p: (p / STATE).write_text("[1, 2]"),
    "state without digests": lambda p: (p / STATE).write_text('{"format": 1, "state": {}}'),
    "digests of another type": lambda p: (p / STATE).write_text('{"format": 1, "digests": [1], "state": {}}'),
    "state that is not text": lambda p: (p / STATE).write_bytes(b"\xff\xfe\x00"),
    "another format": lambda p: (p / STATE).write_text(
        json.dumps(json.loads((p / STATE).read_text()) | {"format": checkpoint.FORMAT + 1})
    ),
    "a number in the state changed": lambda p: (p / STATE).write_text(
        (p / STATE).read_text().replace('"number": ', '"number": 9')
    ),
    "a name in the state changed": lambda p: (p / STATE).write_text(
        (p / STATE).read_text().replace('"number"', '"lumber"')
    ),
    "no tensors, but a matching digest": lambda p: forge(p),
}


def flip(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


def forge(path: Path) -> None:
    import hashlib

    (path / "theta.safetensors").write_bytes(b"no tensors")
    record = json.loads((path / STATE).read_text())
    record["digests"]["theta"] = hashlib.sha256(b"no tensors").hexdigest()
    (path / STATE).write_text(json.dumps(record))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    save_numbers(tmp_path, 1, 2)
    DAMAGES[damage](tmp_path / "00000002")
    with pytest.raises(CheckpointError, match="00000002"):
        load(tmp_path / "00000002")
    with caplog.at_level(logging.WARNING):
        found = newest(tmp_path)
    assert found is not None and found.state == {"number": 1}
    assert float(found.tensors["theta"]["w"][0]) == 1
    (record,) = caplog.records
    assert "skipping a damaged checkpoint" in record.message and "00000002" in record.message
    DAMAGES[damage](tmp_path / "00000001")
    assert newest(tmp_path) is None


def test_a_checkpoint_of_an_earlier_release_has_no_digest_of_its_state(tmp_path: Path) -> None:
    save_numbers(tmp_path, 1)
    path = tmp_path / "00000001" / STATE
    record = json.loads(path.read_text())
    del record["state_digest"]
    path.write_text(json.dumps(record | {"format": 1}))
    assert load(tmp_path / "00000001").state == {"number": 1}


def test_damaged_checkpoints_do_not_push_out_the_next_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_numbers(tmp_path, 480, 490)
    for path in checkpoints(tmp_path):
        (path / STATE).write_text("")
    checkpoint.set_aside(tmp_path, after=-1)
    assert "00000480 could not be loaded and is now called 00000480.damaged" in caplog.text
    save_numbers(tmp_path, 10, 20, keep=2)
    found = newest(tmp_path)
    assert found is not None and found.state == {"number": 20}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("00000010", "00000020"),
        *("00000480.damaged", "00000490.damaged"),
    ]


def test_unfinished_folders_are_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_numbers(tmp_path, 3)
    (tmp_path / ".00000009.123").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "00000008.txt").write_text("")
    (tmp_path / "7").write_text("a file")
    with caplog.at_level(logging.WARNING):
        found = newest(tmp_path)
    assert found is not None and found.state == {"number": 3} and not caplog.records
    assert [p.name for p in checkpoints(tmp_path)] == ["00000003"]
    save_numbers(tmp_path, 4)
    assert not (tmp_path / ".00000009.123").exists(), "the next save removes what a dead process left behind"
    assert (tmp_path / "notes").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from common import checkpoint

calls = 0

def counted(real, moment):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call

for moment in range(60, 90):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        for name in ("fsync", "rename", "mkdir", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name), moment))
        for number in range(1, 100):
            tensors = {"theta": {"w": torch.full((64,), float(number))}, "optimiser": {"m": torch.zeros(64)}}
            checkpoint.save(Path(sys.argv[1]) / str(moment), number, tensors, {"number": number}, keep=2)
            os.write(writer, b".")
    os.close(writer)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    print(moment, len(os.read(reader, 1000)), flush=True)
    os.close(reader)
"""


@pytest.mark.slow
def test_a_process_killed_while_saving_leaves_intact_checkpoints_alone(tmp_path: Path) -> None:
    # Killed at each of 30 consecutive calls that create, sync, rename or remove a file; one save makes fewer.
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    saved = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(saved) == 30 and len({last for _, last in saved}) >= 3
    left_behind = 0
    for moment, last in saved:
        folder = tmp_path / str(moment)
        found = newest(folder)
        assert found is not None and found.state["number"] in (last, last + 1)
        assert float(found.tensors["theta"]["w"][0]) == found.state["number"]
        left_behind += len(list(folder.glob(".*")))
        save_numbers(folder, 500, keep=1)
        assert [p.name for p in folder.iterdir()] == ["00000500"], "what dead processes left behind is removed"
    assert left_behind > 5


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_never_breaks_the_reader(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Bits flipped, ends cut or added, digests forged or not: the older one loads, and the damaged one is named."""
    rng = random.Random(seed)
    save_numbers(tmp_path, 1, 2)
    newer = tmp_path / "00000002"
    kept = {path.name: path.read_bytes() for path in newer.iterdir()}
    skipped = 0
    for _ in range(300):
        for name, data in kept.items():
            (newer / name).write_bytes(data)
        name = rng.choice(list(kept))
        damaged = bytearray(kept[name])
        for _ in range(rng.randrange(1, 9)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        cut = rng.randrange(len(damaged) + 1) if rng.random() < 0.3 else len(damaged)
        data = bytes(damaged[:cut]) + b"x" * rng.randrange(3)
        (newer / name).write_bytes(data)
        if name != STATE and rng.random() < 0.5:
            record = json.loads(kept[STATE])
            record["digests"][name.removesuffix(".safetensors")] = hashlib.sha256(data).hexdigest()
            (newer / STATE).write_text(json.dumps(record))
        caplog.clear()
        found = newest(tmp_path)
        assert found is not None
        if found.path != newer:
            skipped += 1
            assert str(newer) in caplog.text
    assert skipped > 150
