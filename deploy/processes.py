"""Child processes: the command for a role, starting one that ends with its parent, and stopping one."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent ended before its child began")
os.execv(sys.argv[2], sys.argv[2:])
"""


def bidist(*arguments: str) -> list[str]:
    """Returns the command line of a `bidist` sub-command, run by this Python.

    Without `-P`, Python imports from the working directory first, where a folder that happens to be called `reports`
    would hide ours. It is left out in the checkout itself, whose packages need not be installed.
    """
    safe = [] if Path.cwd() == ROOT else ["-P"]
    return [sys.executable, *safe, "-u", "-m", "cli", *arguments]


def with_parent(command: Sequence[str]) -> list[str]:
    """Wraps a command so that it gets SIGTERM when the thread that started it ends, for whatever reason.

    This works on Linux only; elsewhere the command is returned unchanged. A small Python program requests the signal
    and then becomes the command, because code between fork and exec is not safe in a process with threads.

    Args:
      command: a program's absolute path and its arguments.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _WITH_PARENT, str(os.getpid()), *command]


def start(
    command: Sequence[str], out: IO[bytes], environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Starts a command that ends with this process, and does not receive the terminal's Ctrl-C.

    Args:
      command: a program's absolute path and its arguments.
      out: where its standard output and standard error go.
      environment: its environment variables; None passes on this process's.
    """
    return subprocess.Popen(
        with_parent(command),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        start_new_session=True,
        env=environment,
    )


def stop(process: "subprocess.Popen[bytes]", timeout_s: float) -> bool:
    """Asks a process to stop, waits, and kills it after a timeout; returns whether it stopped by itself."""
    process.terminate()
    return wait(process, timeout_s)


def wait(process: "subprocess.Popen[bytes]", timeout_s: float) -> bool:
    """Waits for a process that was asked to stop, and kills it after a timeout; returns whether it stopped by itself.

    To stop several, ask all of them before waiting for the first.
    """
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True
