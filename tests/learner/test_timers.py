"""Timers of the roles' loops."""

import time

from learner.timers import Every


def test_a_timer_is_due_after_its_time_and_again_after_a_restart() -> None:
    timer = Every(0.05)
    assert not timer.due
    time.sleep(0.06)
    assert timer.due and timer.elapsed_s > 0.05
    timer.restart()
    assert not timer.due
