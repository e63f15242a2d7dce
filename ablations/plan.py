"""A plan: a question, its arms, its seeds, its claims and its decision rule, fixed before any run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.recipe import Recipe, digest_of


@dataclass(frozen=True)
class Arm:
    """A baseline recipe with one named change."""

    name: str
    recipe: Recipe
    seed_offset: int = 0
    """Added to each of the plan's seeds: the arm's runs are then others than those of the same recipe without it."""


TESTS = ("paired t", "paired t e-process")
"""What a verdict may rest on; an e-process may be looked at at any time."""


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

    over: tuple[tuple[str, float], ...] = ()
    """Arms with weights, in place of one treatment and one control, which are then only words: the claim is about the
    weighted sum, such as the mean of all arms that have a technique less the mean of all that have not."""

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms that it compares."""
        if self.over:
            return tuple(name for name, _ in self.over)
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
    looks: tuple[int, ...] = ()
    """Numbers of seeds after which the verdicts are looked at; training stops at the first that decides every claim.
    Empty: once, after all seeds."""

    def __post_init__(self) -> None:
        if self.margin <= 0:
            raise AblateError(f"the equivalence margin must be positive, not {self.margin!r}")
        assert self.test in TESTS, self
        assert list(self.looks) == sorted(set(self.looks)), self


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
    factors: tuple[str, ...] = ()
    """The techniques whose combinations a factorial design trains: `on` in an arm wherever they are not at `off`."""
    note: str = ""
    """What a reader of the answer must know about the design."""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        assert len(set(names)) == len(names), f"two arms share a name: {names}"
        for claim in self.claims:
            assert set(claim.arms) <= set(names), claim
        for reference in self.references:
            assert reference.arm in names, reference
        if not self.seeds:
            raise AblateError("a plan needs at least one seed")
        assert not self.rule.looks or self.rule.looks[-1] == len(self.seeds), self.rule

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
                    "seed_offset": arm.seed_offset,
                }
                for arm in self.arms
            ],
            "seeds": list(self.seeds),
            "rule": asdict(self.rule) | {"looks": list(self.rule.looks)},
            "claims": [asdict(claim) for claim in self.claims],
            "references": [asdict(reference) for reference in self.references],
            "layout": self.layout,
            "factors": list(self.factors),
            "note": self.note,
        }

    def digest(self) -> str:
        """16 hexadecimal digits that name all of it: what is logged before the first run."""
        return digest_of(self.described())


LOOKS = {
    "adaptive": ("paired t", (5, 10, 15)),
    "open": ("paired t e-process", tuple(range(5, 51, 5))),
}
"""Ways to let the data say how many seeds are enough, with the test and the looks of each. `adaptive` shares the level
out over its looks; `open` rests on an e-process, which needs no correction for looking and pays in wider intervals."""


def with_looks(plan: Plan, way: str) -> Plan:
    """The plan with as many seeds as the last look of one of LOOKS needs, and its rule."""
    test, looks = LOOKS[way]
    first = plan.seeds[0]
    return replace(plan, seeds=tuple(range(first, first + looks[-1])), rule=replace(plan.rule, test=test, looks=looks))
