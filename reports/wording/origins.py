"""Where the variance between runs comes from, in sentences."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from cifar_ablations.ablations.purposes import EVERYTHING
from cifar_ablations.reports.inference.variance import IMAGES, TOGETHER
from cifar_ablations.reports.wording import phrases

Row = Mapping[Hashable, Any]
BEYOND = float("inf")


def sentences(table: pd.DataFrame, pairing: pd.DataFrame) -> list[str]:
    """What `variance.table` and `variance.pairing` of `reports.inference` say, as far as there are runs."""
    rows = {row["purpose"]: row for row in table.to_dict("records")}
    whole = rows.pop(EVERYTHING, None)
    if whole is None or not whole["variance"] > 0:
        return []
    together, images = rows.pop(TOGETHER), rows.pop(IMAGES)
    said = [
        f"Runs of '{whole['arm']}' differ by a standard deviation of {phrases.percent(whole['sd'])} pp "
        f"{phrases.std_interval(whole['sd_low'], whole['sd_high'])} in test accuracy, "
        f"over {phrases.count(whole['n'], 'seed')}."
    ]
    known = sorted((row for row in rows.values() if row["share"] == row["share"]), key=lambda row: -row["share"])
    if known:
        parts = [f"{row['title']} {share(row)}" for row in known]
        said.append(f"Drawn anew alone, beside one draw of all else, each makes of that variance: {'; '.join(parts)}.")
    if together["share"] == together["share"]:
        said.append(f"These add up to {share(together)}{_meaning(together)}; the test images have a part in each.")
    if images["share"] == images["share"]:
        said.append(
            f"{share(images)} of it would be there if all runs were equally good: each errs on other test images."
        )
    return said + [_paired(row) for row in pairing.to_dict("records") if row["removed"] == row["removed"]]


def share(row: Row, name: str = "share") -> str:
    """A share of a variance with its interval, such as '62 % [25, 155]'; it may be above all of it."""
    limits = phrases.interval(row[f"{name}_low"], row[f"{name}_high"], digits=0, most=BEYOND)
    return f"{phrases.percent(row[name], 0)} %{' ' if limits else ''}{limits}"


def _meaning(together: Row) -> str:
    if together["share_low"] > 1:
        return ": purposes stand in for each other, any one of them sends a training another way"
    if together["share_high"] < 1:
        return ": the rest comes of purposes acting together"
    return ", which the seeds do not tell from all of it"


def _paired(row: Row) -> str:
    return (
        f"Equal seeds take {share(row, 'removed')} off the variance of the difference between '{row['arm']}' and "
        f"'{row['other']}' (ρ = {phrases.number(row['correlation'])})."
    )
