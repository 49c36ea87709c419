"""`bidist exporter`: the state of a Redis server's runs, or of one of them, read at each Prometheus scrape."""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from common.errors import ConfigError
from dashboard.metrics import METRICS, RUNS, SERVER, Metric
from dashboard.source import AWAY, Address, RunReader, names
from dashboard.state import TERMS, number, state

log = logging.getLogger(__name__)

LIMIT_S = 3.0
"""How long a scrape may take; Prometheus gives up after ten seconds by default."""
STATES = ("starting", "running", "finishing", "finished", "stopped")
ROLES = ("learner", "actor", "distiller")

Sample = tuple[str, tuple[str, ...], float | None]
"""A metric's name, the values of its labels besides `run`, and its value; None omits the sample."""


class RunsCollector(Collector):
    """All runs of one Redis server, or one of them.

    Args:
      url: the server's.
      run: the name of the only run to collect, which need not exist yet; None collects all.
    """

    def __init__(self, url: str, run: str | None = None) -> None:
        self._url, self._run = url, run
        self._checkpoints: dict[str, tuple[RunReader, float | None]] = {}
        self._reading: Future[list[GaugeMetricFamily]] | None = None
        self._lock = threading.Lock()

    def describe(self) -> list[GaugeMetricFamily]:
        """Describes nothing: the metrics are known only after asking Redis."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Collects the metrics of one scrape; simultaneous ones share a reading of Redis.

        A server that does not answer in time counts as one that is down.
        """
        started = time.monotonic()
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = Future()
                threading.Thread(target=self._fulfil, args=(self._reading,), daemon=True).start()
            reading = self._reading
        try:
            families = reading.result(LIMIT_S)
        except TimeoutError:
            families = [_server("bidist_redis_up", 0)]
        yield from families
        yield _server("bidist_scrape_seconds", time.monotonic() - started)

    def _fulfil(self, reading: "Future[list[GaugeMetricFamily]]") -> None:
        try:
            reading.set_result(self._read())
        except BaseException as error:
            reading.set_exception(error)

    def _read(self) -> list[GaugeMetricFamily]:
        families = {name: _family(name, metric) for name, metric in METRICS.items()}
        server = Address(self._url, "")
        try:
            trouble = server.unwritable() if server.refusal() is None else None
            families["bidist_redis_writable"].add_metric([], int(trouble is None))
        except AWAY:
            return [_server("bidist_redis_up", 0)]
        for run in names(self._url):
            if self._run not in (None, run):
                continue
            try:
                self._add(run, families, trouble)
            except AWAY as error:
                if trouble is not None or server.refusal() is not None:
                    break  # every other run would wait for it, too
                log.warning("run %s cannot be read: %s", run, error)  # which hides no other run
        if server.refusal() is not None:
            return [_server("bidist_redis_up", 0)]
        families["bidist_redis_up"].add_metric([], 1)
        return [family for family in families.values() if family.samples]

    def _add(self, run: str, families: Mapping[str, GaugeMetricFamily], trouble: str | None) -> None:
        reader, checkpoint_s = self._checkpoints.get(run) or (RunReader(Address(self._url, run)), None)
        snapshot = reader.snapshot()
        for time_s, fields in reader.new("events"):
            if fields.get("event") == "checkpoint":
                checkpoint_s = time_s
        self._checkpoints[run] = reader, checkpoint_s
        if not families["bidist_redis_memory_bytes"].samples:
            families["bidist_redis_memory_bytes"].add_metric([], reader.memory_bytes())
        now = {**state(snapshot, trouble), "metrics": snapshot.metrics}
        for name, labels, value in samples(now, reader.starvation_percent(), checkpoint_s, time.time()):
            if value is not None:
                families[name].add_metric([run, *labels], value)


