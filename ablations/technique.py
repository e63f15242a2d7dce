"""A technique: one thing that can be switched, as a frozen value with knobs and hooks.

To add one, write a file in `ablations/techniques/` named after it, holding pure functions first and then one frozen
dataclass derived from `Technique`. Its fields are made with `knob()`; it overrides the hooks it needs and leaves the
others alone. Nothing else has to be touched: lists, plans and the contract tests find it by looking in the folder.
`plain` says what it is in a program without this suite; a recipe whose technique does not say is not written as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from cifar_ablations.ablations.budget import Budget, Network, Sized
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.update_rule import UpdateRule

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Draws(Protocol):
    """Random numbers that depend on nothing but the run's seed, the purpose and the step."""

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """float32 in [0, 1) of the given shape, on the training device."""

    def integers(self, bound: int, shape: Sequence[int]) -> Tensor:
        """int64 in [0, bound) of the given shape, on the training device."""


class Visits(Protocol):
    """What is known of the images of a training batch beside their pixels; nothing of it costs a draw."""

    def uniform(self) -> Tensor:
        """float32 [B] in [0, 1), on the training device: for each image a number that is the same in every epoch, drawn
        by the run's seed and the technique."""

    def epoch(self) -> Tensor:
        """The epoch, from 0: int64 [1], on the training device."""


@dataclass(frozen=True)
class Knob:
    """A setting of a technique: its legal values, and the range a search looks in."""

    doc: str
    low: float | None
    high: float | None
    choices: tuple[str, ...] | None
    search: tuple[float, float] | None
    log: bool
    when: tuple[str, tuple[str, ...]] | None = None
    """Another knob of the technique and its values with which this one means something; None: with all."""
    later: bool = False
    """Whether it was added after 0.1.0: at its default a plan's digest does not name it, as it did not then."""


def knob(
    default: Any,
    *,
    doc: str,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] | None = None,
    search: tuple[float, float] | None = None,
    log: bool = False,
    when: tuple[str, tuple[str, ...]] | None = None,
    later: bool = False,
) -> Any:
    """A dataclass field with its documentation, legal range (low and high included) and search range.

    when, later: as in `Knob`; a search samples it only where it means something.
    """
    about = Knob(doc, low, high, tuple(choices) if choices else None, search, log, when, later)
    return field(default=default, metadata={"knob": about})


@dataclass(frozen=True)
class Expectation:
    """An effect of switching a technique on, by the literature: sign +1 raises the metric, -1 lowers it."""

    metric: str
    sign: int
    source: str


@dataclass(frozen=True)
class RunningAverage:
    """How an average runs beside the weights of a training: after each step it goes a share of the way to them."""

    shares: Tensor
    """float64 [steps]: average += share * (weights - average), from the weights before the first step."""
    pulls: bool = False
    """Whether the weights are set to the average after every step whose share is not 0."""


@dataclass(frozen=True)
class Plain:
    """What a technique is in the plain PyTorch program of `ablations.plain`: Python source, each piece with its place.

    What the hooks `resize` and `update` do has no piece: the program is written with the network, the budget and the
    update rule that they give. Pieces may use torch, nn, v2 (torchvision's transforms), lr_scheduler, math and copy,
    the constants EPOCHS, BATCH_SIZE and STEPS (of the whole training), and names that are said below. They are laid
    out as ruff does; a long call is broken into lines where it is put in.
    """

    imports: tuple[str, ...] = ()
    """Lines that import what else the pieces use."""
    definitions: tuple[str, ...] = ()
    """Functions of the program, each with a docstring, to be named by other pieces."""
    activation: str = ""
    """A module in place of every `nn.ReLU()`."""
    normalise: Callable[[int], str] | None = None
    """From the channels of a convolution of the notebook's network, a module behind it in place of its bias."""
    dropout: str = ""
    """A module before the last layer."""
    initialise: str = ""
    """A function that is called with every layer of the new network."""
    transforms: tuple[str, ...] = ()
    """Transforms of a training image, uint8 [3, 32, 32], one after another."""
    scaling: tuple[str, ...] = ()
    """Transforms from uint8 to float32 of every image, in place of those that normalise it."""
    arrangement: tuple[str, ...] = ()
    """Statements that put `chosen`, the indices of the training images in `train_set`, into another order."""
    shuffled: bool = True
    """Whether the training images are visited in a new order in every epoch."""
    mixing: tuple[str, ...] = ()
    """Functions of a batch: images [B, 3, 32, 32] and class probabilities [B, classes], which they return changed."""
    loss: tuple[str, ...] = ()
    """Further arguments of `nn.functional.cross_entropy` in training."""
    rate: tuple[str, ...] = ()
    """Factors of the learning rate, the same at every step."""
    scheduler: str = ""
    """A scheduler of `optimizer`."""
    per_batch: bool = False
    """Whether the scheduler counts batches; else it counts epochs."""
    before: tuple[str, ...] = ()
    """Statements before the first epoch; like those below, they may use `model`."""
    after_epoch: tuple[str, ...] = ()
    """Statements at the end of each epoch (`epoch`, from 1), within the loop over them: `validation_loss` is known."""
    after: tuple[str, ...] = ()
    """Statements before the network is tested."""


