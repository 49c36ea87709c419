"""The ends of a TCP connection of the tests, and waiting for what has to arrive."""

from collections.abc import Callable

from unrolls import make_unroll
from waiting import until

from common.inbox import Inbox
from common.outbox import Outbox

PATIENCE_S = 30.0


def produce(outbox: Outbox, count: int, actor: str = "a") -> None:
    for _ in range(count):
        outbox.put(make_unroll(sequence=outbox.produced + 1, actor=actor, incarnation=f"{actor}-1", env_steps=2))


def pump_until(done: Callable[[], bool], inbox: Inbox, *outboxes: Outbox) -> None:
    """Lets both ends talk until a condition holds."""

    def talk() -> None:
        inbox.poll(0.005)
        for outbox in outboxes:
            outbox.pump(0.005)

    until(done, talk)


def settle(inbox: Inbox, *outboxes: Outbox) -> None:
    """Lets both ends talk until every actor got two more replies, so that everything due has been sent."""
    for _ in range(2):
        heard = [outbox._heard for outbox in outboxes]
        inbox.answer_all()
        pump_until(lambda: all(o._heard > h for o, h in zip(outboxes, heard, strict=True)), inbox, *outboxes)  # noqa: B023


def settled(expected: Callable[[], bool], inbox: Inbox, *outboxes: Outbox) -> None:
    """Waits until a condition holds, and checks that it stays true."""
    pump_until(expected, inbox, *outboxes)
    settle(inbox, *outboxes)
    assert expected()


def sequences(inbox: Inbox, actor: str = "a") -> list[int]:
    return [arrival.sequence for arrival in inbox.arrivals if arrival.incarnation == f"{actor}-1"]
