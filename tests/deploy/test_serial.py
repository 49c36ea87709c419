"""All roles in one process: the same seed gives the same run, and small matrix games are learnt in seconds."""

from pathlib import Path

import pytest
import torch
from serial_runs import configuration
from torch import Tensor

from common.config import Config
from common.errors import SetupError
from common.files import read_lines
from common.run_folder import RunFolder
from deploy.serial import Serial


def train(config: Config, url: str, updates: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns theta and phi after some updates; the ledger must balance."""
    RunFolder.of(config.run).create(config)
    with Serial(config, url) as serial:
        for _ in range(updates):
            serial.update()
        theta, phi = (serial.store.weights(name) for name in ("theta", "phi"))
        balance = serial.store.ledger.balance()
    assert balance.holds
    assert balance.trained == updates * config.learner.batch_unrolls
    assert theta is not None
    return dict(theta.parameters), {} if phi is None else dict(phi.parameters)


def equal(x: dict[str, Tensor], y: dict[str, Tensor]) -> bool:
    return all(torch.equal(x[name], y[name]) for name in x)


@pytest.mark.parametrize("parameters", ["shared", "per_player"])
def test_the_same_seed_gives_bit_identical_parameters_and_another_does_not(
    redis_url: str, tmp_path: Path, parameters: str
) -> None:
    def run(name: str, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        stack = f"network.parameters={parameters}"
        config = configuration(tmp_path, f"{tmp_path.name}-{name}", f"run.seed={seed}", stack, "environment.players=3")
        return train(config, redis_url, updates=4)

    (theta, phi), (theta_again, phi_again), (theta_other, phi_other) = run("a", 1), run("b", 1), run("c", 2)
    assert equal(theta, theta_again)
    assert equal(phi, phi_again)
    assert not equal(theta, theta_other)
    assert not equal(phi, phi_other)
    assert not equal(theta, phi)


@pytest.mark.slow
def test_prisoners_learn_to_defect(redis_url: str, tmp_path: Path) -> None:
    """Both end up with 1 per step, although random players earn 2.25."""
    game = ["environment.substrate=matrix_prisoners_dilemma", "learner.learning_rate=0.003"]
    more = ["method.name=mappo", "actor.environments=16", "learner.batch_unrolls=16"]
    config = configuration(tmp_path, f"{tmp_path.name}-defect", *game, *more)
    train(config, redis_url, updates=100)
    lines = read_lines(RunFolder.of(config.run).metrics)
    assert lines[1]["return_learning"] == pytest.approx(18.0, rel=0.4)
    assert lines[-1]["return_learning"] < 9.0


def test_between_events_phi_does_not_move(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, f"{tmp_path.name}-rests", "distiller.every=4")
    RunFolder.of(config.run).create(config)
    seen = []
    with Serial(config, redis_url) as serial:
        for _ in range(12):
            serial.update()
            phi = serial.store.weights("phi")
            assert phi is not None
            seen.append(phi)
    for update, (before, after) in enumerate(zip(seen, seen[1:], strict=False), start=2):
        event = update % 4 == 0
        assert (after.version != before.version) is event
        assert equal(dict(before.parameters), dict(after.parameters)) is not event
    events = read_lines(RunFolder.of(config.run).distillation)
    assert [event["update"] for event in events] == [4, 8, 12]
    assert [event["direction"] for event in events] == ["forward", "reverse", "forward"]


def test_a_run_resumes_from_its_checkpoint(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, f"{tmp_path.name}-resumed")
    train(config, redis_url, updates=4)
    with Serial(config, redis_url) as serial:
        assert serial.learner.learner.updates == 4
        for _ in range(3):
            serial.update()
        assert serial.store.ledger.balance().holds
    folder = RunFolder.of(config.run)
    lines = read_lines(folder.metrics)
    assert [line["updates"] for line in lines] == list(range(1, 8))
    steps = [line["player_steps"] for line in lines]
    assert steps == [steps[0] * k for k in range(1, 8)]
    assert [event["events"] for event in read_lines(folder.distillation)] == [1, 2]


def test_a_run_leaves_torch_as_it_was(redis_url: str, tmp_path: Path) -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        train(configuration(tmp_path, f"{tmp_path.name}-leaves-no-trace"), redis_url, updates=1)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_a_redis_that_lost_the_run_is_filled_again(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, f"{tmp_path.name}-forgotten", "run.heartbeat_s=0.05")
    RunFolder.of(config.run).create(config)
    with Serial(config, redis_url) as serial:
        for _ in range(4):
            serial.update()
        serial.learner.save()
        phi = serial.store.weights("phi")
        for key in serial.store.client.scan_iter(match=serial.store.key("*")):
            serial.store.client.delete(key)
        serial.learner.report()
        assert serial.store.config(timeout_s=0) == config
        assert serial.store.endpoint() == serial.learner.endpoint
        again = serial.store.weights("phi")
        assert phi is not None and again is not None
        assert (again.version, again.direction) == (phi.version, phi.direction)
        assert equal(dict(phi.parameters), dict(again.parameters))
        for _ in range(4):
            serial.update()
        assert serial.store.ledger.balance().holds


def test_a_learner_leaves_when_another_takes_over_its_run(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, f"{tmp_path.name}-taken-over")
    RunFolder.of(config.run).create(config)
    taken_over = pytest.raises(
        SetupError, match=f"another learner, at tcp://elsewhere:1, took run {config.run.name} over"
    )
    with taken_over, Serial(config, redis_url) as serial:
        serial.update()
        serial.store.put_endpoint("tcp://elsewhere:1")
        serial.learner.report()
    assert not RunFolder.of(config.run).checkpoints.exists(), "the run belongs to another learner now"
