"""How the learner describes what limits the run's speed."""

from learner.gauges import bottleneck


def test_the_bottleneck_is_described() -> None:
    assert bottleneck(0, None) == "the learner waits: there are no actors"
    assert bottleneck(2, None) == "the learner waits for a whole batch"
    assert bottleneck(2, 0.8) == "the learner waits for actors 80% of its time: add actors"
    assert bottleneck(2, 0.25) == "the actors wait for the learner, which is busy 75% of its time"
