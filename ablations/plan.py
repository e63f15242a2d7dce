"""A plan: a question, its arms, its seeds, its claims and its decision rule, fixed before any run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ablations.metrics import metric
from ablations.recipe import Recipe, digest_of
from ablations.technique import Expectation, Technique


@dataclass(frozen=True)
class Arm:
    """A baseline recipe with one named change."""

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class Claim:
    """A statement that runs can support or refute: metric(treatment) - metric(control) has the given sign."""

    statement: str
    technique: str
    metric: str
    sign: int
    treatment: str
    control: str
    family: str
    source: str
    notebook: str = ""
    """Where in the notebook the statement stands."""
    mechanism: tuple[str, ...] = ()
    """Metrics that show why, to be placed beside the verdict."""
    beyond: tuple[str, str] | None = None
    """Another treatment and control: the claim is then about how much larger the first difference is than theirs."""
    allowed: bool = False
    """Whether a loss within the rule's margin is still what the claim says: 'costs no accuracy'."""

    def __post_init__(self) -> None:
        assert self.sign in (-1, 1), self
        assert metric(self.metric).share or not self.allowed, "a margin is a difference of shares"

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms that it compares."""
        return (self.treatment, self.control, *(self.beyond or ()))


@dataclass(frozen=True)
class Reference:
    """A published value of a metric, to be placed among the runs of an arm."""

    arm: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class Rule:
    """How verdicts are reached. The margin is in the metric's own unit: 0.005 is 0.5 percentage points."""

    margin: float
    alpha: float = 0.05
    test: str = "paired t"
    correction: str = "holm"
    confirmatory_seeds: int = 10
    target: float = 0.4
    """Validation accuracy that `epochs_to_target` waits for."""

    def __post_init__(self) -> None:
        if self.margin <= 0:
            raise ValueError(f"the equivalence margin must be positive, not {self.margin!r}")


@dataclass(frozen=True)
class Plan:
    """A question and all that is needed to answer it."""

    name: str
    question: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    rule: Rule
    claims: tuple[Claim, ...] = ()
    references: tuple[Reference, ...] = ()
    layout: str = "effects"
    """How a report answers: `effects` of techniques, or a `ledger` of statements."""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        assert len(set(names)) == len(names), f"two arms share a name: {names}"
        for claim in self.claims:
            assert set(claim.arms) <= set(names), claim
        for reference in self.references:
            assert reference.arm in names, reference
        if not self.seeds:
            raise ValueError("a plan needs at least one seed")

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def described(self) -> dict[str, Any]:
        """The plan as JSON values, each arm with its digest and settings."""
        return {
            "name": self.name,
            "question": self.question,
            "arms": [
                {
                    "name": arm.name,
                    "digest": arm.recipe.digest(),
                    "knobs": arm.recipe.knobs(),
                    "levels": {t.name: t.level for t in arm.recipe.techniques},
                }
                for arm in self.arms
            ],
            "seeds": list(self.seeds),
            "rule": asdict(self.rule),
            "claims": [asdict(claim) for claim in self.claims],
            "references": [asdict(reference) for reference in self.references],
            "layout": self.layout,
        }

    def digest(self) -> str:
        """16 hexadecimal digits that name all of it: what is logged before the first run."""
        return digest_of(self.described())


def without(technique: Technique) -> str:
    """The name of the arm that lacks one technique of the baseline."""
    return f"without {technique.title}"


def only(technique: Technique) -> str:
    """The name of the arm that has one technique alone."""
    return f"only {technique.title}"


def switched_on(recipe: Recipe) -> list[Technique]:
    """The techniques that a recipe uses."""
    return [t for t in recipe.techniques if not t.is_off]


def bare(recipe: Recipe) -> Recipe:
    """The recipe with every technique off."""
    for technique in recipe.techniques:
        recipe = recipe.without(technique.name)
    return recipe


def leave_one_out(baseline: Recipe) -> list[Arm]:
    """The baseline with each of its techniques removed, one at a time."""
    return [Arm(without(t), baseline.without(t.name)) for t in switched_on(baseline)]


def add_one_in(baseline: Recipe) -> list[Arm]:
    """Each of the baseline's techniques alone, all others off."""
    start = bare(baseline)
    return [Arm(only(t), start.with_technique(t)) for t in switched_on(baseline)]


def claims_of(
    techniques: Sequence[Technique], where: str, treatment: Sequence[str], control: Sequence[str]
) -> list[Claim]:
    """What is expected of each technique, as claims; one family per metric within the given place.

    `where` says in words what surrounds the technique; treatment and control name, per technique, the arm that has
    it and the arm that has not.
    """
    claims = []
    for technique, having, lacking in zip(techniques, treatment, control, strict=True):
        for expectation in technique.expectations:
            claims.append(_claim(technique, expectation, where, having, lacking))
    return claims


def _claim(technique: Technique, expectation: Expectation, where: str, having: str, lacking: str) -> Claim:
    named = metric(expectation.metric).title
    verb = "raises" if expectation.sign > 0 else "lowers"
    title = technique.title[0].upper() + technique.title[1:]
    return Claim(
        statement=f"{title} {verb} {named} {where}",
        technique=technique.name,
        metric=expectation.metric,
        sign=expectation.sign,
        treatment=having,
        control=lacking,
        family=f"{named} {where}",
        source=expectation.source,
        mechanism=technique.mechanism,
    )
