"""What is said of where the variance comes from."""

from __future__ import annotations

import pandas as pd

from cifar_ablations.ablations.purposes import EVERYTHING
from cifar_ablations.reports.inference.variance import COLUMNS, IMAGES, PAIRED, TOGETHER
from cifar_ablations.reports.wording import origins

SHARES = {"order": (0.2, 0.1, 0.5), "weights": (0.6, 0.3, 2.4), TOGETHER: (0.8, 0.5, 3.0), IMAGES: (0.1, 0.05, 0.2)}


def _table(**shares):
    rows = [{"purpose": EVERYTHING, "title": "everything", "arm": "full", "n": 10, "variance": 1e-4, "sd": 0.01}]
    for purpose, (share, low, high) in {**SHARES, **shares}.items():
        row = {"purpose": purpose, "title": f"the {purpose}", "share": share, "share_low": low, "share_high": high}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


NO_PAIRS = pd.DataFrame(columns=PAIRED)


def test_the_largest_purpose_comes_first_and_a_share_may_be_above_all_of_it():
    said = " ".join(origins.sentences(_table(), NO_PAIRS))
    assert "Runs of 'full' differ by a standard deviation of 1.00 pp" in said
    assert "the weights 60 % [30, 240]; the order 20 % [10, 50]" in said
    assert "add up to 80 % [50, 300], which the seeds do not tell from all of it" in said
    assert "10 % [5, 20] of it would be there if all runs were equally good" in said


def test_the_sum_is_read_by_its_interval():
    assert "stand in for each other" in " ".join(origins.sentences(_table(together=(3.0, 1.5, 6.0)), NO_PAIRS))
    assert "acting together" in " ".join(origins.sentences(_table(together=(0.3, 0.1, 0.9)), NO_PAIRS))


def test_equal_seeds():
    row = {"arm": "bare", "other": "full", "n": 10, "correlation": 0.3, "removed": -0.2}
    pairs = pd.DataFrame([row | {"removed_low": -0.6, "removed_high": 0.3}], columns=PAIRED)
    assert origins.sentences(_table(), pairs)[-1] == (
        "Equal seeds take −20 % [−60, 30] off the variance of the difference between 'bare' and 'full' (ρ = 0.30)."
    )


def test_nothing_is_said_without_runs():
    assert origins.sentences(pd.DataFrame(columns=COLUMNS), NO_PAIRS) == []
    assert origins.sentences(_table().assign(variance=float("nan")), NO_PAIRS) == []
