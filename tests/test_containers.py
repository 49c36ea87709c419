"""The container files keep their promises and, where a Docker engine is available, a run in containers recovers."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.keys import CONTENTS
from deploy.stack import stack
from experiments import chaos

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
ROLES = ("learner", "distiller", "actor")
VERSION = "1.32"


@cache
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.mark.parametrize("name", sorted(compose()["services"]))
def test_every_service_is_locked_down_and_limited(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["restart"]


def test_each_service_has_its_own_keys_and_no_secret_is_in_a_setting() -> None:
    services = compose()["services"]
    makes = {volume for volume in services["keys"]["volumes"] if isinstance(volume, str)}
    assert makes == {f"keys-{party}:/keys/{party}" for party in CONTENTS}
    for name, service in services.items():
        held = [v for v in service["volumes"] if isinstance(v, str) and v.startswith("keys-")]
        if name != "keys" and (held or name in ("redis", *ROLES)):
            party = name if name in ("redis", "grafana", *ROLES) else "viewer"
            more = ["keys-dashboard:/token:ro"] if name == "dashboard" else []
            assert held == [f"keys-{party}:/keys:ro", *more], name
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or variable.endswith("FILE"), (name, variable)
            assert not re.search(r"://[^@]*:[^@]*@", value), (name, variable)
    for role in ROLES:
        assert services[role]["environment"]["BIDIST_REDIS"] == f"redis://{role}@redis:6379/0"
    assert services["redis"]["depends_on"] == {"keys": {"condition": "service_completed_successfully"}}


@pytest.mark.parametrize("name", ROLES)
def test_every_role_has_a_health_check_and_time_to_stop(name: str) -> None:
    service = compose()["services"][name]
    port = service["environment"]["BIDIST_HEALTH_PORT"]
    assert f"'http://127.0.0.1:{port}/readyz'" in service["healthcheck"]["test"][-1]
    assert service["stop_grace_period"] == "45s"
    assert service["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_the_compose_file_and_the_example_have_the_same_settings() -> None:
    files = [ROOT / "docker-compose.yml", ROOT / "deploy" / "compose.gpu.yml"]
    used = {name for file in files for name in re.findall(r"\$\{(\w+)", file.read_text())}
    offered = set(re.findall(r"^(\w+)=", (ROOT / "deploy/example.env").read_text(), re.MULTILINE))
    # Few users will change the images and the ports.
    assert used - offered == {
        "IMAGE",
        "ACTOR_IMAGE",
        "GPU_IMAGE",
        "REDIS_IMAGE",
        "PROMETHEUS_IMAGE",
        "GRAFANA_IMAGE",
        "TENSORBOARD_PORT",
        "DASHBOARD_PORT",
        "PROMETHEUS_PORT",
        "GRAFANA_PORT",
    }
    assert offered - used == {"COMPOSE_PROJECT_NAME"}, "compose itself reads this one"


def test_the_image_contains_no_secrets_and_does_not_run_as_root() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert not re.search(r"password|token|secret", text, re.IGNORECASE)
    assert not re.search(r"RUN --mount|<<", text), "the classic builder does not support these"
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in kept, "only what is named gets into the image"


LACKING = """
import importlib.metadata, sys

removed = set(sys.argv[1].split())
for module, packages in importlib.metadata.packages_distributions().items():
    if removed & set(packages) and module not in ("google", "_distutils_hack", "pkg_resources"):
        sys.modules[module] = None  # its import raises

import actors.actor, cli.roles
from cli.main import main
from common.settings import load_config
from environments import build

for game in ("matrix_coordination", "coins", "chemistry__two_metabolic_cycles"):
    build(load_config(overrides=[f"environment.substrate={game}"], environ={}).environment, seed=1).close()