class Technique:
    """Base of all techniques. Subclasses are frozen dataclasses; run state never lives in them.

    A hook left alone leaves the training as it is, and so must every hook at the level `off`: a run with a technique
    at `off` is bitwise the run without the technique.
    """

    name: ClassVar[str]
    """The file's name."""
    title: ClassVar[str]
    """What it is called in the middle of a sentence, whatever it is set to."""
    titles: ClassVar[Mapping[str, str]] = {}
    """What it is called at a level. Of those that are not here, `on` is called as the technique is, `off` is that with
    'no' before it, and others are named after their knobs."""
    source: ClassVar[str]
    """The paper, and where the notebook speaks of it."""
    sources: ClassVar[Mapping[str, str]] = {}
    """By level, the paper that proposed it, where that is another one."""
    reason: ClassVar[str] = ""
    """Why it should do what it is said to do, in a sentence."""
    levels: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Named settings of the knobs; `off` is always one of them."""
    notebook: ClassVar[str] = "off"
    """The level that the notebook's recipe uses."""
    expectations: ClassVar[tuple[Expectation, ...]] = ()
    """The effects of switching it on that the literature reports."""
    mechanism: ClassVar[tuple[str, ...]] = ()
    """The metrics of `ablations.schema` that show why it does what it does."""

    measuring: ClassVar[bool] = False
    """Whether it changes no training, but only how a trained network is measured. Arms of a plan then all have it as
    the baseline does, so that no claim about training is one about measuring too; `levels/NAME` compares it."""

    def __post_init__(self) -> None:
        for name, about in self.knobs().items():
            _check(self.name, name, getattr(self, name), about, type(self))

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """The knobs by name."""
        return {f.name: f.metadata["knob"] for f in fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def at(cls, level: str) -> Self:
        """The technique at one of its named levels. Raises AblateError for an unknown level.

        Examples:
            >>> from cifar_ablations.ablations.techniques.dropout import Dropout
            >>> Dropout.at("on")
            Dropout(p=0.5)
            >>> Dropout.at("off").is_off
            True
        """
        if level not in cls.levels:
            raise AblateError(f"{cls.name} has no level {level!r}{did_you_mean(level, cls.levels)}")
        return cls(**cls.levels[level])

    @property
    def is_off(self) -> bool:
        """Whether this is the level `off`."""
        return self == self.at("off")

    @property
    def only_measures(self) -> bool:
        """Whether, as it is set, the weights in training go as they go without it: the draws of both are then alike."""
        return self.measuring

    @property
    def mirrors(self) -> bool:
        """Whether images may be mirrored, which changes the label of a digit or a letter."""
        return False

    @property
    def level(self) -> str:
        """The name of the level this is, or its knobs where it has no name."""
        for name in self.levels:
            if self == self.at(name):
                return name
        values = {f.name: (getattr(self, f.name), f.default, f.metadata["knob"].later) for f in fields(self)}  # type: ignore[arg-type]
        return ", ".join(
            f"{k}={value}" for k, (value, default, later) in values.items() if not later or value != default
        )

    @property
    def setting(self) -> str:
        """Its name, with its level or, where that has no name, the knobs that depart from `off`: 'dropout (p=0.37)'."""
        changed = [f"{k}={getattr(self, k)}" for k in self.knobs() if getattr(self, k) != getattr(self.at("off"), k)]
        return f"{self.name} ({self.level if self.level in self.levels else ', '.join(changed)})"

    @property
    def kind_title(self) -> str:
        """What kind of it this is, in the middle of a sentence and without numbers: 'RMSProp', 'dropout'."""
        return self.title if (level := self._nearest()) is None else self._title_at(level)

    @property
    def setting_title(self) -> str:
        """What it is called as it is set, in the middle of a sentence: 'RMSProp (rate 0.0021)', 'dropout (p = 0.37)'.

        In brackets stand the knobs that are not as in the level that the kind is named after. Numbers have three
        digits; all of them where three would make it the setting of a level, or one that is not legal.

        Examples:
            >>> from cifar_ablations.ablations.techniques.dropout import Dropout
            >>> Dropout(p=0.37).setting_title
            'dropout (p = 0.37)'
        """
        reference, shown = self.at(self._nearest() or "off"), self._rounded()
        departing = [name for name in self.knobs() if getattr(self, name) != getattr(reference, name)]
        words = [
            f"{name.replace('_', ' ')}{' = ' if len(name) == 1 else ' '}{_brief(getattr(shown, name))}"
            for name in departing
        ]
        return f"{self.kind_title} ({', '.join(words)})" if words else self.kind_title

    @property
    def paper(self) -> str:
        """The paper that proposed what it is set to; empty where that is the technique's own."""
        return self.sources.get(self._nearest() or "", "")

    @classmethod
    def _title_at(cls, level: str) -> str:
        """What it is called at a level; empty for one that is named after its knobs."""
        others = {"on": cls.title, "off": f"no {cls.title.removeprefix('the ')}"}
        return cls.titles.get(level, others.get(level, ""))

    def _nearest(self) -> str | None:
        """The level that its name starts from: its own, or else the one that has all of its choices; of several `on`.

        None where there is no such level, or more of them: then it is called as the technique is.
        """
        for level in self.levels:
            if self._title_at(level) and self == self.at(level):
                return level
        choices = [name for name, about in self.knobs().items() if about.choices is not None]
        alike = [
            level
            for level in self.levels
            if (level == "on" or (choices and level in self.titles))
            and all(getattr(self, name) == getattr(self.at(level), name) for name in choices)
        ]
        return "on" if "on" in alike else alike[0] if len(alike) == 1 else None

    def _rounded(self) -> Self:
        """The setting with three digits to a number; as it is where that would be a level, or is not legal."""
        numbers = {name: getattr(self, name) for name in self.knobs() if isinstance(getattr(self, name), float)}
        few = {name: float(f"{value:.3g}") for name, value in numbers.items()}
        try:
            rounded = replace(self, **few)  # type: ignore[type-var]
        except AblateError:
            return self
        return self if any(rounded == self.at(level) for level in self.levels) else rounded

    def resize(self, network: Network, budget: Budget) -> tuple[Network, Budget]:
        """The network and budget to train, from those that the techniques before it (by name) left of the recipe's."""
        return network, budget

    def seed_for(self, purpose: str, seed: int) -> int:
        """The seed of a run's draws for one purpose of `ablations.purposes`, from the run's own."""
        return seed

    def activation(self) -> nn.Module | None:
        """The module in place of every ReLU of the network; None leaves them."""
        return None

    def normalise(self, channels: int) -> nn.Module | None:
        """A module for the output [B, channels, H, W] of every convolution, before its activation; None for none.

        The convolution gives up its bias. The module may have parameters and buffers, of the same names whatever the
        channels: members of a fleet must agree on them.
        """
        return None

    def initialise(self, layer: nn.Module) -> None:
        """Draw the layer's weights in place, from torch's global generator (seeded for this layer by the caller)."""

    def order(self, shuffled: Tensor, first: Tensor, labels: Tensor) -> Tensor:
        """In which order an epoch visits the training images, int64 [images] each: indices into the data set.

        shuffled is drawn for this epoch, first for the first one; labels are of all images of the data set.
        """
        return shuffled

    def augment(self, images: Tensor, draws: Draws) -> Tensor:
        """Change a training batch, uint8 [B, 3, H, W]; parameters are drawn per image, padding is black (0).

        This and the hooks below run inside a CUDA graph: nothing may be read back from the device.
        """
        return images

    def augment_by_epoch(self, images: Tensor, visits: Visits) -> Tensor:
        """Change a training batch, uint8 [B, 3, H, W], by which images are visited in which epoch; before `augment`.

        visits: asked only for what is used.
        """
        return images

    def standardise(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """The mean to subtract from images in [0, 1] and the deviation to divide by, in training and in evaluation.

        mean, std: float32 [3, 1, 1], of the data set's training images.
        """
        return mean, std

    def mix(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Change a normalised training batch, float32 [B, 3, H, W], and its class probabilities [B, classes]."""
        return images, targets

    def mask(self, shape: Sequence[int], draws: Draws) -> Tensor | None:
        """Factors for the activations at a dropout site in training, float [*shape]; None for no dropout."""
        return None

    def ascend(self, weights: Tensor, gradients: Tensor) -> Tensor | None:
        """What is added to the weights for a second pass on the same batch, whose gradients are those of the step.

        weights: float32 [P], of a member; gradients: [P], there, which a technique before it (by name) may have taken
        at a point of its own. The weights are put back before they are updated. None for no second pass, as each of
        its settings has either always or never.
        """
        return None

    def update(self, rule: UpdateRule) -> UpdateRule:
        """The optimizer step's coefficients, given those that the techniques before it (by name) left."""
        return rule

    def schedule(self, epochs: int, steps_per_epoch: int) -> torch.Tensor | None:
        """Factors of the learning rate at each step, float64 [epochs * steps_per_epoch]; None for 1 throughout."""
        return None

    def average(self, epochs: int, steps_per_epoch: int) -> RunningAverage | None:
        """The running average of weights with which the network is measured, where it counts; None for its own weights.

        One technique of a recipe at most may have one.
        """
        return None

    def views_of(self, images: Tensor) -> tuple[Tensor, ...]:
        """What a network looks at beside images when its training is over, float32 [B, 3, H, W] each; () for nothing.

        images: normalised, float32 [B, 3, H, W]. The mean of the logits for them and for all of their views counts.
        """
        return ()

    def stop(self, validation_losses: Sequence[float]) -> bool | None:
        """Whether to end the training, given the validation loss after every epoch so far; None for never.

        Where it is not None, the weights of the epoch with the lowest validation loss are the ones that count.
        """
        return None

    def plain(self, sized: Sized) -> Plain:
        """The technique in a plain PyTorch program, as it is set, where it is not off.

        sized: the network and the budget that are trained. Raises AblateError where there is no such form; one that
        does not say its own has none.
        """
        raise self.not_plain("its file does not say one")

    def not_plain(self, why: str) -> AblateError:
        """What `plain` raises where there is no plain form; why: half a sentence."""
        return AblateError(f"{self.setting} has no plain form: {why}.")


def overrides(technique: Technique, hook: str) -> bool:
    """Whether a technique has a hook of its own."""
    return getattr(type(technique), hook) is not getattr(Technique, hook)


def _brief(value: Any) -> str:
    """A knob's value in as few characters as it takes to tell it."""
    return short if isinstance(value, float) and float(short := f"{value:g}") == value else str(value)


def _check(technique: str, name: str, value: Any, about: Knob, owner: type) -> None:
    """Raise AblateError unless the value is legal for the knob."""
    where = f"{technique}.{name}"
    if about.choices is not None:
        if value not in about.choices:
            raise AblateError(f"{where} cannot be {value!r}{did_you_mean(str(value), about.choices)}")
        return
    default = next(f.default for f in fields(owner) if f.name == name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AblateError(f"{where} must be a number, not {value!r}")
    if isinstance(default, int) and not isinstance(value, int):
        raise AblateError(f"{where} must be a whole number, not {value!r}")
    if (about.low is not None and value < about.low) or (about.high is not None and value > about.high):
        low = "-∞" if about.low is None else f"{about.low:g}"
        high = "∞" if about.high is None else f"{about.high:g}"
        raise AblateError(f"{where} must lie between {low} and {high}, not at {value!r}")
