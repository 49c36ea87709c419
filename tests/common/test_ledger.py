"""The ledger's Lua scripts on a real Redis, compared with a model that tracks every unroll individually."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from ledger_totals import TOTALS, totals

from common.ledger import Ledger, Outcome
from common.store import Store

IN_FLIGHT = "in_flight"


@dataclass
class Model:
    """The fate of every single unroll."""

    fates: list[str] = field(default_factory=list)
    """In order of production, over all incarnations."""
    owned: dict[str, list[int]] = field(default_factory=dict)
    """For each open incarnation, the indices of its unrolls in `fates`, in order of sequence."""
    closed: set[str] = field(default_factory=set)
    unrecorded: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def produced(self, incarnation: str, sequence: int) -> bool:
        if incarnation in self.closed:
            return False
        mine = self.owned.setdefault(incarnation, [])
        while len(mine) < sequence:
            mine.append(len(self.fates))
            self.fates.append(IN_FLIGHT)
        return True

    def account(self, incarnation: str, sequence: int, outcome: str, reason: str) -> None:
        if incarnation in self.closed:
            return
        mine = self.owned.get(incarnation, [])
        if sequence <= len(mine) and self.fates[mine[sequence - 1]] != IN_FLIGHT:
            return
        self.produced(incarnation, sequence)
        for index in self.owned[incarnation][: sequence - 1]:
            if self.fates[index] == IN_FLIGHT:
                self.fates[index] = "lost"
        self.fates[self.owned[incarnation][sequence - 1]] = outcome
        if reason:
            self.reasons[f"{outcome}:{reason}"] += 1

    def close(self, incarnation: str) -> int:
        flying = [index for index in self.owned.pop(incarnation, []) if self.fates[index] == IN_FLIGHT]
        for index in flying:
            self.fates[index] = "lost"
        self.closed.add(incarnation)
        return len(flying)

    def rewind(self, trained: int) -> None:
        mine = [i for i, fate in enumerate(self.fates) if fate == "trained"]
        ahead = len(mine) + self.unrecorded - trained
        taken = mine[max(0, len(mine) - ahead) :] if ahead > 0 else []
        for index in taken:
            self.fates[index] = "rewound"
        self.unrecorded -= ahead - len(taken)

    def totals(self) -> dict[str, int]:
        counts = Counter(self.fates)
        return {"produced": len(self.fates)} | {name: counts[name] for name in TOTALS[1:]}


@pytest.mark.parametrize("seed", range(6))
def test_random_events_with_repetitions_match_the_model(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    ledger, model = store.ledger, Model()
    names = [f"{actor}-{life}" for actor in ("a", "b:c", "produced") for life in range(3)]
    earlier: list[Callable[[], object]] = []
    for event in range(600):
        name = rng.choice(names)
        mine = model.owned.get(name, [])
        chance = rng.random()
        calls: list[Callable[[], object]]
        if chance < 0.45:
            sequence = max(1, len(mine) + rng.choice([1, 1, 1, 2, 5, 0, -3]))
            accepted = model.produced(name, sequence)
            calls = [partial(ledger.produced, name, sequence)]
            assert calls[0]() is accepted
        elif chance < 0.9:
            entries: list[tuple[str, int, Outcome, str]] = []
            for _ in range(rng.randrange(4)):
                who = rng.choice(names)
                flying = [i + 1 for i, p in enumerate(model.owned.get(who, [])) if model.fates[p] == IN_FLIGHT]
                sequence = (flying or [1])[0] + rng.choice([0, 0, 0, 0, 1, 3, -1])
                outcome: Outcome = rng.choice(["trained", "trained", "stale", "rejected"])
                entry = (who, max(1, sequence), outcome, "" if outcome == "trained" else rng.choice(["lag", "finite"]))
                entries.append(entry)
                model.account(*entry)
            calls = [partial(ledger.account, entries)]
            calls[0]()
        elif chance < 0.94:
            lost = model.close(name)
            calls = [partial(ledger.close, name)]
            assert calls[0]() == lost
        else:
            trained = max(0, model.totals()["trained"] - rng.choice([0, 1, 4, -2]))
            model.rewind(trained)
            ledger.rewind(trained)
            ledger.rewind(trained)
            calls = []
        earlier += calls
        if calls and rng.random() < 0.4:
            calls[0]()
        if earlier and rng.random() < 0.2:
            rng.choice(earlier)()  # a late retry by a role whose connection broke
        if event % 20 == 0 or rng.random() < 0.05:
            balance = ledger.balance()
            assert totals(balance) == model.totals()
            assert balance.unrecorded == model.unrecorded
            assert balance.holds and dict(balance.reasons) == dict(model.reasons)
    living = {}
    for name, mine in model.owned.items():
        done = [i + 1 for i, index in enumerate(mine) if model.fates[index] != IN_FLIGHT]
        living[name] = (len(mine), max(done, default=0))
    assert ledger.incarnations() == living
    final = totals(ledger.balance())
    assert final == model.totals() and min(final.values()) >= 0 and final["rewound"] and final["lost"]


def test_late_reports_of_a_closed_incarnation_are_ignored(store: Store) -> None:
    ledger = store.ledger
    assert ledger.produced("a-1", 5)
    assert ledger.incarnations() == {"a-1": (5, 0)}
    ledger.account([("a-1", 1, "trained", "")])
    assert ledger.close("a-1") == 4
    before = ledger.balance()
    assert not ledger.produced("a-1", 6)
    ledger.account([("a-1", 2, "trained", ""), ("a-1", 9, "stale", "lag")])
    assert ledger.close("a-1") == 0
    assert ledger.balance() == before
    assert (before.produced, before.trained, before.lost, before.in_flight) == (5, 1, 4, 0)
    assert ledger.incarnations() == {}


@pytest.mark.parametrize("seed", range(3))
def test_the_newest_closed_incarnations_are_remembered_and_no_more(store: Store, seed: int) -> None:
    """Actors come and go forever: the ledger stays small, and still agrees with the model."""
    rng, kept = random.Random(seed), 5
    keys = [store.key(name) for name in ("ledger", "sequences", "closed", "closings")]
    ledger, model = Ledger(store.client, store.key, closed_kept=kept), Model()
    ended: list[str] = []
    for life in range(200):
        name = f"a-{life}"
        for sequence in range(1, rng.randint(2, 5)):
            assert ledger.produced(name, sequence) and model.produced(name, sequence)
        ledger.account([(name, 1, "trained", "")])
        model.account(name, 1, "trained", "")
        for _ in range(1 + (rng.random() < 0.3)):  # a broken connection closes it twice
            assert ledger.close(name) == model.close(name)
        ended.append(name)
        assert store.client.lrange(keys[3], 0, -1) == [name.encode() for name in reversed(ended[-kept:])]
        assert store.client.smembers(keys[2]) == {name.encode() for name in ended[-kept:]}
        late = rng.choice(ended[-kept:])
        assert not ledger.produced(late, 99)
        ledger.account([(late, 99, "trained", "")])
        assert totals(ledger.balance()) == model.totals() and ledger.incarnations() == {}
    assert ledger.produced(ended[0], 1), "nobody remembers it"


def test_gaps_count_as_lost(store: Store) -> None:
    ledger = store.ledger
    ledger.produced("a-1", 10)
    ledger.account([("a-1", 4, "trained", "")])
    expected = {"produced": 10, "trained": 1, "lost": 3, "in_flight": 6}
    assert totals(ledger.balance()) == dict.fromkeys(TOTALS, 0) | expected
    ledger.account([("a-1", 2, "trained", "")])
    assert ledger.balance().trained == 1


def test_rewinding_moves_what_was_trained_since(store: Store) -> None:
    ledger = store.ledger
    ledger.produced("a-1", 6)
    ledger.account([("a-1", i, "trained", "") for i in range(1, 6)])
    for _ in range(2):
        ledger.rewind(3)
        expected = {"produced": 6, "trained": 3, "rewound": 2, "in_flight": 1}
        assert totals(ledger.balance()) == dict.fromkeys(TOTALS, 0) | expected
    ledger.rewind(4)
    balance = ledger.balance()
    assert (balance.trained, balance.unrecorded) == (3, 1), "Redis has lost an outcome"
    assert ledger.rewind(4) == 0
    assert ledger.rewind(1) == 3
    balance = ledger.balance()
    assert (balance.trained, balance.rewound, balance.unrecorded) == (0, 5, 1), "trained and unrecorded: as in theta"


def test_a_balance_is_read_at_one_moment(store: Store, redis_url: str) -> None:
    writing = threading.Event()

    def write() -> None:
        mine = Store(redis_url, store.run).ledger
        for sequence in range(1, 1500):
            mine.produced("a-1", sequence)
            mine.account([("a-1", sequence, "trained", "")])
        writing.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not writing.is_set():
        balance = store.ledger.balance()
        assert balance.holds, balance
        seen.add(balance.produced)
    writer.join()
    assert len(seen) > 10
    assert totals(store.ledger.balance()) == dict.fromkeys(TOTALS, 0) | {"produced": 1499, "trained": 1499}


def test_the_identity_is_readable(store: Store) -> None:
    store.ledger.produced("a-1", 1200)
    store.ledger.account([("a-1", i, "rejected", "finite") for i in range(1, 4)])
    balance = store.ledger.balance()
    assert str(balance) == "produced 1,200 = trained 0 + stale 0 + rejected 3 + rewound 0 + lost 0 + in flight 1,197"
    assert balance.reasons == {"rejected:finite": 3}
    store.client.hincrby(store.key("ledger"), "trained", 1)
    broken = store.ledger.balance()
    assert not broken.holds
    assert str(broken) == "produced 1,200 ≠ trained 1 + stale 0 + rejected 3 + rewound 0 + lost 0 + in flight 1,197"


def test_runs_do_not_share_a_ledger(store: Store, redis_url: str) -> None:
    other: Ledger = Store(redis_url, store.run + ".other").ledger
    other.produced("a-1", 3)
    assert store.ledger.balance().produced == 0 and store.ledger.incarnations() == {}
