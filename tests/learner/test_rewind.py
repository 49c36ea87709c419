"""What becomes of theta and phi when the learner goes back to a checkpoint: exactly what they would have been."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from learner_runs import CPU
from senders import BATCH, Sender
from torch import Tensor

from common.config import Config
from common.run_folder import RunFolder
from common.settings import load_config
from common.store import Store
from common.weights import PHI, THETA, Weights
from distiller.service import DistillerService
from learner.ranks import Ranks
from learner.service import LearnerService


def configuration(folder: Path, name: str, *overrides: str) -> Config:
    small = [
        *("environment.substrate=matrix_coordination", "actor.unroll_length=8", f"learner.batch_unrolls={BATCH}"),
        *("learner.device=cpu", "learner.minibatches=2", "network.dense=8", "network.core_size=8"),
        *("distiller.every=2", "distiller.burn_in=1", "distiller.minibatches=2", "method.versions=3"),
    ]
    names = [f"run.folder={folder}", f"run.name={name}"]
    config = load_config(overrides=[*small, *names, *overrides], environ={})
    RunFolder.of(config.run).create(config)
    return config


class Run:
    """A learner and a distiller that are fed a recorded stream of unrolls, and can die."""

    def __init__(self, url: str, config: Config) -> None:
        self.store, self.config = Store(url, config.run.name), config
        self.sent = 0
        self._lives = 0

    @contextlib.contextmanager
    def learning(self) -> Iterator[LearnerService]:
        """A learner until it dies: it saves nothing on the way out."""
        with LearnerService(self.store, self.config, "tcp://127.0.0.1:*", "127.0.0.1", Ranks(CPU)) as learner:
            self._lives += 1
            sent = learner.learner.updates * BATCH
            self._sender = Sender(self.store, self.config, f"a-{self._lives}", skip=sent)
            try:
                yield learner
            finally:
                self._sender.outbox.close()

    def update(self, learner: LearnerService, distiller: DistillerService) -> None:
        self._sender.update(learner)
        distiller.step()

    def phi(self) -> Weights:
        found = self.store.weights(PHI)
        assert found is not None
        return found


class State(NamedTuple):
    """All that a later update or event can depend on."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


def everything(learner: LearnerService, distiller: DistillerService) -> State:
    """The state of both, but for theta's version, which never goes back, and torch's generator, which nobody uses."""
    groups = learner.learner.tensors() | {f"phi's {name}": x for name, x in distiller.distiller.tensors().items()}
    del groups["random"]
    tensors = {f"{group}/{name}": x for group, part in groups.items() for name, x in part.items()}
    numbers = learner.learner.counters() | {f"phi's {name}": x for name, x in distiller.distiller.state().items()}
    del numbers["version"]
    return State(tensors, numbers)


def assert_same(found: State, expected: State) -> None:
    assert found.numbers == expected.numbers and found.tensors.keys() == expected.tensors.keys()
    for name, x in expected.tensors.items():
        assert torch.equal(found.tensors[name], x), name


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["learner", "both"])
@pytest.mark.parametrize("phase", [1, 3])
def test_theta_and_phi_are_what_they_would_have_been(redis_url: str, tmp_path: Path, phase: int, dies: str) -> None:
    """Killed three events after its checkpoint, on a recorded stream of unrolls; bit-equal, optimisers included."""
    settings = f"distiller.phase_events={phase}"
    whole = Run(redis_url, configuration(tmp_path, f"{tmp_path.name}-whole", settings))
    with whole.learning() as learner, DistillerService(whole.store, whole.config) as distiller:
        for _ in range(14):
            whole.update(learner, distiller)
        expected, version = everything(learner, distiller), whole.phi().version
    run = Run(redis_url, configuration(tmp_path, f"{tmp_path.name}-killed", settings))
    with contextlib.ExitStack() as lives:
        with run.learning() as learner:
            distiller = lives.enter_context(DistillerService(run.store, run.config))
            for update in range(11):
                run.update(learner, distiller)
                if update in (0, 4):
                    learner.save()
        lost, kept = run.phi(), run.store.phis()
        theta_lost = run.store.version(THETA)
        assert lost.version == 5 and kept == {"phi:3": 3.0, "phi:4": 4.0, "phi:5": 5.0}
        with run.learning() as learner:
            assert learner.learner.updates == 5
            again = run.phi()
            assert again.version > lost.version and again.source_version <= 5, "versions never go back"
            assert (run.store.version(THETA) or 0) > (theta_lost or 0)
            assert run.store.phis() == {f"phi:{again.version}": again.version}, "nobody draws what was lost"
            if dies == "both":
                lives.close()
                distiller = lives.enter_context(DistillerService(run.store, run.config))
            for _ in range(9):
                run.update(learner, distiller)
            assert_same(everything(learner, distiller), expected)
            assert run.phi().version == again.version + 5 and run.phi().version > version
            assert run.store.ledger.balance().holds


