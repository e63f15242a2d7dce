"""What the store already says about a plan that is not finished, or not even begun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablations import schema
from reports import contrast, load, statistics, verdict


def undecided_claims(tracking_uri: str, plan: Mapping[str, Any]) -> int:
    """How many claims of a plan (as logged) the runs in the store leave inconclusive."""
    client = load.connect(tracking_uri)
    runs = load.with_epochs_to_target(client, load.runs_of(client, plan), plan)
    verdicts = verdict.judge(plan, runs)
    return 0 if verdicts.empty else int((verdicts["verdict"] == verdict.INCONCLUSIVE).sum())


def pilot_spreads(tracking_uri: str, plan: Mapping[str, Any]) -> dict[str, float]:
    """Per claim on test accuracy, the upper 95 % χ² limit of the standard deviation of its paired differences.

    From all seeds that the store has both sides of, planned or not; claims with fewer than two are left out.
    """
    client = load.connect(tracking_uri)
    runs = load.runs_of(client, {**plan, "seeds": None})
    spreads = {}
    for claim in plan["claims"]:
        if claim["metric"] != schema.TEST_ACCURACY:
            continue
        sides = contrast.sides(claim, runs)
        found = statistics.mean_interval(statistics.differences(sides.treatment, sides.control).to_numpy())
        limit = statistics.upper_limit_of_sd(found.std, found.n)
        if limit > 0:
            spreads[claim["statement"]] = limit
    return spreads
