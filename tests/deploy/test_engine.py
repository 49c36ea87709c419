"""With a Docker engine: a run in containers scales, recovers, is restored from its backup, and ends."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from experiments.stress import chaos

ROOT = Path(__file__).parents[2]
ROLES = ("learner", "distiller", "actor")
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

    def wait_for_updates(self) -> None:
        """Waits until the learner has published theta more than three versions later than before this call."""
        before, deadline = self.version("theta"), time.monotonic() + 600
        while time.monotonic() < deadline:
            time.sleep(2)
            if self.version("theta") > before + 3:
                return
        raise AssertionError(f"theta {before} is not followed in ten minutes: {self('logs', '--tail', '20')}")


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
    project.wait_for_updates()
    project("up", "-d", "--no-recreate", "--scale", "actor=2")
    project.wait_for_updates()
    for service in ("actor", "distiller", "learner", "redis"):
        project.kill(service)
        time.sleep(3)
        project.wait_for_updates()
    assert "produced" in project("exec", "-T", "learner", "bidist", "status")  # status 0: the ledger balances
    assert_no_secret_shows(project)
    project("stop", "actor")
    project("stop", "distiller", "learner")
    assert project.left("actor_1", "actor_2", "distiller_1", "learner_1") == [0, 0, 0, 0]
    assert adds_up(project.ledger())


def assert_no_secret_shows(project: Project) -> None:
    """No key or password is in a container's definition, log or processes, or in the history of its image."""
    secrets = set(project("exec", "-T", "redis", "cat", "/keys/viewer-password").split())
    for role in ROLES:
        secrets |= set(project("exec", "-T", role, "sh", "-c", "cat /keys/*.secret /keys/*password || true").split())
    assert len(secrets) == 6, "two keys for CurveZMQ and four passwords"
    shown = []
    for container in docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}").split():
        image = docker("inspect", "-f", "{{.Image}}", container).strip()
        shown += [docker("inspect", container), docker("logs", container), docker("history", "--no-trunc", image)]
        if docker("inspect", "-f", "{{.State.Running}}", container).strip() == "true":
            shown.append(docker("top", container))
    assert "learner" in "".join(shown)
    assert not [secret for secret in secrets if any(secret in text for text in shown)]


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def documented(section: str, blocks: int) -> list[list[str]]:
    """The commands of the first blocks of a section of the documentation."""
    text = (ROOT / "docs" / "containers.md").read_text().partition(f"## {section}\n")[2]
    return [block.splitlines() for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)[:blocks]]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_is_restored_from_its_backup(project: Project) -> None:
    backup, restore = documented("Backup and restore", 2)
    project("up", "-d")
    project.wait_for_updates()
    project.shell(backup)
    project("up", "-d", "--no-deps", "redis")
    version, produced = project.version("theta"), project.ledger()["produced"]
    project("down", "-v", "-t", "5")
    project.shell(restore)
    project.wait_for_updates()
    assert project.version("theta") > version > 3, "it did not start anew"
    assert project.ledger()["produced"] > produced
    assert "produced" in project("exec", "-T", "learner", "bidist", "status")  # status 0: the ledger balances


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_actors_whose_key_is_withdrawn_are_out_until_they_have_a_new_one(project: Project) -> None:
    (steps,) = documented("Keys", 1)
    project("up", "-d")
    project.wait_for_updates()
    project.shell(steps[:1])
    until(lambda: "this actor's key" in docker("logs", f"{PROJECT}_actor_1"))
    produced = project.ledger()["produced"]
    time.sleep(10)
    assert project.ledger()["produced"] == produced
    project.shell(steps[1:])
    project.wait_for_updates()
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
