"""Makes a Docker Swarm stack out of the compose file: what Swarm has no word for goes or is said in its own.

    docker compose config | docker run -i --rm bidist:cpu stack | docker stack deploy -c - NAME

Swarm starts everything at once, so `depends_on` goes: a role that finds no Redis leaves, and is started again. Services
with a profile go, and ports, which Swarm would open to the world. Swarm replaces what is unhealthy, so there a role is
well as long as it reports: a learner without actors is no reason to start another one. Today's `docker compose` names
the project's network and volumes, and writes null for what is not set; these go too, so that a stack has a network and
volumes of its own.
"""

from typing import IO, Any

import yaml

VERSION = "3.8"
UNKNOWN = ("build", "depends_on", "networks", "ports", "restart", "security_opt")


def stack(compose: dict[str, Any]) -> dict[str, Any]:
    """The compose file, as a stack."""
    kept = {name: service for name, service in compose["services"].items() if not service.get("profiles")}
    services = {name: _service(name, service) for name, service in kept.items()}
    return {"version": VERSION, "services": services, "volumes": {name: {} for name in compose["volumes"]}}


def _service(name: str, service: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in service.items() if value is not None and key not in UNKNOWN}
    deploy = dict(made.get("deploy", {}))
    condition = "on-failure" if service.get("restart") == "on-failure" else "any"
    deploy["restart_policy"] = {"condition": condition, "delay": "5s"}
    if name in ("redis", "learner"):
        deploy["endpoint_mode"] = "dnsrr"  # who talks to them keeps one connection for days: no balancer in between
    made["deploy"] = deploy
    check = made.get("healthcheck", {}).get("test", [])
    if "health" in check:
        made["healthcheck"] = {**made["healthcheck"], "test": [*check, "--alive"]}
    return made


def convert(compose: IO[str], out: IO[str]) -> None:
    """Reads the compose file and writes the stack, both as YAML."""
    yaml.safe_dump(stack(yaml.safe_load(compose)), out, sort_keys=False)
