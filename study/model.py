"""Networks by name, and the place in them where dropout may act."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from ablations.naming import did_you_mean
from ablations.recipe import Network


class DropoutSite(nn.Module):
    """Where activations may be dropped: multiplies them by `mask` [B, *shape] in training, and else does nothing."""

    def __init__(self, *shape: int):
        super().__init__()
        self.shape = shape
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask if self.training and self.mask is not None else x


class NotebookNetwork(nn.Module):
    """The notebook's CNN: four 3×3 convolutions, each with ReLU and 2×2 max-pooling, and two linear layers.

    Pooling comes before bias and ReLU. It gives the same function and the same gradients, since adding a constant per
    channel and ReLU are monotone, and touches a quarter of the memory.
    """

    def __init__(self, width: float, classes: int):
        super().__init__()
        channels = [3, *(max(1, round(c * width)) for c in (64, 128, 256, 256))]
        hidden = max(1, round(512 * width))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, padding=1) for before, after in pairwise(channels)
        )
        self.hidden = nn.Linear(channels[-1] * 2 * 2, hidden)
        self.dropout = DropoutSite(hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of normalised images [B, 3, 32, 32]."""
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv2d)
            x = F.max_pool2d(F.conv2d(x, convolution.weight, padding=1), 2)
            assert convolution.bias is not None
            x = F.relu(x + convolution.bias.to(x.dtype)[:, None, None])
        x = x.flatten(1)
        return self.classifier(self.dropout(F.relu(self.hidden(x))))


NETWORKS: dict[str, Callable[[float, int], nn.Module]] = {"notebook": NotebookNetwork}


def build(network: Network, classes: int) -> nn.Module:
    """The network in fp32 on the CPU. Raises ValueError, with what is near, for an unknown name."""
    if network.name not in NETWORKS:
        raise ValueError(f"model.name cannot be {network.name!r}{did_you_mean(network.name, NETWORKS)}")
    return NETWORKS[network.name](network.width, classes)
