"""The bots' networks in PyTorch against the SavedModels they were read from."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.errors import SetupError
from evaluator.puppets import puppet
from evaluator.scenarios import bot_config, require_bots, scenarios_of

GAMES = ("prisoners_dilemma", "chicken", "pure_coordination")
# With two players, and with six or eight.
FEW = ["coins", *(f"{game}_in_the_matrix__repeated" for game in GAMES)]
MANY = ["coop_mining", *(f"{game}_in_the_matrix__arena" for game in GAMES)]


@pytest.fixture(autouse=True)
def bots_are_installed() -> None:
    try:
        require_bots([s for name in (*FEW, *MANY) for s in scenarios_of(name)])
    except SetupError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("substrates", "steps"), [(FEW, 200), (MANY, 100)])
def test_networks_match_the_saved_models_over_hundreds_of_steps_of_play(
    tmp_path: Path, substrates: list[str], steps: int
) -> None:
    """One process for several games, because TensorFlow takes longer to import than a game to play."""
    scenarios = [s.name for name in substrates for s in scenarios_of(name)]
    program = str(Path(__file__).parents[1] / "helpers" / "puppet_reference.py")
    subprocess.run([sys.executable, program, str(steps), str(tmp_path), *scenarios], check=True, capture_output=True)
    for substrate in substrates:
        transcript = dict(np.load(tmp_path / f"{substrate}.npz"))
        assert len(transcript["action"]) == steps
        _check(transcript, substrate)


def _check(transcript: dict[str, NDArray[Any]], substrate: str) -> None:
    """Compares the networks' policies and memories, step by step, with those that were recorded."""
    (model,) = {bot_config(name).model for name in transcript["bots"].tolist()}
    assert model is not None
    network = puppet(model)
    steps, players = transcript["action"].shape
    state = torch.zeros(players, network.state_size)
    last = torch.zeros(players, dtype=torch.int64)
    for t in range(steps):
        seen = [transcript[name][t].reshape(players, -1) for name in network.inputs]
        inputs = np.concatenate(seen or [np.zeros((players, 0))], 1)
        rgb, goal = torch.from_numpy(transcript["RGB"][t]), torch.from_numpy(transcript["GOAL"][t].astype(np.float32))
        logits, state = network.step(rgb, torch.from_numpy(inputs.astype(np.float32)), goal, last, state)
        remembered = np.concatenate([transcript["hidden"][t], transcript["cell"][t]], 1)
        theirs = torch.from_numpy(transcript["logits"][t]).softmax(-1)
        for x, y, atol in ((logits.softmax(-1), theirs, 2e-5), (state, torch.from_numpy(remembered), 5e-5)):
            torch.testing.assert_close(x, y, atol=atol, rtol=1e-4, msg=f"{substrate}, step {t}: {{}}".format)
        last = torch.from_numpy(transcript["action"][t].astype(np.int64))
    probabilities = torch.from_numpy(transcript["logits"]).softmax(-1)
    assert probabilities.std((0, 1)).min() > 1e-3, f"{substrate}: a constant policy would prove nothing"


def test_cached_squares_match_the_convolution() -> None:
    model = bot_config("coins__puppet_cooperator_0").model
    assert model is not None
    network = puppet(model)
    generator = torch.Generator().manual_seed(0)
    squares = torch.randint(0, 256, (40, 8, 8, 3), dtype=torch.uint8, generator=generator)
    squares[7] = 0
    weight = network._squares._weight.view(8, 8, 3, -1).permute(3, 2, 0, 1)
    for _ in range(3):
        chosen = squares[torch.randint(0, 40, (5, 11, 11), generator=generator)]
        rgb = chosen.permute(0, 1, 3, 2, 4, 5).reshape(5, 88, 88, 3)
        whole = torch.conv2d(rgb.permute(0, 3, 1, 2).float(), weight, network._bias["conv_1"], stride=8).relu()
        torch.testing.assert_close(network._squares.look(rgb), whole.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


def test_models_with_another_architecture_are_rejected(tmp_path: Path) -> None:
    for content in (b"", b"no protocol buffer"):
        (tmp_path / "saved_model.pb").write_bytes(content)
        with pytest.raises(SetupError, match="does not have the known architecture: not a SavedModel"):
            puppet(tmp_path)
    with pytest.raises(SetupError, match="not installed"):
        puppet(tmp_path / "nothing")