def samples(
    now: Mapping[str, Any], starvation_percent: float | None, checkpoint_s: float | None, time_s: float
) -> Iterator[Sample]:
    """Returns a run's samples.

    Args:
      now: its state, and the last update's `metrics`.
      starvation_percent: the learner's; None if its last report is too old.
      checkpoint_s: when the newest checkpoint was written, in seconds since 1970; None if there is none.
      time_s: the time of the scrape, in seconds since 1970.
    """
    metrics, workers, ledger, queue = now["metrics"], now["workers"], now["ledger"], now["queue"]
    if now["method"] is not None:
        yield "bidist_run_info", (now["method"], now["game"], str(now["seed"])), 1
    yield from (("bidist_run_state", (name,), int(now["state"] == name)) for name in STATES)
    for name, key in (
        ("player_steps", "player_steps"),
        ("player_steps_budget", "budget"),
        ("player_steps_per_second", "rate"),
        ("updates", "updates"),
        ("episodes", "episodes"),
        ("theta_version", "version"),
        ("update_seconds", "update_s"),
        ("wait_seconds", "wait_s"),
        ("policy_lag_limit_versions", "lag_bound"),
    ):
        yield f"bidist_{name}", (), now[key]
    yield from (("bidist_policy_lag_versions", (name,), value) for name, value in now["lag"].items())
    yield from (("bidist_return", (p,), number(metrics.get(f"return_{p}"))) for p in ("learning", "others"))
    yield "bidist_entropy_nats", (), number(metrics.get("entropy_nats"))
    yield "bidist_explained_variance_ratio", (), number(metrics.get("explained_variance"))
    yield "bidist_starvation_ratio", (), starvation_ratio(now["state"], starvation_percent)
    yield "bidist_queue_unrolls", (), queue["unrolls"]
    yield "bidist_queue_capacity_unrolls", (), queue["capacity_unrolls"]
    yield "bidist_malformed_messages", (), queue["malformed_messages"]
    yield "bidist_ledger_unrolls", ("produced",), ledger["produced"]
    yield from (("bidist_ledger_unrolls", (term,), ledger["terms"][term]) for term in TERMS)
    for reason, count in ledger["reasons"].items():
        outcome, _, why = reason.partition(":")
        yield "bidist_ledger_reason_unrolls", (outcome, why), count
    yield "bidist_ledger_imbalance_unrolls", (), ledger["produced"] - ledger["accounted"]
    for role in ROLES:
        yield "bidist_workers", (role,), sum(worker["role"] == role for worker in workers)
        yield "bidist_role_missing", (role,), int(role in now["missing"])
    rates = [worker.get("player_steps_per_s") or 0 for worker in workers if worker["role"] == "actor"]
    yield "bidist_actor_player_steps_per_second", (), sum(rates)
    versions = [worker.get("phi_version") for worker in workers if worker["role"] == "distiller"]
    yield "bidist_phi_version", (), versions[0] if versions else None
    since = [worker.get("started") for worker in workers if worker["role"] == "learner"]
    begun = checkpoint_s if checkpoint_s is not None else (since[0] if since else None)
    yield "bidist_checkpoint_age_seconds", (), None if begun is None else max(0.0, time_s - begun)
    if (event := now["distillation"]) is not None:
        yield "bidist_distillation_events", (), event["events"]
        for when in ("before", "after"):
            yield "bidist_distillation_kl_nats", (when, event["direction"] or ""), event[f"kl_{when}_nats"]


def starvation_ratio(state: str | None, percent: float | None) -> float | None:
    """Returns the share of its time that the learner waits: 0 if the run is finished, None if its report is too old."""
    if state == "finished":
        return 0.0  # without a number, an autoscaler would take the metric for broken
    return None if percent is None else percent / 100


def serve(url: str, run: str | None, host: str, port: int) -> int:
    """Serves `/metrics` until SIGINT or SIGTERM.

    Args:
      url: the Redis server's.
      run: the only run to expose; None exposes all.
      host: the address to listen on.
      port: 0 takes a free one.

    Raises:
      ConfigError: if it cannot listen.
    """
    registry = CollectorRegistry()
    registry.register(RunsCollector(url, run))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; name another --host or --port"
        ) from None
    shown = "the runs" if run is None else f"run {run}"
    print(f"metrics of {shown} at {Address(url, '').shown}: http://{host}:{server.server_port}/metrics", flush=True)
    stopping = threading.Event()
    for number_ in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number_, lambda *_: stopping.set())
    stopping.wait()
    server.shutdown()
    thread.join()
    return 0


def _server(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, SERVER[name].help, value)


def _family(name: str, metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, metric.help, labels=[*(["run"] if name in RUNS else []), *metric.labels])
