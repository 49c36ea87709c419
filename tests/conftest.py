"""Fixtures for all tests: a real Redis server, and a run in it that no other test uses."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from common.cores import core_count
from common.store import Store
from deploy.redis_server import RedisServer

pytest_plugins = ["skips", "supervised_runs"]

_NUMBERS = itertools.count()

# Each process of pytest takes half a gigabyte: torch, a Redis server, and what its tests start.
MAX_PROCESSES = 8
# `pytest tests/project/test_garbage.py --hypothesis-profile long` tries as many as docs/guarantees.md says, others each
# time.
_QUICK = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile("short", _QUICK, max_examples=1_000, derandomize=True)
settings.register_profile("long", _QUICK, max_examples=100_000)
settings.load_profile("short")

# The networks of the tests are so small that threads cost more than they save.
torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The processes of `--numprocesses auto`: two per usable core, because many tests wait for processes."""
    return min(2 * core_count(), MAX_PROCESSES)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server for the whole session."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def store(redis_url: str) -> Store:
    """The keys of a run that no other test uses."""
    return Store(redis_url, f"test-{next(_NUMBERS)}")
