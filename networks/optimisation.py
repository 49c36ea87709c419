"""Clips the gradients of stacked policies, and saves optimisers so that training resumes exactly."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clips the norm of each policy's gradient, and returns the norms before clipping: [P].

    A policy's gradient is its slice, along the leading axis, of the gradients of all parameters.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms: Tensor = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    scale = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.dim() - 1)))
    return norms


def optimiser_tensors(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Returns Adam's moments and step counts as a flat dict of tensors, named after their parameters."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{names[parameter]}|{key}": value
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def load_optimiser(optimiser: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Restores what `optimiser_tensors` returned."""
    parameters = dict(module.named_parameters())
    optimiser.state.clear()
    for label, value in tensors.items():
        name, _, key = label.partition("|")
        parameter = parameters[name]
        optimiser.state[parameter][key] = value.to(parameter.device, copy=True)
