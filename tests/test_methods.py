"""What defines each method: who plays with whom, what is remembered, what is minimised."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.config import Config, load_config
from common.environments import EnvironmentSpec
from common.errors import ConfigError
from common.methods import METHODS, PHI, THETA, Method, method, resolve
from common.methods.opre import OPRE, OptionNetwork, OptionOutputs
from common.methods.randnet import RandNet, random_filter
from common.methods.rpm import RankedPolicyMemory
from common.network import Network
from common.sequences import Sequences

DRAWS = 20_000
GAME = EnvironmentSpec("made_up", 3, 4, (7, 7, 3), 5)
P, T, S = 2, 5, 6


def made(name: str, *overrides: str) -> Any:
    return method(configuration(name, *overrides))


def configuration(name: str, *overrides: str) -> Config:
    sizes = ["network.dense=10", "network.core_size=8", "environment.substrate=matrix_coordination"]
    return load_config(overrides=[f"method.name={name}", *sizes, *overrides], environ={})


def drawn(chosen: Method, players: int, pool: dict[str, float] | None = None) -> NDArray[np.str_]:
    """Who drove whom in many episodes: [DRAWS, players]."""
    rng = np.random.default_rng(0)
    return np.array([chosen.drivers(rng, players, pool or {}) for _ in range(DRAWS)])


def error(p: float) -> float:
    """Five standard errors of a frequency."""
    return 5 * math.sqrt(p * (1 - p) / DRAWS)


# Who plays.


@pytest.mark.parametrize("name", ["bidist", "bidist-forward-only", "bidist-no-distillation"])
@pytest.mark.parametrize(("players", "p"), [(2, 0.5), (8, 0.5), (3, 0.1), (4, 1.0)])
def test_bidist_draws_each_player_by_itself_and_never_nobody(name: str, players: int, p: float) -> None:
    v = drawn(made(name, f"method.learning_probability={p}"), players) == THETA
    assert v.any(1).all()
    # Given that somebody learns, each outcome keeps its share of the product of Bernoullis.
    somebody = 1 - (1 - p) ** players
    np.testing.assert_allclose(v.mean(0), p / somebody, atol=error(0.5))
    for first, second in pairwise(range(players)):
        assert (v[:, first] & v[:, second]).mean() == pytest.approx(p * p / somebody, abs=error(0.5))
    assert v.all(1).mean() == pytest.approx(p**players / somebody, abs=error(0.5))


@pytest.mark.parametrize("name", ["mappo", "pp", "randnet", "opre", "bidist-no-fictitious"])
def test_learning_policies_among_themselves(name: str) -> None:
    assert (drawn(made(name), 5) == THETA).all()


def test_all_fictitious_is_phi_everywhere_and_trains_on_it() -> None:
    chosen = made("bidist-all-fictitious")
    assert (drawn(chosen, 5) == PHI).all()
    assert chosen.trained(np.array([False, False, True])).tolist() == [True, True, False]


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"bidist-all-fictitious"}))
def test_all_others_train_on_the_learning_players(name: str) -> None:
    learning = np.array([False, True, True])
    assert made(name).trained(learning).tolist() == learning.tolist()


@pytest.mark.parametrize(
    ("name", "phi", "directions"),
    [
        ("bidist", "copy", ("forward", "reverse")),
        ("bidist-forward-only", "copy", ("forward",)),
        ("bidist-no-distillation", "random", ()),
        ("bidist-no-fictitious", "copy", ("forward", "reverse")),
        ("bidist-all-fictitious", "copy", ("forward", "reverse")),
        *[(name, None, ()) for name in ("mappo", "pp", "rpm", "randnet", "opre")],
    ],
)
def test_how_phi_starts_and_moves(name: str, phi: str | None, directions: tuple[str, ...]) -> None:
    chosen = made(name)
    assert (chosen.phi, chosen.directions) == (phi, directions)


def test_population_play_draws_a_learner_for_each_seat() -> None:
    chosen = made("pp")
    assert chosen.policies(7) == 4
    rng = np.random.default_rng(0)
    places = np.array([chosen.places(rng, 7) for _ in range(DRAWS)])
    for seat in range(7):
        np.testing.assert_allclose(np.bincount(places[:, seat]) / DRAWS, 1 / 4, atol=error(1 / 4))
    for first, second in pairwise(range(7)):
        assert (places[:, first] == places[:, second]).mean() == pytest.approx(1 / 4, abs=error(1 / 4))


def test_population_play_has_no_parameters_of_a_seat() -> None:
    with pytest.raises(ConfigError, match=r"needs network\.parameters=shared"):
        made("pp", "network.parameters=per_player").policies(7)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"pp"}))
def test_every_other_method_has_one_policy_or_one_a_player(name: str) -> None:
    shared, own = made(name), made(name, "network.parameters=per_player")
    assert (shared.policies(3), own.policies(3)) == (1, 3)
    rng = np.random.default_rng(0)
    assert (shared.places(rng, 3).tolist(), own.places(rng, 3).tolist()) == ([0, 0, 0], [0, 1, 2])


# Ranked policy memory.

POOL = {"pool:10": 0.1, "pool:20": 2.2, "pool:30": 2.9, "pool:40": 2.5, "pool:50": -0.4, "pool:60": 7.7}


def rpm(*overrides: str) -> RankedPolicyMemory:
    chosen = made("rpm", "method.rank_width=1", *overrides)
    assert isinstance(chosen, RankedPolicyMemory)
    return chosen


def test_rpm_draws_a_rank_and_then_a_policy_of_it() -> None:
    who = drawn(rpm(), 3, POOL)
    assert (who == THETA).any(1).all()
    theta = 0.5 / (1 - 0.5**3)
    assert (who == THETA).mean() == pytest.approx(theta, abs=error(theta))
    past = Counter(who[who != THETA].tolist())
    shares = {name: past[name] / past.total() for name in POOL}
    # Four ranks: -1, 0, 2 and 7; three policies share the third.
    expected = {"pool:50": 1 / 4, "pool:10": 1 / 4, "pool:60": 1 / 4} | dict.fromkeys(
        ["pool:20", "pool:30", "pool:40"], 1 / 12
    )
    assert shares == pytest.approx(expected, abs=error(1 / 4))


def test_rpm_plays_among_learning_policies_as_long_as_it_remembers_nobody() -> None:
    assert (drawn(rpm(), 3) == THETA).all()


def test_rpm_lets_theta_in_every_so_many_updates_under_its_return() -> None:
    chosen = rpm("method.every=10")
    ranks = [chosen.rank(updates, 3.25, {}) for updates in range(1, 31)]
    assert [i + 1 for i, rank in enumerate(ranks) if rank is not None] == [10, 20, 30]
    assert chosen.rank(10, 3.25, {}) == 3.25
    assert chosen.rank(10, math.nan, {}) is None, "no episode has ended yet: there is no return to rank it by"


def test_rpm_lets_the_oldest_of_a_full_rank_go() -> None:
    chosen = rpm("method.rank_size=2")
    assert chosen.leaving(POOL) == ["pool:20"]
    assert chosen.leaving({**POOL, "pool:100": 2.0}) == ["pool:20", "pool:30"]
    assert rpm("method.rank_size=3").leaving(POOL) == []


def test_a_rank_is_as_wide_as_the_game_asks_for() -> None:
    of_coins = made("rpm", "environment.substrate=coins")
    assert of_coins.ranks({"pool:1": 4.9, "pool:2": 5.0, "pool:3": -0.1}) == {
        -1: ["pool:3"],
        0: ["pool:1"],
        1: ["pool:2"],
    }
    # An unknown game: a tenth of the spread.
    unknown = made("rpm")
    assert unknown.ranks({"pool:1": 0.0, "pool:2": 0.99, "pool:3": 10.0}) == {0: ["pool:1", "pool:2"], 10: ["pool:3"]}
    assert unknown.ranks({"pool:1": 0.3, "pool:2": 0.3}) == {0: ["pool:1", "pool:2"]}


def test_rpm_warns_when_everybody_has_one_rank(caplog: pytest.LogCaptureFixture) -> None:
    flat = {f"pool:{i}": 0.5 for i in range(10, 110, 10)}
    assert rpm().rank(110, 0.5, {**flat, "pool:100": 1.5}) == 0.5
    assert not caplog.records
    assert rpm().rank(110, 0.5, flat) == 0.5
    assert "method.rank_width may be too large" in caplog.text


# OPRE.


def sequences() -> Sequences:
    g = torch.Generator().manual_seed(2)
    rgb = torch.randint(0, 256, (P, T + 1, S, *GAME.rgb_shape), dtype=torch.uint8, generator=g)
    action, numbers = torch.randint(0, GAME.actions, (P, T, S), generator=g), torch.rand(P, T, S, generator=g)
    return Sequences(
        rgb, torch.randn(P, T + 1, S, GAME.features, generator=g), action,
        numbers, numbers, numbers, numbers > 0.1, numbers > 0.3, torch.randn(P, S, 8, generator=g),
        torch.arange(P * S).reshape(P, S) % 3,
    )  # fmt: skip


def shaken(network: Network) -> Any:
    """With other weights than those it starts from: options that differ, opinions."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return network


