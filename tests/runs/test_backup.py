"""A run on one machine comes back from a copy of its folder, with what Redis knew of it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import command
import pytest

from common.files import read_lines
from common.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
SMALL = [
    "environment.episode_length=8",
    "actor.unroll_length=8",
    "network.dense=16",
    "network.core_size=16",
    "distiller.burn_in=1",
]
STEPS, MORE = 12_000, 16_000


def produced(folder: RunFolder) -> int:
    """The unrolls in the ledger of a finished run."""
    found = re.match(r"produced ([\d,]+) =", json.loads(folder.summary.read_text())["ledger"])
    assert found is not None
    return int(found[1].replace(",", ""))


def commands(runs: Path) -> tuple[str, str]:
    """How the documentation backs a run up, and how it restores it."""
    text = (ROOT / "docs" / "containers.md").read_text().partition("## Backup and restore")[2]
    pack, unpack = re.findall(r"`(tar [^`]*)`", text)[:2]
    assert "NAME" in pack
    inserted = [("NAME", "run"), ("runs", str(runs)), ("backup.tar.gz", str(runs.parent / "backup.tar.gz"))]
    for word, value in inserted:
        pack, unpack = (re.sub(rf"(?<=\s){re.escape(word)}", value, line) for line in (pack, unpack))
    return pack, unpack


@pytest.mark.slow
def test_a_run_continues_from_a_copy_of_its_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "run")
    folder.path.parent.mkdir()
    options = ["--folder", str(folder.path.parent), "--actors", "1", "--games", "0"]
    new = ["--run", "run", "--substrate", "matrix_coordination", "--steps", str(STEPS), *SMALL]
    done = command.bidist("train", *options, *new)
    assert done.returncode == 0, done.stderr
    before, updates = produced(folder), len(read_lines(folder.metrics))

    pack, unpack = commands(folder.path.parent)
    subprocess.run(pack, shell=True, check=True)
    shutil.rmtree(folder.path)
    subprocess.run(unpack, shell=True, check=True)

    done = command.bidist("train", *options, "--resume", "run", "--steps", str(MORE))
    assert done.returncode == 0, done.stderr
    lines = [line["updates"] for line in read_lines(folder.metrics)]
    assert lines == list(range(1, len(lines) + 1)) and len(lines) > updates
    assert produced(folder) > before, "without Redis' data the ledger would start from zero"
