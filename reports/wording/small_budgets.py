"""What verdicts at a small budget were worth in the reference study: which of them a larger one took back."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from functools import cache
from math import log, sqrt
from pathlib import Path
from typing import NamedTuple

from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.wording import phrases

MEASURED = Path(__file__).with_name("small_budgets.csv")
"""Of `results/budgets-techniques-full/`, by whose benchmark it is written."""
NETWORK = "notebook"
"""The network that was trained, at widths that grow with the budget."""
CLASSES = frozenset(["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"])
"""Of the images that were trained on."""


class Verdict(NamedTuple):
    """What was said of a technique's effect on test accuracy at a budget; `where`: removed, or on its own."""

    train_images: int
    technique: str
    title: str
    where: str
    direction: str


@cache
def measured() -> tuple[Verdict, ...]:
    """All of them."""
    with MEASURED.open(encoding="utf-8", newline="") as file:
        return tuple(Verdict(int(row.pop("train_images")), **row) for row in csv.DictReader(file))


def of_plan(plan: PlanRecord) -> str:
    """`said` of a plan's techniques and budget; nothing where its network or its images are others."""
    knobs = plan.arms[0].knobs
    if knobs.get("model.name") != NETWORK or plan.data.stand_in or set(plan.data.classes) != CLASSES:
        return ""
    return said({claim.technique for claim in plan.claims}, int(knobs["budget.train_images"]))


def said(techniques: Collection[str], train_images: int, known: Sequence[Verdict] | None = None) -> str:
    """A sentence on verdicts about these techniques at about so many training images; nothing where none is known."""
    known = measured() if known is None else known
    sizes = sorted({one.train_images for one in known})
    if not sizes or not sizes[0] / sqrt(2) <= train_images <= sizes[-1] / sqrt(2):
        return ""
    nearest = min(sizes, key=lambda size: abs(log(size / train_images)))
    there = {(one.technique, one.where): one.direction for one in known if one.train_images == sizes[-1]}
    decided = [
        one
        for one in known
        if one.train_images == nearest and one.technique in techniques and one.direction in phrases.DECIDED
    ]
    if not decided:
        return ""
    kept = [one for one in decided if there[one.technique, one.where] == one.direction]
    turned = [one for one in decided if one not in kept and there[one.technique, one.where] in phrases.DECIDED]
    gone = [one for one in decided if one not in kept and one not in turned]
    parts = [
        f"In the reference study, which removes each of the notebook's techniques and adds each alone, {len(kept)} of "
        f"{phrases.count(len(decided), 'verdict')} on these at {nearest:,} training images held at {sizes[-1]:,}"
    ]
    parts += [f"turned around: {_named(turned)}"] if turned else []
    parts += [f"not decided there: {_named(gone)}"] if gone else []
    return "; ".join(parts) + "."


def _named(verdicts: Sequence[Verdict]) -> str:
    return phrases.listing([f"{one.title} {one.where}" for one in verdicts])
