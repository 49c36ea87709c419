"""Child processes: one that stops when asked, and one that has to be killed."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from deploy import processes

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.mark.parametrize(
    ("prelude", "by_itself", "number"), [("pass", True, signal.SIGTERM), (STUBBORN, False, signal.SIGKILL)]
)
def test_a_process_is_asked_to_stop_and_killed_after_a_timeout(
    tmp_path: Path, prelude: str, by_itself: bool, number: int
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = processes.start(
            [sys.executable, "-c", f"{prelude}; print(1, flush=True); import time; time.sleep(60)"], out
        )
    while not log.read_text():
        assert process.poll() is None
        time.sleep(0.01)
    assert os.getsid(process.pid) == process.pid, "the terminal's Ctrl-C does not reach it"
    assert processes.stop(process, timeout_s=30.0 if by_itself else 0.2) is by_itself
    assert process.returncode == -number
    assert processes.stop(process, timeout_s=0.0), "one that has ended may be stopped again"


def test_a_process_has_the_environment_that_it_is_given(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as out:
        command = [sys.executable, "-c", "import os; print(os.environ['COLOUR'])"]
        assert processes.start(command, out, {**os.environ, "COLOUR": "red"}).wait(30) == 0
    assert (tmp_path / "log").read_text() == "red\n"
