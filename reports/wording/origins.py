"""Where the variance between runs comes from, in sentences."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from cifar_ablations.ablations.purposes import EVERYTHING
from cifar_ablations.reports.inference.variance import IMAGES, LEAST_SEEDS, TOGETHER
from cifar_ablations.reports.wording import phrases

Row = Mapping[Hashable, Any]
BEYOND = float("inf")


def sentences(table: pd.DataFrame, pairing: pd.DataFrame) -> list[str]:
    """What `variance.table` and `variance.pairing` of `reports.inference` say, as far as there are runs."""
    rows = {row["purpose"]: row for row in table.to_dict("records")}
    if not any(row["n"] for row in rows.values()):
        return []
    whole, together, images = (rows.pop(name) for name in (EVERYTHING, TOGETHER, IMAGES))
    if not whole["variance"] > 0:
        return [_nothing_to_split(whole)]
    said = [
        f"Runs of '{whole['arm']}' differ by a standard deviation of {phrases.percent(whole['sd'])} pp "
        f"{phrases.std_interval(whole['sd_low'], whole['sd_high'])} in test accuracy, "
        f"over {phrases.count(whole['n'], 'seed')}."
    ]
    known = sorted((row for row in rows.values() if _has(row, "share")), key=lambda row: -row["share"])
    if known:
        parts = [f"{row['title']} {share(row)}" for row in known]
        said.append(
            f"Drawn anew alone, beside one draw of all else, each makes of that variance: {'; '.join(parts)}. "
            "Each has the test images' part in it."
        )
    if _has(together, "share"):
        said.append(f"With that part counted once, these add up to {share(together)}{_meaning(together)}.")
    if _has(images, "share"):
        said.append(_of_images(images))
    if lacking := [row["title"] for row in rows.values() if not _has(row, "share")]:
        said.append(
            f"A share takes {LEAST_SEEDS} seeds of which the runs of both arms have a test accuracy: "
            f"there are fewer for {phrases.listing(lacking)}."
        )
    return [*said, *filter(None, map(_paired, pairing.to_dict("records")))]


def share(row: Row, name: str = "share") -> str:
    """A share of a variance with its interval, such as '62 % [25, 155]'; it may be above all of it."""
    limits = phrases.interval(row[f"{name}_low"], row[f"{name}_high"], digits=0, most=BEYOND)
    return f"{phrases.percent(row[name], 0)} %{' ' if limits else ''}{limits}"


def _has(row: Row, name: str) -> bool:
    return not math.isnan(row[name])


def _nothing_to_split(whole: Row) -> str:
    """Why nothing is said of an arm's variance: it has none, or too few runs."""
    if whole["n"] > 1:
        return f"All {whole['n']} runs of '{whole['arm']}' have the same test accuracy: there is no variance to split."
    runs = "Only 1 run" if whole["n"] else "No run"
    return (
        f"{runs} of '{whole['arm']}', which draws everything anew, has a test accuracy: "
        "where the variance comes from cannot be told."
    )


def _meaning(together: Row) -> str:
    if together["share_low"] > 1:
        return ": purposes stand in for each other, any one of them sends a training another way"
    if together["share_high"] < 1:
        return ": the rest comes of purposes acting together"
    return ", which the seeds do not tell from all of it"


def _of_images(images: Row) -> str:
    """How much the test images make; where it may be all, only how little it may be."""
    if images["share"] < 1:
        part = share(images)
    else:
        limit = images["share_low"]
        part = "All" if math.isnan(limit) else f"All (at least {phrases.percent(limit, 0)} %)"
    return f"{part} of it would be there if all runs were equally good: each errs on other test images."


def _paired(row: Row) -> str:
    """What equal seeds do for a difference; empty where its runs do not vary."""
    arms = f"'{row['arm']}' and '{row['other']}'"
    if row["n"] < LEAST_SEEDS:
        return (
            f"What equal seeds take off the variance of the difference between {arms} is told from {LEAST_SEEDS} seeds "
            f"on; {row['n'] or 'none'} {'have' if row['n'] > 1 else 'has'} a test accuracy in both."
        )
    if not _has(row, "removed"):
        return ""
    took = (
        f"take {share(row, 'removed')} off" if row["removed"] > 0 else "removed nothing, as far as these seeds tell, of"
    )
    return (
        f"Equal seeds {took} the variance of the difference between {arms} (ρ = {phrases.number(row['correlation'])})."
    )
