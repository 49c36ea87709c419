"""Whether a role on this host does its work, for container engines to ask."""

import socket
import time

from common.connection import refusal
from common.store import Store


def problem(url: str, run: str, role: str, patience_s: float, alive: bool, host: str | None = None) -> str | None:
    """What is wrong with a role; None if nothing is.

    A role that has just started, and every role of a run that is finished, is well.

    Args:
      url: Redis' URL.
      run: the run's name.
      role: `learner`, `actor` or `distiller`; of several on this host, one that is well will do.
      patience_s: how long ago it may have done the last of its work: the learner an update, an actor an unroll, the
        distiller a look for observations.
      alive: whether it is enough that it reports at all; without Redis nothing is known against it, and to start
        everybody anew because Redis is away would help nobody.
      host: where it is to run; None means here.
    """
    if (reason := refusal(url)) is not None:
        return None if alive else f"no Redis answers: {reason}"
    store, host = Store(url, run), host or socket.gethostname()
    if store.finished:
        return None
    here = [fields for (kind, _), fields in store.workers().items() if kind == role and fields.get("host") == host]
    if not here:
        return f"no {role} of run {run} reports from {host}"
    last = max(float(fields.get("advanced", fields["started"])) for fields in here)
    if alive or (idle := time.time() - last) <= patience_s:
        return None
    state = ", ".join(sorted({fields.get("state", "?") for fields in here}))
    return f"the {role} has done nothing for {idle:.0f} s: {state}"
