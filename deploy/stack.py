"""Converts the compose file to a Docker Swarm stack, dropping or translating what Swarm does not support.

    docker compose config | docker run -i --rm bidist:cpu stack | docker stack deploy -c - NAME

Swarm starts everything at once and ignores `depends_on`, so that is dropped: a role that finds no Redis exits and is
restarted. Services with a profile are dropped, and so are ports, which Swarm would open to the world. Swarm replaces
unhealthy tasks, so a heartbeat alone makes a role healthy there: restarting a learner without actors would not help.
Recent versions of `docker compose` also name the project's network and volumes, and write null for unset fields; these
are dropped, so that a stack gets its own network and volumes. The volumes with keys, which one service fills, become
secrets that must exist:

    bidist keys keys --run NAME
    for file in keys/*/*; do docker secret create "$(basename "$(dirname "$file")")-$(basename "$file")" "$file"; done
"""

from typing import IO, Any

import yaml

from deploy.keys import CONTENTS

VERSION = "3.8"
KEYS, ROLES = "keys-", ("learner", "distiller", "actor")
UNKNOWN = ("build", "depends_on", "networks", "ports", "restart", "security_opt")


def stack(compose: dict[str, Any]) -> dict[str, Any]:
    """Returns the stack for a compose file."""
    kept = {name: service for name, service in compose["services"].items() if not service.get("profiles")}
    services = {name: _service(name, service) for name, service in kept.items() if name != "keys"}
    volumes: dict[str, Any] = {name: {} for name in compose["volumes"] if not name.startswith(KEYS)}
    named = sorted({secret["source"] for service in services.values() for secret in service.get("secrets", ())})
    secrets = {name: {"external": True} for name in named}
    return {"version": VERSION, "services": services, "volumes": volumes, "secrets": secrets}


def _service(name: str, service: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in service.items() if value is not None and key not in UNKNOWN}
    deploy = dict(made.get("deploy", {}))
    condition = "on-failure" if service.get("restart") == "on-failure" else "any"
    deploy["restart_policy"] = {"condition": condition, "delay": "5s"}
    if name in ("redis", "learner"):
        deploy["endpoint_mode"] = "dnsrr"  # no load balancer: clients keep one connection for days
    made["deploy"] = deploy
    parties = [source.removeprefix(KEYS) for v in service.get("volumes", ()) if (source := _source(v)).startswith(KEYS)]
    made["volumes"] = [volume for volume in service.get("volumes", ()) if not _source(volume).startswith(KEYS)]
    if parties:
        secrets = [(f"{party}-{file}", f"/keys/{file}") for party in parties for file in CONTENTS[party]]
        made["secrets"] = [{"source": source, "target": target} for source, target in secrets]
    if name in ROLES:
        check = [word.replace("/readyz", "/healthz") for word in made["healthcheck"]["test"]]
        made["healthcheck"] = {**made["healthcheck"], "test": check}
    return made


def _source(volume: str | dict[str, Any]) -> str:
    return volume.partition(":")[0] if isinstance(volume, str) else str(volume.get("source", ""))


def convert(compose: IO[str], out: IO[str]) -> None:
    """Reads the compose file and writes the stack, both as YAML."""
    yaml.safe_dump(stack(yaml.safe_load(compose)), out, sort_keys=False)
