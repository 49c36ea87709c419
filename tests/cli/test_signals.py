"""How commands stop: the first signal asks, the second ends, and a service manager's repetition does neither."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import start

from cli.signals import restored_handlers, stop_on_signals

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
from cli.signals import stop_on_signals
stopping = stop_on_signals(float(sys.argv[1]))
print("ready", flush=True)
stopping.wait()
print("stopping", flush=True)
time.sleep(60)
"""


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """A process that has received one SIGTERM; the parameter is for how long it ignores further ones."""
    command = [sys.executable, "-c", PROGRAM, str(request.param)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "stopping\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("child", [60.0], indirect=True)
def test_repeated_sigterm_is_the_same_request(child: "subprocess.Popen[str]") -> None:
    for _ in range(3):
        child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 128 + signal.SIGINT, "a second Ctrl-C ends it at once"


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_is_closed_stops_a_command_unless_it_is_to_outlive_it(ignored: bool) -> None:
    # Pytest itself may run under nohup.
    before = f"import signal; signal.signal(signal.SIGHUP, signal.{'SIG_IGN' if ignored else 'SIG_DFL'})\n"
    with subprocess.Popen([sys.executable, "-c", before + PROGRAM, "1"], cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGHUP)
            if ignored:
                process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == b"stopping\n"
            process.send_signal(signal.SIGHUP)
            assert (process.poll() is None) == ignored or process.wait(10) == 128 + signal.SIGHUP
        finally:
            process.kill()


@pytest.mark.parametrize("child", [0.0], indirect=True)
def test_later_sigterm_ends_the_process(child: "subprocess.Popen[str]") -> None:
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("role", ["actor", "distiller"])
def test_a_role_that_is_stopped_while_it_waits_has_not_failed(role: str, redis_url: str) -> None:
    with start(role, "--redis", redis_url, "--run", "absent", "--stopped-status", "143") as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "waiting" in line)
        assert "waiting for config of run absent" in line
        process.send_signal(signal.SIGTERM)
        assert "error" not in process.stdout.read()
        assert process.wait(30) == 143


def test_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with restored_handlers():
        stop_on_signals()
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