def options() -> tuple[OPRE, OptionNetwork]:
    chosen = made("opre")
    return chosen, shaken(chosen.network(GAME, P))


def test_opre_acts_by_options_that_it_guesses_and_trains_by_options_that_everybody_chooses() -> None:
    _, network = options()
    part, others = sequences(), torch.randn(P, T + 1, S, 10)
    embedding = network.embed(part.rgb, part.features, part.version)
    acts, _ = network.act(part.rgb, part.features, part.state, part.version)
    outputs = network.evaluate(embedding, part.state, others)
    hidden, _ = network.remember(embedding, part.state)
    for p, t, s in [(0, 0, 0), (1, 3, 2), (1, 5, 5)]:
        h, everybody = hidden[p, t, s], embedding[p, t, s] + 2 * others[p, t, s]
        guessed = (network.guess.weight[p] @ h + network.guess.bias[p]).softmax(-1)
        chosen = (network.choose.weight[p] @ everybody + network.choose.bias[p]).softmax(-1)
        each = (network.policy.weight[p] @ h + network.policy.bias[p]).reshape(8, GAME.actions).softmax(-1)
        values = network.value.weight[p] @ h + network.value.bias[p]
        torch.testing.assert_close(acts[p, t, s].exp(), guessed @ each)
        torch.testing.assert_close(outputs.log_probs[p, t, s].exp(), chosen @ each)
        torch.testing.assert_close(outputs.values[p, t, s], chosen @ values)
    assert float((acts - outputs.log_probs).detach().abs().max()) > 0.05


