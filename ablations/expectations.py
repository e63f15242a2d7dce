"""What is expected of a plan's claims, as a small TOML file, and whether what was found is what was expected.

    plan = "techniques"             # all three are optional: which plan, and which of its invocations
    profile = "quick"
    data = "cifar10"

    [[expect]]
    arm = "without dropout"
    against = "full recipe"         # may be left out where one claim alone compares the arm in the metric
    metric = "test_accuracy"        # the default
    effect = "lower"                # of the arm: one of EFFECTS
    at_least = -3.0                 # all of the interval of arm less `against` lies above: in points for
    at_most = 0.0                   # shares, else in the metric's own unit

    [[expect]]
    claim = 3                       # its number in `ablate check PLAN`, or its statement
    verdict = "supported"           # one of VERDICTS

An expectation is about a claim of the plan, whose direction and error were fixed before the first run: of what nobody
claimed there is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_ablations.ablations import metrics, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import parse_toml, read_named
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.naming import did_you_mean, shown
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
"""What becomes of an expectation."""

HIGHER, LOWER, SAME, OPEN = "higher", "lower", "same", "open"
"""Which way an effect was found to go; SAME: within the plan's margin."""

EFFECTS = {
    HIGHER: {HIGHER},
    LOWER: {LOWER},
    SAME: {SAME},
    "not lower": {HIGHER, SAME},
    "not higher": {LOWER, SAME},
}
"""By what may be expected of an effect, the ways in which it holds."""

SUPPORTED, REFUTED, EQUIVALENT, INCONCLUSIVE = "supported", "refuted", "equivalent", "inconclusive"
VERDICTS = {
    SUPPORTED: {SUPPORTED},
    REFUTED: {REFUTED},
    "opposite found": {REFUTED},
    EQUIVALENT: {EQUIVALENT},
    "not refuted": {SUPPORTED, EQUIVALENT},
}
"""By what may be expected of a claim, the verdicts with which it holds; pages call a refuted one "opposite found"."""

SELECTORS = ("plan", "profile", "data")
KEYS = ("arm", "against", "metric", "claim", "effect", "verdict", "at_least", "at_most")


@dataclass(frozen=True)
class Expectation:
    """One expectation as it was written, `where` in words; None for what was left out."""

    where: str
    arm: str | None = None
    against: str | None = None
    metric: str = schema.TEST_ACCURACY
    claim: int | str | None = None
    """Its number, from 1, or its statement."""
    effect: str | None = None
    verdict: str | None = None
    at_least: float | None = None
    """The least that the interval's lower end may be, in points for shares; `at_most`: the most of its upper end."""
    at_most: float | None = None


@dataclass(frozen=True)
class Expectations:
    """A file of them."""

    expected: tuple[Expectation, ...]
    plan: str | None = None
    profile: str | None = None
    data: str | None = None


@dataclass(frozen=True)
class Placed:
    """An expectation with the claim that it is about."""

    expectation: Expectation
    number: int
    """Of the claim, from 1, in the order of the plan."""
    claim: ClaimRecord
    turned: bool = False
    """Whether what is expected is of the claim's control less its treatment."""

    @property
    def arm(self) -> str:
        """What the effect is of."""
        return self.claim.control if self.turned else self.claim.treatment

    @property
    def against(self) -> str:
        """What it is compared with."""
        return self.claim.treatment if self.turned else self.claim.control


@dataclass(frozen=True)
class Found:
    """What runs say of a claim, turned as what is expected: the interval is of arm less `against`, in points for
    shares, NaN for none."""

    verdict: str
    """One of SUPPORTED, REFUTED, EQUIVALENT and INCONCLUSIVE."""
    way: str
    """One of HIGHER, LOWER, SAME and OPEN."""
    low: float
    high: float
    held_back: bool = False
    """Whether nothing is said yet, whatever the numbers: runs or seeds are missing."""


