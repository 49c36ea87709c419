"""A run has one learner: the next one starts when the last has left or died.

The owner's incarnation is in Redis, without an expiry. A learner replaces it, in one step, only if no other learner's
heartbeat is left. A learner that lost ownership while paused is locked out: the ledger refuses it.
"""

import logging
import os
import socket
import time

from common.errors import SetupError
from common.lifecycle import pid_scope
from common.store import Store

log = logging.getLogger(__name__)

OPENING_S = 30.0
"""How long a claim lasts without a heartbeat: a learner needs seconds until it sends the first."""
POLL_S = 0.2

# KEYS: the owner, the learner's heartbeat. ARGV: the new owner, one known to be dead or '', seconds, host, pid, time,
# place.
_CLAIM = """
local alive = redis.call('HGET', KEYS[2], 'incarnation')
if alive and alive ~= ARGV[1] and alive ~= ARGV[2] then return redis.call('HMGET', KEYS[2],
  'incarnation', 'host', 'pid', 'reported', 'place') end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'incarnation', ARGV[1], 'host', ARGV[4], 'pid', ARGV[5], 'started', ARGV[6],
  'reported', ARGV[6], 'place', ARGV[7], 'state', 'starting')
redis.call('PEXPIRE', KEYS[2], 1000 * ARGV[3])
return false
"""


class Ownership:
    """One learner's hold on its run.

    Args:
      store: the run's keys.
      incarnation: the learner's.
      silence_s: seconds without a new heartbeat after which another learner counts as dead, even if Redis, whose clock
        may be set back, has not let the last one expire.
    """

    def __init__(self, store: Store, incarnation: str, silence_s: float) -> None:
        self._store, self._incarnation, self._silence_s = store, incarnation, silence_s
        self._owner, self._heartbeat = store.key("learner"), store.key("worker:learner:learner")

    def claim(self) -> None:
        """Takes the run over, once no other learner's heartbeat is left.

        Raises:
          SetupError: if another learner is alive.
        """
        claim = self._store.client.register_script(_CLAIM)
        dead, seen, since = "", None, time.monotonic()
        while True:
            now = int(time.time())
            arguments = [self._incarnation, dead, int(OPENING_S), socket.gethostname(), os.getpid(), now, pid_scope()]
            holder = claim(keys=[self._owner, self._heartbeat], args=arguments)
            if holder is None:
                return
            incarnation, host, pid, reported, where = ((x or b"").decode() for x in holder)
            if seen is None:
                log.info("waiting for the heartbeat of another learner, %s, to change or expire", incarnation)
            elif seen != (incarnation, reported):
                raise SetupError(
                    f"run {self._store.run} has a learner already: process {pid} on {host}; a run has only one: "
                    "stop it first, or start another --run"
                )
            seen = incarnation, reported
            if _gone(where, pid) or time.monotonic() - since > self._silence_s:
                dead = incarnation
            elif self._store.stopping.wait(POLL_S):
                raise SetupError(f"stopped while waiting for another learner of run {self._store.run} to leave")

    def restore(self) -> None:
        """Writes the owner again after Redis has lost it, unless another learner has claimed the run since."""
        self._store.client.set(self._owner, self._incarnation, nx=True)

    def check(self) -> None:
        """Checks that this learner still owns the run.

        Raises:
          SetupError: if another learner does.
        """
        owner = self._store.client.get(self._owner)
        if owner is not None and owner.decode() != self._incarnation:
            raise SetupError(f"another learner, {owner.decode()}, took run {self._store.run} over; a run has only one")


def check_alone(store: Store) -> None:
    """Checks that no learner of a run is alive, before other roles are started that would join it.

    A dead one's heartbeat expires within seconds; a living one's changes.

    Raises:
      SetupError: if one is.
    """
    first = store.workers().get(("learner", "learner"))
    while (found := store.workers().get(("learner", "learner"))) is not None and not store.stopping.wait(POLL_S):
        if found.get("reported") != (first or {}).get("reported"):
            raise SetupError(
                f"run {store.run} has a learner already: process {found.get('pid')} on {found.get('host')}; stop it "
                "first, or start another --run"
            )


def _gone(where: str, pid: str) -> bool:
    """Returns whether a process that would be seen from here has certainly ended."""
    if where != pid_scope() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's process
    return False