def test_opre_looks_at_others_in_training_alone() -> None:
    _, network = options()
    part = sequences()
    embedding = network.embed(part.rgb, part.features, part.version)
    seen, seen_otherwise = (network.evaluate(embedding, part.state, torch.randn(P, T + 1, S, 10)) for _ in range(2))
    assert not torch.equal(seen.log_probs, seen_otherwise.log_probs)
    assert not torch.equal(seen.values, seen_otherwise.values)
    assert torch.equal(seen.guessed, seen_otherwise.guessed), "p is a guess from what a player sees itself"


def test_opre_learns_to_choose_from_values_and_to_guess_from_the_choice() -> None:
    chosen, network = options()
    part = sequences()

    def gradients(what: str) -> set[str]:
        embedding = network.embed(part.rgb, part.features, part.version).detach()
        outputs = network.evaluate(embedding, part.state, torch.ones(P, T + 1, S, 10))
        kl = chosen.penalties(network, part, embedding, outputs)["option_kl_nats"][1].sum()
        network.zero_grad()
        {"policy": outputs.log_probs[..., 0].sum(), "value": outputs.values.sum(), "kl": kl}[what].backward()
        heads = ("policy", "value", "guess", "choose")
        return {n for n in heads if any(p.grad is not None and p.grad.any() for p in getattr(network, n).parameters())}

    assert gradients("policy") == {"policy"}
    assert gradients("value") == {"value", "choose"}
    assert gradients("kl") == {"guess", "choose"}


