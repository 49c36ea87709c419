"""The log of a command: lines for people, or JSON for log collectors."""

import json
import logging
import re
import socket
import subprocess
import sys
import time

import pytest

from cli import logs


def record(message: str, *arguments: object) -> logging.LogRecord:
    made = logging.LogRecord("learner.service", logging.WARNING, __file__, 1, message, arguments, None)
    made.created, made.msecs = 1_795_524_181.25, 250.0
    return made


def test_a_plain_line_says_when_who_for_which_run_and_where() -> None:
    host = socket.gethostname()
    line = logs.Plain("learner", "r1").format(record("update %d", 7))
    assert line == f"2026-11-24T12:43:01Z learner   r1@{host} WARNING update 7"
    line = logs.Plain("bench", None).format(record("round %d", 7))
    assert line == f"2026-11-24T12:43:01Z bench     {host} WARNING round 7"


def test_a_json_line_says_when_who_for_which_run_and_where() -> None:
    line = logs.Json("learner", "r1").format(record('update %d: "late"\nby far', 7))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-11-24T12:43:01.250Z",
        "level": "WARNING",
        "role": "learner",
        "run": "r1",
        "host": socket.gethostname(),
        "logger": "learner.service",
        "message": 'update 7: "late"\nby far',
    }


def test_a_json_line_holds_the_traceback() -> None:
    made = record("broken")
    try:
        raise ValueError("bad value")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert json.loads(logs.Json("actor", None).format(made))["traceback"].endswith("ValueError: bad value")


def test_status_is_a_line_in_utc_or_a_record(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logs.status("json", "1/2 steps")
    assert capsys.readouterr().out == "" and [r.getMessage() for r in caplog.records] == ["1/2 steps"]
    before = time.strftime(logs.TIME, time.gmtime())
    for form in (None, "plain"):
        logs.status(form, "1/2 steps")
        stamp, _, line = capsys.readouterr().out.partition("Z ")
        assert before <= stamp <= time.strftime(logs.TIME, time.gmtime()) and line == "1/2 steps\n"
    assert len(caplog.records) == 1


ROLE = ("actor", "--redis", "redis://127.0.0.1:1/0", "--run", "r1")


def fails(form: str, *arguments: str) -> str:
    """What a command that fails, by default a role that finds no Redis, writes to standard error."""
    command = [sys.executable, "-m", "cli", *(arguments or ROLE)]
    done = subprocess.run(command, env={"BIDIST_LOG": form}, capture_output=True, text=True)
    assert done.returncode in (2, 3)
    return done.stderr.strip()


@pytest.mark.slow
def test_each_line_of_a_failing_role_is_json_and_so_is_the_reason() -> None:
    before = time.strftime(logs.TIME, time.gmtime())
    lines = [json.loads(line) for line in fails("json").splitlines()]
    assert lines[-1]["message"].startswith("no Redis answers at redis://127.0.0.1:1/0")
    assert {(line["role"], line["run"]) for line in lines} == {("actor", "r1")}
    assert before <= lines[-1]["time"][: len(before)] <= time.strftime(logs.TIME, time.gmtime())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "run"),
    [
        ("train --resume r1", "r1"),
        ("train --resume nowhere/r1", "r1"),
        ("train --run r1 --redis redis://127.0.0.1:1/0 --substrate matrix_coordination", "r1"),
        ("train --preset small run.name=r1 --redis redis://127.0.0.1:1/0 --substrate matrix_coordination", "r1"),
        ("evaluate r1", "r1"),
        ("record nowhere/r1", "r1"),
        ("crossplay r1 r2", None),
        ("evaluate", None),
    ],
)
def test_a_record_names_the_run_however_the_command_line_does(arguments: str, run: str | None) -> None:
    assert {json.loads(line)["run"] for line in fails("json", *arguments.split()).splitlines()} == {run}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["", "plain"])
def test_without_a_choice_the_reason_is_a_line_of_text(form: str) -> None:
    assert re.search(r"^bidist: error: no Redis answers", fails(form), re.MULTILINE)


def test_another_form_is_refused() -> None:
    assert fails("xml") == "bidist: error: BIDIST_LOG=xml: expected plain or json"
