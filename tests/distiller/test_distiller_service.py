"""phi's first version, and where phi comes from when Redis, the distiller's files or both have lost it."""

import shutil
from pathlib import Path

import pytest
import torch
from serial_runs import configuration
from torch import Tensor

import environments
from common.config import Config
from common.run_folder import RunFolder
from common.store import Store
from common.weights import PHI, THETA, Weights
from deploy.serial import Serial
from distiller.initial_phi import first_phi
from methods import make_method


def equal(x: Weights, y: Weights) -> bool:
    """Whether two versions are the same in every respect."""
    same = all(torch.equal(p, y.parameters[name]) for name, p in x.parameters.items())
    return (
        same
        and x.parameters.keys() == y.parameters.keys()
        and (x.version, x.source_version, x.direction) == (y.version, y.source_version, y.direction)
    )


def weights(store: Store, name: str) -> Weights:
    found = store.weights(name)
    assert found is not None
    return found


def lose(store: Store, *names: str) -> None:
    """Deletes keys of a run; all of them if none is named."""
    keys = [store.key(name) for name in names] or list(store.client.scan_iter(match=store.key("*")))
    store.client.delete(*keys)


def theta(config: Config, version: int) -> Weights:
    torch.manual_seed(config.run.seed)
    spec = environments.spec(config.environment)
    network = make_method(config).network(spec, 1)
    return Weights(version, {name: p.detach() for name, p in network.named_parameters()}, version)


def test_phi_starts_as_a_copy_of_theta(tmp_path: Path) -> None:
    config = configuration(tmp_path, "copy")
    given = theta(config, 5)
    phi = first_phi(make_method(config), environments.spec(config.environment), given)
    assert (phi.version, phi.source_version, phi.direction) == (0, 5, "initial")
    assert all(torch.equal(phi.parameters[name], x) for name, x in given.parameters.items())


def test_phi_at_random_depends_on_the_seed_alone_and_is_not_theta(tmp_path: Path) -> None:
    def phi(seed: int) -> dict[str, Tensor]:
        config = configuration(tmp_path, "random", "method.name=bidist-no-distillation", f"run.seed={seed}")
        given = theta(config, 0)
        torch.manual_seed(seed + 17)  # whatever the process drew before
        made = first_phi(make_method(config), environments.spec(config.environment), given)
        assert not torch.equal(made.parameters["dense.weight"], given.parameters["dense.weight"])
        return dict(made.parameters)

    state = torch.get_rng_state()
    first, again, other = phi(3), phi(3), phi(4)
    assert all(torch.equal(x, again[name]) for name, x in first.items())
    assert not torch.equal(first["dense.weight"], other["dense.weight"])
    torch.set_rng_state(state)


def test_phi_is_published_again_if_redis_loses_it_before_the_first_checkpoint(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, "lost-early", "distiller.every=2")
    RunFolder.of(config.run).create(config)
    with Serial(config, redis_url) as serial:
        for _ in range(3):
            serial.update()
        before = weights(serial.store, PHI)
        assert before.version == 1 and before.direction == "forward"
        lose(serial.store)
        serial.learner.report()
        assert serial.store.version(PHI) is None, "no checkpoint has it: it is the distiller's to publish"
        assert serial.distiller is not None
        serial.distiller.step()
        assert equal(weights(serial.store, PHI), before)
        for _ in range(3):
            serial.update()
        assert weights(serial.store, PHI).version == 3


@pytest.mark.parametrize("lost", [("redis",), ("redis", "files"), ("files",), ()])
def test_a_restarted_run_continues_with_the_same_phi(redis_url: str, tmp_path: Path, lost: tuple[str, ...]) -> None:
    config = configuration(tmp_path, f"restart-{'-'.join(lost)}", "distiller.every=2")
    folder = RunFolder.of(config.run)
    folder.create(config)
    with Serial(config, redis_url) as serial:
        for _ in range(4):
            serial.update()
        before, store = weights(serial.store, PHI), serial.store
    if "redis" in lost:
        lose(store)
    if "files" in lost:
        shutil.rmtree(folder.distiller)
    with Serial(config, redis_url) as again:
        assert equal(weights(again.store, PHI), before)
        for _ in range(2):
            again.update()
        # Without its files it does not know that it has seen the newest observations, and distils on them once more.
        events = 2 if lost == ("files",) else 1
        assert weights(again.store, PHI).version == before.version + events


def test_a_run_of_a_version_without_kept_versions_of_phi_continues(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, "older", "distiller.every=2")
    RunFolder.of(config.run).create(config)
    with Serial(config, redis_url) as serial:
        for _ in range(4):
            serial.update()
        before, store = weights(serial.store, PHI), serial.store
    lose(store, "phis", *store.phis())
    with Serial(config, redis_url) as again:
        assert again.store.phis() == {f"phi:{before.version}": before.version}
        assert equal(weights(again.store, PHI), before)
        again.update()


def test_a_method_whose_phi_never_moves_has_it_published_by_the_distiller(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, "rests", "method.name=bidist-no-distillation")
    RunFolder.of(config.run).create(config)
    with Serial(config, redis_url) as serial:
        assert serial.distiller is not None
        assert serial.distiller.state == "idle: this method distils nothing"
        before = weights(serial.store, PHI)
        assert before.direction == "initial"
        for _ in range(2):
            serial.update()
        assert equal(weights(serial.store, PHI), before)
        assert weights(serial.store, THETA).version == 2
        lose(serial.store, PHI)
        assert not serial.distiller.step()
        assert equal(weights(serial.store, PHI), before)
