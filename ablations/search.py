"""A search: what is varied between which limits, and what is looked at next, given what was found."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from cifar_ablations.ablations.discovery import techniques
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import Value


@dataclass(frozen=True)
class Parameter:
    """A value that trials sample: a knob (`technique.knob`), of a range or of choices, or the level of a `technique`.

    With `when`, another parameter's name and values, it is sampled only where that one has one of them; that one must
    stand before it.
    """

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Value, ...] | None = None
    doc: str = ""
    when: tuple[str, tuple[Value, ...]] | None = None

    def __post_init__(self) -> None:
        if self.choices is None:
            assert self.low is not None, self
            assert self.high is not None, self
            assert self.low < self.high, self
            assert not self.log or self.low > 0, self

    def wanted(self, sampled: Mapping[str, Value]) -> bool:
        """Whether a trial that has sampled these values samples this one too."""
        return self.when is None or sampled.get(self.when[0]) in self.when[1]

    def middle(self) -> Value:
        """A value that may be sampled and lies at no edge."""
        if self.choices is not None:
            return self.choices[-1]
        assert self.low is not None
        assert self.high is not None
        value = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return round(value) if self.integer else value

    def holds(self, value: Any) -> bool:
        """Whether a value can be sampled."""
        if self.choices is not None:
            return value in self.choices
        return bool(self.low <= value <= self.high)

    def at_edge(self, value: Value, share: float) -> bool:
        """Whether a value lies within the outer share of the range, on a side on which it could be wider."""
        if self.choices is not None:
            return False
        scale, about = math.log if self.log else float, knob_of(self.name)
        low, high, at = (scale(x) for x in (self.low, self.high, value))  # type: ignore[arg-type]
        below = about.low is None or self.low > about.low
        above = about.high is None or self.high < about.high
        return bool((below and at - low < share * (high - low)) or (above and high - at < share * (high - low)))


def knob_of(name: str) -> Any:
    """The `Knob` of `technique.knob`. Raises AblateError, with what is near, for an unknown one."""
    owner, _, knob = name.partition(".")
    known = techniques()
    if owner not in known:
        raise AblateError(f"no technique {owner!r}{did_you_mean(owner, known)}")
    knobs = known[owner].knobs()
    if knob not in knobs:
        raise AblateError(f"{owner} has no knob {knob!r}{did_you_mean(knob, knobs)}")
    return knobs[knob]


def parameter(name: str, *, when: tuple[str, tuple[Value, ...]] | None = None) -> Parameter:
    """The parameter of a knob, in the range that the knob itself says is worth a search.

    Without `when`, it is sampled where the knob says that it means something. Raises AblateError for a knob that names
    no range.
    """
    about, (owner, _, knob) = knob_of(name), name.partition(".")
    if when is None and about.when is not None:
        when = (f"{owner}.{about.when[0]}", about.when[1])
    if about.choices is not None:
        return Parameter(name, choices=about.choices, doc=about.doc, when=when)
    if about.search is None:
        raise AblateError(f"{name} does not say in which range a search should look; give it search=(low, high)")
    default = next(f.default for f in fields(techniques()[owner]) if f.name == knob)  # type: ignore[arg-type]
    low, high = about.search
    return Parameter(name, low, high, about.log, isinstance(default, int), doc=about.doc, when=when)


def around(name: str, value: float, decades: float) -> Parameter:
    """A knob in a logarithmic range of so many decades, with the value in the middle, within what is legal."""
    about = knob_of(name)
    low, high = value * 10 ** (-decades / 2), value * 10 ** (decades / 2)
    return Parameter(
        name,
        low if about.low is None else max(low, about.low),
        high if about.high is None else min(high, about.high),
        log=True,
        doc=about.doc,
    )


LISTED = "listed"
"""In place of a sampler: what a study tries `first` is all that it tries."""


@dataclass(frozen=True)
class Study:
    """One Optuna study: parameters set on a recipe, and how many trials they get.

    Asked for again under its name, with more trials or wider ranges, it goes on where it stood.
    """

    name: str
    recipe: Recipe
    parameters: tuple[Parameter, ...]
    trials: int
    first: tuple[Mapping[str, Value], ...] = ()
    """Values that are tried before any is sampled, such as the baseline's own."""
    sampler: str | None = None
    """Where it needs another than the search's, such as `grid` or `LISTED`."""
    grid: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """The values of a grid."""
    widened: int = 0
    title: str = ""
    """What a person calls it, where its name does not say it."""
    decides: bool = True
    """Whether its best may be the best of the search; not where it is tried at a smaller budget than the search's."""

    def with_values(self, values: Mapping[str, Value]) -> Recipe:
        """The recipe that a trial trains."""
        recipe = self.recipe
        for name, value in values.items():
            if "." in name:
                recipe = recipe.with_knob(name, value)
            else:
                recipe = recipe.with_technique(techniques()[name].at(str(value)))
        return recipe

    def middle(self) -> dict[str, Value]:
        """Values that a trial may sample, in the middle of their ranges."""
        sampled: dict[str, Value] = {}
        for p in self.parameters:
            if p.wanted(sampled):
                sampled[p.name] = self.grid[p.name][-1] if self.grid else p.middle()
        return sampled

    def own_values(self) -> dict[str, Value]:
        """The values that its recipe has already, where they are legal; nothing if one is not.

        What is not sampled under a condition is left out.
        """
        knobs, values = self.recipe.knobs(), dict[str, Value]()
        for p in self.parameters:
            if not p.wanted(values):
                continue
            value = knobs[p.name] if "." in p.name else self._level(p)
            if not p.holds(value):
                return {}
            values[p.name] = value
        return values

    def _level(self, p: Parameter) -> str:
        """The level that stands for what the recipe has of a technique; `on` for settings that have no name."""
        technique = next(t for t in self.recipe.techniques if t.name == p.name)
        return technique.level if technique.level in (p.choices or ()) else "on"


