"""The adapter shows what Melting Pot's public API shows, without its heavy dependencies."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from melting_pot_reference import Entry, entry

from common.errors import ConfigError
from environments.images import block_mean
from environments.interface import Step
from environments.melting_pot import MeltingPot

ROOT = Path(__file__).parents[2]
SEED, EPISODES, STEPS = 5, 1, 50
MATRICES = ("chicken", "prisoners_dilemma", "pure_coordination")
ARENAS = ["coop_mining", *(f"{game}_in_the_matrix__arena" for game in MATRICES)]
TWO_PLAYERS = ["coins", *(f"{game}_in_the_matrix__repeated" for game in MATRICES)]
PUBLIC_API = ("tensorflow", "chex", "jax", "reactivex", "pandas", "cv2", "pygame")

pytestmark = pytest.mark.skipif(importlib.util.find_spec("meltingpot") is None, reason="needs dm-meltingpot")


def python(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own, from the repository's root."""
    environ = os.environ | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, *args], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 or not check, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def public_games() -> dict[str, Any]:
    """What `meltingpot.substrate.build` showed, and what the adapter read from the same games."""
    missing = [name for name in PUBLIC_API if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"Melting Pot's public API needs {', '.join(missing)}")
    arguments = [str(SEED), str(EPISODES), str(STEPS), *ARENAS, *TWO_PLAYERS]
    done = python("tests/helpers/melting_pot_reference.py", *arguments)
    games = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {game["name"]: game for game in games}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARENAS + TWO_PLAYERS)
def test_one_game_reads_the_same_through_both(public_games: dict[str, Any], name: str) -> None:
    # `melting_pot_reference.py` compares the adapter's settings, seeds and actions with Melting Pot's while it plays.
    game = public_games[name]
    public, adapter = game["public"], game["adapter"]
    ends = [i for i, step in enumerate(public) if step["last"] == "True"]
    assert len(ends) == EPISODES and len(public) == ends[0] + 1 + STEPS + 1
    assert len(public) >= 300 + STEPS
    assert _difference(adapter, public) is None
    assert len(adapter) == len(public)
    assert len({step["rgb"] for step in public}) > len(public) // 2, "nothing happened in this game"
    assert game["rewards"] > 0
    assert game["features"] == 0 or len({step["features"] for step in public}) > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", TWO_PLAYERS)
def test_another_game_of_the_same_seed_repeats_a_whole_episode(public_games: dict[str, Any], name: str) -> None:
    # Melting Pot keeps avatars and objects in Lua tables whose keys are tables, and walks them with `pairs`: in the
    # order of their addresses, which differs from build to build. The random numbers are the same, but who gets which
    # is not. With two players, a seed leaves a handful of games. The public one must come up among a hundred builds,
    # each of which hits it with a probability of about one in four, and match to the last bit.
    game = public_games[name]
    episode = game["public"][: [step["last"] for step in game["public"]].index("True") + 1]
    best = -1
    for _ in range(100):
        difference = _play_until_different(game, episode)
        if difference is None:
            return
        best = max(best, difference)
    pytest.fail(f"no game of seed {game['env_seed']} went past step {best} of the {len(episode)} of the public one")


def _play_until_different(game: dict[str, Any], episode: list[Entry]) -> int | None:
    """Plays the adapter alone and returns the first step that the public game does not have, or None."""
    adapter = MeltingPot(game["name"], block=8, seed=game["env_seed"])
    rng = np.random.default_rng(SEED)
    observation = adapter.reset()
    own = entry(adapter.rgb(), observation.features, np.zeros(game["players"]), False)
    for i, expected in enumerate(episode):
        if own != expected:
            return i
        if own["last"] == "False":
            step = adapter.step(rng.integers(0, game["actions"], game["players"], dtype=np.int32))
            over = step.terminated or step.truncated
            own = entry(adapter.rgb(), step.observation.features, step.reward, over)
    return None


def _difference(ours: list[Entry], theirs: list[Entry]) -> str | None:
    for i, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        if x != y:
            return f"step {i}: {[key for key in y if x[key] != y[key]]} differ"
    return None


