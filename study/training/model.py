"""Networks by name, and the sites in them at which dropout may act."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.budget import Network
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import Technique, overrides

MONOTONE = (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh)
"""Activation functions that max-pooling may come before."""


def block(x: Tensor, weight: Tensor, bias: Tensor, activation: nn.Module) -> Tensor:
    """3×3 convolution of [B, C, H, W], 2×2 max-pooling, bias and activation: [B, outputs, H / 2, W / 2].

    weight: [outputs, C, 3, 3]; bias: [outputs].
    """
    x = F.max_pool2d(F.conv2d(x, weight, padding=1), 2)
    found: Tensor = activation(x + bias.to(x.dtype)[:, None, None])
    return found


class DropoutSite(nn.Module):
    """Multiplies activations [B, *shape] by `mask`, of their shape, in training; does nothing else."""

    def __init__(self, *shape: int):
        super().__init__()
        self.shape = shape
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask if self.training and self.mask is not None else x


class NotebookNetwork(nn.Module):
    """The notebook's CNN: four 3×3 convolutions, each with ReLU and 2×2 max-pooling, and two linear layers.

    Pooling comes before bias and ReLU. It gives the same function and the same gradients, since adding a constant per
    channel and ReLU are monotone, and touches a quarter of the memory. Where another activation function is not
    monotone, it comes after. Normalisation, where a technique puts it behind the convolutions in place of their biases,
    comes before pooling, since its scale may be negative.
    """

    CHANNELS: ClassVar[tuple[int, ...]] = (64, 128, 256, 256)
    """Of each convolution's output, at width 1."""
    POOLED: ClassVar[tuple[bool, ...]] = (True, True, True, True)
    """Whether max-pooling follows it."""

    def __init__(self, width: float, classes: int):
        super().__init__()
        channels = [3, *(max(1, round(c * width)) for c in self.CHANNELS)]
        hidden = max(1, round(512 * width))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, padding=1) for before, after in pairwise(channels)
        )
        self.hidden = nn.Linear(channels[-1] * 2 * 2, hidden)
        self.activations = nn.ModuleList(nn.ReLU() for _ in channels)
        self.dropout = DropoutSite(hidden)
        self.classifier = nn.Linear(hidden, classes)
        self.block = block  # a backend may put another in its place

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of normalised images [B, 3, 32, 32]."""
        *convolved, last = self.activations
        for convolution, activation, pooled in zip(self.convolutions, convolved, self.POOLED, strict=True):
            assert isinstance(convolution, nn.Conv2d)
            if not pooled:
                x = activation(convolution(x))
            elif not isinstance(activation, MONOTONE):
                x = F.max_pool2d(activation(convolution(x)), 2)
            elif convolution.bias is None:
                x = activation(F.max_pool2d(convolution(x), 2))
            else:
                x = self.block(x, convolution.weight, convolution.bias, activation)
        x = x.flatten(1)
        logits: Tensor = self.classifier(self.dropout(last(self.hidden(x))))
        return logits


class DeeperNotebookNetwork(NotebookNetwork):
    """The notebook's CNN with a second convolution before each of the last two poolings: about twice the arithmetic."""

    CHANNELS: ClassVar[tuple[int, ...]] = (64, 128, 256, 256, 256, 256)
    POOLED: ClassVar[tuple[bool, ...]] = (True, True, False, True, False, True)


class _ConvolutionNorm(nn.Sequential):
    """3×3 convolution without bias, batch normalisation, ReLU, and 2×2 max-pooling where asked."""

    def __init__(self, inputs: int, outputs: int, pool: bool = False):
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        super().__init__(*layers, nn.ReLU(), *([nn.MaxPool2d(2)] if pool else []))


