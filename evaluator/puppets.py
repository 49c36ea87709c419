"""The bots' networks in PyTorch, batched over bots.

All puppets that DeepMind trained for the official scenarios share one architecture:

    image [88, 88, 3] / 255 -> conv 8x8 by 8, relu -> conv 4x4, relu -> flat
    flat, the last action (one-hot), INVENTORY, READY_TO_SHOOT -> dense, relu -> dense, relu -> LSTM -> dense, relu
    -> K policies [K, A], mixed by softmax(W goal)

where the goal comes from a puppeteer. `evaluator/saved_model.py` reads the weights from Melting Pot's SavedModels;
`tests/evaluator/test_puppets.py` compares the networks over hundreds of steps of play.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from common.errors import SetupError
from evaluator import saved_model

FORGET_BIAS = 1.0
EDGE = 8  # of the first convolution's squares, in pixels
WORD = 8  # bytes hashed at a time
MAX_SQUARES = 1 << 16  # cached at most


class Puppet:
    """One network and its weights.

    Args:
      model: the `saved_model.pb` to read.

    Attributes:
      inputs: the names of its observations besides RGB, in order.
      actions: A.
      state_size: length of a bot's recurrent state, the LSTM's hidden values and cells; initially zeros.
    """

    def __init__(self, model: Path) -> None:
        weights, biases, self.inputs = saved_model.read(model)
        weight = {name: torch.from_numpy(x) for name, x in weights.items()}
        self._bias = {name: torch.from_numpy(x) for name, x in biases.items()}
        self._squares = _Squares(weight["conv_1"].flatten(0, 2) / 255, self._bias["conv_1"])
        weight["conv_2"] = weight["conv_2"].permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        self._weight = weight
        self._mixture = len(self._bias["goal"])
        self.actions = len(self._bias["policy_2"]) // self._mixture
        self._core = weight["lstm"].shape[1] // 4
        self.state_size = 2 * self._core

    def step(
        self, rgb: Tensor, inputs: Tensor, goal: Tensor, last_action: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Computes the logits of R bots.

        Args:
          rgb: [R, H, W, 3] uint8.
          inputs: [R, I], the observations named by `inputs`, concatenated.
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
        image = self._squares.look(rgb).permute(0, 3, 1, 2)
        x = F.relu(F.conv2d(image, self._weight["conv_2"], self._bias["conv_2"]))
        return x.permute(0, 2, 3, 1).flatten(1)

    def _dense(self, layer: str, x: Tensor) -> Tensor:
        return torch.addmm(self._bias[layer], x, self._weight[layer])


class _Squares:
    """The first convolution and its relu, cached by square.

    Its 8x8 squares do not overlap and show the game's sprites, of which there are few. The output for a square is
    computed once, then looked up by a 64-bit hash of its bytes; among thousands of squares, collisions are negligible.

    Args:
      weight: [8 * 8 * 3, C].
      bias: [C].
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight, bias
        words = EDGE * 3 // WORD
        multipliers = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, (EDGE, 1, words)) | 1
        self._multipliers = torch.from_numpy(multipliers)
        # A black square hashes to 0 and yields the bias alone, so the cache is never empty.
        self._known = torch.zeros(1, dtype=torch.int64)
        self._outcome = F.relu(bias)[None]

    def look(self, rgb: Tensor) -> Tensor:
        """[R, H, W, 3] uint8 -> [R, H / 8, W / 8, C]."""
        rows, height, width, colours = rgb.shape
        shape = (rows, height // EDGE, width // EDGE)
        lines = rgb.view(rows, height // EDGE, EDGE, width * colours).view(torch.int64)
        hashes = (lines.unflatten(-1, (shape[2], -1)) * self._multipliers).sum((2, 4)).flatten()
        position = torch.searchsorted(self._known, hashes)
        # Hashes beyond the last known one are unknown too.
        if not bool((self._known.gather(0, position.clamp(max=len(self._known) - 1)) == hashes).all()):
            self._learn(rgb.view(*shape[:2], EDGE, shape[2], -1).transpose(2, 3).flatten(3).flatten(0, 2), hashes)
            position = torch.searchsorted(self._known, hashes)
        return self._outcome[position].view(*shape, -1)

    def _learn(self, squares: Tensor, hashes: Tensor) -> None:
        if len(self._known) > MAX_SQUARES:
            self._known, self._outcome = self._known[:1], self._outcome[:1]
        known = torch.isin(hashes, self._known)
        fresh, first = np.unique(hashes[~known].numpy(), return_index=True)
        seen = squares[~known][torch.from_numpy(first)].to(torch.float32)
        outcome = F.relu(torch.addmm(self._bias, seen, self._weight))
        self._known, order = torch.cat([self._known, torch.from_numpy(fresh)]).sort()
        self._outcome = torch.cat([self._outcome, outcome])[order]


@cache
def puppet(model: Path) -> Puppet:
    """Reads a bot's network from its SavedModel, once per process; this takes a tenth of a second.

    Args:
      model: the SavedModel's folder.

    Raises:
      SetupError: if the model is not installed or has another architecture.
    """
    graph = model / "saved_model.pb"
    try:
        return Puppet(graph)
    except FileNotFoundError:
        raise SetupError(
            f"the bot {model.parent.name}/{model.name} is not installed: {graph} is missing; bidist doctor explains "
            "how to get the bots"
        ) from None
    except LookupError as error:
        raise SetupError(
            f"the bot {model.parent.name}/{model.name} does not have the known architecture: {error}; play it with "
            "--reference"
        ) from None
