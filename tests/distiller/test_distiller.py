"""Equation 2 against a loop, both directions, and exact resumption."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.config import Config, DistillerConfig, MethodConfig, NetworkConfig, RunConfig
from common.spec import EnvironmentSpec
from common.weights import Observations
from distiller.distiller import Distiller
from distiller.divergence import kl_divergence, mean_entropy
from methods import make_method
from networks.network import Network

GAME = EnvironmentSpec("made_up", 3, 4, (7, 7, 3), 5)
NETWORK = NetworkConfig(channels=(3, 4), dense=10, core_size=8)
T, B, N = 7, 4, GAME.players
BURN_IN = 2


def observations(policies: int, update: int = 1) -> Observations:
    rng = np.random.default_rng(update)
    mask = rng.random((T, B, N)) > 0.15
    mask[5:, 1] = False
    rgb = rng.integers(0, 256, (T, B, N, *GAME.rgb_shape), dtype=np.uint8)
    features = rng.normal(size=(T, B, N, GAME.features)).astype(np.float32) * 3
    return Observations(update, rgb, features, np.tile(np.arange(N) % policies, (B, 1)), mask)


def theta(policies: int, seed: int = 5) -> dict[str, Tensor]:
    """Learning policies with opinions: the weights of their head are larger than at the start."""
    torch.manual_seed(seed)
    network = Network(GAME, NETWORK, policies)
    with torch.no_grad():
        network.policy.weight.mul_(100)
    return {name: p.detach() for name, p in network.named_parameters()}


def distiller(policies: int = 1, directions: Any = ("forward", "reverse"), **settings: Any) -> Distiller:
    config = Config(
        distiller=DistillerConfig(**{"burn_in": BURN_IN, "minibatches": 2, **settings}),
        network=NETWORK.model_copy(update={"parameters": "shared" if policies == 1 else "per_player"}),
        run=RunConfig(seed=3),
    )
    torch.manual_seed(1)
    chosen = make_method(config)
    chosen.directions = directions
    made = Distiller(chosen, GAME)
    made.phi.load_state_dict(theta(policies, seed=8))
    return made


def phi(made: Distiller) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in made.phi.named_parameters()}


def same(x: dict[str, Tensor], y: dict[str, Tensor]) -> bool:
    return all(torch.equal(x[name], y[name]) for name in x)


def probabilities(parameters: dict[str, Tensor], policy: int, d: Observations, b: int, n: int) -> Tensor:
    """Computes one player's action probabilities along one sequence [T, A] with a single network, step by step."""
    network = Network(GAME, NETWORK, 1)
    network.load_state_dict({name: x[policy : policy + 1] for name, x in parameters.items()})
    state, out = torch.zeros(1, 1, network.state_size), []
    for t in range(T):
        rgb, features = (torch.tensor(x[t, b, n])[None, None, None] for x in (d.rgb, d.features))
        log_probs, state = network.act(rgb, features, state, torch.zeros(1, 1, dtype=torch.long))
        out.append(log_probs[0, 0, 0].exp())
    return torch.stack(out).detach()


@pytest.mark.parametrize("policies", [1, N])
def test_equation_2_is_the_mean_over_policies_of_the_mean_over_their_observations(policies: int) -> None:
    d, teacher, made = observations(policies), theta(policies), distiller(policies)
    student = phi(made)
    terms: list[list[float]] = [[] for _ in range(policies)]
    entropies: list[list[float]] = [[] for _ in range(policies)]
    for b in range(B):
        for n in range(N):
            policy = int(d.policy[b, n])
            p, q = (probabilities(parameters, policy, d, b, n) for parameters in (teacher, student))
            for t in range(BURN_IN, T):
                if d.mask[t, b, n]:
                    terms[policy].append(float((p[t] * (p[t] / q[t]).log()).sum()))
                    entropies[policy].append(float(-(p[t] * p[t].log()).sum()))
    found = made.event(teacher, d)
    assert found["kl_before_nats"] == pytest.approx(np.mean([np.mean(x) for x in terms]), rel=1e-4)
    assert found["theta_entropy_nats"] == pytest.approx(np.mean([np.mean(x) for x in entropies]), rel=1e-4)


