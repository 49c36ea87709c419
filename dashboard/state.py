"""A run's state as plain values for JSON. NaN becomes None, because JSON has no NaN."""

import math
from collections.abc import Mapping
from typing import Any

from common.ledger import Balance
from dashboard.source import Entry
from deploy.views import Snapshot

TERMS = ("trained", "stale", "rejected", "rewound", "lost", "in_flight")
CURVES = (
    "updates",
    "player_steps",
    "return_learning",
    "return_others",
    "explained_variance",
    "entropy_nats",
    "policy_lag_mean",
    "player_steps_per_s",
)
"""The metrics that are drawn."""
DISTILLATION = ("events", "update", "kl_before_nats", "kl_after_nats", "phi_entropy_after_nats")

Row = dict[str, Any]


def number(value: Any) -> float | int | None:
    """Returns a number that JSON can represent, or None."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    if not math.isfinite(found):
        return None
    return int(found) if found.is_integer() else found


def state(s: Snapshot, trouble: str | None = None) -> Row:
    """Returns a snapshot as the page shows it; rates are in player steps per second, times in seconds.

    Args:
      s: the snapshot.
      trouble: what is wrong with Redis. Heartbeats may not reach it then, so no role is said to be missing.
    """
    config, progress = s.config, s.progress
    halted = "" if trouble else s.halted
    moving = progress.get("state") == "running" and not halted and not trouble
    return {
        "run": s.run,
        "method": config.method.name if config else None,
        "game": config.environment.substrate if config else None,
        "seed": config.run.seed if config else None,
        "state": progress.get("state", "starting"),
        "player_steps": s.player_steps,
        "budget": s.budget,
        "rate": number(progress.get("player_steps_per_s")) if moving else None,
        "seconds_left": number(s.seconds_left) if moving else None,
        **{name: number(progress.get(name)) for name in ("updates", "version", "episodes")},
        "queue": {name: number(s.queue.get(name)) for name in ("unrolls", "capacity_unrolls", "malformed_messages")},
        "bottleneck": s.queue.get("bottleneck", "") if moving else "",
        "lag": {name: number(s.metrics.get(f"policy_lag_{name}")) for name in ("min", "mean", "max")},
        "lag_bound": config.learner.max_policy_lag if config else None,
        **{name: number(s.metrics.get(name)) for name in ("update_s", "wait_s")},
        "distils": s.distils,
        "distillation": distillation(s.distillation) if s.distillation else None,
        "workers": [_worker(role, name, fields) for (role, name), fields in s.workers.items()],
        "trouble": trouble,
        "missing": [] if trouble else s.missing(),
        "halted": halted,
        "unsaved": s.unsaved(),
        "ledger": ledger(s.ledger),
    }


def ledger(balance: Balance) -> Row:
    """Both sides of the ledger, in unrolls."""
    return {
        "produced": balance.produced,
        "accounted": balance.accounted,
        "holds": balance.holds,
        "unrecorded": balance.unrecorded,
        "terms": {name: getattr(balance, name) for name in TERMS},
        "reasons": dict(balance.reasons),
    }


def update(entry: Entry) -> Row:
    """Returns what is drawn of one update."""
    time_s, fields = entry
    return {"time_s": time_s, **{name: number(fields.get(name)) for name in CURVES}}


def distillation(fields: Mapping[str, Any]) -> Row:
    """Returns what is drawn of one distillation event, in nats."""
    return {"direction": fields.get("direction"), **{name: number(fields.get(name)) for name in DISTILLATION}}


def event(entry: Entry) -> Row:
    """Returns one event: when, who, what, and its details in their original order."""
    time_s, fields = entry
    head = {name: fields.get(name, "") for name in ("role", "name", "event")}
    if head["event"] == "distillation":
        return {"time_s": time_s, **head, "distillation": distillation(fields)}
    details = {name: value for name, value in fields.items() if name not in head}
    return {"time_s": time_s, **head, "details": details}


def _worker(role: str, name: str, fields: Mapping[str, str]) -> Row:
    numbers = (
        "player_steps_per_s",
        "theta_version",
        "phi_version",
        "unaccounted",
        "started",
        "reported",
        "advanced",
    )
    told = {key: number(fields[key]) for key in numbers if key in fields}
    return {"role": role, "name": name, "host": fields.get("host", ""), "state": fields.get("state", ""), **told}
