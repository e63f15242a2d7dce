"""The suite's statistics for runs of other programs: what came of them, and its page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import forest
from cifar_ablations.reports.inference import arms, decision, divergence, statistics, verdict
from cifar_ablations.reports.pages import guide, rendering
from cifar_ablations.reports.pages.drawings import Drawing
from cifar_ablations.reports.pages.result import EFFECT_COLUMNS, Plots
from cifar_ablations.reports.reading import outside
from cifar_ablations.reports.reading.outside import Outside, Source
from cifar_ablations.reports.wording import answer, headlines, outcome_lines, phrases, tables
from cifar_ablations.reports.wording.headlines import Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOLDS = "for runs like these"
"""What a verdict holds for: of another program's runs no more is known."""
FIXED = (
    "Exploratory, unless arms, metric and number of runs were fixed before the first of them, which no table shows. "
    "Fresh seeds confirm."
)
LEAST_HALF = 1.3
"""The figure writes two decimals: an interval of less than 10 to the power of minus this to each side needs a unit."""
MOST_DOTS = 100
"""Seeds that a row of the figure shows; of more, none."""


def judge(
    runs: pd.DataFrame | str | Path,
    *,
    metric: str | None = None,
    control: str | None = None,
    arm: str | None = "arm",
    seed: str | None = None,
    better: str | None = None,
    expect: str | None = None,
    margin: float | None = None,
    paired: bool = False,
    name: str = "the table",
) -> Judged:
    """Judge runs of any program, each arm against the control, as the suite judges its own.

    runs: a frame with a row per run, or a CSV or Parquet file. arm, seed, metric: its columns; without `seed` a column
    of that name is taken where there is one. A run without a number counts as diverged. control: the arm that the
    others are compared with. better: "higher" or "lower" (default: by the metric's name, else higher). expect: the
    direction that is claimed of every arm (default: that it differs). margin: the smallest difference that matters, in
    the metric's own unit (default: half a percentage point of an accuracy or another share, else none). paired: compare
    within seeds, which every arm must share; to be chosen before one has seen the numbers. name: what to call a frame.

    Raises AblateError, in a sentence, for what cannot be judged.

    Examples:
        >>> import cifar_ablations as ca
        >>> accuracy = {"a": [0.70, 0.71, 0.69, 0.70, 0.72, 0.71], "b": [0.75, 0.74, 0.76, 0.75, 0.74, 0.76]}
        >>> runs = pd.DataFrame(accuracy).melt(var_name="arm", value_name="accuracy")  # a row per run
        >>> found = ca.judge(runs, metric="accuracy", control="a").effects
        >>> found[["treatment", "control", "verdict"]].values.tolist()
        [['b', 'a', 'helps']]
    """
    source = Source(runs, name) if isinstance(runs, pd.DataFrame) else outside.of_file(Path(runs), (arm, seed))
    return judged(source, arm, seed, metric, control, better=better, expect=expect, margin=margin, paired=paired)


def judged(
    source: Source,
    arm: str | None,
    seed: str | None,
    metric: str | None,
    control: str | None,
    *,
    better: str | None = None,
    expect: str | None = None,
    margin: float | None = None,
    paired: bool = False,
) -> Judged:
    """What came of the runs of a source; the others, and what is raised, as of `judge`."""
    found = outside.of_frame(source, arm=arm, seed=seed, metric=metric, control=control, better=better)
    return of_runs(found, outside.plan_of(found, expect=expect, margin=margin, paired=paired), complete=True)


def of_runs(found: Outside, plan: PlanRecord, *, complete: bool) -> Judged:
    """What came of runs by a plan. complete: whether there will be no others; else a claim waits for all seeds."""
    counts = found.runs["arm"].value_counts() if complete else None
    rate = verdict.error_rate(verdict.shape_of(plan, counts=counts))
    verdicts = verdict.judge(plan, found.runs, complete=complete)
    if not found.pairing.paired:  # places in an arm are no seeds
        nothing = dict.fromkeys(("n", "correlation", "improved", "improved_low", "improved_high"), math.nan)
        verdicts = verdicts.assign(**nothing)
    return Judged(found, plan, phrases.with_sentences(plan, verdicts, HOLDS), rate)


