"""Health checks of the roles on a host, for container engines."""

import socket
import time

from common.connection import refusal
from common.store import Store


def problem(url: str, run: str, role: str, patience_s: float, alive: bool, host: str | None = None) -> str | None:
    """Returns what is wrong with a role, or None if it is healthy.

    A role that has just started is healthy, and so is every role of a finished run.

    Args:
      url: URL of the Redis server.
      run: the run's name.
      role: `learner`, `actor` or `distiller`; of several on the host, one healthy instance suffices.
      patience_s: how many seconds ago it may last have made progress: the learner an update, an actor an unroll, the
        distiller a check for new observations.
      alive: whether a heartbeat is enough. The role then also passes if Redis is unreachable, because restarting every
        role would not help.
      host: where the role should run; None means this host.
    """
    if (reason := refusal(url)) is not None:
        return None if alive else f"no Redis answers: {reason}"
    store, host = Store(url, run), host or socket.gethostname()
    if store.finished:
        return None
    here = [fields for (kind, _), fields in store.workers().items() if kind == role and fields.get("host") == host]
    if not here:
        return f"no {role} of run {run} sends heartbeats from {host}"
    last = max(float(fields.get("advanced", fields["started"])) for fields in here)
    if alive or (idle := time.time() - last) <= patience_s:
        return None
    state = ", ".join(sorted({fields.get("state", "?") for fields in here}))
    return f"the {role} has made no progress for {idle:.0f} s: {state}"
