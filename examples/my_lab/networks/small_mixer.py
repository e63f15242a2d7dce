"""A small MLP-Mixer (Tolstikhin et al. 2021) for images of 32 × 32 pixels: no convolution but that into patches."""

from __future__ import annotations

from torch import Tensor, nn

from cifar_ablations.study.training.model import DropoutSite

PATCHES = 64
"""Of 4 × 4 pixels."""


def perceptron(size: int, hidden: int) -> nn.Sequential:
    """Two linear layers over the last dimension."""
    return nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, size))


class Block(nn.Module):
    """Mixes [B, PATCHES, C] over the patches, then over the channels, each beside an identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.before_patches, self.before_channels = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.over_patches = perceptron(PATCHES, PATCHES // 2)
        self.over_channels = perceptron(channels, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_patches(self.before_patches(x).mT).mT
        mixed: Tensor = x + self.over_channels(self.before_channels(x))
        return mixed


class SmallMixer(nn.Module):
    """Patches, four blocks, the mean over patches, and a classifier."""

    def __init__(self, width: float, classes: int):
        super().__init__()
        channels = max(1, round(128 * width))
        self.patches = nn.Conv2d(3, channels, 4, stride=4)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(4)), nn.LayerNorm(channels))
        self.dropout = DropoutSite(channels)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of normalised images [B, 3, 32, 32]."""
        x = self.blocks(self.patches(x).flatten(2).mT)
        logits: Tensor = self.classifier(self.dropout(x.mean(dim=1)))
        return logits


def network(width: float, classes: int) -> nn.Module:
    """The network; width: factor on the number of channels."""
    return SmallMixer(width, classes)