def test_a_phi_of_each_player_is_distilled_from_the_theta_they_share() -> None:
    """phi_i sees what player i saw, in any order, and moves by that alone."""
    d, teacher = observations(1), theta(1)
    config = Config(
        distiller=DistillerConfig(burn_in=BURN_IN, minibatches=2),
        method=MethodConfig(name="bidist", phi_per_player=True),
        network=NETWORK,
        run=RunConfig(seed=3),
    )
    made = Distiller(make_method(config), GAME)
    made.phi.load_state_dict(theta(N, seed=8))
    student = phi(made)
    found = made.event(teacher, d)
    terms = []
    for n in range(N):
        own = []
        for b in range(B):
            p, q = probabilities(teacher, 0, d, b, n), probabilities(student, n, d, b, n)
            steps = [t for t in range(BURN_IN, T) if d.mask[t, b, n]]
            own += [float((p[t] * (p[t] / q[t]).log()).sum()) for t in steps]
        terms.append(np.mean(own))
    assert found["kl_before_nats"] == pytest.approx(np.mean(terms), rel=1e-4)
    assert float(found["kl_after_nats"]) < float(found["kl_before_nats"])


def test_divergence_and_entropy_term_by_term() -> None:
    torch.manual_seed(0)
    teacher, student = (torch.randn(2, 3, 4, 5).double().log_softmax(-1) for _ in range(2))
    mask = torch.rand(2, 3, 4) > 0.4
    divergence, entropy = kl_divergence(teacher, student, mask), mean_entropy(teacher, mask)
    for p in range(2):
        steps = [(t, s) for t in range(3) for s in range(4) if mask[p, t, s]]
        kl = [F.kl_div(student[p, t, s], teacher[p, t, s], log_target=True, reduction="sum") for t, s in steps]
        assert float(divergence[p]) == pytest.approx(float(sum(kl)) / len(steps))
        h = [torch.distributions.Categorical(logits=teacher[p, t, s]).entropy() for t, s in steps]
        assert float(entropy[p]) == pytest.approx(float(sum(h)) / len(steps))
    assert torch.equal(kl_divergence(teacher, teacher, mask), torch.zeros(2).double())
    assert (divergence > 0).all()


@pytest.mark.parametrize("policies", [1, N])
def test_forward_lowers_equation_2_and_reverse_raises_it(policies: int) -> None:
    made, teacher = distiller(policies, forward_learning_rate=0.003, reverse_learning_rate=0.001), theta(policies)
    given = {name: x.clone() for name, x in teacher.items()}
    for update in range(1, 9):
        found = made.event(teacher, observations(policies, update))
        before, after = float(found["kl_before_nats"]), float(found["kl_after_nats"])
        assert found["direction"] == ("forward" if update % 2 else "reverse")
        assert after < before if found["direction"] == "forward" else after > before
    assert same(teacher, given)


def test_reverse_leaves_thetas_action_only_if_phi_is_less_certain_of_it() -> None:
    """If phi is more certain than theta, more of the same raises the divergence; hence `forward_smoothing`."""

    def share_of_thetas_action(logit: float) -> float:
        made = distiller(directions=("reverse",), reverse_epochs=60, reverse_learning_rate=0.1, reverse_bound=None)
        teacher = {name: torch.zeros_like(p) for name, p in made.phi.named_parameters()}
        made.phi.load_state_dict({**teacher, "policy.bias": torch.tensor([[0.0, 0.0, logit, 0.0]])})
        teacher["policy.bias"][:, 2] = 4.0
        made.event(teacher, observations(1))
        return float(made.phi.policy.bias.detach().softmax(-1)[0, 2])

    assert share_of_thetas_action(4.5) > 0.99
    assert share_of_thetas_action(3.5) < 0.01


def test_forward_distils_theta_mixed_with_the_uniform_distribution() -> None:
    made = distiller(directions=("forward",), forward_epochs=100, forward_learning_rate=0.01, forward_smoothing=0.3)
    d = observations(1)
    teacher = {name: torch.zeros_like(p) for name, p in made.phi.named_parameters()}
    teacher["policy.bias"][:] = torch.tensor([5.0, 1.0, 0.0, 0.0])
    made.event(teacher, d)
    target = 0.7 * teacher["policy.bias"][0].softmax(-1) + 0.3 / GAME.actions
    found = probabilities(phi(made), 0, d, 0, 0)[BURN_IN:].mean(0)
    torch.testing.assert_close(found, target, atol=0.03, rtol=0)


