"""What is said of where the variance comes from."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from cifar_ablations.ablations.purposes import EVERYTHING
from cifar_ablations.reports.inference.variance import COLUMNS, IMAGES, PAIRED, TOGETHER
from cifar_ablations.reports.wording import origins

SHARES = {"order": (0.2, 0.1, 0.5), "weights": (0.6, 0.3, 2.4), TOGETHER: (0.8, 0.5, 3.0), IMAGES: (0.1, 0.05, 0.2)}


UNKNOWN = (math.nan,) * 3


def _table(n=10, variance=1e-4, **shares):
    sd = math.sqrt(variance)
    rows = [{"purpose": EVERYTHING, "title": "everything", "arm": "full", "n": n, "variance": variance, "sd": sd}]
    for purpose, (share, low, high) in {**SHARES, **shares}.items():
        row = {"purpose": purpose, "title": f"the {purpose}", "share": share, "share_low": low, "share_high": high}
        rows.append(row | {"n": 10})
    return pd.DataFrame(rows, columns=COLUMNS)


NO_PAIRS = pd.DataFrame(columns=PAIRED)


def test_the_largest_purpose_comes_first_and_a_share_may_be_above_all_of_it():
    said = " ".join(origins.sentences(_table(), NO_PAIRS))
    assert "Runs of 'full' differ by a standard deviation of 1.00 pp" in said
    assert "the weights 60 % [30, 240]; the order 20 % [10, 50]" in said
    assert "Each has the test images' part in it. With that part counted once, these add up to 80 % [50, 300]" in said
    assert "[50, 300], which the seeds do not tell from all of it" in said
    assert "10 % [5, 20] of it would be there if all runs were equally good" in said
    assert "A share takes" not in said


def test_the_sum_is_read_by_its_interval():
    assert "stand in for each other" in " ".join(origins.sentences(_table(together=(3.0, 1.5, 6.0)), NO_PAIRS))
    assert "acting together" in " ".join(origins.sentences(_table(together=(0.3, 0.1, 0.9)), NO_PAIRS))


def test_nothing_is_concluded_from_a_sum_without_the_part_of_the_test_images():
    said = " ".join(origins.sentences(_table(**{TOGETHER: UNKNOWN, IMAGES: UNKNOWN}), NO_PAIRS))
    assert "the weights 60 % [30, 240]" in said
    assert "add up" not in said
    assert "equally good" not in said


@pytest.mark.parametrize(
    ("limits", "words"),
    [((1.0, 0.6, 1.0), "All (at least 60 %) of it would be there"), ((1.0, math.nan, math.nan), "All of it would be")],
)
def test_test_images_make_all_of_it_at_most(limits, words):
    assert any(said.startswith(words) for said in origins.sentences(_table(**{IMAGES: limits}), NO_PAIRS))


def test_purposes_without_a_share_are_named():
    said = origins.sentences(_table(order=UNKNOWN, **{TOGETHER: UNKNOWN}), NO_PAIRS)
    assert said[-1] == (
        "A share takes 4 seeds of which the runs of both arms have a test accuracy: there are fewer for the order."
    )
    assert "the order" not in " ".join(said[:-1])
    none = origins.sentences(_table(n=3, **dict.fromkeys(SHARES, UNKNOWN)), NO_PAIRS)
    assert len(none) == 2
    assert none[1].endswith("there are fewer for the order and the weights.")


@pytest.mark.parametrize(("n", "runs"), [(0, "No run"), (1, "Only 1 run")])
def test_an_arm_that_diverged_leaves_nothing_to_split(n, runs):
    assert origins.sentences(_table(n=n, variance=math.nan, **dict.fromkeys(SHARES, UNKNOWN)), NO_PAIRS) == [
        f"{runs} of 'full', which draws everything anew, has a test accuracy: "
        "where the variance comes from cannot be told."
    ]


def test_runs_that_are_all_alike():
    assert origins.sentences(_table(variance=0.0), NO_PAIRS) == [
        "All 10 runs of 'full' have the same test accuracy: there is no variance to split."
    ]


def _pair(n=10, correlation=0.3, removed=(0.2, -0.3, 0.6)):
    limits = dict(zip(("removed", "removed_low", "removed_high"), removed, strict=True))
    row = {"arm": "bare", "other": "full", "n": n, "correlation": correlation, **limits}
    return origins.sentences(_table(), pd.DataFrame([row], columns=PAIRED))[-1]


def test_equal_seeds():
    difference = "the variance of the difference between 'bare' and 'full'"
    assert _pair() == f"Equal seeds take 20 % [−30, 60] off {difference} (ρ = 0.30)."
    assert _pair(correlation=-0.39, removed=(-0.39, -0.7, 0.1)) == (
        f"Equal seeds removed nothing, as far as these seeds tell, of {difference} (ρ = −0.39)."
    )
    few = f"What equal seeds take off {difference} is told from 4 seeds on; "
    assert _pair(3, math.nan, UNKNOWN) == f"{few}3 have a test accuracy in both."
    assert _pair(1, math.nan, UNKNOWN) == f"{few}1 has a test accuracy in both."
    assert "qual seeds" not in _pair(10, math.nan, UNKNOWN), "an arm whose runs are all alike"


def test_nothing_is_said_without_runs():
    assert origins.sentences(pd.DataFrame(columns=COLUMNS), NO_PAIRS) == []
    assert origins.sentences(_table().assign(n=0, variance=math.nan), NO_PAIRS) == []
