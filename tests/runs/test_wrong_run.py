"""What must not continue a run: another folder, other settings, a second `bidist train`; and what must not stop it."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from senders import BATCH, Sender
from learner_runs import configuration, learning

from common.errors import ConfigError, SetupError
from common.lifecycle import Presence
from common.run_folder import RunFolder
from common.store import Store
from common.weights import PHI, THETA
from deploy.supervisor import Supervisor


def trained(store: Store, folder: Path) -> None:
    """A run of two updates with a checkpoint, and one more."""
    config = configuration(store, folder)
    with learning(store, config) as learner:
        sender = Sender(store, config)
        for _ in range(2):
            sender.update(learner)
        learner.save()
        sender.update(learner)
        sender.outbox.close()


@pytest.mark.parametrize("other", [["learner.epochs=3"], []], ids=["settings", "folder"])
def test_a_learner_that_would_continue_another_run_changes_nothing(
    store: Store, tmp_path: Path, other: list[str]
) -> None:
    trained(store, tmp_path / "one")
    before = store.ledger.balance(), store.version(THETA), store.client.get(store.key("config"))
    folder = tmp_path / "two"
    config = configuration(store, folder, *other)
    words = r"has a checkpoint of update 2, and .* has none: name the --folder"
    if other:
        shutil.copytree(tmp_path / "one" / store.run / "checkpoints", RunFolder.of(config.run).checkpoints)
        words = r"has other settings: learner\.epochs is 2 there and 3 here; start another --run"
    with pytest.raises(ConfigError, match=words), learning(store, config):
        pass
    assert (store.ledger.balance(), store.version(THETA), store.client.get(store.key("config"))) == before
    with learning(store, configuration(store, tmp_path / "one")) as learner:
        assert learner.learner.updates == 2
        assert store.ledger.balance().rewound == BATCH


def test_a_run_whose_folder_was_copied_may_continue_from_the_copy(store: Store, tmp_path: Path) -> None:
    trained(store, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with learning(store, configuration(store, tmp_path / "two", "run.player_steps=900000")) as learner:
        assert learner.learner.updates == 2


def test_a_run_whose_checkpoints_are_all_damaged_starts_anew_and_says_so(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(store, tmp_path)
    (checkpoint,) = (tmp_path / store.run / "checkpoints").glob("[0-9]*")
    (checkpoint / "state.json").write_text("{}")
    with learning(store, configuration(store, tmp_path)) as learner:
        assert learner.learner.updates == 0
        learner.save()
    assert "skipping a damaged checkpoint" in caplog.text and "is now called" in caplog.text
    assert [path.name for path in checkpoint.parent.glob("[0-9]*[0-9]")] == ["00000000"]


@pytest.mark.parametrize("config", [b"junk", None])
def test_a_configuration_that_redis_has_lost_or_damaged_is_written_anew(
    store: Store, tmp_path: Path, config: bytes | None
) -> None:
    trained(store, tmp_path)
    store.client.delete(store.key("config"))
    if config is not None:
        store.client.set(store.key("config"), config)
    with learning(store, configuration(store, tmp_path)):
        assert store.config() == configuration(store, tmp_path)


@pytest.mark.parametrize("name", [THETA, PHI])
@pytest.mark.parametrize(
    "damage",
    [
        lambda store, name: store.client.hset(store.key(name), "version", "junk"),
        lambda store, name: store.client.hset(store.key(name), "parameters", "junk"),
        lambda store, name: (store.client.delete(store.key(name)), store.client.set(store.key(name), "junk")),
    ],
    ids=["version", "parameters", "type"],
)
def test_a_new_learner_repairs_what_it_publishes(
    store: Store, tmp_path: Path, name: str, damage: Callable[[Store, str], object]
) -> None:
    trained(store, tmp_path)
    damage(store, name)
    with learning(store, configuration(store, tmp_path)):
        weights = store.weights(THETA)
        assert weights is not None and weights.version >= 2


@pytest.mark.slow
def test_a_second_train_starts_no_role_while_a_learner_lives(store: Store, redis_url: str, tmp_path: Path) -> None:
    config = configuration(store, tmp_path / "second")
    shutil.rmtree(RunFolder.of(config.run).path)
    store.put_progress({"state": "running"})
    supervisor = Supervisor(config, 1, redis_url, threading.Event())
    with Presence(store, "learner", "learner", "first", 0.2), pytest.raises(SetupError, match="has a learner already"):
        supervisor.run()
    assert store.hash("progress")["state"] == "running"
    assert not list((RunFolder.of(config.run).logs).iterdir()), "no role was started"
