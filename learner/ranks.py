"""The processes of one learner, started by torchrun: one for each GPU.

Rank 0 is the learner: it alone talks to actors, to Redis and to the disk. It hands every batch on to the others; all of
them share the work of the epochs and end with the same parameters.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from common.settings import variable
from learner.batch import Batch

# A learner may wait for its actors, and the other ranks with it.
PATIENCE = datetime.timedelta(days=7)
SIZES = ("learning", "policy")


def rank() -> int:
    """This process' number among those of its learner, as torchrun gives it; 0 without torchrun."""
    return int(variable("RANK") or 0)


class Ranks:
    """This process among those of its learner.

    Args:
      device: where rank 0 computes; the others take the GPU of their local rank.
    """

    def __init__(self, device: torch.device) -> None:
        self.size, self.rank = int(variable("WORLD_SIZE") or 1), rank()
        local = int(variable("LOCAL_RANK") or 0)
        self.device = torch.device("cuda", local) if device.type == "cuda" and self.size > 1 else device
        if self.size > 1:
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", timeout=PATIENCE)

    def share_state(self, tensors: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, Any]) -> Any:
        """Hands on what rank 0 has, for the others to restore; returns what it gets, as (tensors, counters)."""
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
        """Hands a batch on, given by rank 0; None, as a batch, tells the others to leave."""
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
        arrays["learning"], arrays["policy"] = (np.asarray(received[name]) for name in SIZES)
        return Batch(**{**arrays, "players": int(received["players"])})

    def mine(self, columns: Tensor) -> Tensor:
        """This rank's share of a minibatch."""
        return columns[self.rank :: self.size]

    def close(self) -> None:
        """Leaves the group."""
        if self.size > 1:
            dist.destroy_process_group()

    def _broadcast(self, tensors: Mapping[str, Tensor], text: str) -> tuple[dict[str, Tensor], str]:
        """Sends rank 0's tensors and text to all; returns them, on the CPU."""
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
