"""The bots' networks in PyTorch against the SavedModels they were read from."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import SetupError
from evaluator.puppets import puppet
from evaluator.scenarios import bot_config, require_bots, scenarios_of

ARENAS = [f"{game}_in_the_matrix__arena" for game in ("prisoners_dilemma", "chicken", "pure_coordination")]
SUBSTRATES = ["coins", "coop_mining", *ARENAS, *(name.replace("arena", "repeated") for name in ARENAS)]
STEPS = 200


@pytest.fixture(autouse=True)
def bots_are_installed() -> None:
    try:
        require_bots([s for name in SUBSTRATES for s in scenarios_of(name)])
    except SetupError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("substrate", SUBSTRATES)
def test_networks_match_the_saved_models_over_hundreds_of_steps_of_play(tmp_path: Path, substrate: str) -> None:
    out = tmp_path / "transcript.npz"
    scenarios = [s.name for s in scenarios_of(substrate)]
    command = [sys.executable, str(Path(__file__).with_name("puppet_reference.py")), str(STEPS), str(out), *scenarios]
    subprocess.run(command, check=True, capture_output=True)
    transcript = np.load(out)
    models = {bot_config(name).model for name in transcript["bots"].tolist()}
    (model,) = models
    assert model is not None
    network = puppet(model)
    steps, players = transcript["action"].shape
    assert steps == STEPS
    state = torch.zeros(players, network.state_size)
    last = torch.zeros(players, dtype=torch.int64)
    for t in range(steps):
        seen = [transcript[name][t].reshape(players, -1) for name in network.inputs]
        inputs = np.concatenate(seen or [np.zeros((players, 0))], 1)
        rgb, goal = torch.from_numpy(transcript["RGB"][t]), torch.from_numpy(transcript["GOAL"][t].astype(np.float32))
        logits, state = network.step(rgb, torch.from_numpy(inputs.astype(np.float32)), goal, last, state)
        theirs = torch.from_numpy(transcript["logits"][t])
        torch.testing.assert_close(logits.softmax(-1), theirs.softmax(-1), atol=2e-5, rtol=1e-4)
        remembered = np.concatenate([transcript["hidden"][t], transcript["cell"][t]], 1)
        torch.testing.assert_close(state, torch.from_numpy(remembered), atol=5e-5, rtol=1e-4)
        last = torch.from_numpy(transcript["action"][t].astype(np.int64))
    probabilities = torch.from_numpy(transcript["logits"]).softmax(-1)
    assert probabilities.std((0, 1)).min() > 1e-3, "a constant policy would prove nothing"


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
