"""The roles of a run over bad networks: no role exits, no version goes back, and every unroll is accounted for once."""

import contextlib
import time
from pathlib import Path

import pytest
from linked_roles import Roles
from proxy import NetworkConditions, redis_behind, through
from serial_runs import configuration

from common import checkpoint
from common.run_folder import RunFolder
from common.store import Store

SLOW = NetworkConditions(delay_s=0.1, loss=0.01)
"""200 ms there and back, and 1 % of losses."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weather", "silent_s"),
    [
        pytest.param(NetworkConditions(delay_s=0.005, loss=0.02), 2.0, id="short"),
        pytest.param(SLOW, 8.0, id="long"),
    ],
)
def test_a_run_goes_on_whatever_network_connects_its_roles(
    redis_url: str, tmp_path: Path, weather: NetworkConditions, silent_s: float
) -> None:
    """Every connection is slow and loses packets; each in turn is reset, then silent for a while."""
    name = f"{tmp_path.name}-outages"
    config = configuration(tmp_path, name, "run.heartbeat_s=0.5", "run.checkpoint_s=2", "distiller.every=2")
    with Roles(config, redis_url, weather) as roles:
        roles.train(2)
        incarnations = roles.incarnations()
        assert len(roles.links) == 4 and len(incarnations) == 3
        for proxy in roles.links.values():
            before = proxy.connections
            proxy.cut()
            roles.train(2)
            assert proxy.connections > before
            with proxy.black_hole():
                over = time.monotonic() + silent_s
                while time.monotonic() < over:
                    roles.look()
                    time.sleep(0.1)
            roles.train(2)
        roles.until(lambda: roles.incarnations() == incarnations, "the heartbeats of the same three roles")
        assert sum(proxy.late_chunks for proxy in roles.links.values()) > 0
    assert not roles.errors
    for versions in zip(*roles.versions, strict=True):
        assert list(versions) == sorted(versions) and versions[-1] > versions[0]
    balance, store = roles.store.ledger.balance(), roles.store
    assert balance.holds and balance.rejected == balance.lost == balance.rewound == 0, balance
    saved = checkpoint.newest(RunFolder.of(config.run).checkpoints)
    assert saved is not None and saved.state["unrolls"] == balance.trained > 0
    lags = [float(fields["policy_lag_max"]) for _, fields in store.stream("metrics", 1000)]
    assert max(lags) <= config.learner.max_policy_lag


def test_a_half_open_connection_to_redis_is_replaced(redis_url: str, tmp_path: Path) -> None:
    with contextlib.closing(redis_behind(redis_url)) as proxy:
        store = Store(through(proxy, "socket_timeout=0.5"), f"{tmp_path.name}-half-open")
        store.put_endpoint("tcp://x:1")
        proxy.cut(clients_side=False, servers_side=False)
        assert store.endpoint() == "tcp://x:1"
        assert proxy.connections == 2 and proxy.lost_bytes > 0
        store.client.close()
