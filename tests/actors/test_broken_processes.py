"""A game that ends its process, or hangs, under the real supervisor: one actor restarts, and nothing else notices."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from supervised_runs import QUICK, Training

from deploy.supervisor import CALM_S, FAST_DEATHS, MAX_BACKOFF_S, Role

GAME = "pettingzoo:tests.helpers.breaking_game:Breaking"
HANG_S = 5


def lives(training: Training) -> dict[tuple[str, str], str]:
    """The incarnation of each role that sends heartbeats."""
    return {role: fields["incarnation"] for role, fields in training.store.workers().items()}


def broken(training: Training, folder: Path, how: str) -> str:
    """Lets one actor's game break, waits until that actor is back, and returns its name."""
    before = lives(training)
    actors = {role for role in before if role[0] == "actor"}
    assert len(actors) == 2 and len(before) == 4
    (folder / how).touch()

    def back() -> bool:
        now = lives(training)
        return now.keys() == before.keys() and now != before

    training.until(f"an actor is back after its game's {how}", back)
    updates = training.updates()
    training.until("the run continues", lambda: training.updates() > updates + 1)
    (name,) = (role for role, life in lives(training).items() if life != before[role])
    assert name in actors
    return name[1]


@pytest.mark.slow
def test_a_game_that_ends_or_hangs_its_process_costs_one_actor_one_restart(
    start_training: Callable[..., Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKING", str(tmp_path))
    settings = ["actor.unroll_length=16", f"actor.hang_s={HANG_S}"]
    training = start_training(
        "--substrate", GAME, "--actors", "2", *QUICK, *(f"--set={setting}" for setting in settings)
    )
    training.until("both actors play", lambda: training.updates() > 3 and len(lives(training)) == 4)

    ended = broken(training, tmp_path, "exit")
    since = time.monotonic()
    hung = broken(training, tmp_path, "hang")
    assert time.monotonic() - since >= HANG_S

    for name, words in ((ended, "plays"), (hung, "plays")):
        log = (training.folder / "logs" / f"actor-{name}.log").read_text()
        assert re.search(rf"{words} {GAME}, seeds \d+, \d+, \d+, \d+", log), "which game, and from which seeds"
    assert "breaking_game.py" in log and "in hang" in log, "where it hangs"
    assert training.settled().holds
    events = [fields for _, fields in training.store.stream("events", 1000) if fields["event"] == "restart"]
    assert [fields["name"] for fields in events] == [f"actor-{ended}", f"actor-{hung}"]
    assert training.stop() == 0
    shown = training.output()
    assert f"actor-{ended} died (status 7), playing {GAME}: restarting it in " in shown
    assert re.search(rf"actor-{hung} died \(status 1\), playing {GAME}: restarting it in \d+ s", shown)


def test_a_role_that_dies_again_and_again_waits_longer_up_to_a_limit() -> None:
    role = Role("actor", "actor-0", [], 1, "", [])
    rests = []
    for death in range(8):
        assert not role.died(100.0 * death), "these are too far apart to give it up"
        rests.append(role.due - 100 * death)
    assert rests == [1, 2, 4, 8, *[MAX_BACKOFF_S] * 4]
    assert not role.died(701 + CALM_S) and role.due == 702 + CALM_S, "it has lived long: that is forgotten"


def test_a_role_that_dies_too_often_within_a_minute_is_given_up() -> None:
    role = Role("actor", "actor-0", [], 1, "", [])
    assert [role.died(14.0 * death) for death in range(FAST_DEATHS)] == [False] * (FAST_DEATHS - 1) + [True]
