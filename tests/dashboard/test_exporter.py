"""What Prometheus reads is complete and documented, and raises the alerts that it should."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from documented_tables import table
from fake_runs import LiveRun
from prometheus_client.parser import text_string_to_metric_families
from scraping import scraped

from common.store import Store
from dashboard.exporter import ROLES, STATES
from dashboard.metrics import METRICS, RUNS, SERVER
from deploy.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "prometheus"


@pytest.fixture
def live(store: Store, tmp_path: Path) -> Iterator[LiveRun]:
    yield (run := LiveRun(store, tmp_path, actors=3)) and run
    store.client.delete(*store.client.keys(store.key("*")))


def test_a_live_run_has_every_metric(live: LiveRun) -> None:
    live.advance(10)
    live.store.ledger.account([("actor-0", 40, "stale", "lag")])
    found = scraped(live.store.url, live.store.run)
    assert found.keys() == METRICS.keys()
    assert found["bidist_run_state"] == {(s,): float(s == "running") for s in STATES}
    assert found["bidist_workers"] == {("learner",): 1, ("actor",): 3, ("distiller",): 1}
    terms = {labels[0]: value for labels, value in found["bidist_ledger_unrolls"].items()}
    assert terms == {
        "produced": 120,
        "trained": 117,
        "stale": 1,
        "rejected": 0,
        "rewound": 0,
        "lost": 0,
        "in_flight": 2,
    }
    assert found["bidist_ledger_imbalance_unrolls"] == {(): 0}
    assert found["bidist_ledger_reason_unrolls"] == {("stale", "lag"): 1}
    assert found["bidist_starvation_ratio"] == {(): pytest.approx(0.08)}
    assert 0 <= found["bidist_checkpoint_age_seconds"][()] < 60
    assert found["bidist_distillation_kl_nats"].keys() == {("before", "forward"), ("after", "forward")}
    assert found["bidist_redis_up"] == {(): 1} and found["bidist_redis_memory_bytes"][()] > 1e5


def test_a_run_with_damaged_keys_hides_no_other(live: LiveRun) -> None:
    live.advance(2)
    client, damaged = live.store.client, "bidist:damaged:config"
    client.set(damaged, b"\xff{")
    try:
        found = scraped(live.store.url, live.store.run)
    finally:
        client.delete(damaged)
    assert found["bidist_run_state"]["running",] == 1


def test_one_run_of_a_server_can_be_read_by_its_name(live: LiveRun, tmp_path: Path) -> None:
    other = LiveRun(Store(live.store.url, f"a-{live.store.run}"), tmp_path / "other")
    try:
        for run in (live.store.run, other.store.run):
            assert scraped(live.store.url, run).keys() >= {"bidist_run_state"}, "all runs are read"
        both = {live.store.run: True, other.store.run: False}
        for run, is_read in both.items():
            assert ("bidist_run_state" in scraped(live.store.url, run, only=live.store.run)) is is_read
        nothing = scraped(live.store.url, live.store.run, only="not-yet")
        assert nothing.keys() <= SERVER.keys() and nothing["bidist_redis_up"] == {(): 1}
    finally:
        live.store.client.delete(*live.store.client.keys(other.store.key("*")))


def test_a_run_that_has_just_begun_says_what_it_can(store: Store, tmp_path: Path) -> None:
    LiveRun(store, tmp_path)
    found = scraped(store.url, store.run)
    assert found["bidist_run_state"]["starting",] == 1
    assert "bidist_return" not in found and "bidist_checkpoint_age_seconds" not in found
    store.client.delete(*store.client.keys(store.key("*")))


def test_a_broken_ledger_and_a_missing_role_show(live: LiveRun) -> None:
    live.advance(2)
    live.store.client.hincrby(live.store.key("ledger"), "trained", -3)
    for i in range(3):
        live.store.client.delete(live.store.key(f"worker:actor:{i}"))
    found = scraped(live.store.url, live.store.run)
    assert found["bidist_ledger_imbalance_unrolls"] == {(): 3}
    assert found["bidist_role_missing"] == {(role,): float(role == "actor") for role in ROLES}


def test_the_age_of_a_checkpoint_outlasts_thousands_of_other_events(live: LiveRun) -> None:
    live.store.put_event("learner", "learner", "checkpoint", path="x", updates=1)
    for i in range(1500):
        live.store.put_event("actor", str(i), "start", incarnation="x")
    assert scraped(live.store.url, live.store.run)["bidist_checkpoint_age_seconds"][()] < 120


def test_redis_that_is_away_is_a_metric_and_no_error(tmp_path: Path) -> None:
    found = scraped(f"unix://{tmp_path}/none.sock", "any")
    assert found["bidist_redis_up"] == {(): 0}
    assert found.keys() <= SERVER.keys()


def test_every_metric_is_documented_with_its_labels() -> None:
    documented = table("prometheus.md", "Metrics")
    assert list(documented) == [*RUNS, *SERVER]
    for name, metric in RUNS.items():
        labels, unit, meaning = documented[name]
        assert tuple(re.findall(r"`(\w+)`", labels)) == metric.labels, name
        assert unit and meaning
    assert all(len(documented[name]) == 2 and not metric.labels for name, metric in SERVER.items())


def test_every_alert_is_documented_and_tested_to_fire() -> None:
    rules = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"][0]["rules"]
    alerts = {rule["alert"] for rule in rules}
    assert alerts == set(table("prometheus.md", "Alerts"))
    tests = yaml.safe_load((FILES / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert alerts == {case["alertname"] for case in cases if case.get("exp_alerts")}
    assert alerts == {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert all(rule["annotations"].keys() == {"summary", "action"} for rule in rules)


def test_rules_and_dashboard_use_metrics_that_there_are() -> None:
    boards = json.loads((FILES / "grafana" / "dashboards" / "bidist.json").read_text())
    used = {target["expr"] for panel in boards["panels"] for target in panel["targets"]}
    for rule in yaml.safe_load((FILES / "alerts.yml").read_text())["groups"][0]["rules"]:
        used.add(rule["expr"])
    for expression in used:
        names = set(re.findall(r"\bbidist_\w+", expression))
        assert names <= METRICS.keys(), expression
        for name, selector in re.findall(r"\b(bidist_\w+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)", selector))
            assert labels <= {"run", *METRICS[name].labels}, expression
    places = [tuple(panel["gridPos"].values()) for panel in boards["panels"]]
    assert len(set(places)) == len(places)


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    provisioning = FILES / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in services
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "bidist.yml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"./deploy/prometheus/grafana/dashboards:{folder}:ro" in services["grafana"]["volumes"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/bidist.json"
    board = (FILES / "grafana" / "dashboards" / "bidist.json").read_text()
    assert set(re.findall(r'"uid": "(\w+)"', board)) == {source["uid"], json.loads(board)["uid"]}


def test_promtool_finds_the_rules_right_and_sees_each_alert_fire() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here: Debian's package prometheus has it")
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([promtool, *command], cwd=FILES, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def exporter(url: str, *arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, with further arguments and environment variables, and the address of its metrics."""
    command = [
        sys.executable,
        "-m",
        "cli",
        "exporter",
        *arguments,
        "--redis",
        url,
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BIDIST_")} | variables
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)


