"""This project's embedding of an observation in plain torch, so that peers train the same network."""

import torch
from torch import Tensor, nn

from common.config import NetworkConfig


class Embedding(nn.Module):
    """Two 3x3 convolutions and a dense layer over the image and the features.

    Args:
      rgb_shape: H, W and 3.
      features: F.
      config: the widths.
    """

    def __init__(self, rgb_shape: tuple[int, int, int], features: int, config: NetworkConfig) -> None:
        super().__init__()
        height, width, colours = rgb_shape
        first, second = config.channels
        convolutions = nn.Conv2d(colours, first, 3), nn.ReLU(), nn.Conv2d(first, second, 3, stride=2), nn.ReLU()
        self.image = nn.Sequential(*convolutions, nn.Flatten())
        flat = second * ((height - 3) // 2) * ((width - 3) // 2)
        self.dense = nn.Sequential(nn.Linear(flat + features, config.dense), nn.ReLU())

    def forward(self, rgb: Tensor, features: Tensor) -> Tensor:
        """Embeds: rgb [M, H, W, 3] of 0 to 255 and features [M, F] -> [M, dense]."""
        seen = self.image(rgb.movedim(-1, -3).float() / 255)
        embedded: Tensor = self.dense(torch.cat([seen, features.sign() * features.abs().log1p()], -1))
        return embedded
