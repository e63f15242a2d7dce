"""The answer in a few lines: what helps, what hurts, what makes no difference, what is open, each with its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from cifar_ablations.ablations.designs import OVERALL
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.reading.outside import metric
from cifar_ablations.reports.wording import phrases

MOST = 4
"""Findings that a line names in one place; the others are counted."""


@dataclass(frozen=True)
class Line:
    """A line of the answer: what kind of finding, and the findings with their numbers."""

    label: str
    text: str


def of_plan(plan: PlanRecord, verdicts: pd.DataFrame) -> list[Line]:
    """The answer of a plan's claims in at most five lines; nothing where nothing is claimed.

    verdicts: of `phrases.with_sentences`. For techniques these are the claims about test accuracy, or the metric that a
    person named, for a ledger of statements all of them.
    """
    if verdicts.empty:
        return []
    if plan.layout == "ledger":
        return _of_statements(plan, verdicts.to_dict("records"))
    rows = verdicts[verdicts["metric"].map(phrases.decides)].to_dict("records")
    if len({row["obstacle"] for row in rows}) == 1 and rows[0]["obstacle"]:
        return [Line("Open", _open(plan, rows, len(rows)))]
    lines = [Line("Overall", _overall(row)) for row in rows if row["where"].startswith(OVERALL)]
    rest = [row for row in rows if not row["where"].startswith(OVERALL)]
    for kind, label in (
        (phrases.HELPS, "Helps"),
        (phrases.HURTS, "Hurts"),
        (phrases.SAME, f"Same within {phrases.size(rows[0]['metric'], plan.rule.margin)}" if rows else ""),
    ):
        found = [row for row in rest if phrases.direction(row) == kind]
        if found:
            lines.append(Line(label, _listed(plan, found)))
    still_open = [row for row in rest if phrases.direction(row) == phrases.OPEN]
    if still_open:
        lines.append(Line("Open", _open(plan, still_open, len(rest))))
    return lines


def sentences(plan: PlanRecord, verdicts: pd.DataFrame) -> list[str]:
    """The lines of `of_plan`, each as a sentence."""
    return [f"{line.label}: {line.text}." for line in of_plan(plan, verdicts)]


def highest_mean(plan: PlanRecord, arms: pd.DataFrame) -> str:
    """Which arm has the highest mean, of `arms.arm_table`; picked from several, it is not a finding.

    Nothing for fewer than three arms, and for a plan that claims nothing, whose arms are its answer.
    """
    known = arms.dropna(subset=["accuracy"])
    if len(known) < 3 or not plan.claims:
        return ""
    best = known.sort_values("accuracy", kind="stable").iloc[-1]
    return (
        f"Highest mean of {len(known)} arms, not tested: {best['arm']}, {phrases.percent(best['accuracy'], 1)} %. "
        "The highest of several looks better than it is."
    )


def _overall(row: phrases.Row) -> str:
    """Both means, their difference, and what that makes of the claim."""
    if row["obstacle"]:
        return f"open, {row['obstacle']}"
    sides = ", ".join(
        f"{row[side]} {phrases.percent(row[f'{side}_mean'], 1)} %"
        for side in ("treatment", "control")
        if not math.isnan(row[f"{side}_mean"])
    )
    said = {
        verdict.SUPPORTED: "as claimed",
        verdict.REFUTED: "the opposite of the claim",
        verdict.EQUIVALENT: f"the same within {100 * row['margin']:g} pp",
        verdict.INCONCLUSIVE: "open",
    }[row["verdict"]]
    return f"{sides}: {_number(row)}, {said}"


def _number(row: phrases.Row) -> str:
    if row["counted"]:
        return phrases.diverged(row)
    if pd.isna(row["difference"]):
        return "no number"
    if not metric(row["metric"]).share:
        return phrases.difference(row["metric"], row["difference"])
    return f"{phrases.points(row['difference'], 1)} pp"


def _listed(plan: PlanRecord, rows: Sequence[Any], most: int = MOST) -> str:
    """'Adam +12.4 pp and dropout +0.8 pp in the full recipe; Adam +20.1 pp on its own', the largest first."""
    parts = []
    for place, of_place in groupby(rows, key=phrases.place):
        found = sorted(
            of_place, key=lambda row: -abs(row["difference"]) if row["difference"] == row["difference"] else 0
        )
        names = [f"{phrases.subject(plan, row)} {_number(row)}" for row in found[:most]]
        names += [f"{len(found) - most} more"] if len(found) > most else []
        parts.append(f"{phrases.listing(names)} {place}".rstrip())
    return "; ".join(parts)


def _open(plan: PlanRecord, rows: Sequence[Any], of: int) -> str:
    """What is open and what would settle it; where one reason keeps all of it open, the reason alone."""
    reasons = {row["obstacle"] for row in rows}
    kinds = {row["reason"] for row in rows}
    if kinds == {verdict.UNFINISHED}:
        return f"{len(rows)} of {phrases.count(of, 'claim')} {'waits' if len(rows) == 1 else 'wait'} for runs"
    if len(reasons) == 1 and (reason := reasons.pop()):
        return f"{len(rows)} of {phrases.count(of, 'claim')}: {reason}"
    undecided = [row for row in rows if not row["obstacle"] and not row["counted"]]
    return "; ".join(filter(None, [_listed(plan, rows, 3), _settling(plan, undecided)]))


def _settling(plan: PlanRecord, rows: Sequence[Any]) -> str:
    """The claim that the fewest seeds would decide, and how many."""
    needed = [(seeds, i) for i, row in enumerate(rows) if (seeds := seeds_to_settle(row)) is not None]
    if not needed:
        return ""
    seeds, closest = min(needed)
    about = f"{phrases.subject(plan, rows[closest])} {phrases.place(rows[closest])}".rstrip()
    return f"about {seeds:,} seeds would settle {about}, if its effect is as large as it looks"


def seeds_to_settle(row: phrases.Row) -> int | None:
    """About how many seeds would decide an open claim, four times out of five; None where that cannot be said.

    Those that find its effect, if that is as large as it looks: the effect that is found shrinks with the root of the
    number of seeds. Or those that find one of the size of the margin, where they are fewer.
    """
    ways = [] if math.isnan(row["seeds_needed"]) else [int(row["seeds_needed"])]
    size = abs(row["difference"])
    if size > 0 and math.isfinite(row["detectable"]):
        ways.append(math.ceil(row["seeds"] * (row["detectable"] / size) ** 2))
    return min(ways, default=None)


def _of_statements(plan: PlanRecord, rows: Sequence[Any]) -> list[Line]:
    """How many of a ledger's statements came out in which way, and which."""
    lines = []
    for kind, label in (
        (verdict.SUPPORTED, "Supported"),
        (verdict.REFUTED, "Opposite found"),
        (verdict.EQUIVALENT, "No difference that matters"),
        (verdict.INCONCLUSIVE, "Open"),
    ):
        found = [row for row in rows if row["verdict"] == kind]
        if not found:
            continue
        number = f"{len(found)} of {phrases.count(len(rows), 'statement')}, {phrases.scope(plan)}"
        if kind == verdict.INCONCLUSIVE:
            named = []
        else:
            named = [f"{row['statement']} ({_brief(row)})" for row in found[:MOST]]
            named += [f"{len(found) - MOST} more"] if len(found) > MOST else []
        lines.append(Line(label, f"{number}: {'; '.join(named)}" if named else number))
        if lines[1:]:  # the budget once
            lines[-1] = Line(label, lines[-1].text.replace(f", {phrases.scope(plan)}", "", 1))
    return lines


def _brief(row: phrases.Row) -> str:
    return phrases.diverged(row) if row["counted"] else phrases.difference(row["metric"], row["difference"])