def in_kubernetes() -> tuple[list[str], dict[str, str]]:
    """The exporter's own arguments and the run's environment variables, as the manifests have them."""
    manifests = yaml.safe_load_all((ROOT / "deploy/kubernetes/overlays/autoscaling/exporter.yaml").read_text())
    (deployment,) = (manifest for manifest in manifests if manifest["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    command, *arguments = container["args"]
    assert command == "exporter" and container["envFrom"] == [{"configMapRef": {"name": "run"}}]
    lines = (ROOT / "deploy/kubernetes/base/run.env").read_text().splitlines()
    return arguments, dict(line.split("=", 1) for line in lines)


def asked_by_keda(address: str) -> list[float]:
    """What each trigger reads over HTTP: the first sample that its selector matches."""
    manifest = yaml.safe_load((ROOT / "deploy/kubernetes/overlays/autoscaling/actor.yaml").read_text())
    values = []
    for trigger in manifest["spec"]["triggers"]:
        assert (trigger["type"], trigger["metadata"]["format"]) == ("metrics-api", "prometheus")
        name, _, selector = trigger["metadata"]["valueLocation"].partition("{")
        labels = dict(re.findall(r'(\w+)="([^"]*)"', selector))
        wanted = urllib.parse.urlsplit(trigger["metadata"]["url"]).path
        with urllib.request.urlopen(urllib.parse.urljoin(address, wanted), timeout=60) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [s for family in families for s in family.samples if s.name == name]
        values.append(next(s.value for s in samples if labels.items() <= s.labels.items()))
    return values


@pytest.mark.slow
def test_keda_reads_how_many_actors_its_own_run_wants(tmp_path: Path) -> None:
    arguments, variables = in_kubernetes()
    with RedisServer(tmp_path / "redis") as server:
        other = LiveRun(Store(server.url, "a"), tmp_path / "a")  # comes before `run`, and wants no actors
        other.store.put_progress({"state": "finished"})
        live = LiveRun(Store(server.url, variables["BIDIST_RUN"]), tmp_path / "run")
        live.advance(3)
        with exporter(server.url, *arguments, **variables) as (_, address):
            assert asked_by_keda(address) == [pytest.approx(0.08), 1]
            live.store.put_progress({"state": "finished"})
            live.store.client.delete(live.store.key("starvation"))  # as it expires
            assert asked_by_keda(address) == [0, 0]


@pytest.mark.slow
def test_without_a_run_the_command_serves_all(live: LiveRun, tmp_path: Path) -> None:
    other = LiveRun(Store(live.store.url, f"a-{live.store.run}"), tmp_path / "other")
    try:
        with exporter(live.store.url) as (_, address), urllib.request.urlopen(address, timeout=60) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    finally:
        live.store.client.delete(*live.store.client.keys(other.store.key("*")))
    runs = {sample.labels.get("run") for family in families for sample in family.samples}
    assert runs >= {live.store.run, other.store.run}


@pytest.mark.slow
def test_the_command_serves_what_prometheus_reads_and_leaves_when_told(live: LiveRun) -> None:
    live.advance(10)
    with exporter(live.store.url) as (process, address), urllib.request.urlopen(address, timeout=60) as answer:
        families = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    assert families - {"bidist_ledger_reason_unrolls"} == METRICS.keys() - {"bidist_ledger_reason_unrolls"}
    assert process.returncode == 0
