"""Fixtures that start what the roles need: a real Redis server, and a run of one's own in it."""

import itertools
from collections.abc import Iterator

import pytest
import torch

from common.store import Store
from deploy.redis_server import RedisServer

_NUMBERS = itertools.count()

# The networks here are so small that sharing their work between threads costs more than it saves.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis server that lives as long as the tests."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def store(redis_url: str) -> Store:
    """The keys of a run that no other test uses."""
    return Store(redis_url, f"test-{next(_NUMBERS)}")
