"""Numbers and verdicts in words: the one place that decides how a report speaks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.designs import ALL
from cifar_ablations.ablations.discovery import setting_title
from cifar_ablations.ablations.durations import duration as duration
from cifar_ablations.ablations.record import DataRecord, PlanRecord
from cifar_ablations.ablations.schema import REHEARSAL
from cifar_ablations.reports.inference import contrast, verdict
from cifar_ablations.reports.reading.outside import OutsideMetric, metric

# A row of a frame, by column.
Row = Mapping[Any, Any]

NOTHING_FINDABLE = "nothing this plan could find"
"""In place of an effect that would have to be larger than the metric allows."""


def data_line(data: DataRecord, budget: str) -> str:
    """The data set in a line: its name, digest, number of classes and of training images, as far as the store says it.

    budget: in words, as a plan (or a search) has it.
    """
    parts = [data.name, REHEARSAL] if data.stand_in else [data.name]
    parts += [f"digest {data.digest}"] if data.digest else []
    parts += [count(len(data.classes), "class", "classes")] if data.classes else []
    images = re.search(r"[\d,]+ training images", budget)
    parts += [images[0]] if images else []
    return ", ".join(parts)


def scope(plan: PlanRecord, arms: Sequence[str] = ()) -> str:
    """The budget that the named arms (or all) were trained with: 'in 12 epochs on 4,000 images'.

    Where arms have different shares of the images, the steps that they have in common stand in place of the epochs.
    'at this budget' where a store does not say.
    """
    knobs = [arm.knobs for arm in plan.arms if not arms or arm.name in arms]
    known = [k for k in knobs if "budget.epochs" in k and "budget.train_images" in k]
    if not known:
        match = re.search(r"([\d,]+) training images.* (\d+) epochs", plan.budget)
        return f"in {count(int(match[2]), 'epoch')} on {match[1]} images" if match else "at this budget"
    shares = [float(k.get("data_size.share", 1.0)) for k in known]
    epochs = [max(1, round(k["budget.epochs"] * float(k.get("training_length.factor", 1.0)))) for k in known]
    images = [max(1, round(k["budget.train_images"] * share)) for k, share in zip(known, shares, strict=True)]
    if set(shares) == {1.0}:
        spent = _from_to(epochs, "epoch")
    else:
        batches = [-(-k["budget.train_images"] // k.get("budget.batch_size", 1)) for k in known]
        steps = [count * each for count, each in zip(epochs, batches, strict=True)]
        spent = f"about {_from_to(steps, 'step')}"
    return f"in {spent} on {_from_to(images, 'image')}"


def _from_to(values: Sequence[int], what: str) -> str:
    low, high = min(values), max(values)
    return f"{low:,} {what}{'' if low == 1 else 's'}" if low == high else f"{low:,} to {high:,} {what}s"


def metric_title(name: str) -> str:
    """The title of a metric, for the middle of a sentence."""
    return metric(name).title


ONE_FOR_ALL = {"optimizer": "Adam", "initialisation": "Kaiming initialisation"}
"""What 0.1.0 called these techniques at every level, though it is the name of one."""


def technique_title(plan: PlanRecord, technique: str) -> str:
    """What a technique is called as a plan has it set, for the middle of a sentence, such as 'dropout (p = 0.37)'."""
    if technique == ALL:
        return "everything together"
    title = plan.titles.get(technique, technique.replace("_", " "))
    first = plan.arms[0]
    if title != ONE_FOR_ALL.get(technique) or first.levels.get(technique, "on") in ("on", "off"):
        return title
    owner = f"{technique}."
    knobs = tuple((name.removeprefix(owner), value) for name, value in first.knobs.items() if name.startswith(owner))
    return setting_title(technique, knobs) or title


def sentence_case(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def listing(items: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """A fixed-point number with a true minus sign, or a dash for NaN."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def points(fraction: float, digits: int = 2) -> str:
    """A difference of fractions as signed percentage points, without the unit."""
    return number(100 * fraction, digits, signed=True)


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction as per cent, without the unit."""
    return number(100 * fraction, digits)


def interval(low: float, high: float, digits: int = 2, least: float = -1.0, most: float = 1.0) -> str:
    """Two fractions as percentage points in brackets, cut off at the least and the most possible; nothing for NaN.

    By default those of a difference of two shares.
    """
    if pd.isna(low) or pd.isna(high):
        return ""
    low, high = (min(max(limit, least), most) for limit in (low, high))
    return f"[{number(100 * low, digits)}, {number(100 * high, digits)}]"


def share_interval(low: float, high: float, digits: int = 2) -> str:
    """The limits of a share or of a mean of shares, as per cent in brackets; nothing for NaN."""
    return interval(low, high, digits, least=0.0)


def std_interval(low: float, high: float) -> str:
    """The limits of a standard deviation of shares, of which none is above 50 points; nothing for NaN."""
    return interval(low, high, least=0.0, most=0.5)


def mean_and_std(mean: float, std: float) -> str:
    """Two fractions as per cent, 'mean ± std'; the mean alone where one seed has no spread."""
    return percent(mean) if math.isnan(std) else f"{percent(mean)} ± {percent(std)}"


def p_value(p: float) -> str:
    """'= .012', '< .001' or a dash: what follows the letter p."""
    if math.isnan(p):
        return "–"
    if p < 0.001:
        return "< .001"
    text = f"{p:.3f}"
    return "= 1" if text == "1.000" else f"= {text.removeprefix('0')}"


def margin(fraction: float) -> str:
    """The equivalence margin, '±0.25 pp'."""
    return f"±{100 * fraction:g} pp"


def size(name: str, value: float) -> str:
    """A difference of a metric that somebody chose, such as a margin, with its unit: '0.25 pp', '0.02'."""
    return f"{100 * value if metric(name).share else value:g}{unit(name)}"


def decides(name: str) -> bool:
    """Whether more or less of a metric is what counts as help or harm: of test accuracy, or what a person named."""
    return name == schema.TEST_ACCURACY or isinstance(metric(name), OutsideMetric)


def significant(value: float, signed: bool = False) -> str:
    """A number with three significant digits, or fewer decimals where it is large."""
    if value is None or not math.isfinite(value):
        return "–"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return number(value, min(max(digits, 0), 6), signed)


def amount(name: str, value: float) -> str:
    """A metric's value in the unit a person reads it in, without the unit."""
    return percent(value) if metric(name).share else significant(value)


