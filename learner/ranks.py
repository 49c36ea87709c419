"""The processes of one learner, started by torchrun, one for each GPU.

Rank 0 is the learner: it alone talks to actors, Redis and the disk. It passes every batch on; all ranks share the work
of the epochs and end with the same parameters.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from common.errors import ConfigError
from common.settings import variable
from learner.batch import Batch
from networks.sequences import StepSum

# A learner may wait for its actors, and the other ranks with it.
PATIENCE = datetime.timedelta(days=7)
NUMPY_FIELDS = ("learning", "policy_index")


def device_of(name: str) -> torch.device:
    """Returns the device that a setting names.

    Raises:
      ConfigError: if it names a GPU and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"learner.device={name}: torch finds no usable GPU; set cpu or auto")
    return torch.device(name)


@dataclass(frozen=True)
class Launch:
    """How torchrun started this process; by default, not at all."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> "Launch":
        """Reads the variables that torchrun sets."""
        rank, local_rank, size = (variable(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
        return cls(int(rank or 0), int(local_rank or 0), int(size or 1))


class Ranks:
    """This process among those of its learner.

    A context manager: joins the process group on entering, if there is more than one rank, and leaves it on exit.

    Args:
      device: where rank 0 computes; if it is a GPU, each of several ranks takes the GPU of its local rank.
      launch: this process.
    """

    def __init__(self, device: torch.device, launch: Launch = Launch()) -> None:
        self.rank, self.size = launch.rank, launch.size
        self.device = torch.device("cuda", launch.local_rank) if device.type == "cuda" and self.size > 1 else device

    def __enter__(self) -> Self:
        if self.size > 1:
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", timeout=PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    def share_state(self, tensors: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, Any]) -> Any:
        """Sends rank 0's state to the others, which restore it; returns it as (tensors, counters)."""
        if self.size == 1:
            return tensors, counters
        flat = {f"{group}/{name}": x for group, named in tensors.items() for name, x in named.items()}
        received, text = self._broadcast(flat, json.dumps(counters))
        groups: dict[str, dict[str, Tensor]] = {group: {} for group in tensors}
        for name, x in received.items():
            group, _, key = name.partition("/")
            groups.setdefault(group, {})[key] = x
        return groups, json.loads(text)

    def share_batch(self, batch: Batch | None) -> Batch | None:
        """Sends rank 0's batch to the others; None instead of a batch tells them to leave."""
        if self.size == 1:
            return batch
        flat: dict[str, Tensor] = {}
        if batch is not None:
            named = {field.name: getattr(batch, field.name) for field in fields(batch)}
            flat = {name: x if isinstance(x, Tensor) else torch.tensor(x) for name, x in named.items()}
        received, _ = self._broadcast(flat, "")
        if not received or self.rank == 0:
            return batch
        arrays: dict[str, Any] = {name: x.to(self.device) for name, x in received.items()}
        arrays |= {name: np.asarray(received[name]) for name in NUMPY_FIELDS}
        return Batch(**{**arrays, "players": int(received["players"])})

    def share(self, columns: Tensor) -> Tensor:
        """Returns this rank's share of a minibatch."""
        return columns[self.rank :: self.size]

    def mean(self, x: StepSum) -> Tensor:
        """Returns the mean over the steps of all ranks' shares, [P]; its gradient is summed over ranks in turn."""
        if self.size == 1:
            return x.mean()
        return StepSum(*(_SumOverRanks.apply(part) for part in x)).mean()  # type: ignore[no-untyped-call]

    def _broadcast(self, tensors: Mapping[str, Tensor], text: str) -> tuple[dict[str, Tensor], str]:
        """Sends rank 0's tensors and text to all ranks; returns them, on the CPU."""
        data = b""
        if self.rank == 0:
            whole = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
            data = safetensors.torch.save(whole, {"text": text})
        length = torch.tensor([len(data)], device=self.device)
        dist.broadcast(length, 0)
        if self.rank == 0:
            message = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(self.device)
        else:
            message = torch.empty(int(length), dtype=torch.uint8, device=self.device)
        dist.broadcast(message, 0)
        data = message.cpu().numpy().tobytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return safetensors.torch.load(data), header.get("__metadata__", {}).get("text", "")


class _SumOverRanks(torch.autograd.Function):
    """Sums a tensor over ranks, and, in the backward pass, its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        return _summed(gradient)


def _summed(x: Tensor) -> Tensor:
    x = x.contiguous().clone()
    dist.all_reduce(x)
    return x