def read(path: Path) -> Expectations:
    """The expectations in a file. Raises AblateError, in a sentence with what is near, for what is wrong with it."""
    try:
        content = parse_toml(read_named(path))
    except OSError as error:
        raise AblateError(f"the expectations {path} cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise AblateError(f"{path} is not TOML ({error})") from None
    _known(str(path), "key", content, (*SELECTORS, "expect"))
    for name in SELECTORS:
        _is_text(str(path), name, content.get(name))
    tables = content.get("expect", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise AblateError(f"{path}: an expectation begins with [[expect]], in double brackets")
    if not tables:
        raise AblateError(f"{path} expects nothing: it has no table [[expect]]")
    expected = tuple(_expectation(f"{path}, expectation {i}", table) for i, table in enumerate(tables, 1))
    return Expectations(expected, **{name: content.get(name) for name in SELECTORS})


def of_claims(plan: PlanRecord) -> Expectations:
    """The plan's own: that each of its claims is supported."""
    return Expectations(
        tuple(Expectation(f"claim {i}", claim=i, verdict=SUPPORTED) for i in range(1, len(plan.claims) + 1))
    )


def placed(expectation: Expectation, plan: PlanRecord) -> Placed:
    """The expectation with its claim among a plan's. Raises AblateError where there is none, or more than one."""
    if expectation.claim is not None:
        number = _numbered(expectation, plan)
        claim = plan.claims[number - 1]
        if claim.allowed and expectation.effect is not None:
            raise AblateError(
                f"{expectation.where}: claim {number} holds also with a loss within the margin, so that its effect has "
                "no direction; expect a verdict"
            )
        return Placed(expectation, number, claim)
    return _compared(expectation, plan)


def judged(expectation: Expectation, found: Found) -> str:
    """HOLDS, FAILS or UNDECIDED: what fails in one part fails, and what is open in one part is undecided."""
    if found.held_back:
        return UNDECIDED
    parts = []
    if expectation.effect is not None:
        parts.append(_among(found.way, EFFECTS[expectation.effect], OPEN))
    if expectation.verdict is not None:
        parts.append(_among(found.verdict, VERDICTS[expectation.verdict], INCONCLUSIVE))
    if expectation.at_least is not None:
        parts.append(_beyond(found.low - expectation.at_least, found.high - expectation.at_least))
    if expectation.at_most is not None:
        parts.append(_beyond(expectation.at_most - found.high, expectation.at_most - found.low))
    return next((outcome for outcome in (FAILS, UNDECIDED) if outcome in parts), HOLDS)


def together(outcomes: Collection[str]) -> str:
    """What becomes of several expectations: one that fails outweighs one that is undecided."""
    return next((outcome for outcome in (FAILS, UNDECIDED) if outcome in outcomes), HOLDS)


def _among(found: str, expected: Collection[str], undecided: str) -> str:
    return UNDECIDED if found == undecided else HOLDS if found in expected else FAILS


def _beyond(least: float, most: float) -> str:
    """Whether an interval of what must not be negative says so; one of NaN says nothing."""
    if math.isnan(least) or math.isnan(most):
        return UNDECIDED
    return HOLDS if least >= 0 else FAILS if most < 0 else UNDECIDED


def _expectation(where: str, table: Mapping[str, Any]) -> Expectation:
    _known(where, "key", table, KEYS)
    for name in ("arm", "against", "metric", "effect", "verdict"):
        _is_text(where, name, table.get(name))
    claim = table.get("claim")
    if claim is not None and (isinstance(claim, bool) or not isinstance(claim, int | str)):
        raise AblateError(f"{where}: claim is a claim's number or its statement, not {shown(claim)}")
    if (claim is None) == ("arm" not in table):
        raise AblateError(f"{where}: it names an arm, or a claim by its number or statement, and not both")
    if claim is not None and (other := next((name for name in ("against", "metric") if name in table), None)):
        raise AblateError(f"{where}: {other} goes with arm; a claim has its own")
    if "verdict" in table and claim is None:
        raise AblateError(f"{where}: verdict goes with claim; of an arm, expect an effect")
    for name, legal in (("effect", EFFECTS), ("verdict", VERDICTS)):
        if name in table and table[name] not in legal:
            raise AblateError(f"{where}: no {name} {shown(table[name])}{did_you_mean(table[name], legal)}")
    bounds = {name: _bound(where, name, table[name]) for name in ("at_least", "at_most") if name in table}
    if not bounds and not {"effect", "verdict"} & table.keys():
        raise AblateError(f"{where} expects nothing: give effect, verdict, at_least or at_most")
    if bounds.get("at_least", -math.inf) > bounds.get("at_most", math.inf):
        raise AblateError(f"{where}: at_least is above at_most, and nothing lies between them")
    asked = {name: table[name] for name in KEYS if name in table} | bounds
    if "metric" in asked:
        asked["metric"] = _metric(where, asked["metric"])
    return Expectation(where, **asked)


def _known(where: str, what: str, given: Collection[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise AblateError(f"{where}: no {what} {shown(name)}{did_you_mean(name, known)}")


def _is_text(where: str, name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise AblateError(f"{where}: {name} must be text in quotation marks, not {shown(value)}")


def _bound(where: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AblateError(f"{where}: {name} must be a number, not {shown(value)}")
    return float(value)


def _metric(where: str, name: str) -> str:
    """A metric's name in the store; in a table's column it has an underscore in place of the slash."""
    known = metrics.known()
    for stored in known:
        if name in (stored, stored.replace("/", "_")):
            return stored
    raise AblateError(f"{where}: no metric {shown(name)}{did_you_mean(name, known)}")


def _numbered(expectation: Expectation, plan: PlanRecord) -> int:
    claims, asked = [claim.statement for claim in plan.claims], expectation.claim
    if isinstance(asked, int):
        if not 1 <= asked <= len(claims):
            raise AblateError(
                f"{expectation.where}: no claim {asked}; plan {plan.name!r} has claims 1 to {len(claims)}"
                if claims
                else f"{expectation.where}: plan {plan.name!r} claims nothing"
            )
        return asked
    if asked not in claims:
        raise AblateError(f"{expectation.where}: no claim {shown(asked)}{did_you_mean(str(asked), claims)}")
    return claims.index(asked) + 1


def _compared(expectation: Expectation, plan: PlanRecord) -> Placed:
    """By the arms: of claims on one arm against another alone, and on which way a metric goes."""
    where, arms = expectation.where, [arm.name for arm in plan.arms]
    for name in filter(None, (expectation.arm, expectation.against)):
        if name not in arms:
            raise AblateError(f"{where}: no arm {shown(name)}{did_you_mean(name, arms)}")
    of_metric = [
        (i, claim)
        for i, claim in enumerate(plan.claims, 1)
        if claim.metric == expectation.metric and not (claim.over or claim.beyond or claim.allowed)
    ]
    sides = {i: (claim.treatment, claim.control) for i, claim in of_metric}
    fits = [
        (i, claim)
        for i, claim in of_metric
        if expectation.arm in sides[i] and (expectation.against in (None, *sides[i]))
    ]
    fits = [(i, claim) for i, claim in fits if expectation.against != expectation.arm]
    title = metric(expectation.metric).title
    if not fits:
        about = dict.fromkeys(claim.metric for claim in plan.claims)
        if expectation.metric not in about:
            claimed = f"it claims about {', '.join(about)}" if about else "it claims nothing"
            raise AblateError(f"{where}: plan {plan.name!r} claims nothing about {title}; {claimed}")
        others = sorted(
            {name for pair in sides.values() for name in pair if expectation.arm in pair} - {expectation.arm}
        )
        against = f" with {expectation.against!r}" if expectation.against else ""
        known = f"; it is compared with {', '.join(map(repr, others))}" if others else ""
        raise AblateError(f"{where}: no claim compares {expectation.arm!r}{against} in {title}{known}")
    if len(fits) > 1:
        others = sorted({name for i, _ in fits for name in sides[i]} - {expectation.arm})
        raise AblateError(
            f"{where}: {len(fits)} claims compare {expectation.arm!r} in {title}; name the other arm with against "
            f"({', '.join(map(repr, others))}), or the claim by its number ({', '.join(str(i) for i, _ in fits)})"
        )
    ((number, claim),) = fits
    return Placed(expectation, number, claim, turned=expectation.arm == claim.control)