def unit(name: str) -> str:
    """The unit of a metric's differences, with a space before it; nothing for a plain number."""
    about = metric(name)
    return " pp" if about.share else (f" {about.unit}" if about.unit else "")


def difference(name: str, value: float) -> str:
    """A difference of two values of a metric, signed and with its unit."""
    if pd.isna(value):
        return "–"
    return (points(value) if metric(name).share else significant(value, signed=True)) + unit(name)


def limits(name: str, low: float, high: float, reach: float = 1.0) -> str:
    """An interval of differences of a metric, in brackets, without the unit; nothing for NaN.

    reach: how large a difference of shares can be, above 1 for a difference of differences.
    """
    if pd.isna(low) or pd.isna(high) or math.isinf(low) or math.isinf(high):
        return ""
    if metric(name).share:
        return interval(low, high, least=-reach, most=reach)
    return f"[{significant(low)}, {significant(high)}]"


def spread(name: str, mean: float, std: float) -> str:
    """'mean ± std' of a metric; the mean alone where one seed has no spread."""
    return amount(name, mean) if math.isnan(std) else f"{amount(name, mean)} ± {amount(name, std)}"


def effect(row: Row) -> str:
    """The estimate and its interval, '+0.42 pp [0.28, 0.56]', with the interval's level where that is not 95 %."""
    name, level = row["metric"], 100 * row["confidence"]
    within = limits(name, row["low"], row["high"], row["reach"])
    level_said = "" if abs(level - 95) < 0.05 or not within else f" ({level:.3g} %)"
    return f"{difference(name, row['difference'])} {within}".rstrip() + level_said


