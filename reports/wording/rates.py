"""Which learning rates a plan's arms were trained with, and which of them were tuned for their arm."""

from __future__ import annotations

from collections.abc import Sequence

from cifar_ablations.ablations.designs import AT_BEST, BEST_RATES, RATE
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import ArmRecord, PlanRecord
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.reports.wording import phrases

KIND, FACTOR = "optimizer.kind", "learning_rate.factor"

FOUND_ANEW = ", rate found anew"
"""Ends the names of the arms of the plan `tuned` at a rate that was found for them."""


def of_plan(plan: PlanRecord) -> str:
    """The learning rates of a plan's arms in a sentence or two, and whether each was tuned for its arm.

    Nothing where nothing is claimed, where the plan is about learning rates, and where the store does not say.
    """
    if any(claim.technique == "learning_rate" for claim in plan.claims) or not plan.claims:
        return ""
    known = [arm for arm in plan.arms if KIND in arm.knobs and RATE in arm.knobs]
    tuned = [arm for arm in known if arm.name.endswith((AT_BEST, FOUND_ANEW))]
    usual = [arm for arm in known if arm not in tuned]
    if not usual:
        return ""
    said = f"Learning rates: {_listed(usual)}"
    if any(change.startswith(BEST_RATES) for change in plan.overrides):
        search = "A search with equally many trials for every arm"
        if not tuned:
            return f"{said}, tuned for every arm: {search[:1].lower()}{search[1:]} found no better one."
        return (
            f"{said}, none of them tuned for its arm. {search} found better ones for {len(tuned)} of {len(usual)}: "
            f"{_listed(tuned)}; these are compared where it says “each at its best rate”."
        )
    if tuned:
        return f"{said}, not tuned arm by arm; tuned for {phrases.count(len(tuned), 'arm')}: {_listed(tuned)}."
    offer = " (RETUNE=1 does)" if plan.name == "techniques" else ""
    return f"{said}; none was tuned for its arm{offer}."


def _listed(arms: Sequence[ArmRecord]) -> str:
    """'0.003 with Adam, 0.05 to 0.1 with plain SGD', in the order of the arms."""
    by_kind: dict[str, list[float]] = {}
    for arm in arms:
        by_kind.setdefault(_title(arm.knobs[KIND]), []).append(arm.knobs[RATE] * arm.knobs.get(FACTOR, 1.0))
    return ", ".join(f"{_range(rates)} with {kind}" for kind, rates in by_kind.items())


def _title(kind: str) -> str:
    try:
        return Optimizer(kind=kind).kind_title
    except AblateError:  # one that is not known any more
        return kind


def _range(rates: Sequence[float]) -> str:
    low, high = f"{min(rates):.3g}", f"{max(rates):.3g}"
    return low if low == high else f"{low} to {high}"
