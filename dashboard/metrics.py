"""Every metric that the exporter exposes: name, labels, and the help text that Prometheus shows.

All are gauges, because counts go down when a learner returns to a checkpoint.
"""

from typing import NamedTuple


class Metric(NamedTuple):
    """A metric of the exporter."""

    labels: tuple[str, ...]
    """In addition to `run`, which all but the server's own metrics have."""
    help: str


SERVER = {
    "bidist_redis_up": Metric((), "Whether the Redis server answers: 1 or 0"),
    "bidist_redis_writable": Metric((), "Whether the Redis server takes writes and can keep them: 1 or 0"),
    "bidist_redis_memory_bytes": Metric((), "Memory that the Redis server uses, in bytes"),
    "bidist_scrape_seconds": Metric((), "Time that reading all runs took, in seconds"),
}
RUNS = {
    "bidist_run_info": Metric(("method", "substrate", "seed"), "Describes the run; always 1"),
    "bidist_run_state": Metric(("state",), "1 for the state that the run is in, 0 for the others"),
    "bidist_player_steps": Metric((), "Player steps in all batches so far"),
    "bidist_player_steps_budget": Metric((), "Length of the run in player steps"),
    "bidist_player_steps_per_second": Metric(
        (), "The learner's rate from update to update, in player steps per second"
    ),
    "bidist_actor_player_steps_per_second": Metric((), "Player steps per second of all live actors together"),
    "bidist_updates": Metric((), "Updates of theta so far"),
    "bidist_episodes": Metric((), "Episodes finished so far"),
    "bidist_theta_version": Metric((), "Published version of the learning policies"),
    "bidist_phi_version": Metric((), "Published version of the distilled policies; missing if the method has none"),
    "bidist_return": Metric(("players",), "Episode return per player over the newest 20 episodes: learning, others"),
    "bidist_entropy_nats": Metric((), "Entropy of the learning policies, in nats"),
    "bidist_explained_variance_ratio": Metric(
        (), "Share of the returns' variance that the values explain; 1 is perfect"
    ),
    "bidist_policy_lag_versions": Metric(("statistic",), "Policy lag in the last batch, in versions: min, mean, max"),
    "bidist_policy_lag_limit_versions": Metric(
        (), "The largest lag with which an unroll is still trained on, in versions"
    ),
    "bidist_update_seconds": Metric((), "From the last batch's arrival to the end of its update, in seconds"),
    "bidist_wait_seconds": Metric((), "Time that the learner waited for the last batch, in seconds"),
    "bidist_starvation_ratio": Metric(
        (), "Share of its time that the learner waits for unrolls, from 0 to 1; scale actors on it"
    ),
    "bidist_queue_unrolls": Metric((), "Unrolls at the learner that are not trained on yet"),
    "bidist_queue_capacity_unrolls": Metric((), "Unrolls that may wait at the learner"),
    "bidist_malformed_messages": Metric(
        (), "Messages dropped since the learner started because they are not this run's"
    ),
    "bidist_ledger_unrolls": Metric(
        ("term",), "What became of unrolls: produced, trained, stale, rejected, rewound, lost, in_flight"
    ),
    "bidist_ledger_reason_unrolls": Metric(("outcome", "reason"), "Why unrolls are stale or were rejected"),
    "bidist_ledger_imbalance_unrolls": Metric((), "Produced minus accounted for; anything but 0 is a bug"),
    "bidist_workers": Metric(("role",), "Living processes of each role"),
    "bidist_role_missing": Metric(("role",), "1 if the run needs a role that is missing, else 0"),
    "bidist_checkpoint_age_seconds": Metric(
        (), "Time since the newest checkpoint, or since the learner's start if there is none yet, in seconds"
    ),
    "bidist_distillation_events": Metric((), "Distillation events so far"),
    "bidist_distillation_kl_nats": Metric(
        ("when", "direction"), "KL(theta || phi) before and after the last distillation event, in nats"
    ),
}
METRICS = {**SERVER, **RUNS}
