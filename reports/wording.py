"""Numbers and verdicts in words: the one place that decides how a report speaks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ablations.metrics import metric

# A row of a frame, by column.
Row = Mapping[Any, Any]

SCOPE = "for this model, budget and test set"


def metric_title(name: str) -> str:
    """What a metric is called in the middle of a sentence."""
    return metric(name).title


def where(claim: Mapping[str, Any]) -> str:
    """What surrounds the technique in a claim, such as 'in the full recipe': the family without its metric."""
    return claim["family"].removeprefix(metric_title(claim["metric"])).strip()


def technique_title(plan: Mapping[str, Any], technique: str) -> str:
    """What a technique is called in the middle of a sentence."""
    return plan.get("titles", {}).get(technique, technique.replace("_", " "))


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


def interval(low: float, high: float, digits: int = 2) -> str:
    """Two fractions as percentage points in brackets; nothing for NaN."""
    if pd.isna(low) or pd.isna(high):
        return ""
    return f"[{number(100 * low, digits)}, {number(100 * high, digits)}]"


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
    found = metric(name)
    return " pp" if found.share else (f" {found.unit}" if found.unit else "")


def difference(name: str, value: float) -> str:
    """A difference of two values of a metric, signed and with its unit."""
    return (points(value) if metric(name).share else significant(value, signed=True)) + unit(name)


def limits(name: str, low: float, high: float) -> str:
    """An interval of differences of a metric, in brackets, without the unit; nothing for NaN."""
    if metric(name).share or pd.isna(low) or pd.isna(high):
        return interval(low, high)
    return f"[{significant(low)}, {significant(high)}]"


def spread(name: str, mean: float, std: float) -> str:
    """'mean ± std' of a metric; the mean alone where one seed has no spread."""
    return amount(name, mean) if math.isnan(std) else f"{amount(name, mean)} ± {amount(name, std)}"


def effect(row: Row) -> str:
    """The estimate and its interval, '+0.42 pp [0.28, 0.56]'."""
    name = row["metric"]
    return f"{difference(name, row['difference'])} {limits(name, row['low'], row['high'])}".rstrip()


def count(n: int, what: str) -> str:
    """'1 seed', '15 seeds'."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def verdict_label(row: Row) -> str:
    """The verdict in capitals, with what qualifies it."""
    return row["verdict"].upper() + (", real but negligible" if row["negligible"] else "")


def verdict_sentence(row: Row) -> str:
    """A row of `verdict.judge` as one sentence: verdict, numbers, and what they hold for."""
    label, found = verdict_label(row), f"{effect(row)}, {count(row['n'], 'paired seed')}"
    if row["verdict"] in ("supported", "refuted"):
        against = "" if row["verdict"] == "supported" else f" (the claim says {'+' if row['sign'] > 0 else '−'})"
        if row["allowed"]:
            against = (
                f" ({'no' if row['verdict'] == 'supported' else 'a'} loss of more than {100 * row['margin']:g} pp)"
            )
        return f"{label}{against}: {found}, Holm p {p_value(row['p_holm'])}; {SCOPE}."
    if row["verdict"] == "equivalent":
        within = margin(row["margin"])
        return f"{label} within {within} (not 'no effect'): {found}, Holm p {p_value(row['tost_p_holm'])}; {SCOPE}."
    if row["reason"]:
        return f"{label}: {row['reason']}."
    return f"{label}: {found}; {resolution(row)}."


def detectable(name: str, value: float) -> str:
    """A detectable difference of a metric, without the unit; of shares, more than 100 points cannot happen."""
    return "over 100" if metric(name).share and value > 1 else amount(name, value)


def resolution(row: Row) -> str:
    """What the seeds of a comparison can and cannot find, at the upper limit of the spread they show."""
    if pd.isna(row["margin"]):
        return f"detectable at this n: {detectable(row['metric'], row['detectable'])}{unit(row['metric'])}"
    matters = f"{100 * row['margin']:g} pp"
    needed = row["seeds_needed"]
    how_many: str = "more than 10,000" if pd.isna(needed) else f"about {int(needed):,}"
    found = detectable(row["metric"], row["detectable"])
    return f"detectable at this n: {found} pp; {how_many} seeds needed for {matters}"


def finding(row: Row) -> str:
    """A row of `verdict.judge` as a clause about 'it', the technique."""
    place, what = f"{row['where']} it " if row["where"] else "it ", metric_title(row["metric"])
    if row["allowed"] and row["verdict"] in ("supported", "refuted"):
        kept = "keeps" if row["verdict"] == "supported" else "does not keep"
        return f"{place}{kept} {what} within {100 * row['margin']:g} pp of a loss: {effect(row)}"
    if row["verdict"] in ("supported", "refuted"):
        against = ", against the claim" if row["verdict"] == "refuted" else ""
        little = ", too little to matter" if row["negligible"] else ""
        verb = "raises" if row["difference"] > 0 else "lowers"
        return f"{place}{verb} {what}: {effect(row)}{against}{little}"
    if row["verdict"] == "equivalent":
        return f"{place}leaves {what} within {margin(row['margin'])}: {effect(row)}"
    if row["reason"]:
        return f"{place}has no answer yet on {what}: {row['reason']}"
    # An interval clear of zero beside "inconclusive" would look like a mistake.
    corrected = "" if row["low"] <= 0 <= row["high"] else f", p {p_value(row['p_holm'])} after Holm's correction"
    return f"{place}has an unresolved effect on {what}: {effect(row)}{corrected}"


def duration(seconds: float) -> str:
    """Seconds in the unit a person would use."""
    if math.isnan(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


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