def count(n: int, what: str, many: str = "") -> str:
    """'1 seed', '15 seeds'; `many` where the plural is another word with more than an s."""
    return f"{n} {what if n == 1 else many or f'{what}s'}"


LABELS = {
    verdict.SUPPORTED: "supported",
    verdict.REFUTED: "opposite found",
    verdict.EQUIVALENT: "equivalent",
    verdict.INCONCLUSIVE: "open",
}
"""What came of a claim, for a reader who does not see the claim."""

HELPS, HURTS, SAME, OPEN = "helps", "hurts", "same", "open"
DECIDED = HELPS, HURTS


def direction(row: Row) -> str:
    """Which way a technique acts by its claim's verdict: HELPS, HURTS, SAME or OPEN."""
    if row["verdict"] == verdict.INCONCLUSIVE:
        return OPEN
    if row["verdict"] == verdict.EQUIVALENT:
        return SAME
    if row["counted"]:
        return HURTS if row["treatment_diverged"] > row["control_diverged"] else HELPS
    better = metric(row["metric"]).better or 1
    return HELPS if raises(row) == (better > 0) else HURTS


def outcome(row: Row) -> str:
    """What came of a claim in a word or two that say which way: 'helps', 'lowers', 'same within 1 pp', 'open'.

    Test accuracy is helped or hurt, and so is a metric that a person named; others are raised or lowered, and whether
    that helps is for the reader.
    """
    way = direction(row)
    if way == OPEN:
        words = OPEN
    elif way == SAME:
        words = f"same within {size(row['metric'], row['margin'])}"
    elif row["counted"]:
        words = "more diverge" if way == HURTS else "fewer diverge"
    elif row["allowed"]:
        words = f"loses {'at most' if row['verdict'] == verdict.SUPPORTED else 'over'} {100 * row['margin']:g} pp"
    elif decides(row["metric"]):
        words = way
    else:
        words = "raises" if raises(row) else "lowers"
    return words + (REHEARSED if row["rehearsal"] else "")


REHEARSED = " · rehearsal"


def verdict_label(row: Row) -> str:
    """The verdict on a claim as it is worded, and whether it is a rehearsal."""
    return LABELS[row["verdict"]] + (REHEARSED if row["rehearsal"] else "")


def place(row: Row) -> str:
    """Where a claim holds, such as 'in the full recipe'; nothing where its subject says so itself."""
    return "" if row["where"].startswith("at level ") else row["where"]


def subject(plan: PlanRecord, row: Row) -> str:
    """What a claim is about, for the middle of a sentence: a technique, or one of its levels among others."""
    if row["where"].startswith("at level "):
        return str(row["treatment"])
    if row["technique"] == ALL:
        return f"{row['treatment']} against {row['control']}"
    return technique_title(plan, row["technique"])


def runs_compared(row: Row) -> str:
    """The runs with a number on both sides: '5 against 5 runs', '4 of 5 against 5 of 5 runs' where some lack it."""
    sides = [(row[f"{side}_n"], row[f"{side}_ended"]) for side in ("treatment", "control")]
    if all(n == ended for n, ended in sides):
        return f"{sides[0][0]} against {count(sides[1][0], 'run')}"
    return " against ".join(f"{n} of {ended}" for n, ended in sides) + " runs"


def diverged(row: Row) -> str:
    """'1 of 5 runs diverged, against 0 of 5'; nothing where none did."""
    if not row["treatment_diverged"] and not row["control_diverged"]:
        return ""
    said = f"{row['treatment_diverged']} of {count(row['treatment_ended'], 'run')} diverged"
    return f"{said}, against {row['control_diverged']} of {row['control_ended']}"