@dataclass(frozen=True)
class Best:
    """The best finished trial of a study: its number, its objective and what it sampled."""

    study: Study
    trial: int
    value: float
    sampled: Mapping[str, Value]
    ranked: tuple[Mapping[str, Value], ...] = ()
    """What all finished trials sampled, the best first."""

    @property
    def recipe(self) -> Recipe:
        """The recipe that it trained."""
        return self.study.with_values(self.sampled)

    @property
    def edges(self) -> tuple[str, ...]:
        """The parameters whose best value lies in the outer tenth of their range."""
        return tuple(
            p.name for p in self.study.parameters if p.name in self.sampled and p.at_edge(self.sampled[p.name], EDGE)
        )


EDGE = 0.1

Rounds = Generator[list[Study], list[Best | None], None]
"""A search: yields the studies that are to be carried out side by side, and is sent the best of each."""


def widened(studies: list[Study], bests: list[Best | None], more: int, decades: float = 1.0) -> list[Study] | None:
    """All studies with their logarithmic ranges wider on both sides and more trials, if one is best at an edge.

    All of them, and equally, so that none gets more attention than the others. None where no best is at an edge.
    """
    if not any(best and best.edges for best in bests):
        return None
    return [
        replace(
            study,
            parameters=tuple(_wider(p, decades) for p in study.parameters),
            trials=study.trials + more,
            widened=study.widened + 1,
        )
        for study in studies
    ]


def until_inside(studies: list[Study], trials: int, widenings: int) -> Rounds:
    """Rounds of studies until none is best at an edge of its range, or all have been widened so often; each round has
    half as many trials more."""
    for _ in range(widenings + 1):
        bests = yield studies
        wider = widened(studies, bests, more=max(1, trials // 2))
        if wider is None or wider[0].widened > widenings:
            return
        studies = wider


def _wider(p: Parameter, decades: float) -> Parameter:
    if not p.log or p.low is None or p.high is None:
        return p
    middle, width = math.sqrt(p.low * p.high), math.log10(p.high / p.low)
    return replace(around(p.name, middle, width + decades), when=p.when)