@dataclass(frozen=True)
class Judged:
    """What came of the runs of another program."""

    outside: Outside
    plan: PlanRecord
    """The plan as it would have been fixed before them."""
    verdicts: pd.DataFrame
    """A row per arm but the control, of `verdict.judge`, with sentences; shares are fractions."""
    error_rate: float
    """Of `verdict.error_rate`: how many such tables would be given a false verdict."""
    fixed: str = FIXED
    """What was fixed when, in a sentence or two."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """By arm, the command whose runs they are, where that is known."""

    @cached_property
    def effects(self) -> pd.DataFrame:
        """A row per arm but the control, columns as of `Result.effects`: arm less control, in the metric's own unit
        (fractions for shares), with its interval, p corrected for all arms, runs on both sides, and the verdict."""
        named = {"difference": "effect", "p_page": "p", "treatment_n": "n_treatment", "control_n": "n_control"}
        frame = self.verdicts.drop(columns=["p", "verdict"]).rename(columns=named)
        said = [phrases.outcome(row) for row in self.verdicts.to_dict("records")]
        return frame.assign(metric=self.outside.column, verdict=said)[EFFECT_COLUMNS]

    @cached_property
    def arms(self) -> pd.DataFrame:
        """A row per arm, the control first: `n` runs, `diverged` of them without a number, and of the others `mean`,
        `std` and the limits `low` and `high` of the mean's interval."""
        name, confidence, rows = self.outside.name, decision.confidence(self.plan.rule), []
        for arm, of_arm in self.outside.runs.groupby("arm", sort=True):
            mean = statistics.mean_interval(of_arm[name].dropna().to_numpy(), confidence)
            about = {"mean": mean.mean, "std": mean.std, "low": mean.low, "high": mean.high}
            rows.append({"arm": str(arm), "n": len(of_arm), "diverged": int((~of_arm["converged"]).sum()), **about})
        return pd.DataFrame(rows)

    @cached_property
    def divergence(self) -> pd.DataFrame:
        """Of `divergence.table`: which arms lost more runs than the control."""
        return divergence.table(self.plan, self.outside.runs, self.verdicts)

    @cached_property
    def lines(self) -> list[Line]:
        """The answer in a few lines."""
        return headlines.of_plan(self.plan, self.verdicts)

    @cached_property
    def pairing_sentence(self) -> str:
        """Whether runs are compared within seeds, and why not, in a sentence or two."""
        found, correlation, pairs = self.outside, math.nan, 0
        plan = replace(self.plan, seeds=tuple(range(int(found.runs["seed"].max()) + 1)))  # those that there are
        if found.pairing.paired:
            correlation, pairs = arms.seed_correlation(plan, found.runs, found.name)
        many_seeds = len(plan.seeds) > MOST_DOTS  # of which the tenth part of nothing looks like a lot
        worth = math.nan if many_seeds else statistics.seeds_worth(correlation, len(plan.seeds))
        sizes = self.arms["n"]
        said = answer.of_pairing(plan, found.pairing, correlation, pairs, worth)
        few, many = int(sizes.min()), int(sizes.max())
        return said if few == many else f"{said} Arms have {few:,} to {many:,} runs."

    @cached_property
    def caveats(self) -> list[str]:
        """What a reader must know beside the answer, in sentences."""
        lost = answer.of_divergence(self.arms, "Without a number, which counts as diverged", answer.MOST_NAMED)
        return [*filter(None, [lost]), *self.outside.notes]

    @cached_property
    def strength(self) -> list[str]:
        """How far to trust the verdicts, in sentences."""
        return answer.strength(self.plan, self.verdicts, self.error_rate)

    @cached_property
    def rows(self) -> list[outcome_lines.Line]:
        """A line per arm but the control, as a terminal shows it; of a claimed direction, whether it was found."""
        lines = outcome_lines.of_techniques(self.plan, self.verdicts)
        rows = self.verdicts.to_dict("records")
        return [
            replace(line, outcome=phrases.LABELS[row["verdict"]]) if row["sign"] else line
            for line, row in zip(lines, rows, strict=True)
        ]

    def amount(self, value: float) -> str:
        """A value of the metric as people read it, per cent for a share, with the digits that its intervals warrant."""
        if self.outside.metric.share:
            return phrases.percent(value)
        return phrases.number(value, self._digits)

    @cached_property
    def _half(self) -> float:
        """Half the width of the usual interval, in the metric's own unit; NaN where there is none."""
        return float(((self.verdicts["high"] - self.verdicts["low"]) / 2).median())

    @cached_property
    def _digits(self) -> int:
        half = self._half
        return min(max(1 - math.floor(math.log10(half)), 0), 9) if half > 0 else 3

    @cached_property
    def drawings(self) -> dict[str, Drawing]:
        """The figures of the page."""
        data, unit = self._forest()
        return {"forest": (_Forest(unit), data), "forest_narrow": (_Forest(unit, narrow=True), data)}

    @property
    def plot(self) -> Plots:
        """The figures, each as matplotlib Axes: `judged.plot.forest()`."""
        return Plots(self.drawings)

    def _forest(self) -> tuple[pd.DataFrame, str]:
        """What the figure draws, and its unit: a power of ten where the metric's own would have long numbers."""
        verdicts, runs, name, unit = self.verdicts, self.outside.runs, self.outside.name, "percentage points"
        if not self.outside.metric.share:
            power = 3 * max(0, math.ceil(-(math.log10(self._half) + LEAST_HALF) / 3)) if self._half > 0 else 0
            unit = f"× 10{str(-power).translate(SUPERSCRIPTS)}" if power else ""
            factor = 10.0**power / 100  # the figure multiplies by 100
            scaled = {key: verdicts[key] * factor for key in ("difference", "low", "high", "margin")}
            verdicts = verdicts.assign(**scaled, reach=math.inf).fillna({"margin": 0.0})
            runs = runs.assign(**{name: runs[name] * factor})
        if not self.outside.pairing.paired or len(self.plan.seeds) > MOST_DOTS:
            runs = runs.iloc[:0]
        data = forest.data(verdicts, self.plan, runs)
        ways = data["direction"].where(data["word"].isin(["raises", "lowers"]), data["word"])
        return data.assign(word=ways), unit

    def to_html(self, command: str = "", beside: str = "") -> str:
        """The page, in one piece that needs no other file. command: what makes it again; beside: the name of the page
        that explains it, where that lies in the same folder."""
        plan, rows = self.plan, self.verdicts.to_dict("records")
        diverging = pd.DataFrame()
        if not self.outside.runs["converged"].all():
            diverging = self.divergence
            diverging = diverging[(diverging["treatment_diverged"] > 0) | (diverging["control_diverged"] > 0)]
        return (
            rendering.environment()
            .get_template("judged.html.j2")
            .render(
                judged=self,
                plan=plan,
                source=self.outside.source,
                metric=self.outside.metric,
                column=self.outside.column,
                control=self.outside.arms[0],
                total=len(self.outside.runs),
                rows=[
                    row
                    | {
                        "settled": headlines.seeds_to_settle(row) if _is_open(row) else None,
                        "why": outcome_lines.WHY_OPEN.get(row["reason"], ""),
                    }
                    for row in rows
                ],
                diverging=diverging.to_dict("records"),
                fixed=self.fixed,
                chip=self._chip,
                confidence=decision.confidence(plan.rule),
                error=decision.error_of_page(plan.rule.test, len(plan.seeds)),
                figures={
                    name: rendering.drawn(name, room.draw(data), room.describe(data))
                    for name, (room, data) in self.drawings.items()
                },
                command=command,
                guide=beside,
            )
        )

    def _chip(self, row: Mapping[Any, Any]) -> str:
        """The class of a verdict's mark: of the way where no direction was claimed."""
        return str(row["verdict"]) if row["sign"] else CHIPS[phrases.direction(row)]

    def save(self, path: str | Path, command: str = "") -> Path:
        """Write the page to a file, whole or not at all, and return its path."""
        page = Path(path)
        beside = guide.GUIDE if (page.parent / guide.GUIDE).is_file() else ""
        return rendering.write_html(page, self.to_html(command, beside))

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.to_html())}" title="{html.escape(self.plan.question)}" '
            'style="width: 100%; height: 46em; border: 0" sandbox></iframe>'
        )

    def __repr__(self) -> str:
        lines = [f"{line.label}: {line.text}" for line in self.lines]
        runs = phrases.count(len(self.outside.runs), "run")
        return "\n".join([f"<Judged {tables.one_line(self.outside.source)}: {runs}>", *lines])


