"""Publishes versions of theta, phi and past policies in Redis; none replaces a newer one.

A write may come late: a broken connection may deliver it after the role has repeated it, and made others, on another.
"""

from collections.abc import Callable
from typing import Any

from common.weights import PHI, PHI_VERSION, Weights

# KEYS: the hash. ARGV: the version, then the hash's fields and values.
_PUBLISH = """
local published = tonumber(redis.call('HGET', KEYS[1], 'version') or '')
if not published or published <= tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], unpack(ARGV, 2)) end
"""


def publish(client: Any, key: str, weights: Weights) -> None:
    """Publishes a version of theta or of a past policy in one step; see `Store.publish`.

    Args:
      client: connected to Redis.
      key: the full name of its key.
      weights: the version.
    """
    fields = [part for field in weights.pack().items() for part in field]
    client.register_script(_PUBLISH)(keys=[key], args=[weights.version, *fields])


def publish_phi(client: Any, key: Callable[[str], str], phi: Weights, keep: int, since: int | None) -> bool:
    """Publishes a version of phi, as the newest and to draw from, in one transaction; see `Store.publish_phi`.

    Args:
      client: connected to Redis.
      key: returns a key's full name.
      phi: the version.
      keep: how many of the newest versions stay.
      since: versions from this one on are dropped, even if they are among the newest.
    """
    fields, newest, kept = phi.pack(), key(PHI), key("phis")

    def write(pipe: Any) -> bool:
        published = pipe.hget(newest, "version")
        if published is not None and int(published) > phi.version:
            return False
        others = [int(version) for version in pipe.zrange(kept, 0, -1) if int(version) != phi.version]
        stay = [version for version in others if since is None or version < since]
        stay = stay[len(stay) - min(len(stay), keep - 1) :]
        pipe.multi()
        for name in (f"{PHI_VERSION}{phi.version}", PHI):
            pipe.hset(key(name), mapping=fields)
        pipe.zadd(kept, {str(phi.version): phi.version})
        for version in set(others) - set(stay):
            pipe.zrem(kept, str(version))
            pipe.delete(key(f"{PHI_VERSION}{version}"))
        return True

    return bool(client.transaction(write, newest, kept, value_from_callable=True))
