"""Normalises returns by a running mean and variance, so that games with any scale of rewards train alike."""

import torch
from torch import Tensor, nn

VARIANCE_FLOOR = 1e-2


class ValueNorm(nn.Module):
    """Debiased moving averages of returns and their squares, for each of P policies (Yu et al. 2022).

    Args:
      policies: P.
      beta: the share of the old average that an update keeps.
    """

    mean: Tensor
    mean_square: Tensor
    weight: Tensor

    def __init__(self, policies: int, beta: float) -> None:
        super().__init__()
        self.beta = beta
        for name in ("mean", "mean_square", "weight"):
            self.register_buffer(name, torch.zeros(policies, dtype=torch.float64))

    def update(self, returns: Tensor, mask: Tensor) -> None:
        """Adds the returns [P, T, S] where mask [P, T, S] is true; a policy without any keeps its averages."""
        count = mask.sum((1, 2))
        some = count > 0
        x = returns.double() * mask
        share = torch.where(some, 1 - self.beta, 0.0).double()
        for average, total in ((self.mean, x), (self.mean_square, x * x)):
            average += share * (total.sum((1, 2)) / count.clamp(min=1) - average)
        self.weight += share * (1 - self.weight)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation, [P, 1, 1] float32; 0 and 1 before the first update."""
        seen = self.weight > 0
        weight = torch.where(seen, self.weight, 1.0)
        mean = self.mean / weight
        variance = torch.where(seen, (self.mean_square / weight - mean * mean).clamp(min=VARIANCE_FLOOR), 1.0)
        return mean.float()[:, None, None], variance.sqrt().float()[:, None, None]

    def normalise(self, returns: Tensor) -> Tensor:
        """Converts from the units of rewards to those of the critic."""
        mean, deviation = self.moments()
        return (returns - mean) / deviation

    def denormalise(self, values: Tensor) -> Tensor:
        """Converts from the units of the critic to those of rewards."""
        mean, deviation = self.moments()
        return values * deviation + mean