for command in ("actor", "status", "health"):
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert not end.code
from deploy import health, views
"""


def test_actors_do_without_what_their_image_lacks() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    removed = [name for names in re.findall(r"pip uninstall --quiet --yes ([^&\n]*)", text) for name in names.split()]
    assert {"matplotlib", "tensorboard", "scipy"} <= set(removed)
    done = subprocess.run([sys.executable, "-c", LACKING, " ".join(removed)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_stack_has_only_what_swarm_supports() -> None:
    made = stack(compose())
    assert set(made["services"]) == {"redis", *ROLES}, "services with a profile are optional"
    for service in made["services"].values():
        assert not service.keys() & {"build", "depends_on", "restart", "profiles", "ports", "security_opt"}
        policy = service["deploy"]["restart_policy"]
        assert policy["condition"] == "on-failure", "a finished run ends"
        assert "max_attempts" not in policy, "a run of several days must not be given up"
    for name in ROLES:
        check = made["services"][name]["healthcheck"]["test"][-1]
        assert "/healthz" in check and "/readyz" not in check, "Swarm replaces what is unhealthy"
        held = {(secret["source"], secret["target"]) for secret in made["services"][name]["secrets"]}
        assert held == {(f"{name}-{file}", f"/keys/{file}") for file in CONTENTS[name]}
    assert not any(name.startswith("keys") for name in made["volumes"])
    assert made["secrets"].keys() == {f"{n}-{file}" for n in ("redis", *ROLES) for file in CONTENTS[n]}
    assert made["services"]["learner"]["deploy"]["endpoint_mode"] == "dnsrr"


def test_a_stack_has_its_own_network_and_volumes_whichever_client_rendered_the_file() -> None:
    rendered = compose() | {  # what recent versions of `docker compose config` add
        "name": "bidist-run",
        "networks": {"default": {"name": "bidist-run_default", "ipam": {}}},
        "volumes": {name: {"name": f"bidist-run_{name}"} for name in compose()["volumes"]},
        "services": {
            name: service | {"entrypoint": None, "networks": {"default": None}}
            for name, service in compose()["services"].items()
        },
    }
    assert stack(rendered) == stack(compose())


# Kubernetes.


def rendered(folder: Path) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here to render the manifests")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


MANIFESTS = [*sorted(KUBERNETES.glob("base/*.yaml")), KUBERNETES / "volumes.yaml"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_manifest_matches_its_schema(path: Path) -> None:
    import kubernetes_validate

    if path.stem == "kustomization":
        return
    for manifest in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("folder", ["base", "overlays/gpu", "overlays/autoscaling"])
def test_rendered_manifests_match_their_schemas(folder: str) -> None:
    import kubernetes_validate

    manifests = rendered(KUBERNETES / folder)
    for manifest in manifests:
        if not manifest["apiVersion"].startswith("keda.sh"):  # not part of Kubernetes
            kubernetes_validate.validate(manifest, VERSION, strict=True)
    by_name = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    learner = by_name["Job", "learner"]["spec"]["template"]["spec"]["containers"][0]
    assert (learner["resources"]["limits"].get("nvidia.com/gpu") == "1") is (folder == "overlays/gpu")
    assert (("ScaledObject", "actor") in by_name) is (folder == "overlays/autoscaling")
    scaled = folder == "overlays/autoscaling"
    actor = by_name["Deployment" if scaled else "Job", "actor"]["spec"]
    assert "replicas" not in actor, "KEDA alone sets the number, and applying again must not override it"
    assert ("parallelism" in actor) is not scaled


def test_images_can_come_from_another_registry(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(KUBERNETES / 'overlays/gpu', tmp_path)}]\n"
        "images:\n- {name: bidist, newName: here/bidist, newTag: '1'}\n"
        "- {name: bidist-cuda, newName: here/bidist-cuda, newTag: '1'}\n"
    )
    images = {
        m["metadata"]["name"]: m["spec"]["template"]["spec"]["containers"][0]["image"]
        for m in rendered(tmp_path)
        if m["kind"] in ("StatefulSet", "Job")
    }
    roles = {"actor": "here/bidist:1", "distiller": "here/bidist:1", "learner": "here/bidist-cuda:1"}
    assert images == roles | {"redis": "redis:7-bookworm"}


def test_every_pod_is_locked_down_and_has_probes() -> None:
    found = 0
    for path in KUBERNETES.glob("base/*.yaml"):
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest["kind"] not in ("StatefulSet", "Job"):
                continue
            pod = manifest["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["automountServiceAccountToken"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["readinessProbe"] and container["livenessProbe"]
            assert container["resources"]["limits"]["memory"]
            found += 1
    assert found == 4


@pytest.mark.parametrize("name", ROLES)
def test_a_finished_run_is_over_in_kubernetes_and_a_stopped_one_is_not(name: str) -> None:
    manifests = yaml.safe_load_all((KUBERNETES / "base" / f"{name}.yaml").read_text())
    (job,) = (manifest["spec"] for manifest in manifests if manifest["kind"] == "Job")
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "OnFailure"
    assert "--stopped-status=143" in pod["containers"][0]["args"], "an evicted role has not finished"
    assert job["backoffLimit"] == 2**31 - 1, "a run of several days must not be given up"
    assert name == "actor" or job["podReplacementPolicy"] == "Failed", "two would share a volume"


def test_taking_a_run_down_leaves_the_volumes_that_it_uses() -> None:
    claims = {claim["metadata"]["name"] for claim in yaml.safe_load_all((KUBERNETES / "volumes.yaml").read_text())}
    used = set()
    for manifest in (m for path in MANIFESTS[:-1] for m in yaml.safe_load_all(path.read_text())):
        assert manifest["kind"] != "PersistentVolumeClaim"
        volumes = manifest["spec"]["template"]["spec"]["volumes"] if manifest["kind"] == "Job" else []
        used |= {
            volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume
        }
    assert used == claims


# With an engine.

PROJECT = "bidist-test"


def engine() -> str | None:
    """Returns why no run in containers is possible here, or None."""
    if shutil.which("docker") is None or shutil.which("docker-compose") is None:
        return "no docker and docker-compose here"
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        return "no Docker engine answers here"
    images = subprocess.run(["docker", "images", "-q", "python:3.11-slim-bookworm"], capture_output=True, text=True)
    return None if images.stdout else "the base image python:3.11-slim-bookworm is not here"


class Project:
    """A run in containers."""

    def __init__(self, folder: Path) -> None:
        self._environment = folder / ".env"
        self.set_budget(100_000_000)

    def set_budget(self, steps: int) -> None:
        """Writes `.env` with a budget."""
        self._environment.write_text(
            f"COMPOSE_PROJECT_NAME={PROJECT}\nRUN=test\nSUBSTRATE=matrix_coordination\nSTEPS={steps}\n"
            "LEARNER_ARGS=--set environment.episode_length=32 --set run.checkpoint_s=5\n"
        )

    def __call__(self, *arguments: str) -> str:
        command = ["docker-compose", "--env-file", str(self._environment), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def shell(self, lines: list[str]) -> None:
        """Carries out commands as documented."""
        client = f"docker-compose --env-file {self._environment}"
        for line in lines:
            command = line.replace("docker compose", client).replace("bidist-run_", f"{PROJECT}_")
            command = command.replace("backup.tar.gz", f"{self._environment}.tar.gz")
            done = subprocess.run(["bash", "-euc", command], cwd=ROOT, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, (line, done.stderr[-2000:])

    def redis(self, *arguments: str) -> str:
        looking = 'REDISCLI_AUTH="$(cat /keys/viewer-password)" exec redis-cli --user viewer "$@"'
        return self("exec", "-T", "redis", "sh", "-c", looking, "redis-cli", *arguments).strip()

    def ledger(self) -> dict[str, int]:
        fields = self.redis("hgetall", "bidist:test:ledger").split()
        return {name: int(count) for name, count in zip(fields[::2], fields[1::2], strict=True)}

    def left(self, *containers: str) -> list[int]:
        """Waits for containers to exit and returns their exit codes."""
        names = [f"{PROJECT}_{name}" for name in containers]
        codes = subprocess.run(["docker", "wait", *names], capture_output=True, text=True, timeout=300)
        return [int(code) for code in codes.stdout.split()]

    def version(self, name: str) -> int:
        return int(self.redis("hget", f"bidist:test:{name}", "version") or 0)

    def updates(self) -> int:
        return int(self.redis("hget", "bidist:test:progress", "updates") or 0)

    def kill(self, service: str) -> None:
        """Kills a service's process, as a crash would; the engine then restarts it."""
        pid = subprocess.check_output(
            ["docker", "inspect", "-f", "{{.State.Pid}}", f"{PROJECT}_{service}_1"], text=True
        )
        subprocess.run(["kill", "-9", pid.strip()], check=True)

    def goes_on(self) -> None:
        """Waits until the learner has made more updates than before this call."""
        before, deadline = self.updates(), time.monotonic() + 600
        version = self.version("theta")
        while time.monotonic() < deadline:
            time.sleep(2)
            if self.version("theta") > version + 3:
                return
        raise AssertionError(f"no update after {before} in ten minutes: {self('logs', '--tail', '20')}")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    if (reason := engine()) is not None:
        pytest.skip(reason)
    made = Project(tmp_path)
    try:
        made("build", "-q")
        yield made
    finally:
        made("down", "-v", "-t", "5")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_in_containers_scales_recovers_and_stops_in_order(project: Project) -> None:
    project("up", "-d")
    project.goes_on()
    project("up", "-d", "--no-recreate", "--scale", "actor=2")
    project.goes_on()
    for service in ("actor", "distiller", "learner", "redis"):
        project.kill(service)
        time.sleep(3)
        project.goes_on()
    assert "produced" in project("exec", "-T", "learner", "bidist", "status")  # status 0: the ledger balances
    project("stop", "actor")
    project("stop", "distiller", "learner")
    assert project.left("actor_1", "actor_2", "distiller_1", "learner_1") == [0, 0, 0, 0]
    assert adds_up(project.ledger())


