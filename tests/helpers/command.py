"""The command `bidist` as a child process, for tests."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(*arguments: str, new_session: bool = False) -> "subprocess.Popen[str]":
    """Starts `bidist` in the checkout; standard output and standard error share a pipe."""
    command = [sys.executable, "-m", "cli", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=new_session,
    )


def bidist(*arguments: str, timeout_s: float = 240.0) -> "subprocess.CompletedProcess[str]":
    """Runs `bidist` in the checkout until it ends."""
    command = [sys.executable, "-m", "cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s)