def _is_open(row: Mapping[Any, Any]) -> bool:
    return row["verdict"] == verdict.INCONCLUSIVE and not row["obstacle"] and not row["counted"]


CHIPS = {
    phrases.HELPS: verdict.SUPPORTED,
    phrases.HURTS: verdict.REFUTED,
    phrases.SAME: verdict.EQUIVALENT,
    phrases.OPEN: verdict.INCONCLUSIVE,
}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class _Forest:
    """The forest plot in a unit of its own; it is drawn in percentage points, and the unit is put in their place."""

    unit: str
    narrow: bool = False

    def draw(self, data: pd.DataFrame) -> Figure:
        figure = forest.draw(data, narrow=self.narrow)
        if self.unit == "percentage points":
            return figure
        from matplotlib.text import Text

        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_text(self._named(text.get_text()))
        for axes in figure.axes:
            for place in axes.patches:
                place.set_label(self._named(str(place.get_label())))
        return figure

    def describe(self, data: pd.DataFrame) -> str:
        return self._named(
            forest.describe(data).replace("in percentage points (pp)", f"in {self.unit or 'its own unit'}")
        )

    def _named(self, text: str) -> str:
        if self.unit == "percentage points":
            return text
        text = text.replace(", percentage points", f", {self.unit}" if self.unit else "")
        return text.replace(" pp [", " [").removesuffix(" pp").replace(" pp,", ",")