def test_opre_minimises_the_kl_of_guess_to_choice_less_what_the_choice_tells() -> None:
    chosen, _ = options()
    part = sequences()
    q, p = (torch.randn(P, T + 1, S, 8).log_softmax(-1) for _ in range(2))
    penalties = chosen.penalties(Network(GAME, chosen.config.network, P), part, q, OptionOutputs(q, q, q, p))
    for policy in range(P):
        places = [(t, s) for t in range(T) for s in range(S) if part.mask[policy, t, s]]
        here = [torch.distributions.Categorical(logits=q[policy, t, s]) for t, s in places]
        there = [torch.distributions.Categorical(logits=p[policy, t, s]) for t, s in places]
        kl = np.mean([float(torch.distributions.kl_divergence(x, y)) for x, y in zip(here, there, strict=True)])
        usage = torch.distributions.Categorical(torch.stack([x.probs for x in here]).mean(0)).entropy()
        tells = float(usage) - np.mean([float(x.entropy()) for x in here])
        assert float(penalties["option_kl_nats"][1][policy]) == pytest.approx(kl, rel=1e-4)
        assert float(penalties["option_information_nats"][1][policy]) == pytest.approx(tells, rel=1e-3)
    assert penalties["option_kl_nats"][0] == 0.01
    assert penalties["option_information_nats"][0] == -0.01, "what is subtracted is made large"


def test_a_policy_without_a_step_in_a_minibatch_is_no_trouble_to_opre() -> None:
    chosen, network = options()
    part = sequences()
    part.mask[0] = False
    embedding = network.embed(part.rgb, part.features, part.version)
    outputs = network.evaluate(embedding, part.state, torch.ones(P, T + 1, S, 10))
    sum(weight * x.sum() for weight, x in chosen.penalties(network, part, embedding, outputs).values()).backward()
    gradient = network.choose.weight.grad
    assert gradient is not None and gradient.isfinite().all()
    assert not gradient[0].any() and gradient[1].any()


# RandNet.


def test_a_version_has_one_filter_and_another_version_another() -> None:
    assert torch.equal(random_filter(1, 5, 0.1), random_filter(1, 5, 0.1))
    assert not torch.equal(random_filter(1, 5, 0.0), random_filter(1, 6, 0.0))
    assert not torch.equal(random_filter(1, 5, 0.0), random_filter(2, 5, 0.0))


def test_filters_are_glorot_normal_or_now_and_then_the_identity() -> None:
    filters = torch.stack([random_filter(0, version, 0.1) for version in range(4000)])
    # Few of the identity's weights are not zero, so the share of zeros tells.
    identity = (filters == 0).flatten(1).sum(1) > 70
    assert float(identity.float().mean()) == pytest.approx(0.1, abs=0.025)
    image = torch.rand(1, 3, 5, 5)
    torch.testing.assert_close(torch.nn.functional.conv2d(image, filters[identity][0], padding=1), image)
    weights = filters[~identity]
    # Glorot: variance 2 / (fan in + fan out), both 3 * 3 * 3.
    assert float(weights.var()) == pytest.approx(2 / 54, rel=0.02)
    assert float(weights.mean()) == pytest.approx(0, abs=0.002)


def randomised(*overrides: str) -> tuple[RandNet, Any]:
    chosen = made("randnet", *overrides)
    return chosen, shaken(chosen.network(GAME, P))