def at_look(row: Row) -> str:
    """'decided after 5 seeds', where a look decided before the last seeds; nothing else."""
    early = row["verdict"] != "inconclusive" and not pd.isna(row["look"]) and row["look"] < row["seeds"]
    return f"decided after {int(row['look'])} seeds" if early else ""


def evidence(row: Row) -> str:
    """The numbers that a verdict rests on: the effect and its runs, or how many runs diverged; and at which look."""
    if row["counted"]:
        return "; ".join(filter(None, [diverged(row), at_look(row)]))
    return "; ".join(filter(None, [f"{effect(row)}, {runs_compared(row)}", diverged(row), at_look(row)]))


def with_sentences(plan: PlanRecord, verdicts: pd.DataFrame, holds: str = "") -> pd.DataFrame:
    """The frame of `verdict.judge` in words, which other phrases ask for.

    `scope` is what a claim's arms were trained with, or `holds` where that is not known, `obstacle` the reason in
    words, and `sentence` all of it in one.
    """
    if verdicts.empty:
        return verdicts
    judged = verdicts.assign(
        scope=[holds or scope(plan, list(contrast.weights(claim))) for claim in plan.claims],
        obstacle=[_obstacle(row, plan.rule.looks) for row in verdicts.to_dict("records")],
    )
    return judged.assign(sentence=[verdict_sentence(row) for row in judged.to_dict("records")])


def _obstacle(row: Row, looks: Sequence[int]) -> str:
    """Why a row of `verdict.judge` cannot be decided; nothing where it is a matter of the size of its effect."""
    left = diverged(row) or f"{runs_compared(row)} have the metric"
    match row["reason"]:
        case verdict.TOO_FEW:
            return f"too few seeds for verdicts ({row['planned']})"
        case verdict.NOT_REACHED:
            return f"the first look, at {looks[0]} seeds, has not been reached"
        case verdict.UNFINISHED:
            ended = f"{row['treatment_ended']} against {row['control_ended']}"
            return f"runs are missing ({ended} have ended)"
        case verdict.NOTHING_LEFT:
            return f"no runs to compare: {left}"
        case verdict.FEW_LEFT:
            return f"too few runs to compare: {left}"
        case verdict.LOST:
            return f"{left}, and a side that lost runs is not called better, whatever the others show"
        case verdict.NO_SPREAD:
            same = difference(row["metric"], row["difference"])
            return f"the difference is {same} and nothing varies over {runs_compared(row)}, so no test applies"
    return ""


def exaggeration(row: Row) -> str:
    """How much too large an effect of the shrunken size looks where it is found; nothing where that is little."""
    times = row.get("exaggeration", math.nan)
    if row["counted"] or not times >= 1.05:
        return ""
    said = f"{times:.1f} times" if times < 10 else "more than 10 times"
    shrunken = difference(row["metric"], row["shrunken"])
    return f"; shrunken {shrunken}, as such an effect looks {said} too large where it is found"


def verdict_sentence(row: Row) -> str:
    """A row of `with_sentences` as one sentence: verdict, numbers, and what they hold for."""
    undirected = not row["sign"] and row["verdict"] == verdict.SUPPORTED  # that it differs says less than which way
    label, numbers = sentence_case(outcome(row) if undirected else verdict_label(row)), evidence(row)
    holds = row["scope"] + (f"; {REHEARSAL}" if row["rehearsal"] else "")
    if row["verdict"] in (verdict.SUPPORTED, verdict.REFUTED):
        against = "" if row["verdict"] == verdict.SUPPORTED else f" (the claim says {'+' if row['sign'] > 0 else '−'})"
        if row["allowed"]:
            loss = "no loss" if row["verdict"] == verdict.SUPPORTED else "a loss"
            against = f" ({loss} of more than {100 * row['margin']:g} pp)"
        return f"{label}{against}: {numbers}, page p {p_value(row['p_page'])}; {holds}{exaggeration(row)}."
    if row["verdict"] == verdict.EQUIVALENT:
        within = f"±{size(row['metric'], row['margin'])}"
        return f"{label} within {within} (not 'no effect'): {numbers}, page p {p_value(row['tost_p_page'])}; {holds}."
    if row["obstacle"]:
        return f"{label}: {row['obstacle']}{f'; {REHEARSAL}' if row['rehearsal'] else ''}."
    return f"{label}: {numbers}, {holds}{'' if row['counted'] else f'; {resolution(row)}'}."


