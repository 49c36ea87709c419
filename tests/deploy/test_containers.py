"""The files for Docker Compose and Swarm keep their promises."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.keys import CONTENTS
from deploy.stack import stack

ROOT = Path(__file__).parents[2]
ROLES = ("learner", "distiller", "actor")


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


@pytest.mark.slow
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
