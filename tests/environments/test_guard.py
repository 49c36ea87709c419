"""Games that raise, return nonsense, hang or crash the process are named and rebuilt, while the others play on."""

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from common.config import EnvironmentConfig
from common.errors import SubstrateError
from environments import build
from environments.guard import MAX_FAILURES, Guarded
from environments.interface import Observation, Step
from environments.matrix_game import MatrixGame

ACTIONS = np.zeros(2, np.int32)


class Broken(MatrixGame):
    """Breaks in its own way at one step of its first life; another life is whole."""

    lives = 0

    def __init__(self, how: Callable[[Step], Any], always: bool) -> None:
        super().__init__("matrix_coordination", 2, 4)
        type(self).lives += 1
        self._how = how if always or type(self).lives == 1 else None
        self._t = 0

    def step(self, action: Any) -> Step:
        step, self._t = super().step(action), self._t + 1
        return self._how(step) if self._how is not None and self._t == 2 else step


def same(left: Observation, right: Observation) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in Observation._fields)


def raises(step: Step) -> Step:
    raise RuntimeError("the game is over")


def observes(name: str, value: Any) -> Callable[[Step], Step]:
    return lambda step: replace(step, observation=step.observation._replace(**{name: value}))


def rewards(value: Any) -> Callable[[Step], Step]:
    return lambda step: replace(step, reward=value)


LIES: dict[str, tuple[Callable[[Step], Any], str]] = {
    "raises": (raises, "the game is over"),
    "reward NaN": (rewards(np.array([np.nan, 0], np.float32)), "reward holds a number that is not"),
    "reward float64": (rewards(np.zeros(2)), "reward is (2,) float64, expected (2,) float32"),
    "reward too long": (rewards(np.zeros(3, np.float32)), "reward is (3,) float32"),
    "reward a list": (rewards([0, 0]), "reward is list"),
    "features infinite": (
        lambda s: observes("features", s.observation.features + np.inf)(s),
        "features holds a number",
    ),
    "features cut": (lambda s: observes("features", s.observation.features[:, 1:])(s), "features is"),
    "active as numbers": (observes("active", np.ones(2, np.int64)), "active is (2,) int64, expected (2,) bool"),
    "rgb as float": (lambda s: observes("rgb", s.observation.rgb.astype(np.float32))(s), "rgb is"),
    "returns nothing": (lambda s: None, "AttributeError"),
}


@pytest.fixture(autouse=True)
def first_life() -> None:
    Broken.lives = 0


@pytest.mark.parametrize("how", LIES)
def test_a_broken_game_ends_its_episode_and_is_built_again(how: str, caplog: pytest.LogCaptureFixture) -> None:
    lie, message = LIES[how]
    game = Guarded(lambda seed: Broken(lie, always=False), seed=1)
    first = game.reset()
    whole = game.step(ACTIONS)
    assert not whole.truncated
    with caplog.at_level(logging.ERROR):
        step = game.step(ACTIONS)
    assert step.truncated and not step.terminated and not step.reward.any()
    assert same(step.observation, whole.observation)
    assert message in caplog.text and game.spec.name in caplog.text
    again = game.reset()
    assert Broken.lives == 2 and [x.shape for x in again] == [x.shape for x in first]
    lengths = 0
    while True:
        lengths += 1
        if (step := game.step(ACTIONS)).truncated or step.terminated:
            break
    assert lengths == 4, "the new one plays a whole episode"
    game.close()


def test_a_game_that_always_breaks_is_given_up_by_name() -> None:
    rests: list[float] = []
    game = Guarded(lambda seed: Broken(raises, always=True), seed=1, sleep=rests.append)
    with pytest.raises(SubstrateError, match=rf"matrix_coordination failed {MAX_FAILURES} times in a row: .*is over"):
        while True:
            game.reset()
            while not game.step(ACTIONS).truncated:
                pass
    assert Broken.lives == MAX_FAILURES
    assert rests == [0.5, 1.0, 2.0], "the first is built again at once"


def test_a_failure_names_the_game_its_seed_and_the_episode(caplog: pytest.LogCaptureFixture) -> None:
    rests: list[float] = []
    Broken.lives = 1  # so that the next is whole
    game = Guarded(lambda seed: Broken(raises, always=seed != 7), seed=7, sleep=rests.append)
    for _ in range(2):
        game.reset()
        while not (step := game.step(ACTIONS)).terminated and not step.truncated:
            pass
    game._game._how = raises  # type: ignore[attr-defined]
    game._game._t = 0  # type: ignore[attr-defined]
    for seed, episode in ((7, 3), (7 + 7919, 1)):
        game.reset()
        caplog.clear()
        while not game.step(ACTIONS).truncated:
            pass
        assert f"matrix_coordination, seed {seed}, episode {episode}: it failed" in caplog.text
    assert not rests


def test_a_reset_that_breaks_is_tried_again() -> None:
    seeds: list[int] = []

    class Shy(MatrixGame):
        def reset(self, seed: int | None = None) -> Observation:
            if len(seeds) < 3:
                raise OSError("not yet")
            return super().reset(seed)

    def make(seed: int) -> MatrixGame:
        seeds.append(seed)
        return Shy("matrix_coordination", 2, 4)

    game = Guarded(make, seed=1, sleep=lambda seconds: None)
    game.reset()
    assert len(set(seeds)) == 3, "each attempt has its own seed"


@pytest.mark.parametrize("name", ["matrix_coordination", "coins"])
def test_a_guard_changes_nothing_about_a_whole_game(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Coins plays differently from one game to the next with the same seed, so there is one game, looked at twice."""
    bare = build(EnvironmentConfig(substrate=name), 5)
    given: list[Any] = []

    class Seen:
        spec = bare.spec

        def reset(self, seed: int | None = None) -> Observation:
            given.append(bare.reset(seed))
            return cast(Observation, given[-1])

        def step(self, action: NDArray[np.int32]) -> Step:
            given.append(bare.step(action))
            return cast(Step, given[-1])

        def close(self) -> None:
            bare.close()

    game = Guarded(lambda seed: Seen(), 5)
    rng = np.random.default_rng(0)
    passed: list[Any] = [game.reset()]
    for _ in range(10):
        passed.append(game.step(rng.integers(0, game.spec.actions, game.spec.players, dtype=np.int32)))
    assert len(passed) == len(given) and all(x is y for x, y in zip(passed, given, strict=True))
    assert not caplog.records
    game.close()


HANGS = {
    "in Python": "while True: pass",
    "in C, with the interpreter's lock": "import re; re.match(r'(a|a)*$', 'a' * 60 + 'b')",
}


@pytest.mark.parametrize("how", HANGS)
def test_a_hang_ends_the_process_and_shows_where(how: str) -> None:
    program = f"""
from actors.watchdog import Watchdog
def step_of_the_game():
    {HANGS[how]}
with Watchdog(0.5) as watchdog:
    watchdog.alive()
    step_of_the_game()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr and "step_of_the_game" in ended.stderr


@pytest.mark.slow
def test_a_process_that_reports_being_alive_is_left_alone() -> None:
    program = """
import time
from actors.watchdog import Watchdog
with Watchdog(1.0) as watchdog:
    for _ in range(25):
        watchdog.alive()
        time.sleep(0.1)
time.sleep(2)
print("done")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
