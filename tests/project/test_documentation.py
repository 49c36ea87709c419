"""The documentation, compared with what a run writes and with the code."""

import ast
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from documented_tables import table
from sources import sources

from common.config import Config, MethodConfig
from common.files import read_lines
from common.settings import load_config
from common.store import PREFIX, Store
from deploy.serial import Serial
from environments.melting_pot import MeltingPot
from methods import METHODS, make_method


class Run(NamedTuple):
    """What a short serial run left behind."""

    types: dict[str, str]
    """Redis' keys, without the run's prefix, and their types."""
    fields: dict[str, set[str]]
    """The fields of each hash."""
    metrics: set[str]
    distillation: set[str]
    failed_commands: list[str]


@pytest.fixture(scope="module")
def run(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("runs")
    overrides = [
        *("environment.substrate=matrix_prisoners_dilemma", "environment.episode_length=6"),
        *("run.name=documented", f"run.folder={folder}", "run.player_steps=400", "run.checkpoint_s=0.01"),
        *("actor.environments=4", "actor.unroll_length=6", "learner.batch_unrolls=8", "learner.epochs=1"),
        *("distiller.every=1", "distiller.burn_in=2", "network.dense=8", "network.core_size=8", "method.alone_until=0"),
    ]
    store = Store(redis_url, "documented")
    head = store.key("")
    with Serial(load_config(overrides=overrides, environ={}), redis_url) as serial:
        while not serial.learner.learner.finished:
            serial.update()
        serial.learner.report()
        theta = store.weights("theta")
        assert theta is not None
        store.put_in_pool(40, theta, score=1.5)  # as the learner does for methods that keep past policies
        types, fields = _keys(store, head)
        failed = []
        for command in _commands():
            words = shlex.split(command.replace("RUN", "documented"))
            try:
                if not store.client.execute_command(*words):
                    failed.append(f"{command}: nothing")
            except Exception as error:
                failed.append(f"{command}: {error}")
    later_types, later_fields = _keys(store, head)
    types |= later_types
    for key, names in later_fields.items():
        fields[key] = fields.get(key, set()) | names
    written = folder / "documented"
    metrics, distillation = (
        {name for line in read_lines(written / file) for name in line}
        for file in ("metrics.jsonl", "distillation.jsonl")
    )
    yield Run(types, fields, metrics, distillation, failed)
    store.client.delete(*store.client.keys(f"{head}*"))


def _keys(store: Store, head: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    types, fields = {}, {}
    for key in store.client.keys(f"{head}*"):
        name = key.decode().removeprefix(head)
        types[name] = store.client.type(key).decode()
        if types[name] == "hash":
            fields[name] = {field.decode() for field in store.client.hkeys(key)}
    return types, fields


def _commands() -> list[str]:
    return [row[-1].strip("` |") for name, row in table("redis.md", "").items() if name not in ("closed", "closings")]


def test_every_redis_key_is_documented_with_its_type(run: Run) -> None:
    documented = {name: row[0].split()[0] for name, row in table("redis.md", "").items()}
    patterns = {r"^worker:.*": "worker:{role}:{name}", r"^pool:.*": "pool:{number}", r"^phi:.*": "phi:{version}"}
    found = {}
    for name, kind in run.types.items():
        pattern = next((p for p in patterns if re.match(p, name)), None)
        found[patterns[pattern] if pattern else name] = kind
    assert found == documented
    assert all(len(row) == 3 and f"{PREFIX}:RUN:" in row[2] for row in table("redis.md", "").values())


def test_every_key_in_the_store_is_documented() -> None:
    (store,) = [source for source in sources() if source.path == "common/store.py"]
    named = set()
    for node in ast.walk(store.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.key" and node.args:
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                named.add(str(argument.value).rstrip(":"))
            elif isinstance(argument, ast.JoinedStr):
                named.add(ast.unparse(argument)[2:-1])
    assert len(named) > 8
    documented = set(table("redis.md", ""))
    assert {name for name in named if name != "worker"} <= documented


def test_documented_commands_work(run: Run) -> None:
    assert len(_commands()) > 10 and not run.failed_commands


@pytest.mark.parametrize("key", ["ledger", "queue", "progress"])
def test_every_field_of_a_hash_is_documented(run: Run, key: str) -> None:
    found = {name for name in run.fields[key] if ":" not in name}
    documented = set(table("redis.md", f"`{key}`"))
    assert found <= documented
    assert key == "ledger" or found == documented, "every documented field exists"


def test_every_field_of_a_worker_and_every_event_is_documented(run: Run) -> None:
    said = {name for key, names in run.fields.items() if key.startswith("worker:") for name in names}
    events = set()
    for source in sources():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "say":
                    said |= {keyword.arg for keyword in node.keywords if keyword.arg}
                if node.func.attr == "put_event":
                    events |= {n.value for n in node.args[2:] if isinstance(n, ast.Constant)}
    assert said == set(table("redis.md", "`worker:"))
    assert events == set(table("redis.md", "`events`"))


def test_every_reason_for_a_rejection_is_documented() -> None:
    row = table("redis.md", "`ledger`")["rejected"]
    documented = set(re.findall(r"`(\w+)`", row[0]))
    reasons: dict[str, set[str]] = {}
    for source in sources():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "WireError":
                assert isinstance(node.args[0], ast.Constant)
                reasons.setdefault(source.path, set()).add(str(node.args[0].value))
    assert reasons["common/unroll.py"] <= documented
    before_the_ledger = {"header", "protocol", "run", "identity", "revoked"}
    assert documented == set().union(*reasons.values()) - before_the_ledger


def test_metrics_and_documentation_match(run: Run) -> None:
    games = {f"episode_{name}" for name in _counted_by_melting_pot()}
    learner, distiller = table("metrics.md", "Learner"), table("metrics.md", "Distiller")
    assert run.metrics | games == {"time_s"} | learner.keys()
    assert run.distillation == {"time_s"} | distiller.keys()
    assert all(len(row) >= 2 and all(row) for row in (*learner.values(), *distiller.values()))
    assert not run.metrics & games


@pytest.mark.parametrize("name", METHODS)
def test_every_metric_of_a_method_is_documented(name: str) -> None:
    documented = {metric for metric, row in table("metrics.md", "Method").items() if f"`{name}`" in row[1]}
    tree = ast.parse(Path(inspect.getfile(type(make_method(Config(method=MethodConfig(name=name)))))).read_text())
    (returned,) = [
        [key.value for key in node.keys if isinstance(key, ast.Constant)]
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "penalties"
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
    ] or [[]]
    assert documented == set(returned)


def _counted_by_melting_pot() -> set[str]:
    """The counts that the adapter derives from the events it listens to."""
    if importlib.util.find_spec("meltingpot") is None:
        pytest.skip("needs dm-meltingpot")
    environment = MeltingPot("coins", seed=1)
    environment.reset()
    environment._hear("interaction", {b"row_player_idx": 1.0, b"col_player_idx": 2.0})
    for coin in (b"red", b"blue"):
        environment._hear("coin_consumed", {b"player_coin_type": b"red", b"coin_type": coin})
    for ore in (1.0, 2.0):
        environment._hear("extraction", {b"ore_type": ore})
    return set(environment._counts)
