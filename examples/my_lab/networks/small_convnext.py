"""A small ConvNeXt (Liu et al. 2022) for images of 32 × 32 pixels: depthwise convolutions, LayerNorm and GELU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_ablations.study.training.model import DropoutSite


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of [B, C, H, W], at each place for itself."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias).movedim(-1, 1)


class Block(nn.Module):
    """A 7 × 7 depthwise convolution, then two 1 × 1 ones with four times the channels between them, beside an identity.

    The branch begins at a tenth: `scale` is ConvNeXt's layer scale, larger than there since the network is shallow.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = ChannelNorm(channels)
        self.widen = nn.Conv2d(channels, 4 * channels, 1)
        self.activation = nn.GELU()
        self.narrow = nn.Conv2d(4 * channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        change = self.narrow(self.activation(self.widen(self.norm(self.depthwise(x)))))
        return x + self.scale * change


class SmallConvNeXt(nn.Module):
    """Patches of 2 × 2 pixels, two blocks each at 16 × 16, 8 × 8 and 4 × 4, the mean over places, and a classifier."""

    def __init__(self, width: float, classes: int):
        super().__init__()
        channels = [max(1, round(count * width)) for count in (64, 128, 256)]
        layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 2, stride=2), ChannelNorm(channels[0])]
        for before, after in zip([channels[0], *channels], channels, strict=False):
            if before != after:
                layers += [ChannelNorm(before), nn.Conv2d(before, after, 2, stride=2)]
            layers += [Block(after), Block(after)]
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(channels[-1])
        self.dropout = DropoutSite(channels[-1])
        self.classifier = nn.Linear(channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of normalised images [B, 3, 32, 32]."""
        logits: Tensor = self.classifier(self.dropout(self.norm(self.features(x).mean(dim=(2, 3)))))
        return logits


def network(width: float, classes: int) -> nn.Module:
    """The network; width: factor on the number of channels."""
    return SmallConvNeXt(width, classes)
