"""What came of a plan in a line each, as a terminal shows it: of techniques, of statements, or of arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cifar_ablations.ablations.designs import OVERALL
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.reading.outside import metric
from cifar_ablations.reports.wording import phrases

WHY_OPEN = {
    verdict.TOO_FEW: "too few seeds",
    verdict.UNFINISHED: "runs missing",
    verdict.NOT_REACHED: "before the first look",
    verdict.NOTHING_LEFT: "no runs to compare",
    verdict.FEW_LEFT: "too few runs left",
    verdict.NO_SPREAD: "nothing varies",
    verdict.LOST: "runs diverged",
}
"""By the reason of `verdict.judge`, why a claim is open whatever the size of its effect."""


@dataclass(frozen=True)
class Line:
    """A claim in a line. Accuracies and the limits of the effect are fractions; NaN for none."""

    place: str
    """Where the claim holds, with a capital letter; lines of one place follow each other."""
    what: str
    """The technique that is switched, or the statement."""
    without: float
    with_it: float
    difference: float
    low: float
    high: float
    effect: str
    """The effect with its interval: in points of accuracy without the unit, or with the unit of another metric; where
    diverged runs decide, those."""
    outcome: str
    """'helps', 'hurts', 'same within 1 pp', 'open'."""
    way: str
    """One of `phrases.HELPS`, HURTS, SAME and OPEN."""
    why: str = ""
    """Of an open claim that no size of effect could settle, the reason."""

    @property
    def said(self) -> str:
        """The outcome, with the reason where it is open for one."""
        return f"{self.outcome}: {self.why}" if self.why else self.outcome


def of_techniques(plan: PlanRecord, verdicts: pd.DataFrame) -> list[Line]:
    """A line for each claim about test accuracy, or about the metric that a person named.

    Place by place: the whole first, then in the order of the plan.
    verdicts: of `phrases.with_sentences`.
    """
    if verdicts.empty:
        return []
    lines = []
    for row in verdicts[verdicts["metric"].map(phrases.decides)].to_dict("records"):
        if row["counted"]:
            effect = f"{row['treatment_diverged']} against {row['control_diverged']} diverged"
        elif metric(row["metric"]).share:
            limits = phrases.interval(row["low"], row["high"], least=-row["reach"], most=row["reach"])
            effect = f"{phrases.points(row['difference'])} {limits}".rstrip()
        else:
            effect = phrases.effect(row)
        what = phrases.subject(plan, row)
        lines.append(_line(row, phrases.sentence_case(phrases.place(row)), what, effect))
    places = list(dict.fromkeys(line.place for line in lines))
    places.sort(key=lambda place: not place.startswith(phrases.sentence_case(OVERALL)))
    return sorted(lines, key=lambda line: places.index(line.place))


def of_statements(verdicts: pd.DataFrame) -> list[Line]:
    """A line for each claim, as the plan states it, with the effect on its own metric; verdicts: as above."""
    lines = []
    for row in verdicts.to_dict("records"):
        effect = phrases.diverged(row) if row["counted"] else phrases.difference(row["metric"], row["difference"])
        lines.append(_line(row, "", row["statement"], effect, outcome=phrases.LABELS[row["verdict"]]))
    return lines


def _line(row: phrases.Row, place: str, what: str, effect: str, outcome: str = "") -> Line:
    finite = not row["counted"] and math.isfinite(row["low"]) and math.isfinite(row["high"])
    return Line(
        place=place,
        what=what,
        without=row["control_mean"],
        with_it=row["treatment_mean"],
        difference=row["difference"] if finite else math.nan,
        low=row["low"] if finite else math.nan,
        high=row["high"] if finite else math.nan,
        effect=effect,
        outcome=(outcome or phrases.outcome(row)).removesuffix(phrases.REHEARSED),
        way=phrases.direction(row),
        why=WHY_OPEN.get(row["reason"], "") if row["verdict"] == verdict.INCONCLUSIVE else "",
    )


@dataclass(frozen=True)
class ArmLine:
    """An arm with its mean test accuracy, its spread and the interval of the mean, as fractions, over n runs."""

    arm: str
    accuracy: float
    std: float
    low: float
    high: float
    n: int
    diverged: int


def of_arms(arms: pd.DataFrame) -> list[ArmLine]:
    """A line for each arm with a result, of `arms.arm_table`; the highest mean first."""
    known = arms[arms["n"] > 0].sort_values("accuracy", ascending=False, kind="stable", na_position="last")
    return [
        ArmLine(row["arm"], row["accuracy"], row["accuracy_std"], row["low"], row["high"], row["n"], row["diverged"])
        for row in known.to_dict("records")
    ]


def most_telling(lines: Sequence[Line], room: int) -> list[Line]:
    """So many of the lines, in their order: first what is decided, then what is the same, the largest effects first."""
    ranks = {phrases.HELPS: 0, phrases.HURTS: 0, phrases.SAME: 1, phrases.OPEN: 2}

    def rank(index: int) -> tuple[int, float, int]:
        line = lines[index]
        return ranks[line.way], -abs(line.difference) if line.difference == line.difference else math.inf, index

    return [lines[index] for index in sorted(sorted(range(len(lines)), key=rank)[:room])]
