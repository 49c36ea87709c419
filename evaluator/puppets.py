"""The bots' networks, in PyTorch and for many bots at once.

Every puppet that DeepMind trained for the official scenarios is the same network with other weights:

    image [88, 88, 3] / 255 -> conv 8x8 by 8, relu -> conv 4x4, relu -> flat
    flat, the last action (one-hot), INVENTORY, READY_TO_SHOOT -> dense, relu -> dense, relu -> LSTM -> dense, relu
    -> K policies [K, A], mixed by softmax(W goal)

where the goal comes from a puppeteer. `evaluator/saved_model.py` reads the weights out of Melting Pot's SavedModel
once, in a process of its own; they are kept in a cache outside of any repository. `tests/test_puppets.py` holds the two
networks against each other over hundreds of steps of play.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from common.errors import SetupError

CACHE = Path("~/.cache/bidist/puppets")
EXTRACTION_S = 300.0
FORGET_BIAS = 1.0


class Puppet:
    """One network and its weights.

    Args:
      weights: a file that `evaluator/saved_model.py` wrote.

    Attributes:
      inputs: the observations besides RGB that it sees, in order.
      actions: A.
      state_size: length of a bot's recurrent state, which starts as zeros: the LSTM's hidden values, then its cells.
    """

    def __init__(self, weights: Path) -> None:
        with safe_open(weights, "pt") as file:
            self.inputs: list[str] = json.loads(file.metadata()["inputs"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self._bias = {name.removesuffix(".bias"): x for name, x in tensors.items() if name.endswith(".bias")}
        weight = {name.removesuffix(".weight"): x for name, x in tensors.items() if name.endswith(".weight")}
        self._patch, _, self._colours, _ = weight["conv_1"].shape
        # Its squares do not overlap, so the first convolution is a product with each square of pixels.
        weight["conv_1"] = weight["conv_1"].flatten(0, 2) / 255
        weight["conv_2"] = weight["conv_2"].permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        self._weight = weight
        self._mixture = len(self._bias["goal"])
        self.actions = len(self._bias["policy_2"]) // self._mixture
        self._core = weight["lstm"].shape[1] // 4
        self.state_size = 2 * self._core

    def step(
        self, rgb: Tensor, inputs: Tensor, goal: Tensor, last_action: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What R bots think now.

        Args:
          rgb: [R, H, W, 3] uint8.
          inputs: [R, I], the observations of `inputs` side by side.
          goal: [R, G], one-hot.
          last_action: [R] int64, 0 at the start of an episode.
          state: [R, state_size].

        Returns: logits [R, A] and the next state.
        """
        seen = self._look(rgb)
        last = F.one_hot(last_action, self.actions).to(torch.float32)
        x = F.relu(self._dense("torso_1", torch.cat([seen, last, inputs], 1)))
        x = F.relu(self._dense("torso_2", x))
        hidden, cell = state.split(self._core, 1)
        i, g, f, o = self._dense("lstm", torch.cat([x, hidden], 1)).split(self._core, 1)
        cell = torch.sigmoid(f + FORGET_BIAS) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        policies = self._dense("policy_2", F.relu(self._dense("policy_1", hidden)))
        mixture = self._dense("goal", goal).softmax(-1)
        logits = torch.bmm(mixture[:, None], policies.view(-1, self._mixture, self.actions))[:, 0]
        return logits, torch.cat([hidden, cell], 1)

    def _look(self, rgb: Tensor) -> Tensor:
        rows, height, width, _ = rgb.shape
        p = self._patch
        squares = rgb.view(rows, height // p, p, width // p, p * self._colours).transpose(2, 3)
        x = squares.reshape(-1, p * p * self._colours).to(torch.float32)
        x = F.relu(torch.addmm(self._bias["conv_1"], x, self._weight["conv_1"]))
        image = x.view(rows, height // p, width // p, -1).permute(0, 3, 1, 2)
        x = F.relu(F.conv2d(image, self._weight["conv_2"], self._bias["conv_2"]))
        return x.permute(0, 2, 3, 1).flatten(1)

    def _dense(self, layer: str, x: Tensor) -> Tensor:
        return torch.addmm(self._bias[layer], x, self._weight[layer])


def puppet(model: Path, cache: Path = CACHE) -> Puppet:
    """Loads a bot's network, reading it out of its SavedModel if that was not done before.

    Args:
      model: the SavedModel's folder.
      cache: where the weights are kept.

    Raises:
      SetupError: if the model is not installed, or is of another make.
    """
    graph = model / "saved_model.pb"
    if not graph.is_file():
        raise SetupError(
            f"the bot {model.parent.name}/{model.name} is not installed: {graph} is missing; bidist doctor says how to "
            "get the bots"
        )
    digest = hashlib.sha256(graph.read_bytes()).hexdigest()[:16]
    weights = cache.expanduser() / f"{model.parent.name}-{model.name}-{digest}.safetensors"
    if not weights.exists():
        _extract(model, weights)
    return Puppet(weights)


def _extract(model: Path, weights: Path) -> None:
    weights.parent.mkdir(parents=True, exist_ok=True)
    unfinished = weights.with_suffix(f".{np.random.default_rng().integers(2**32)}")
    command = [sys.executable, "-m", "evaluator.saved_model", str(model), str(unfinished)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=EXTRACTION_S)
    if done.returncode:
        raise SetupError(f"cannot read the bot's network: {done.stderr.strip().splitlines()[-1]}")
    unfinished.rename(weights)
