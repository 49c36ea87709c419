"""The ledger survives what damages it: a Redis that lost a second, an actor that lies, a learner that was replaced."""

import random

import pytest
from ledger_totals import KEYS, TOTALS, totals

from common.errors import SetupError, StoreError
from common.ledger import Ledger, Outcome
from common.store import Store


def test_accounts_ahead_of_the_production_are_repaired(store: Store) -> None:
    ledger = store.ledger
    ledger.account([("a-1", 1, "trained", ""), ("a-1", 2, "stale", "lag")])
    balance = ledger.balance()
    assert totals(balance) == dict.fromkeys(TOTALS, 0) | {"produced": 2, "trained": 1, "stale": 1}
    assert ledger.produced("a-1", 2) and ledger.balance() == balance
    assert ledger.produced("a-1", 3) and ledger.balance().in_flight == 1


class Rollback:
    """Takes the ledger's keys back to an earlier moment, as a Redis does that was killed before it wrote its file."""

    def __init__(self, store: Store) -> None:
        self._client, self._keys = store.client, [store.key(name) for name in KEYS]
        self._saved = {key: self._client.dump(key) for key in self._keys}

    def __call__(self) -> None:
        self._client.delete(*self._keys)
        for key, value in self._saved.items():
            if value is not None:
                self._client.restore(key, 0, value)


def test_a_learner_repeats_what_redis_lost(store: Store) -> None:
    store.ledger.produced("a-1", 9)
    store.ledger.produced("b-1", 2)
    learner = store.ledger.of("learner-1")
    learner.account([("a-1", 1, "trained", ""), ("a-1", 2, "stale", "lag")])
    rollback = Rollback(store)
    learner.account([("a-1", 3, "trained", ""), ("b-1", 1, "trained", "")])
    learner.close("b-1")
    learner.rewind(2)
    learner.account([("a-1", 4, "trained", "")])
    before = store.ledger.balance()
    for _ in range(2):
        rollback()
        assert store.ledger.balance() != before
        learner.account([])
        learner.close("c-1")  # the next change, whatever it is
        assert store.ledger.balance() == before
    assert totals(before) == {
        "produced": 11,
        "trained": 3,
        "stale": 1,
        "rejected": 0,
        "rewound": 1,
        "lost": 1,
        "in_flight": 5,
    }


@pytest.mark.parametrize("seed", range(3))
def test_nothing_shows_that_redis_lost_something(store: Store, redis_url: str, seed: int) -> None:
    """Two ledgers see the same events, and the Redis of one loses its last second now and then."""
    rng, other = random.Random(seed), Store(redis_url, f"{store.run}-whole")
    ledgers = [(where.ledger, where.ledger.of("learner-1")) for where in (store, other)]
    sent = {"a-1": 0, "a-2": 0}
    done = dict(sent)
    rollback = Rollback(store)
    for event in range(300):
        name = rng.choice(list(sent))
        if rng.random() < 0.5:
            sent[name] += 1
        elif done[name] < sent[name]:
            done[name] += 1
        outcome: Outcome = rng.choice(["trained", "stale"])
        for actor, learner in ledgers:
            actor.produced(name, sent[name])
            if done[name]:
                learner.account([(name, done[name], outcome, "")])
        if event % 40 == 10:
            rollback = Rollback(store)
        if event % 40 == 30:
            rollback()
    for actor, learner in ledgers:
        for name, count in sent.items():
            actor.produced(name, count)
        learner.account([("a-1", 1, "trained", "")])
    assert store.ledger.balance() == other.ledger.balance()
    assert store.ledger.balance().lost == 0 < store.ledger.balance().in_flight


def test_a_change_that_arrives_late_changes_nothing(store: Store) -> None:
    store.ledger.produced("a-1", 9)
    learner = store.ledger.of("learner-1")
    learner.account([("a-1", n, "trained", "") for n in range(1, 6)])
    learner.rewind(3)
    late = learner._changes[-1]
    learner.account([("a-1", n, "trained", "") for n in (6, 7)])
    before = store.ledger.balance()
    assert before.trained == 5
    learner._apply(late)
    assert store.ledger.balance() == before


def test_a_ledger_that_redis_lost_altogether_starts_again(store: Store) -> None:
    store.ledger.produced("a-1", 9)
    learner = store.ledger.of("learner-1")
    learner.account([("a-1", n, "trained", "") for n in range(1, 4)])
    store.client.delete(*(store.key(name) for name in KEYS))
    learner.account([("a-1", 4, "trained", "")])
    found = store.ledger.balance()
    assert found.holds and (found.produced, found.trained, found.lost) == (4, 1, 3)


