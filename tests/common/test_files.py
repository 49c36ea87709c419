"""Files are written atomically, JSON lines survive a torn write, and locks end with the process that holds them."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from common.files import append_line, cut_lines, is_locked, last_record, locked, read_lines, write

HOLDER = """
import sys, time
from pathlib import Path
from common.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_excludes_everyone_else_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path) and not path.exists()
    with locked(path):
        assert is_locked(path)
        with pytest.raises(TimeoutError), locked(path, timeout_s=0.1):
            pytest.fail("two hold the same lock")
    assert not is_locked(path)


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=root, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert is_locked(path)
        holder.kill()
    with locked(path, timeout_s=30):
        pass


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"long enough", b"short"):
        write(path, data)
        assert path.read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_lines_after_a_torn_one_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "lines"
    assert read_lines(path) == [] and last_record(path) is None
    append_line(path, {"step": 1})
    with path.open("ab") as file:
        file.write(b'{"step": 2, "value"')
    assert read_lines(path) == [{"step": 1}] and last_record(path) == {"step": 1}
    assert not caplog.records, "a torn last line is expected after a crash"
    append_line(path, {"step": 3})
    with caplog.at_level(logging.WARNING):
        assert read_lines(path) == [{"step": 1}, {"step": 3}]
    assert "skipped 1 malformed lines, the first is line 2" in caplog.text
    assert last_record(path) == {"step": 3}


def test_lines_beyond_a_step_are_cut_and_damaged_ones_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "lines"
    cut_lines(path, "step", 2)
    assert not path.exists()
    for record in ({"step": 1}, {"stap": 1}, {"step": "2"}, {"step": 2}, {"step": 3}):
        append_line(path, record)
    cut_lines(path, "step", 2)
    assert "dropping 2 damaged lines, without step" in caplog.text
    assert read_lines(path) == [{"step": 1}, {"step": 2}]