def test_reverse_stops_at_the_bound() -> None:
    d, teacher = observations(1), theta(1)
    bounded = distiller(directions=("reverse",), reverse_learning_rate=0.01, reverse_epochs=50)
    free = copy.deepcopy(bounded)
    free._config = bounded._config.model_copy(update={"reverse_bound": None})
    start = float(copy.deepcopy(bounded).event(teacher, d)["kl_before_nats"])
    bounded._config = bounded._config.model_copy(update={"reverse_bound": start + 0.3})
    found, unbounded = bounded.event(teacher, d), free.event(teacher, d)
    assert 0 < int(found["gradient_steps"]) < 100 == unbounded["gradient_steps"]
    assert start + 0.15 < float(found["kl_after_nats"]) < start + 0.6
    assert float(unbounded["kl_after_nats"]) > 2 * float(found["kl_after_nats"])
    bounded._config = bounded._config.model_copy(update={"reverse_bound": start / 2})
    resting = phi(bounded)
    again = bounded.event(teacher, d)
    assert again["gradient_steps"] == 0
    assert again["kl_after_nats"] == again["kl_before_nats"]
    assert same(phi(bounded), resting)


def test_forward_stops_at_the_bound() -> None:
    d, teacher = observations(1), theta(1)
    bounded = distiller(directions=("forward",), forward_learning_rate=0.01, forward_epochs=200, forward_smoothing=0.0)
    free = copy.deepcopy(bounded)
    bound = float(copy.deepcopy(bounded).event(teacher, d)["kl_before_nats"]) / 3
    bounded._config = bounded._config.model_copy(update={"forward_bound": bound})
    found, unbounded = bounded.event(teacher, d), free.event(teacher, d)
    assert 0 < int(found["gradient_steps"]) < int(unbounded["gradient_steps"])
    assert float(unbounded["kl_after_nats"]) < bound / 2 < float(found["kl_after_nats"]) < 1.5 * bound
    resting = phi(bounded)
    assert bounded.event(teacher, d)["gradient_steps"] == 0
    assert same(phi(bounded), resting)


@pytest.mark.parametrize(("phase", "expected"), [(1, "frfrfr"), (2, "ffrrff"), (3, "fffrrr")])
def test_directions_alternate_by_phases(phase: int, expected: str) -> None:
    made = distiller(phase_events=phase)
    taken = [str(made.event(theta(1), observations(1, update))["direction"])[0] for update in range(1, 7)]
    assert "".join(taken) == expected


def test_a_single_direction_never_changes() -> None:
    made = distiller(directions=("forward",))
    assert {made.event(theta(1), observations(1, k))["direction"] for k in range(1, 4)} == {"forward"}


def test_adam_is_reset_only_when_the_direction_changes() -> None:
    made = distiller(phase_events=2, forward_epochs=1, reverse_epochs=1)
    steps = []
    for update in range(1, 5):
        made.event(theta(1), observations(1, update))
        steps.append(int(made.tensors()["optimiser"]["policy.bias|step"]))
    assert steps == [2, 4, 2, 4]


def test_burn_in_warms_up_the_recurrent_states_but_does_not_count() -> None:
    d, teacher = observations(1), theta(1)
    counted = distiller().event(teacher, d)["kl_before_nats"]
    d.mask[:BURN_IN] = ~d.mask[:BURN_IN]
    assert distiller().event(teacher, d)["kl_before_nats"] == counted
    d.features[:BURN_IN] += 2
    assert distiller().event(teacher, d)["kl_before_nats"] != counted


@pytest.mark.parametrize("events", [1, 2, 3])
def test_a_restored_distiller_makes_a_bit_identical_next_event(events: int) -> None:
    settings: dict[str, Any] = {"phase_events": 2, "reverse_bound": None, "reverse_learning_rate": 1e-4}
    whole = distiller(**settings)
    for update in range(1, events + 1):
        whole.event(theta(1, update), observations(1, update))
    tensors, state = copy.deepcopy((whole.tensors(), whole.state()))
    expected = whole.event(theta(1), observations(1, 9))
    resumed = distiller(**settings)
    for update in range(3):  # in the other direction by now
        resumed.event(theta(1, update), observations(1, update))
    resumed.restore(tensors, state)
    assert resumed.event(theta(1), observations(1, 9)) == expected
    assert same(phi(resumed), phi(whole))
