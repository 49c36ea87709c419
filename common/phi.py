"""Publishes a version of phi in Redis, as the newest and as one to draw from, unless there is a newer one."""

from collections.abc import Callable
from typing import Any

from common.weights import PHI, PHI_VERSION, Weights


def publish(client: Any, key: Callable[[str], str], phi: Weights, keep: int, since: int | None) -> bool:
    """Publishes a version of phi in one transaction; see `common.store.Store.publish_phi`.

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