def test_each_sequence_is_seen_through_the_filter_of_its_version() -> None:
    _, network = randomised("run.seed=3")
    part = sequences()
    seen = network.randomise(part.rgb, part.version)
    for p, s in [(0, 0), (0, 1), (1, 4), (1, 5)]:
        image = part.rgb[p, :, s].permute(0, 3, 1, 2).float() / 255
        drawn_here = random_filter(3, int(part.version[p, s]), 0.1)
        expected = torch.nn.functional.conv2d(image, drawn_here, padding=1).permute(0, 2, 3, 1)
        torch.testing.assert_close(seen[p, :, s], expected)
    assert torch.equal(network.embed(part.rgb, part.features, part.version),
                       network.embed_image(seen, part.features))  # fmt: skip


def test_the_feature_loss_is_zero_at_the_identity_and_not_elsewhere() -> None:
    part = sequences()
    for probability, zero in [(1.0, True), (0.0, False)]:
        chosen, network = randomised(f"method.identity_probability={probability}")
        embedding = network.embed(part.rgb, part.features, part.version)
        outputs = network.evaluate(embedding, part.state, torch.zeros(P, T + 1, S, 10))
        weight, loss = chosen.penalties(network, part, embedding, outputs)["feature_loss"]
        assert weight == 0.002
        assert torch.allclose(loss, torch.zeros(P), atol=1e-9) is zero
    clean = network.embed_image(part.rgb, part.features)
    places = part.mask[0]
    expected = (embedding - clean)[0, :-1].square().mean(-1)[places].mean()
    torch.testing.assert_close(loss[0], expected)


def test_the_feature_loss_moves_the_filtered_features_towards_the_clean_ones() -> None:
    chosen, network = randomised("method.identity_probability=0")
    part = sequences()
    seen = network.embed(part.rgb, part.features, part.version)
    embedding = seen.detach().requires_grad_()
    outputs = network.evaluate(embedding, part.state, torch.zeros(P, T + 1, S, 10))
    chosen.penalties(network, part, embedding, outputs)["feature_loss"][1].sum().backward()
    assert embedding.grad is not None and embedding.grad.any()
    assert all(p.grad is None or not p.grad.any() for p in network.parameters()), "the clean features are held"


def test_when_it_is_evaluated_randnet_averages_over_draws() -> None:
    chosen, network = randomised("method.evaluation_draws=3")
    averaged = chosen.evaluated(GAME, P)
    averaged.load_state_dict(network.state_dict())
    part = sequences()
    state = torch.zeros(P, S, averaged.state_size)
    first, middle = averaged.act(part.rgb[:, :2], part.features[:, :2], state, part.version)
    second, _ = averaged.act(part.rgb[:, 2:], part.features[:, 2:], middle, part.version)
    single = torch.zeros(P, S, network.state_size)
    each = [network.act(part.rgb, part.features, single, torch.full((P, S), draw))[0].exp() for draw in range(3)]
    torch.testing.assert_close(torch.cat([first, second], 1).exp(), torch.stack(each).mean(0))
    assert float((each[0] - each[1]).detach().abs().max()) > 0.01


# Their names and settings.


def test_an_unknown_method_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'bidst': did you mean bidist\? the methods are bidist, mappo"):
        made("bidst")
    with pytest.raises(ConfigError, match=r"'no_such_module:Mine'.*is its folder on PYTHONPATH"):
        made("no_such_module:Mine")
    with pytest.raises(ConfigError, match=r"is no subclass of common\.methods\.Method"):
        made("common.config:Config")


def test_a_setting_of_another_method_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.rank_width: no such setting; there are population"):
        made("pp", "method.rank_width=3")
    with pytest.raises(ConfigError, match=r"method\.population: .*greater than or equal to 1, found 0"):
        made("pp", "method.population=0")
    with pytest.raises(ConfigError, match=r"method\.learning_probability: no such setting; there are none"):
        made("mappo", "method.learning_probability=0.5")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_resolved_configuration_holds_all_of_a_methods_settings(name: str) -> None:
    resolved = resolve(configuration(name))
    assert resolved.method.model_dump() == {"name": name, **method(resolved).settings.model_dump()}
    assert resolve(resolved) == resolved
