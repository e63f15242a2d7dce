"""The suite's networks as source, for a plain PyTorch program; the modules themselves are in `study.training.model`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from cifar_ablations.ablations.budget import Network
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean

Normalise = Callable[[int], str] | None
"""From a convolution's channels, a module behind it; None for none."""
Features = Callable[[float, Normalise], tuple[list[str], int]]
"""From a width, and what normalises a network that does not do so itself: the layers before the last one, as
expressions, and how many numbers they give."""


def network(model: Network, activation: str, normalise: Normalise, dropout: str, precision: str) -> list[str]:
    """Source of the class `Network`, after what it needs; its parameters stand in the order of the suite's own.

    activation: a module in place of every ReLU, dropout: one before the last layer, each "" for none; normalise: what
    makes one behind each convolution of the notebook's network, in place of its bias. Raises
    AblateError for a network that only a file of the user's own defines.
    """
    if model.name not in NETWORKS:
        raise AblateError(
            f"model.name={model.name} has no plain form: what is written is one of the suite's own networks"
            f"{did_you_mean(model.name, NETWORKS)}"
        )
    documentation, needed, features, last, scale = NETWORKS[model.name]
    layers, size = features(model.width, normalise)
    body = "\n".join(f"            {layer}," for layer in [*layers, *([dropout] if dropout else [])])
    logits = f"{scale}self.classifier(self.features(images))"
    forward = BF16 if precision == "bf16" else FP32
    written = NETWORK.format(
        documentation=documentation, body=body, size=size, last=last, forward=forward.format(logits=logits)
    )
    return [part.replace("nn.ReLU()", activation or "nn.ReLU()") for part in (*needed, written)]


NETWORK = '''
class Network(nn.Module):
    """{documentation}"""

    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(
{body}
        )
        self.classifier = nn.Linear({size}, classes{last})

    def forward(self, images):
        """Logits [batch, classes] of normalised images [batch, 3, 32, 32]."""
{forward}
'''
FP32 = """\
        return {logits}"""
BF16 = """\
        with torch.autocast(images.device.type, torch.bfloat16):
            logits = {logits}
        return logits.float()"""


def _scaled(width: float, *channels: int) -> list[int]:
    return [max(1, round(width * c)) for c in channels]


def _notebook(width: float, normalise: Normalise) -> tuple[list[str], int]:
    return _convolutional([(64, True), (128, True), (256, True), (256, True)], width, normalise)


def _deeper(width: float, normalise: Normalise) -> tuple[list[str], int]:
    stages = [(64, True), (128, True), (256, False), (256, True), (256, False), (256, True)]
    return _convolutional(stages, width, normalise)


def _convolutional(stages: list[tuple[int, bool]], width: float, normalise: Normalise) -> tuple[list[str], int]:
    """The notebook's layers from the channels of each convolution, and whether pooling follows it."""
    channels = [3, *_scaled(width, *(count for count, _ in stages))]
    (hidden,) = _scaled(width, 512)
    layers = []
    for (before, after), (_, pooled) in zip(pairwise(channels), stages, strict=True):
        norm, bias = ([normalise(after)], ", bias=False") if normalise else ([], "")
        layers += [
            f"nn.Conv2d({before}, {after}, kernel_size=3, padding=1{bias})",
            *norm,
            "nn.ReLU()",
            *(["nn.MaxPool2d(2)"] if pooled else []),
        ]
    return [*layers, "nn.Flatten()", f"nn.Linear({4 * channels[-1]}, {hidden})", "nn.ReLU()"], hidden


CONVOLUTION = '''
def convolution(inputs, outputs):
    """A 3 by 3 convolution with batch normalisation and an activation function."""
    convolved = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolved, nn.BatchNorm2d(outputs), nn.ReLU())
'''
RESIDUAL = '''
class Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(*(convolution(channels, channels) for _ in range(2)))

    def forward(self, images):
        return images + self.body(images)
'''


def _resnet9(width: float, _: Normalise) -> tuple[list[str], int]:
    first, second, third, fourth = _scaled(width, 64, 128, 256, 512)
    layers = [
        f"convolution(3, {first})",
        f"convolution({first}, {second})",
        "nn.MaxPool2d(2)",
        f"Residual({second})",
        f"convolution({second}, {third})",
        "nn.MaxPool2d(2)",
        f"convolution({third}, {fourth})",
        "nn.MaxPool2d(2)",
        f"Residual({fourth})",
        "nn.MaxPool2d(4)",
        "nn.Flatten()",
    ]
    return layers, fourth


CHANNEL_NORM = """
class ChannelNorm(nn.LayerNorm):  # over the channels, at each place for itself
    def forward(self, images):
        return super().forward(images.movedim(1, -1)).movedim(-1, 1)
"""
BLOCK = '''
class Block(nn.Module):
    """A depthwise convolution and two pointwise ones beside an identity."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=7, padding=3, groups=channels),
            ChannelNorm(channels),
            nn.Conv2d(channels, 4 * channels, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(4 * channels, channels, kernel_size=1),
        )

    def forward(self, images):
        return images + self.scale * self.body(images)
'''


def _convnext(width: float, _: Normalise) -> tuple[list[str], int]:
    first, second, third = _scaled(width, 64, 128, 256)
    # A line for each stage.
    layers = [f"*[nn.Conv2d(3, {first}, 2, 2), ChannelNorm({first}), Block({first}), Block({first})]"]
    for before, after in ((first, second), (second, third)):
        layers += [f"*[ChannelNorm({before}), nn.Conv2d({before}, {after}, 2, 2), Block({after}), Block({after})]"]
    return [*layers, f"*[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm({third})]"], third


class Source(NamedTuple):
    """What the source of a network is made from."""

    documentation: str
    needed: tuple[str, ...]
    """Source that stands before it."""
    features: Features
    last: str
    """Arguments of the last layer."""
    scale: str
    """What the logits are multiplied by."""


NETWORKS = {
    "notebook": Source("Four 3 by 3 convolutions and two linear layers.", (), _notebook, "", ""),
    "notebook-deeper": Source("Six 3 by 3 convolutions and two linear layers.", (), _deeper, "", ""),
    "resnet9": Source(
        "The nine-layer residual network of David Page (DAWNBench, 2018).",
        (CONVOLUTION, RESIDUAL),
        _resnet9,
        ", bias=False",
        "0.125 * ",
    ),
    "convnext": Source(
        "ConvNeXt (Liu et al. 2022) for images of 32 by 32 pixels.", (CHANNEL_NORM, BLOCK), _convnext, "", ""
    ),
}