def test_a_distiller_in_the_middle_of_an_event_cannot_bring_a_lost_phi_back(redis_url: str, tmp_path: Path) -> None:
    run = Run(redis_url, configuration(tmp_path, tmp_path.name))
    with contextlib.ExitStack() as lives:
        with run.learning() as learner:
            distiller = lives.enter_context(DistillerService(run.store, run.config))
            for _ in range(2):
                run.update(learner, distiller)
            learner.save()
            kept = run.phi()
            for _ in range(2):
                run.update(learner, distiller)
            for _ in range(2):
                run._sender.update(learner)
            theta = run.store.wait_for_weights

            def resume(*arguments: object) -> Weights:
                """It has just read theta, which is then lost."""
                found = theta(THETA)
                lives.enter_context(run.learning())
                return found

        distiller.store = _Interrupted(run.store, resume)
        assert distiller.step()
        distiller.store = run.store
        assert run.phi().source_version == kept.source_version
        distiller.step()
        assert all(torch.equal(x, kept.parameters[name]) for name, x in distiller.distiller.phi.named_parameters())
        assert distiller.distiller.events == 1 and distiller.version == run.phi().version


class _Interrupted(Store):
    """The run's keys, with something that happens when theta is read."""

    def __init__(self, store: Store, happens: object) -> None:
        vars(self).update(vars(store))
        self._happens = happens

    def wait_for_weights(self, name: str, timeout_s: float = 120.0) -> Weights:
        assert callable(self._happens)
        found: Weights = self._happens() if name == THETA else super().wait_for_weights(name, timeout_s)
        return found


def test_phi_goes_back_even_if_the_distiller_has_lost_its_files(redis_url: str, tmp_path: Path) -> None:
    run = Run(redis_url, configuration(tmp_path, tmp_path.name))
    with run.learning() as learner, DistillerService(run.store, run.config) as distiller:
        for update in range(8):
            run.update(learner, distiller)
            if update == 2:
                learner.save()
                kept = run.phi()
    shutil.rmtree(RunFolder.of(run.config.run).distiller)
    with run.learning() as learner, DistillerService(run.store, run.config) as distiller:
        for found in (run.phi().parameters, dict(distiller.distiller.phi.named_parameters())):
            assert all(torch.equal(x, kept.parameters[name]) for name, x in found.items())
        run.update(learner, distiller)
        assert run.phi().direction in ("forward", "reverse")


def test_phi_stays_where_it_is_if_nothing_was_lost(redis_url: str, tmp_path: Path) -> None:
    run = Run(redis_url, configuration(tmp_path, tmp_path.name))
    with run.learning() as learner, DistillerService(run.store, run.config) as distiller:
        for _ in range(4):
            run.update(learner, distiller)
        learner.leave()
    before = run.phi().version, run.store.phis()
    with run.learning() as learner:
        assert (run.phi().version, run.store.phis()) == before


def test_checkpoints_of_the_distiller_reach_back_to_the_learners_and_no_further(redis_url: str, tmp_path: Path) -> None:
    run = Run(redis_url, configuration(tmp_path, tmp_path.name, "distiller.every=1"))
    folder = RunFolder.of(run.config.run).distiller
    with run.learning() as learner, DistillerService(run.store, run.config) as distiller:
        for update in range(1, 13):
            run.update(learner, distiller)
            if update in (3, 9):
                learner.save()
            names = [int(path.name) for path in folder.iterdir()]
            first = 1 if update < 4 else 3 if update < 10 else 9
            assert sorted(names) == list(range(first, update + 1))