def findable(row: Row) -> bool:
    """Whether a change that the seeds of a comparison would find is one that can happen. NaN can not."""
    return bool(row["detectable"] <= row["possible"])


def detectable(row: Row) -> str:
    """The change that the seeds of a comparison would find, without the unit; a dash where it is not known."""
    if pd.isna(row["detectable"]) or findable(row):
        return amount(row["metric"], row["detectable"])
    return NOTHING_FINDABLE


def changes(name: str, values: Sequence[float], possible: Sequence[float], what: str) -> tuple[str, str]:
    """Of what size differences of a metric are, 'typically 2.10 pp (1.00 to 3.00 pp)', of those that can happen.

    possible: the largest that can, value by value. Second, how many cannot, 'for 2 of 9 claims nothing this plan could
    find', where `what` is 'claim'. Either is empty where there is nothing to say; 'typically' only where all can
    happen.
    """
    can = sorted(value for value, most in zip(values, possible, strict=True) if value <= most)
    cannot = len(values) - len(can)
    beyond = f"for {cannot} of {count(len(values), what)} {NOTHING_FINDABLE}" if cannot else ""
    if not can:
        return "", beyond
    low, typical, high = (amount(name, value) for value in (can[0], median(can), can[-1]))
    ranging = "" if low == high else f"{low} to {high}{unit(name)}"
    if cannot:
        return ranging or f"{low}{unit(name)}", beyond
    return f"typically {typical}{unit(name)}{f' ({ranging})' if ranging else ''}", beyond


def resolution(row: Row) -> str:
    """The effect that so many seeds would find, and the seeds that an effect of the margin's size needs.

    Both four times out of five, with the page's correction, as `verdict.judge` has them.
    """
    if pd.isna(row["detectable"]):
        return "what these seeds could find is not known"
    findable_effect = f"detectable at this n: {detectable(row)}{unit(row['metric']) if findable(row) else ''}"
    if pd.isna(row["margin"]):
        return findable_effect
    needed = row["seeds_needed"]
    how_many: str = "more than 10,000" if pd.isna(needed) else f"about {int(needed):,}"
    return f"{findable_effect}; {how_many} seeds needed for {size(row['metric'], row['margin'])}"


def raises(row: Row) -> bool:
    """Whether a decided claim found more of its metric with the technique."""
    if row["allowed"] or not row["sign"]:
        return bool(row["difference"] > 0)
    return bool((row["sign"] > 0) == (row["verdict"] == "supported"))


def looks_taken(planned: Sequence[int], taken: Sequence[int], undecided: int) -> str:
    """Which of the planned looks were taken, and whether they were enough."""
    counts = listing([f"{look}" for look in planned])
    if not taken:
        return f"Looks are planned after {counts} seeds; none has been taken yet."
    were = "the first was" if len(taken) == 1 else f"{len(taken)} were"
    done = f"Of the looks planned after {counts} seeds, {were} taken"
    if not undecided:
        return f"{done}: every claim is decided."
    open_ones = f"{count(undecided, 'claim')} {'is' if undecided == 1 else 'are'} open"
    return f"{done}: {open_ones}{' at the last' if len(taken) == len(planned) else ', so training goes on'}."


def epochs(value: float) -> str:
    """A median number of epochs; 'never' where it is infinite."""
    return "never" if math.isinf(value) else number(value, 1)
