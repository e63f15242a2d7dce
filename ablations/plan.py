"""A plan: a question, its arms, its seeds, its claims and its decision rule, fixed before any run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe, digest_of
from cifar_ablations.ablations.record import (
    ArmRecord,
    ClaimRecord,
    DataRecord,
    PlanRecord,
    ReferenceRecord,
    RuleRecord,
    Value,
)
from cifar_ablations.ablations.technique import Technique


@dataclass(frozen=True)
class Arm:
    """A baseline recipe with one named change."""

    name: str
    recipe: Recipe
    seed_offset: int = 0
    """Added to each of the plan's seeds: the arm's runs are then others than those of the same recipe without it."""

    def record(self) -> ArmRecord:
        """The arm as it is logged, with its recipe's digest and settings."""
        return ArmRecord(
            name=self.name,
            digest=self.recipe.digest(),
            knobs=self.recipe.knobs(),
            levels={t.name: t.level for t in self.recipe.techniques},
            seed_offset=self.seed_offset,
        )


@dataclass(frozen=True)
class PlanRequest:
    """The choices of an invocation that a plan file makes its plan from."""

    baseline: Recipe
    profile: Profile
    seeds: tuple[int, ...]
    variant: str = ""
    """One of those that the file names, where it makes a plan for each of several."""
    retuned: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """By technique, what a search found should be set where the baseline is to do without it."""
    best_rates: Mapping[str, float] = field(default_factory=dict)
    """By arm, as `designs.by_recipe` names those of the plan `techniques`, the learning rate that a search found best
    for it; empty where none was looked for."""

    @property
    def rule(self) -> RuleRecord:
        """The rule that a verdict is reached by, with the profile's margin.

        Runs of equal seeds count as independent: measured, they hardly correlate, and pairs would cost half the
        degrees of freedom. A plan that expects a correlation of .5 or more asks for "paired t" in its place.
        """
        return RuleRecord(margin=self.profile.margin, test="welch t", correction="weighted holm")


def _shared_title(settings: Set[Technique]) -> str:
    """What all settings of a technique are called; nothing where they are of several kinds."""
    for titles in ({t.setting_title for t in settings}, {t.kind_title for t in settings}):
        if len(titles) == 1:
            return titles.pop()
    return ""


TESTS = ("welch t", "paired t", "paired t e-process")
"""The tests a verdict may rest on; an e-process may be looked at at any time."""


@dataclass(frozen=True)
class Plan:
    """A question and all that is needed to answer it. All of its fields are fixed by its digest."""

    name: str
    question: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    rule: RuleRecord
    claims: tuple[ClaimRecord, ...] = ()
    references: tuple[ReferenceRecord, ...] = ()
    layout: str = "effects"
    """How a report answers: `effects` of techniques, or a `ledger` of statements."""
    factors: tuple[str, ...] = ()
    """The techniques whose combinations a factorial design trains: `on` in an arm wherever they are not at `off`."""
    note: str = ""
    """A remark on the design that a reader of the answer must know."""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        assert len(set(names)) == len(names), f"two arms share a name: {names}"
        for claim in self.claims:
            assert set(claim.arms) <= set(names), claim
            assert claim.sign in (-1, 1), claim
            assert metric(claim.metric).share or not claim.allowed, "a margin is a difference of shares"
        for reference in self.references:
            assert reference.arm in names, reference
        if not self.seeds:
            raise AblateError("a plan needs at least one seed")
        if self.rule.margin <= 0:
            raise AblateError(f"the equivalence margin must be positive, not {self.rule.margin!r}")
        assert self.rule.test in TESTS, self.rule
        assert list(self.rule.looks) == sorted(set(self.rule.looks)), self.rule
        assert not self.rule.looks or self.rule.looks[-1] == len(self.seeds), self.rule

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def record(
        self, profile: Profile, data: DataRecord, overrides: tuple[str, ...] = (), command: str = ""
    ) -> PlanRecord:
        """The plan as it is logged: its own fields, and what surrounds it when it is invoked.

        overrides: what was changed of the notebook's recipe; command: what was typed.
        """
        baseline = self.arms[0].recipe
        return PlanRecord(
            name=self.name,
            question=self.question,
            arms=tuple(arm.record() for arm in self.arms),
            seeds=self.seeds,
            rule=self.rule,
            claims=self.claims,
            references=self.references,
            layout=self.layout,
            factors=self.factors,
            note=self.note,
            digest=self.digest(),
            profile=profile.record(),
            data=data,
            model=str(baseline.model),
            budget=str(baseline.budget),
            titles=self._titles(),
            reasons=baseline.reasons(),
            overrides=overrides,
            command=command,
        )

    def _titles(self) -> dict[str, str]:
        """What techniques are called: as the claims' treatments have them set, or else the baseline. Where treatments
        have one at several settings, it is called after its kind, and where they are several too, as it is at no
        level in particular.
        """
        arms, settings = {arm.name: arm.recipe for arm in self.arms}, defaultdict[str, set[Technique]](set)
        for claim in self.claims:
            if claim.treatment in arms:
                settings[claim.technique] |= {t for t in arms[claim.treatment].techniques if t.name == claim.technique}
        baseline = self.arms[0].recipe
        compared = {t.name: _shared_title(settings[t.name]) or t.title for t in baseline.techniques if settings[t.name]}
        return baseline.titles() | compared

    def digest(self) -> str:
        """16 hexadecimal digits that name all of it: what is logged before the first run."""
        fixed = {
            **vars(self),
            "arms": [_fixed(arm) for arm in self.arms],
            "rule": asdict(self.rule),
            "claims": [asdict(claim) for claim in self.claims],
            "references": [asdict(reference) for reference in self.references],
        }
        return digest_of(fixed)


def _fixed(arm: Arm) -> dict[str, Any]:
    """An arm as digests are taken of it: without knobs that were added later and are at their defaults, so that a plan
    that was logged before there were any keeps its digest.
    """
    record = asdict(arm.record())
    for technique in arm.recipe.techniques:
        known = fields(technique)  # type: ignore[arg-type]
        unused = [f.name for f in known if f.metadata["knob"].later and getattr(technique, f.name) == f.default]
        for name in unused:
            del record["knobs"][f"{technique.name}.{name}"]
        if len(unused) == len(known):
            del record["levels"][technique.name]
    return record


LOOKS = {
    "adaptive": ("welch t", "weighted holm", (5, 10, 15)),
    "open": ("paired t e-process", "holm", tuple(range(5, 51, 5))),
}
"""Ways to let the data say how many seeds are enough: the test, the correction and the looks of each. `adaptive` shares
the error over its looks; `open` rests on an e-process, which needs no correction for looking and pays in wider
intervals."""


def with_looks(plan: Plan, way: str) -> Plan:
    """The plan with as many seeds as the last look of one of LOOKS needs, and its rule."""
    test, correction, looks = LOOKS[way]
    first = plan.seeds[0]
    rule = replace(plan.rule, test=test, correction=correction, looks=looks)
    return replace(plan, seeds=tuple(range(first, first + looks[-1])), rule=rule)