@pytest.mark.parametrize("block", [1, 2, 4, 8])
@pytest.mark.parametrize("high", [256, 4])
def test_block_mean_is_the_rounded_exact_mean(block: int, high: int) -> None:
    rng = np.random.default_rng(block)
    images = rng.integers(0, high, (7, 88, 64, 3), dtype=np.uint8)
    squares = images.reshape(7, 88 // block, block, 64 // block, block, 3).astype(np.float64)
    expected = np.rint(squares.mean(axis=(2, 4))).astype(np.uint8)
    assert np.array_equal(block_mean(list(images), block), expected)


def test_block_mean_rounds_halves_to_even_and_keeps_white() -> None:
    images = np.zeros((2, 2, 2, 3), np.uint8)
    images[0, 0] = [[1, 3, 255], [1, 3, 255]]
    images[0, 1, :, 2] = 255
    images[1] = 255
    assert block_mean(list(images), 2).tolist() == [[[[0, 2, 255]]], [[[255, 255, 255]]]]


@pytest.mark.parametrize("block", [2, 4, 8])
def test_a_policy_sees_the_block_mean_of_the_whole_image(block: int) -> None:
    environment = MeltingPot("pure_coordination_in_the_matrix__repeated", block=block, seed=3)
    rng = np.random.default_rng(3)
    observation = environment.reset()
    for _ in range(20):
        whole = np.stack(environment.rgb()).astype(np.float64)
        n, height, width, _ = whole.shape
        squares = whole.reshape(n, height // block, block, width // block, block, 3)
        assert np.array_equal(observation.rgb, np.rint(squares.mean(axis=(2, 4))).astype(np.uint8))
        assert observation.rgb.shape[1:] == environment.spec.rgb_shape
        action = rng.integers(0, environment.spec.actions, (n,), dtype=np.int32)
        observation = environment.step(action).observation


def test_the_spec_matches_the_observations() -> None:
    for name, players, features in (("coins", 2, 0), (ARENAS[-1], 8, 4)):
        _check_spec(MeltingPot(name, seed=1), players, features)


def _check_spec(environment: MeltingPot, players: int, features: int) -> None:
    observation = environment.reset()
    assert (environment.spec.players, environment.spec.features) == (players, features)
    assert observation.features.shape == (players, features)
    assert observation.features.dtype == np.float32 and observation.rgb.dtype == np.uint8


def test_an_unknown_name_lists_similar_ones() -> None:
    with pytest.raises(ConfigError, match="no substrate is called 'coin'; similar names: .*coins"):
        MeltingPot("coin")
    with pytest.raises(ConfigError, match="similar names: .*prisoners_dilemma_in_the_matrix__arena"):
        MeltingPot("prisoner_dilemma_in_the_matrix_arena")
    with pytest.raises(ConfigError, match="similar names: .*allelopathic_harvest__open.*coins"):
        MeltingPot("zzz")


@pytest.mark.parametrize("block", [3, 16])
def test_a_block_that_does_not_divide_the_image_is_refused(block: int) -> None:
    message = f"environment.block={block}: the image of coins has 88x88 pixels, which squares of {block}x{block}"
    with pytest.raises(ConfigError, match=message):
        MeltingPot("coins", block=block)


def _episode(environment: MeltingPot) -> Iterator[Step]:
    """An episode of random actions, step by step."""
    rng = np.random.default_rng(3)
    environment.reset()
    over = False
    while not over:
        action = rng.integers(0, environment.spec.actions, (environment.spec.players,), dtype=np.int32)
        step = environment.step(action)
        over = step.terminated or step.truncated
        assert over or not step.statistics
        yield step


@pytest.mark.slow
def test_counted_coins_and_ores_explain_the_rewards() -> None:
    # Default payoffs: a coin is worth 1, and -2 to the partner if it has the partner's colour; iron 1, gold 8.
    worth = {"coins_matched": 1, "coins_mismatched": -1, "ore_iron_extracted": 1, "ore_gold_extracted": 8}
    for name in ("coins", "coop_mining"):
        environment = MeltingPot(name, seed=3)
        steps = list(_episode(environment))
        counts = {kind: mean * environment.spec.players for kind, mean in steps[-1].statistics.items()}
        assert sum(counts.values()) > 10 and all(count == pytest.approx(round(count)) for count in counts.values())
        total = sum(float(step.reward.sum()) for step in steps)
        assert total == pytest.approx(sum(worth[kind] * count for kind, count in counts.items()))


def test_interactions_are_counted_as_the_game_shows_them() -> None:
    environment = MeltingPot("pure_coordination_in_the_matrix__arena", seed=3)
    names = [f"{i + 1}.INTERACTED_THIS_STEP" for i in range(environment.spec.players)]
    shown = 0
    for step in _episode(environment):
        interacted = np.array([bool(environment.lab2d.observe(name)) for name in names])
        assert not (step.observation.active & interacted).any(), "players are frozen after an interaction"
        shown += int(interacted.sum())
    assert shown >= 2
    assert step.statistics["interactions"] * environment.spec.players == pytest.approx(shown)


def test_consecutive_episodes_differ() -> None:
    environment = MeltingPot("chicken_in_the_matrix__repeated", seed=8)
    starts = [environment.reset().rgb.tobytes() for _ in range(4)]
    assert len(set(starts)) == 4


@pytest.mark.parametrize(
    "name",
    [
        "coins",
        *(f"{game}_in_the_matrix__arena" for game in (*MATRICES, "running_with_scissors")),
        "stag_hunt_in_the_matrix__repeated",
        pytest.param("clean_up", marks=pytest.mark.slow),
        pytest.param("territory__open", marks=pytest.mark.slow),
    ],
)
def test_a_restarted_game_equals_one_that_is_built(name: str) -> None:
    environment = MeltingPot(name, seed=5)
    rng = np.random.default_rng(5)
    actions = rng.integers(0, environment.spec.actions, (40, environment.spec.players), dtype=np.int32)

    def opening(seed: int | None = None) -> list[bytes]:
        seen = [environment.reset(seed)] + [environment.step(action).observation for action in actions]
        return [array.tobytes() for observation in seen for array in observation]

    built, *others = (opening() for _ in range(3))
    assert len({tuple(played) for played in (built, *others)}) == 3
    assert opening(seed=5) == built
    assert environment.lab2d.builds == 1
    environment.restarts = False
    environment.reset()
    assert environment.lab2d.builds == 2


@pytest.mark.slow
def test_coop_mining_is_built_again_for_each_episode() -> None:
    # Restarted in the middle of an episode, it breaks in more than half of its builds.
    environment = MeltingPot("coop_mining", seed=5)
    _check_spec(environment, players=6, features=1)
    for _ in range(40):
        environment.step(np.zeros(environment.spec.players, np.int32))
    environment.reset()
    assert environment.lab2d.builds == 2


@pytest.mark.parametrize("name, builds", [("coins", 4), ("chicken_in_the_matrix__repeated", 0)])
def test_a_seed_rebuilds_the_game_only_where_it_draws_the_map(name: str, builds: int) -> None:
    environment = MeltingPot(name, seed=1)
    starts = [environment.reset(seed).rgb.tobytes() for seed in (2, 3, 4, 2)]
    assert environment.lab2d.builds == 1 + builds
    assert len(set(starts[:3])) == 3


@pytest.mark.slow
def test_an_actor_needs_neither_tensorflow_nor_jax() -> None:
    code = """
import sys
import numpy as np
import actors.actor
from common.config import EnvironmentConfig
from environments import build
environment = build(EnvironmentConfig(substrate="coins"), seed=1)
environment.reset()
for _ in range(10):
    environment.step(np.zeros(environment.spec.players, np.int32))
print([name for name in ("tensorflow", "jax", "chex", "meltingpot.utils.policies") if name in sys.modules])
print("dmlab2d" in sys.modules, environment.spec.rgb_shape)
"""
    assert python("-c", code).stdout.splitlines() == ["[]", "True (11, 11, 3)"]


def test_without_melting_pot_the_error_says_what_to_do() -> None:
    code = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "meltingpot" else real(name, *rest)
from environments.melting_pot import MeltingPot
from common.errors import SetupError
try:
    MeltingPot("coins")
except SetupError as error:
    print(error)
"""
    assert "dm-meltingpot is not installed" in python("-c", code).stdout
