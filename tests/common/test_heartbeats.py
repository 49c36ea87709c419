"""What an actor's user may write anywhere stops neither the learner nor other actors."""

from collections.abc import Callable

import pytest

from common.errors import StoreError
from common.store import Store


def test_what_is_no_heartbeat_is_skipped(store: Store) -> None:
    store.put_worker("actor", "a", {"incarnation": "a-1"}, ttl_s=60)
    store.client.xadd(store.key("worker:actor:stream"), {"a": "b"})
    store.client.set(store.key("worker:actor:string"), "a")
    store.client.hset(store.key("worker:actor:").encode() + b"\xff", mapping={b"\xfe": b"\xff"})
    found = store.workers()
    assert found["actor", "a"] == {"incarnation": "a-1"}
    assert found.keys() - {("actor", "\N{REPLACEMENT CHARACTER}")} == {("actor", "a")}


SPOILS: dict[str, Callable[[Store, str], object]] = {
    "another type": lambda store, key: store.client.set(key, "x"),
    "a stream": lambda store, key: store.client.xadd(key, {"a": "b"}),
    "no number": lambda store, key: store.client.hset(key, mapping={"actor:a": "x", "a-1": "x"}),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_starts_and_events_are_mended(store: Store, spoil: Callable[[Store, str], object]) -> None:
    spoil(store, store.key("starts"))
    assert store.count_start("actor", "a") == 0
    assert store.count_start("actor", "a") == 1
    if spoil is not SPOILS["a stream"]:
        spoil(store, store.key("events"))
    store.put_event("actor", "a", "start")
    assert [fields["event"] for _, fields in store.stream("events", 10)][-1] == "start"


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_the_ledger_outlasts_what_actors_may_write(store: Store, spoil: Callable[[Store, str], object]) -> None:
    learner = store.ledger.of("learner-1")
    store.ledger.produced("a-1", 3)
    learner.account([("a-1", 1, "trained", "")])
    store.client.delete(store.key("reported"))
    spoil(store, store.key("reported"))
    assert store.ledger.balance().holds and store.ledger.balance().produced == 3
    learner.account([("a-1", 2, "stale", "lag")])
    assert learner.close("a-1") == 1
    balance = store.ledger.balance()
    assert balance.holds and (balance.trained, balance.stale, balance.lost) == (1, 1, 1)
    assert store.ledger.produced("b-1", 1), "actors go on"
    assert store.ledger.closed() == ["a-1"]


def test_a_ledger_that_is_no_hash_is_damaged(store: Store) -> None:
    store.client.set(store.key("ledger"), "x")
    with pytest.raises(StoreError, match="the ledger in Redis is damaged: WRONGTYPE"):
        store.ledger.balance()
