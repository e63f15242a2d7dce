"""The answer's picture: the effect of each technique with its interval, its numbers and its verdict in a word."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import contrast, verdict
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

COLUMNS = [
    *("metric", "where", "label", "claim", "kind", "seed"),
    *("effect", "low", "high", "margin", "verdict", "direction", "word", "compared"),
]
MARKERS = {phrases.HELPS: "o", phrases.HURTS: "s", phrases.SAME: "D", phrases.OPEN: "o"}
"""The mark of an effect by the way it goes; that of an open one is hollow."""
NARROW = 3.3
"""Inches: a column of a paper, or the screen of a phone."""
LINE = 0.198
"""Height of a line, in inches."""
WIDE_TEXT, NARROW_TEXT = 9.0, 9.8
"""Points. A phone shows the narrow figure at less than its width."""
MOST_SEEDS = 500
"""Of a claim, that can be shown while one points at it; more would be megabytes that nobody can tell apart."""
NARROW_LETTERS = 39
"""Of a name and its numbers on one line of the narrow figure."""


def data(verdicts: pd.DataFrame, plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """Per claim on a share with an estimate a row of kind 'effect', then one of kind 'seed' per seed; columns COLUMNS.

    verdicts: of `verdict.judge`, a row per claim of the plan; `claim` is its place there. Effects, limits and the
    margin are in percentage points, and limits end where a difference can be no larger. The effect of a seed is its
    own difference between the two sides of the claim. `direction` is of `phrases.direction`, `word` the same in a
    word, and `compared` is how many runs were: '6 + 6', or '6' of pairs.
    """
    rows: list[dict[str, Any]] = []
    for place, (claim, row) in enumerate(zip(plan.claims, verdicts.to_dict("records"), strict=True)):
        if pd.isna(row["difference"]) or pd.isna(row["margin"]):
            continue
        both = f"{row['treatment_n']} + {row['control_n']}"
        about = {
            "metric": row["metric"],
            "where": phrases.place(row),
            "label": phrases.subject(plan, row),
            "claim": place,
            "margin": 100 * row["margin"],
            "verdict": row["verdict"],
            "direction": phrases.direction(row),
            "word": _word(row),
            "compared": both if plan.rule.test == "welch t" else f"{row['n']}",
        }
        low, high = max(row["low"], -row["reach"]), min(row["high"], row["reach"])
        limits = {"low": 100 * low, "high": 100 * high}
        rows.append({**about, "kind": "effect", "seed": -1, "effect": 100 * row["difference"], **limits})
        sides = contrast.sides(claim, runs)
        by_seed = (100 * (sides.treatment - sides.control)).dropna()
        rows += [{**about, "kind": "seed", "seed": seed, "effect": effect} for seed, effect in by_seed.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _word(row: phrases.Row) -> str:
    """Which way, in a word. Of a metric other than test accuracy, whether more of it helps is for the reader."""
    way = phrases.direction(row)
    if way in (phrases.SAME, phrases.OPEN):
        return way
    if row["counted"]:
        return f"{'more' if way == phrases.HURTS else 'fewer'} diverge"
    if row["allowed"]:
        return "no loss" if row["verdict"] == verdict.SUPPORTED else "loss"
    if row["metric"] == schema.TEST_ACCURACY:
        return way
    return "raises" if phrases.raises(row) else "lowers"


def draw(data: pd.DataFrame, narrow: bool = False) -> Figure:
    """An axes per metric, a block per place, a line per technique with its numbers beside it.

    narrow: for a phone or a column of a paper, with the name and the numbers above each interval.
    """
    width = NARROW if narrow else theme.WIDTH
    with theme.styled():
        effects = data[data["kind"] == "effect"]
        if effects.empty:
            return theme.nothing("no comparison has a run of both arms yet", width)
        metrics = list(effects["metric"].unique())
        lines = [_lines(effects[effects["metric"] == name], narrow) for name in metrics]
        heights = [of_metric[-1]["y"] + 1.2 for of_metric in lines]
        figure = theme.new_figure(width, LINE * sum(heights) + 0.42 * len(metrics))
        panels = figure.subplots(len(metrics), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, name, of_metric in zip(panels, metrics, lines, strict=True):
            _panel(axes, of_metric, data[data["metric"] == name], narrow)
    return figure


def _lines(rows: pd.DataFrame, narrow: bool) -> list[dict[Any, Any]]:
    """Headings and rows of `data` from the top down: `y`, the line that they are on, and `name` and `numbers` in words.

    `names` are the lines that stand above a row, of which there are none where the figure is wide.
    """
    fine = ((rows["high"] - rows["low"]) / 2).median() < 0.5
    lines: list[dict[Any, Any]] = []
    y = -1
    for where, of_place in rows.groupby("where", sort=False):
        y += 1
        lines.append({"y": y, "heading": phrases.sentence_case(str(where))})
        for row in of_place.to_dict("records"):
            numbers = _numbers(row, 2 if fine else 1, "" if narrow else " pp")
            name = phrases.sentence_case(row["label"].removeprefix("the "))
            names = textwrap.wrap(name, max(NARROW_LETTERS - len(numbers), 12)) if narrow else []
            y += len(names) + 1
            lines.append({**row, "y": y, "name": name, "names": names, "numbers": numbers})
    return lines


def _numbers(row: phrases.Row, digits: int, unit: str) -> str:
    """'+2.1 pp [0.9, 3.3]'"""
    effect = f"{phrases.number(row['effect'], digits, signed=True)}{unit}"
    if not row["low"] < row["high"]:
        return effect
    return f"{effect} [{phrases.number(row['low'], digits)}, {phrases.number(row['high'], digits)}]"


def _panel(axes: Axes, lines: list[dict[Any, Any]], data: pd.DataFrame, narrow: bool) -> None:
    rows = [line for line in lines if "heading" not in line]
    left, right = _limits(data)
    axes.set_xlim(left, right)
    axes.set_ylim(lines[-1]["y"] + 0.6, -0.6)
    axes.locator_params(axis="x", nbins=5 if narrow else 9)
    axes.spines["left"].set_visible(False)
    axes.axvspan(-data["margin"].max(), data["margin"].max(), color=theme.BAND, lw=0, zorder=0.5)
    axes.axvline(0, color=theme.INK, lw=0.9, zorder=1)
    title = phrases.metric_title(rows[0]["metric"])
    if narrow:
        axes.set_yticks([])
        axes.tick_params(axis="x", labelsize=NARROW_TEXT)
        axes.set_xlabel(f"{title.removeprefix('the ')}, percentage points", fontsize=NARROW_TEXT)
        _write_above(axes, lines)
    else:
        axes.set_yticks([row["y"] for row in rows], [row["name"] for row in rows], fontsize=WIDE_TEXT)
        axes.set_xlabel(f"difference in {title}, percentage points", labelpad=2)
        _write_beside(axes, lines)
    for row in rows:
        _interval(axes, row, left, right)
    for row in rows:
        _seeds(axes, row, data[(data["claim"] == row["claim"]) & (data["kind"] == "seed")])


def _write_beside(axes: Axes, lines: list[dict[Any, Any]]) -> None:
    """Headings above the names, and a column at the right for each of `columns`."""
    columns = {"numbers": "effect and interval", "compared": "runs", "word": "verdict"}
    at_edge = axes.get_yaxis_transform()
    beside: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline", "xycoords": at_edge}
    for line in lines:
        if "heading" in line:
            named: dict[str, Any] = {"ha": "right", "weight": "bold", "fontsize": WIDE_TEXT}
            axes.annotate(line["heading"], (0, line["y"]), (-7, 0), **beside, **named)
    rows = [line for line in lines if "heading" not in line]
    place = 12.0
    for column, title in columns.items():
        axes.annotate(title, (1, lines[0]["y"]), (place, 0), **beside, fontsize=8.5, color=theme.MUTED)
        for row in rows:
            axes.annotate(row[column], (1, row["y"]), (place, 0), **beside, fontsize=WIDE_TEXT)
        place += 0.58 * WIDE_TEXT * max(len(title), *(len(row[column]) for row in rows)) + 10


def _write_above(axes: Axes, lines: list[dict[Any, Any]]) -> None:
    """The name and the numbers of a row above it, and the verdict and the runs at its right."""
    whole = _from_edge_to_edge(axes)
    text: dict[str, Any] = {"fontsize": NARROW_TEXT, "va": "center_baseline"}
    above = text | {"transform": whole, "in_layout": False}
    clear = {"facecolor": theme.PAPER, "lw": 0, "pad": 1.5}  # of the lines that a name would stand across
    for line in lines:
        if "heading" in line:
            axes.text(0.02, line["y"], line["heading"], weight="bold", bbox=clear, **above)
            continue
        top = line["y"] - len(line["names"])
        for i, name in enumerate(line["names"]):
            axes.text(0.02, top + i, name, bbox=clear, **above)
        axes.text(0.98, top, line["numbers"], ha="right", **above)
        said, beside = f"{line['word']}, {line['compared']}", axes.get_yaxis_transform()
        axes.annotate(said, (1, line["y"]), (8, 0), xycoords=beside, textcoords="offset points", **text)


def _from_edge_to_edge(axes: Axes) -> Transform:
    """Across the whole figure, at a height that the axes give."""
    from matplotlib.transforms import blended_transform_factory

    return blended_transform_factory(axes.figure.transFigure, axes.transData)


def _interval(axes: Axes, row: phrases.Row, left: float, right: float) -> None:
    hollow, known = row["direction"] == phrases.OPEN, row["low"] < row["high"]
    colour = theme.MUTED if hollow else theme.INK
    ends = [row["low"], row["effect"], row["high"]] if known else [row["effect"]]
    axes.plot(
        ends,
        [row["y"]] * len(ends),
        marker=MARKERS[row["direction"]],
        markevery=[1] if known else None,
        color=colour,
        mfc=theme.PAPER if hollow else colour,
        ms=6,
        mew=1.4,
        solid_capstyle="butt",
    )
    for arrow, end, beyond in (("<", left, row["low"] < left), (">", right, row["high"] > right)):
        if beyond:
            axes.plot(end, row["y"], arrow, color=colour, ms=6, clip_on=False)


def _seeds(axes: Axes, row: phrases.Row, seeds: pd.DataFrame) -> None:
    """A place to point at, as large as the row, and the row's seeds, which a page shows while one points there.

    They have one `zorder`, so that they are neighbours in the SVG. Nothing of them is seen in print or in a file. Of
    more than MOST_SEEDS there is the place alone.
    """
    from matplotlib.patches import Rectangle

    corner, height = (0, row["y"] - len(row["names"]) - 0.5), len(row["names"]) + 1
    place = Rectangle(corner, 1, height, transform=_from_edge_to_edge(axes), fill=False)
    place.set(gid=f"{theme.TARGET}{row['claim']}", label=_said(row), lw=0, zorder=4, clip_on=False, in_layout=False)
    axes.add_patch(place)
    if len(seeds) > MOST_SEEDS:
        return
    dots: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 4.5, "color": theme.ACCENT, "alpha": 0, "zorder": 4}
    axes.plot(seeds["effect"], [row["y"] + 0.26] * len(seeds), gid=f"seeds-{row['claim']}", **dots)


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Wide enough for zero, the band, every estimate, every seed and the usual interval: a huge one must not hide all.

    rows: of `data`, all of a metric.
    """
    low, high = (rows[limit].fillna(rows["effect"]) for limit in ("low", "high"))
    half = ((rows["high"] - rows["low"]) / 2).median()
    usual, margin = (0.0 if pd.isna(half) else 2.5 * half), rows["margin"].max()
    left = max(min(rows["effect"].min() - usual, -margin), min(low.min(), -margin))
    right = min(max(rows["effect"].max() + usual, margin), max(high.max(), margin))
    edge = 0.04 * (right - left)
    return left - edge, right + edge


def _said(row: phrases.Row) -> str:
    return (
        f"{row['label']} on {phrases.metric_title(row['metric'])} {row['where']}: "
        f"{_numbers(row, 2, ' pp')}, runs {row['compared']}, {row['word']}"
    )


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    effects = data[data["kind"] == "effect"]
    if effects.empty:
        return "No comparison has a run of both arms yet."
    said = "; ".join(_said(row) for row in effects.to_dict("records"))
    return f"Effects in percentage points (pp) with their intervals. {said}."
