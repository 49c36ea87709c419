"""What a container engine is told about a role."""

import time

import pytest

from common.lifecycle import Presence
from common.store import Store
from deploy import health

HOST = "here"


def problem(store: Store, role: str = "learner", patience_s: float = 60.0, alive: bool = False) -> str | None:
    return health.problem(store.url, store.run, role, patience_s, alive, HOST)


def report(store: Store, role: str = "learner", host: str = HOST, **fields: float) -> None:
    store.put_worker(role, "0", {"incarnation": "x", "host": host, "started": int(time.time()), **fields}, ttl_s=9)


def test_redis_has_to_answer() -> None:
    found = health.problem("redis://127.0.0.1:1/0", "r", "actor", 60.0, alive=False)
    assert found is not None and found.startswith("no Redis answers")


def test_nobody_is_taken_for_dead_because_redis_is_away() -> None:
    assert health.problem("redis://127.0.0.1:1/0", "r", "actor", 60.0, alive=True) is None


def test_a_role_has_to_report_from_this_host(store: Store) -> None:
    report(store, host="elsewhere")
    assert problem(store) == f"no learner of run {store.run} reports from here"
    report(store)
    assert problem(store) is None
    assert problem(store, "actor") == f"no actor of run {store.run} reports from here"


def test_a_role_that_reports_has_to_get_on_with_its_work_too(store: Store) -> None:
    now = time.time()
    report(store, started=now - 500, advanced=now - 10)
    assert problem(store) is None
    report(store, started=now - 500, advanced=now - 100)
    assert problem(store) == "the learner has done nothing for 100 s: ?"
    assert problem(store, alive=True) is None
    assert problem(store, patience_s=200) is None


def test_a_role_that_has_just_started_is_well(store: Store) -> None:
    report(store, started=time.time() - 30)
    assert problem(store) is None
    report(store, started=time.time() - 90)
    assert problem(store) is not None


def test_all_is_well_when_the_run_is_finished(store: Store) -> None:
    store.put_progress({"state": "finished"})
    assert problem(store) is None


@pytest.mark.parametrize("role", ["learner", "actor", "distiller"])
def test_what_a_role_says_when_it_advances_is_what_is_looked_for(store: Store, role: str) -> None:
    with Presence(store, role, "0", "x", heartbeat_s=0.05) as presence:
        presence.say(started=1)
        time.sleep(0.2)
        assert health.problem(store.url, store.run, role, 60.0, alive=False) is not None
        presence.advanced()
        time.sleep(0.2)
        assert health.problem(store.url, store.run, role, 60.0, alive=False) is None
