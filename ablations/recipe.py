"""A recipe: everything that determines one training but the seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from cifar_ablations.ablations.budget import Budget, Network, Sized
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean, shown
from cifar_ablations.ablations.record import ReasonRecord, Value
from cifar_ablations.ablations.technique import RunningAverage, Technique
from cifar_ablations.ablations.update_rule import UpdateRule


@dataclass(frozen=True)
class Recipe:
    """A network, a budget and the techniques at their settings; techniques absent from it are not used."""

    model: Network = field(default_factory=Network)
    budget: Budget = field(default_factory=Budget)
    techniques: tuple[Technique, ...] = ()

    def __post_init__(self) -> None:
        names = [t.name for t in self.techniques]
        assert len(set(names)) == len(names), f"a technique stands twice in a recipe: {names}"
        object.__setattr__(self, "techniques", tuple(sorted(self.techniques, key=lambda t: t.name)))

    @cached_property
    def sized(self) -> Sized:
        """The network and budget that are trained: the recipe's own as its techniques change their size."""
        network, budget = self.model, self.budget
        for technique in self.techniques:
            network, budget = technique.resize(network, budget)
        return Sized(network, budget)

    def with_technique(self, technique: Technique) -> Recipe:
        """This recipe with one technique's setting put in or replaced."""
        others = tuple(t for t in self.techniques if t.name != technique.name)
        return replace(self, techniques=(*others, technique))

    def with_knob(self, name: str, value: Value) -> Recipe:
        """This recipe with one knob, `technique.knob`, at a value; a whole number is stored as a real one where that is
        what the knob holds, since digests tell them apart.

        Raises AblateError if the recipe does not hold the technique, and for a value that is not legal.
        """
        owner, _, knob = name.partition(".")
        technique = self.technique(owner)
        if isinstance(getattr(technique, knob), float):
            value = float(value)
        return self.with_technique(replace(technique, **{knob: value}))  # type: ignore[type-var]

    def without(self, name: str) -> Recipe:
        """This recipe with one technique switched off. Raises AblateError if it does not hold the technique.

        Examples:
            >>> from cifar_ablations import notebook_recipe
            >>> recipe = notebook_recipe()
            >>> recipe.without("dropout") == recipe.set("dropout=off")
            True
        """
        return self.with_technique(self.technique(name).at("off"))

    def technique(self, name: str) -> Technique:
        """A technique as this recipe sets it. Raises AblateError if it does not hold the technique."""
        for technique in self.techniques:
            if technique.name == name:
                return technique
        raise AblateError(f"no technique {name!r}{did_you_mean(name, [t.name for t in self.techniques])}")

    def update_rule(self) -> UpdateRule:
        """The optimizer step's coefficients that the techniques ask for together."""
        rule = UpdateRule()
        for technique in self.techniques:
            rule = technique.update(rule)
        return rule

    def running_average(self) -> RunningAverage | None:
        """The average of weights that its network is measured with; None for the weights themselves.

        Raises AblateError where several techniques have one.
        """
        budget = self.sized.budget
        found = {t.setting: a for t in self.techniques if (a := t.average(budget.epochs, budget.steps_per_epoch))}
        if len(found) > 1:
            raise AblateError(f"a network is measured with one average of its weights, and not with {', '.join(found)}")
        return next(iter(found.values()), None)

    def set(self, assignment: str) -> Recipe:
        """This recipe with one `object.field=value`, or `technique=level`, applied.

        Raises AblateError, naming object, field, value and what is near, for anything that cannot be set.

        Examples:
            >>> from cifar_ablations import notebook_recipe
            >>> recipe = notebook_recipe().set("dropout.p=0.3").set("optimizer=rmsprop")
            >>> recipe.knobs()["dropout.p"], recipe.titles()["optimizer"]
            (0.3, 'RMSProp')
        """
        target, equals, text = assignment.partition("=")
        target, text = target.strip(), text.strip()
        if not equals or not target or not text:
            raise AblateError(
                f"{assignment!r} is not of the form object.field=value; for example dropout.p=0.3 or dropout=off."
            )
        owner, dot, name = target.partition(".")
        owners = ["model", "budget", *(t.name for t in self.techniques)]
        if owner not in owners:
            raise AblateError(f"no object {owner!r}{did_you_mean(owner, owners)}")
        if owner in ("model", "budget"):
            changed = _replaced(getattr(self, owner), owner, name, text)
            return replace(self, **{owner: changed})
        technique = self.technique(owner)
        if not dot:
            return self.with_technique(technique.at(text))
        return self.with_technique(_replaced(technique, owner, name, text))

    def knobs(self) -> dict[str, Any]:
        """Every setting, flat: `object.field` to value."""
        flat = {f"model.{k}": v for k, v in asdict(self.model).items()}
        flat |= {f"budget.{k}": v for k, v in asdict(self.budget).items()}
        for technique in self.techniques:
            flat |= {f"{technique.name}.{k}": getattr(technique, k) for k in technique.knobs()}
        return flat

    def titles(self) -> dict[str, str]:
        """What its techniques are called as they are set, by name, for the middle of a sentence; one that is off is
        called as it is at no level in particular."""
        return {t.name: t.title if t.is_off else t.setting_title for t in self.techniques}

    def reasons(self) -> dict[str, ReasonRecord]:
        """Why its techniques should do what they are said to do, by name."""
        return {t.name: ReasonRecord(t.reason, t.paper or t.source) for t in self.techniques}

    def canonical(self) -> dict[str, Any]:
        """The settings that the digest is taken of: those that depart from a default, so that no later one changes it.

        A new technique is off by default, and a new field or knob has a default that leaves trainings as they were.
        The resolved update rule stands beside the techniques, since plain SGD is `off` of the optimizer and still has
        a rate.
        """
        return {
            "model": _departures(self.model),
            "budget": _departures(self.budget),
            "update": _departures(self.update_rule()),
            "techniques": {t.name: _departures(t) for t in self.techniques if not t.is_off},
        }

    def digest(self) -> str:
        """16 hexadecimal digits that name this recipe.

        Examples:
            >>> from cifar_ablations import notebook_recipe
            >>> recipe = notebook_recipe()
            >>> recipe.set("dropout.p=0.5").digest() == recipe.digest()  # the notebook's value: the same training
            True
            >>> recipe.set("dropout.p=0.3").digest() == recipe.digest()
            False
        """
        return digest_of(self.canonical())


def digest_of(value: Any) -> str:
    """16 hexadecimal digits (SHA-256) of a JSON value, whatever the order of its keys.

    Examples:
        >>> digest_of({"p": 0.3, "seed": 1}) == digest_of({"seed": 1, "p": 0.3})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _departures(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults."""
    return {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}


def _replaced(value: Any, owner: str, name: str, text: str) -> Any:
    """A frozen dataclass with one field set from text, by the type of the field's present value."""
    known = [f.name for f in fields(value)]
    if name not in known:
        raise AblateError(f"{owner} has no field {name!r}{did_you_mean(name, known)}")
    present = getattr(value, name)
    try:
        if isinstance(present, str):
            parsed: Any = text
        elif isinstance(present, int):
            parsed = int(text.replace("_", ""))
        else:
            parsed = float(text)
    except ValueError:
        kind = "a whole number" if isinstance(present, int) else "a number"
        raise AblateError(f"{owner}.{name} must be {kind}, not {shown(text)}") from None
    return replace(value, **{name: parsed})