@pytest.mark.parametrize("seed", range(3))
def test_the_identity_survives_a_redis_that_lost_its_last_second(store: Store, seed: int) -> None:
    # An append-only file that is synced every second may lack the last second after a crash: all keys return to
    # one earlier moment, while the roles carry on from where they are.
    rng = random.Random(seed)
    ledger, client = store.ledger, store.client
    keys = [store.key(name) for name in KEYS]
    reported: dict[str, int] = {}
    snapshot: dict[str, bytes | None] = {}
    for event in range(300):
        name = rng.choice(["a-1", "a-2", "b-1"])
        if rng.random() < 0.5:
            reported[name] = reported.get(name, 0) + 1
            ledger.produced(name, reported[name])
        else:
            ledger.account([(name, rng.randint(1, reported.get(name, 1)), rng.choice(["trained", "stale"]), "")])
        if rng.random() < 0.02:
            ledger.close(name)
        if event % 40 == 10:
            snapshot = {key: client.dump(key) for key in keys}
        if event % 40 == 30:
            client.delete(*keys)
            for key, value in snapshot.items():
                if value is not None:
                    client.restore(key, 0, value)
        balance = ledger.balance()
        assert balance.holds and min(totals(balance).values()) >= 0, balance


def test_a_damaged_ledger_is_named(store: Store) -> None:
    store.client.hset(store.key("ledger"), "trained", "many")
    with pytest.raises(StoreError, match="the ledger in Redis is damaged: .*many"):
        store.ledger.balance()


def test_a_learner_that_was_replaced_changes_nothing(store: Store) -> None:
    ledger = Ledger(store.client, store.key, closed_kept=1)
    first, second = ledger.of("learner-1"), ledger.of("learner-2")
    ledger.produced("a-1", 3)
    first.account([("a-1", 1, "trained", "")])  # Redis does not know who owns the run
    store.client.set(store.key("learner"), "learner-2")
    before = ledger.balance()
    assert before.trained == 1
    changes = (lambda: first.account([("a-1", 2, "trained", "")]), lambda: first.close("a-1"), lambda: first.rewind(0))
    for change in changes:
        with pytest.raises(SetupError, match="another learner took this run over; a run has only one"):
            change()
    assert ledger.balance() == before and ledger.produced("a-1", 3), "it is still open"

    second.account([("a-1", 2, "trained", "")])
    assert second.close("a-1") == 1
    second.rewind(1)
    ledger.produced("a-2", 1)
    assert second.close("a-2") == 1
    after = ledger.balance()
    assert after.holds and (after.trained, after.rewound, after.lost) == (1, 1, 2)
    assert store.client.smembers(store.key("closed")) == {b"a-2"}, "an owner's ledger remembers as many closed ones"


@pytest.mark.parametrize("lie", [b"many", b"-5", b"1e400", b"9" * 40, b"3.5", b""])
def test_an_actor_that_writes_nonsense_breaks_nothing(store: Store, lie: bytes) -> None:
    ledger = store.ledger
    ledger.produced("a-1", 3)
    ledger.produced("b-1", 2)
    store.client.hset(store.key("reported"), "a-1", lie)
    store.client.hset(store.key("reported"), b"\xff", 7)  # nobody's name
    assert ledger.balance().holds and ledger.balance().produced == 2
    ledger.account([("a-1", 1, "trained", "")])
    assert ledger.produced("a-1", 4) and ledger.close("a-1") == 3
    assert totals(ledger.balance()) == dict.fromkeys(TOTALS, 0) | {
        "produced": 6,
        "trained": 1,
        "lost": 3,
        "in_flight": 2,
    }


def test_an_actor_that_erases_what_it_may_write_changes_no_account(store: Store) -> None:
    ledger = store.ledger
    ledger.produced("a-1", 5)
    ledger.account([("a-1", 1, "trained", ""), ("a-1", 2, "stale", "lag")])
    store.client.delete(store.key("reported"))
    assert totals(ledger.balance()) == dict.fromkeys(TOTALS, 0) | {
        "produced": 5,
        "trained": 1,
        "stale": 1,
        "in_flight": 3,
    }


def test_a_ledger_from_before_actors_had_a_key_of_their_own_continues(store: Store) -> None:
    store.client.hset(store.key("ledger"), mapping={"produced": 7, "trained": 4, "lost": 1})
    store.client.hset(store.key("sequences"), mapping={"a-1:produced": 5, "a-1:accounted": 3})
    ledger = store.ledger
    assert ledger.balance().holds and ledger.balance().in_flight == 2
    assert ledger.produced("a-1", 6) and ledger.incarnations() == {"a-1": (6, 3)}
    ledger.account([("a-1", 4, "trained", "")])
    assert ledger.close("a-1") == 2
    assert totals(ledger.balance()) == dict.fromkeys(TOTALS, 0) | {"produced": 8, "trained": 5, "lost": 3}