class _Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(_ConvolutionNorm(channels, channels), _ConvolutionNorm(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.body(x)
        return x + change


class ResNet9(nn.Module):
    """The nine-layer residual network of David Page's CIFAR-10 speed records (DAWNBench, 2018): 6.6 M parameters."""

    def __init__(self, width: float, classes: int):
        super().__init__()
        first, second, third, fourth = (max(1, round(c * width)) for c in (64, 128, 256, 512))
        self.features = nn.Sequential(
            _ConvolutionNorm(3, first),
            _ConvolutionNorm(first, second, pool=True),
            _Residual(second),
            _ConvolutionNorm(second, third, pool=True),
            _ConvolutionNorm(third, fourth, pool=True),
            _Residual(fourth),
            nn.MaxPool2d(4),
            nn.Flatten(),
        )
        self.dropout = DropoutSite(fourth)
        self.classifier = nn.Linear(fourth, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of normalised images [B, 3, 32, 32]; Page scales them by 1/8."""
        logits: Tensor = self.classifier(self.dropout(self.features(x)))
        return 0.125 * logits


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of [B, C, H, W], at each place for itself."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias).movedim(-1, 1)


class _ConvNeXtBlock(nn.Module):
    """A 7×7 depthwise convolution, then two 1×1 ones with four times the channels between them, beside an identity.

    The branch begins at a tenth: `scale` is ConvNeXt's layer scale, larger than there since the network is shallow.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            ChannelNorm(channels),
            nn.Conv2d(channels, 4 * channels, 1),
            nn.ReLU(),
            nn.Conv2d(4 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.body(x)
        return x + self.scale * change


class ConvNeXt(nn.Module):
    """ConvNeXt (Liu et al. 2022) for images of 32×32 pixels: 1.6 M parameters.

    Patches of 2×2 pixels, two blocks each at 16×16, 8×8 and 4×4, the mean over places, and a classifier. Its activation
    function is ReLU, as of all networks here, so that the technique `activation` can replace it: gelu is the paper's,
    which finds no difference.
    """

    def __init__(self, width: float, classes: int):
        super().__init__()
        first, second, third = (max(1, round(c * width)) for c in (64, 128, 256))
        layers: list[nn.Module] = [nn.Conv2d(3, first, 2, stride=2), ChannelNorm(first)]
        layers += [_ConvNeXtBlock(first), _ConvNeXtBlock(first)]
        for before, after in ((first, second), (second, third)):
            layers += [ChannelNorm(before), nn.Conv2d(before, after, 2, stride=2)]
            layers += [_ConvNeXtBlock(after), _ConvNeXtBlock(after)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(third))
        self.dropout = DropoutSite(third)
        self.classifier = nn.Linear(third, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of normalised images [B, 3, 32, 32]."""
        logits: Tensor = self.classifier(self.dropout(self.features(x)))
        return logits


Factory = Callable[[float, int], nn.Module]
"""Makes a network from its width and the number of classes."""

NETWORKS: dict[str, Factory] = {
    "notebook": NotebookNetwork,
    "notebook-deeper": DeeperNotebookNetwork,
    "resnet9": ResNet9,
    "convnext": ConvNeXt,
}
"""The suite's own by name; `networks` has those of extensions too."""


def networks() -> dict[str, Factory]:
    """Every network by name. Raises AblateError for one of an extension that cannot be used."""
    return _networks(extensions.known())


@lru_cache(maxsize=8)
def _networks(among: tuple[extensions.Extension, ...]) -> dict[str, Factory]:
    found = dict(NETWORKS)
    for name, extension in extensions.of_kind(extensions.NETWORKS, NETWORKS).items():
        module = extension.module(extensions.NETWORKS, name)
        extensions.asked_of(module, ("network",))
        found[name] = module.network
    return found


def build(network: Network, classes: int) -> nn.Module:
    """The network in fp32 on the CPU, drawn from torch's global generator.

    A name is one of `networks`, or `package.module:factory` for a callable that takes (width, classes), of an installed
    package or of an extension's folder. What the code of one's own does is no part of a recipe's digest, but of the
    training's key. Raises AblateError, with what is near, for a name that leads nowhere.
    """
    if network.name in NETWORKS:
        return NETWORKS[network.name](network.width, classes)
    made = _made(network, _factory(network.name) if ":" in network.name else _listed(network.name), classes)
    if not isinstance(made, nn.Module):
        raise AblateError(f"model.name={network.name} returned {type(made).__name__}, not a torch.nn.Module")
    return made


def _listed(name: str) -> Factory:
    if name not in networks():
        raise AblateError(
            f"model.name cannot be {name!r}{did_you_mean(name, networks())} For one of an extension, {extensions.HOW}."
        )
    return networks()[name]


def _made(network: Network, factory: Factory, classes: int) -> object:
    try:
        return factory(network.width, classes)
    except Exception as error:
        raise AblateError(
            f"model.name={network.name} cannot be made with (width, classes) = ({network.width:g}, {classes}): "
            f"{type(error).__name__}: {error}"
        ) from error


def network_of(recipe: Recipe, classes: int) -> nn.Module:
    """The recipe's network as `build` makes it, its convolutions normalised and every ReLU replaced where a technique
    asks for it.

    Raises AblateError where a technique normalises, and the network does so itself or has no convolution.
    """
    network = build(recipe.sized.model, classes)
    for technique in recipe.techniques:
        if normalises(technique):
            _normalise(network, technique, recipe.model.name)
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.ReLU) and (other := technique.activation()) is not None:
                owner, _, leaf = name.rpartition(".")
                setattr(network.get_submodule(owner), leaf, other)
    return network


def normalises(technique: Technique) -> bool:
    """Whether a technique, as it is set, puts modules behind convolutions."""
    return overrides(technique, "normalise") and technique.normalise(1) is not None


def _normalise(network: nn.Module, technique: Technique, name: str) -> None:
    """Put a technique's modules behind all convolutions, whose biases go; parameters keep their names, and draws."""
    own = sorted({type(m).__name__ for m in network.modules() if "norm" in type(m).__name__.lower()})
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    if own or not convolutions:
        why = f"has normalisation of its own ({', '.join(own)})" if own else "has no nn.Conv2d"
        raise AblateError(
            f"model.name={name} {why}, so {technique.kind_title} has no place in it; set {technique.name}=off"
        )
    for convolution in convolutions:
        convolution.bias = None
        convolution.add_module("norm", technique.normalise(convolution.out_channels))
        convolution.register_forward_hook(_normalised)


def _normalised(convolution: nn.Module, inputs: object, output: Tensor) -> Tensor:
    found: Tensor = convolution.get_submodule("norm")(output)
    return found


def check(recipe: Recipe, classes: int) -> None:
    """Raise AblateError unless the recipe's network can be built, gives logits, has a place for its masks, and is
    measured with one average of its weights at most."""
    recipe.running_average()
    network = network_of(recipe, classes).eval()
    name = recipe.model.name
    with torch.no_grad():
        try:
            logits = network(torch.zeros(2, 3, 32, 32))
        except (RuntimeError, TypeError, ValueError) as error:
            raise AblateError(f"model.name={name} cannot take images [2, 3, 32, 32]: {error}") from error
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise AblateError(f"model.name={name} must return logits of shape (2, {classes}) for two images, not {got}")
    masking = [t.name for t in recipe.techniques if overrides(t, "mask") and not t.is_off]
    if masking and not any(isinstance(m, DropoutSite) for m in network.modules()):
        raise AblateError(
            f"model.name={name} has no {DropoutSite.__module__}.DropoutSite, so {masking[0]} would do nothing; "
            f"put one in, or set {masking[0]}=off"
        )


def _factory(path: str) -> Factory:
    module_name, _, attribute = path.partition(":")
    top, _, below = module_name.partition(".")
    extension = extensions.holding(top)
    if extension is None:
        raise AblateError(
            f"model.name={path}: no package {top!r} is installed, and no extension is called so; for one, "
            f"{extensions.HOW}"
        )
    try:
        found: Factory = getattr(extension.imported(below), attribute)
    except AttributeError as error:
        raise AblateError(f"model.name={path}: {error}") from error
    if not callable(found):
        raise AblateError(f"model.name={path} is not callable")
    return found