def backup_commands() -> tuple[list[str], list[str]]:
    """What the documentation says to do to back a run up and to restore it."""
    text = (ROOT / "docs" / "containers.md").read_text().partition("## Backup and restore")[2]
    backup, restore = re.findall(r"```\n(.*?)```", text, re.DOTALL)[:2]
    return backup.splitlines(), restore.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_is_restored_from_its_backup(project: Project) -> None:
    backup, restore = backup_commands()
    project("up", "-d")
    project.goes_on()
    project.shell(backup)
    project("up", "-d", "--no-deps", "redis")
    version, produced = project.version("theta"), project.ledger()["produced"]
    project("down", "-v", "-t", "5")
    project.shell(restore)
    project.goes_on()
    assert project.version("theta") > version > 3, "it did not start anew"
    assert project.ledger()["produced"] > produced
    assert "produced" in project("exec", "-T", "learner", "bidist", "status")  # status 0: the ledger balances


def adds_up(ledger: dict[str, int]) -> bool:
    ends = ("trained", "stale", "rejected", "rewound", "lost")
    return ledger["produced"] == sum(ledger.get(name, 0) for name in ends) > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_finished_run_stays_finished_until_its_steps_are_raised(project: Project) -> None:
    roles = ("actor_1", "distiller_1", "learner_1")
    project.set_budget(40_000)
    project("up", "-d")
    assert project.left(*roles) == [0, 0, 0]
    before, updates = project.ledger(), project.updates()
    assert adds_up(before)
    project("up", "-d")
    assert project.left(*roles) == [0, 0, 0]
    assert (project.ledger(), project.updates()) == (before, updates)
    events = project.version("phi")
    project.set_budget(120_000)
    project("up")  # returns
    assert project.left(*roles, "redis_1") == [0, 0, 0, 0]
    project("up", "-d", "redis")
    assert project.updates() > updates
    assert project.version("phi") > events, "the distiller resumes, too"
    assert adds_up(project.ledger())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_everything_in_containers_may_be_killed_or_stopped() -> None:
    if (reason := engine()) is not None:
        pytest.skip(reason)
    lines: list[str] = []
    found = chaos.run(60.0, seed=1, out=None, say=lines.append, compose=ROOT / "docker-compose.yml")
    assert found.problems == [], "\n".join(lines)
    assert found.total["kills"] >= 2 and found.total["stops"] >= 1
