"""Heartbeats in Redis: one hash for each living role, which expires if the role falls silent.

Every actor's user may write those of all actors, so what is no heartbeat is skipped, whatever it is.
"""

from collections.abc import Mapping
from typing import Any

# KEYS: the heartbeat. ARGV: the incarnation.
_REMOVE = "if redis.call('HGET', KEYS[1], 'incarnation') == ARGV[1] then redis.call('DEL', KEYS[1]) end"


def put(client: Any, key: str, fields: Mapping[str, str | int | float], ttl_s: float) -> str | None:
    """Writes a heartbeat; see `Store.put_worker`.

    Args:
      client: connected to Redis.
      key: the full name of its key.
      fields: what it says.
      ttl_s: the seconds after which it expires.
    """
    with client.pipeline(transaction=True) as pipe:
        pipe.hget(key, "incarnation")
        pipe.hset(key, mapping=dict(fields))
        pipe.pexpire(key, int(ttl_s * 1000))
        before = pipe.execute()[0]
    return None if before is None else str(before.decode(errors="replace"))


def remove(client: Any, key: str, incarnation: str) -> None:
    """Removes an incarnation's heartbeat; see `Store.remove_worker`."""
    client.register_script(_REMOVE)(keys=[key], args=[incarnation])


def read(client: Any, head: str) -> dict[tuple[str, str], dict[str, str]]:
    """Returns all heartbeats whose keys begin with `head`, by what follows: (role, name)."""
    keys = sorted(client.scan_iter(match=f"{head}*", count=1000))
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        hashes = pipe.execute(raise_on_error=False)
    found = {}
    for key, fields in zip(keys, hashes, strict=True):
        role, _, name = key.decode(errors="replace").removeprefix(head).partition(":")
        if isinstance(fields, dict) and fields:
            found[role, name] = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in fields.items()}
    return found
