"""Two plans side by side, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import joined, verdict
from cifar_ablations.reports.inference.joined import Joined, Side
from cifar_ablations.reports.wording import phrases

HOW = {
    joined.APART: "as independent",
    joined.AGAIN: "within seeds, which were trained again",
    joined.OVERLAP: "as independent; some seeds were trained again",
    joined.PART: "not at all: some runs are in both",
    joined.EQUAL: "not at all: trained again with equal results",
    joined.SAME: "not at all: the same runs",
}
"""How the two sides of a row are compared, by what their runs have to do with each other."""

KNOBS = {"model.name": "network", "model.width": "network width", "budget.train_images": "training images"}
"""What knobs are called whose own name does not say it; others are called by that."""

MOST_NAMED = 3
"""Effects that the answer names; all of them stand in the table."""


def sentences(first: Side, second: Side, found: Joined) -> list[str]:
    """What two plans have in common and where they differ: the answer first, then what a reader must know beside it."""
    plans = first.plan, second.plan
    if found.arms.empty:
        said = ["The two have nothing in common: no recipe is in both, and no claim. What each has stands below."]
    elif found.claims.empty:
        said = [f"The two have no claim in common; {_are(len(found.arms), 'arm')} in both."]
    else:
        said = [_verdicts(plans, first, found.claims), *_effects(plans[0], found.claims)]
    if len(found.claims) and any(plan.rule.looks for plan in plans):
        said.append("Looks decided how many seeds there are; intervals of B − A are as for a number fixed in advance.")
    if plans[0].data.digest != plans[1].data.digest:
        names = [f"{plan.data.name} ({plan.data.digest})" for plan in plans]
        said.append(f"The images are others: {names[0]} and {names[1]}.")
    if found.sizes:
        said.append(
            f"The budgets are others, and recipes are joined by the settings of their techniques: {knobs(found.sizes)}."
        )
    return said


def _are(count: int, what: str) -> str:
    return f"{phrases.count(count, what)} {'is' if count == 1 else 'are'}"


def _verdicts(plans: tuple[PlanRecord, PlanRecord], first: Side, claims: pd.DataFrame) -> str:
    """How many claims both have, and on how many they agree."""
    n, alike = len(claims), claims[claims["agree"]]
    totals = [len(plan.claims) for plan in plans]
    of = "" if totals == [n, n] else f" (of {totals[0]} and {totals[1]})"
    number = "none" if alike.empty else "all" if len(alike) == n > 1 else f"{len(alike)}"
    said = f"Both have {phrases.count(n, 'claim')}{of}: {number} {_have(len(alike))} the same verdict"
    unsettled = int((first.verdicts["verdict"].iloc[alike["first"]] == verdict.INCONCLUSIVE).sum())
    if unsettled:
        said += f", {'' if unsettled == len(alike) else f'{unsettled} of them '}open on both sides"
    others = n - len(alike)
    return f"{said}; {others} {_have(others)} another." if others and len(alike) else f"{said}."


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _effects(plan: PlanRecord, claims: pd.DataFrame) -> list[str]:
    """Which effects differ beyond chance, and which are not compared, and why."""
    said, runs = list[str](), claims["runs"]
    if (runs == joined.SAME).all():
        return ["They rest on the same runs: this is one result shown twice, not two that agree."]
    if runs.isin([joined.SAME, joined.EQUAL]).all():
        return ["All runs were trained again with equal results: this is one result made twice, not two that agree."]
    comparable = runs.isin(joined.TESTED)
    tested, differing = claims[claims["p"].notna()], claims[claims["differs"]].sort_values("p_page", kind="stable")
    if tested.empty and comparable.any():
        said.append("No difference of effects can be tested: an arm has a single run, or nothing varies.")
    elif len(tested) and differing.empty:
        said.append(f"No effect differs beyond chance, which does not mean that they are the same{_width(tested)}.")
    elif len(tested):
        differ = f"{phrases.count(len(tested), 'effect')} differ{'s' if len(differing) == 1 else ''} beyond chance"
        named = [_named(plan, row) for row in differing.head(MOST_NAMED).to_dict("records")]
        more = [f"and {len(differing) - MOST_NAMED} more"] if len(differing) > MOST_NAMED else []
        said.append(f"{len(differing)} of {differ}: {'; '.join([*named, *more])}.")
    few = int((tested["least"] < joined.FEWEST).sum())
    if few:
        which = "all of them" if few == len(claims) else f"{few} of them"
        said.append(
            f"No effects are called different where an arm has fewer than {joined.FEWEST} runs: so for {which}."
        )
    shared = int((~comparable).sum())
    if shared:
        why = "some of the runs are in both, or were trained again with equal results"
        said.append(f"{_are(shared, 'claim')} not compared, for {why}.")
    return said


def _named(plan: PlanRecord, row: Mapping[Any, Any]) -> str:
    name = row["metric"]
    size = (
        f"{phrases.difference(name, row['difference'])} {phrases.limits(name, row['low'], row['high'], row['reach'])}"
    )
    return f"{plan.claims[row['first']].statement} (B − A {size}, p {phrases.p_value(row['p_page'])})"


def _width(tested: pd.DataFrame) -> str:
    """How far the intervals of the effects on test accuracy reach; nothing where there are none."""
    of_accuracy = tested[tested["metric"] == schema.TEST_ACCURACY]
    if of_accuracy.empty:
        return ""
    half = float(((of_accuracy["high"] - of_accuracy["low"]) / 2).median())
    title = phrases.metric_title(schema.TEST_ACCURACY)
    return f": in {title} the intervals of B − A typically reach {phrases.percent(half)} pp to either side"


def knobs(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """Knobs with their values on both sides, 'epochs 30 and 3, dropout.p 0.5 and 0.3'."""
    return ", ".join(f"{_knob(knob)} {_value(a)} and {_value(b)}" for knob, (a, b) in differing.items())


def _knob(name: str) -> str:
    owner, _, knob = name.partition(".")
    return KNOBS.get(name) or (knob.replace("_", " ") if owner == "budget" else name)


def _value(value: Any) -> str:
    if value is None:
        return "not said"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
