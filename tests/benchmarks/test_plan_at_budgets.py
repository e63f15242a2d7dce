"""A plan at several budgets: which settings make them, and what is said of them side by side."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from benchmarks import budgets
from benchmarks.budgets import Budget
from benchmarks.reference import ABOUT, RESULTS
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.reports.wording import phrases, small_budgets


@pytest.mark.parametrize("share", [Fraction(1, 64), Fraction(1, 8), Fraction(1)])
def test_the_settings_of_a_share_make_its_recipe(share: Fraction) -> None:
    recipe, settings = budgets.settings_at(share, "full")
    made = profile("full").apply(catalog.notebook_recipe())
    for setting in settings:
        made = made.set(setting)
    assert made == recipe
    assert recipe.budget.train_images == round(45_000 * share)


def _budget(share: Fraction, images: int, accuracies: dict[str, list[float]]) -> Budget:
    recipe = profile("smoke").apply(catalog.notebook_recipe()).set(f"budget.train_images={images}")
    runs = pd.DataFrame(
        [(arm, seed, value, 0.9, 2.0) for arm, values in accuracies.items() for seed, value in enumerate(values)],
        columns=["arm", "seed", schema.TEST_ACCURACY, schema.TRAIN_ACCURACY, schema.SECONDS],
    )
    plan = SimpleNamespace(arms=[SimpleNamespace(name="a")])
    result: Any = SimpleNamespace(_findings=SimpleNamespace(runs=runs, plan=plan))
    return Budget(share, recipe, result)


def test_what_became_of_verdicts_at_the_largest_budget_is_counted() -> None:
    small = _budget(Fraction(1, 4), 100, {"a": [0.3, 0.31], "b": [0.2, 0.21], "c": [0.1, 0.11]})
    large = _budget(Fraction(1), 400, {"a": [0.6, 0.61], "b": [0.7, 0.71], "c": [0.5, 0.51]})
    said = {
        "1/4": (phrases.HELPS, phrases.HELPS, phrases.HURTS, phrases.OPEN),
        "1": (phrases.HELPS, phrases.HURTS, phrases.OPEN, phrases.HELPS),
    }
    found = pd.DataFrame(
        [(share, f"claim {i}", way) for share, ways in said.items() for i, way in enumerate(ways)],
        columns=["share", "statement", "direction"],
    )
    first, last = budgets.agreement([small, large], found).to_dict("records")
    assert (first["decided"], first["carried"], first["turned"], first["open_at_the_largest"]) == (3, 1, 1, 1)
    assert first["pairs_alike"] == pytest.approx(2 / 3), "of a, b and c the larger budget turns one pair around"
    assert first["halves_alike"] == pytest.approx(2 / 3)
    assert (last["halves_alike"], last["pairs_alike"], last["carried"]) == (1, 1, 3)
    assert (first["seconds"], first["train_accuracy"], first["diverged"]) == (2.0, 0.9, 0)


def test_arms_are_told_by_name_and_not_by_the_order_of_their_runs() -> None:
    arms = {"a": [0.3, 0.31], "b": [0.2, 0.21], "c": [0.1, 0.11]}
    small, large = _budget(Fraction(1, 4), 100, arms), _budget(Fraction(1), 400, dict(reversed(arms.items())))
    found = pd.DataFrame({"share": ["1/4", "1"], "statement": "claim", "direction": phrases.OPEN})
    assert budgets.agreement([small, large], found)["pairs_alike"].to_list() == [1, 1]


def test_arms_that_diverged_are_in_no_pair_and_end_no_study() -> None:
    """The table could not be made where an arm had converged at the largest budget alone, after hours of training."""
    lost = float("nan")
    small = _budget(Fraction(1, 4), 100, {"a": [0.3, lost], "b": [0.2, 0.21], "c": [lost, lost], "d": [0.1, 0.1]})
    large = _budget(Fraction(1), 400, {"a": [0.6, 0.61], "b": [0.5, 0.51], "c": [0.7, 0.71], "d": [lost, lost]})
    found = pd.DataFrame({"share": ["1/4", "1"], "statement": "claim", "direction": phrases.OPEN})
    first, last = budgets.agreement([small, large], found).to_dict("records")
    assert (first["pairs_alike"], first["arms"], first["diverged"]) == (1, 4, 3)
    assert (last["pairs_alike"], last["diverged"]) == (1, 2)


def test_a_plan_that_does_not_ask_of_techniques_is_refused_before_it_is_trained() -> None:
    for plan in ("techniques", "modern"):
        budgets.check(plan, "quick")
    for plan in ("claims", "notebook", "levels/dropout", "equal-cost/width", "optimizers"):
        with pytest.raises(AblateError, match=f"plan {plan} does not ask of techniques"):
            budgets.check(plan, "quick")


def test_an_effect_without_a_number_is_drawn_as_diverged() -> None:
    row = {"technique": "dropout", "title": "dropout", "where": "on its own", "difference": 0.1, "low": 0, "high": 0.2}
    found = pd.DataFrame([row | {"train_images": 100}, row | {"train_images": 400, "difference": float("nan")}])
    assert "diverged" in budgets.drawn(found).decode()
    assert "diverged" not in budgets.drawn(found[:1]).decode()


def test_what_ablate_plan_says_is_what_the_results_have() -> None:
    folder = RESULTS / budgets.OF_THE_PACKAGE
    if not folder.exists():
        pytest.skip("the study has not been carried out yet")
    found = pd.read_csv(folder / "effects.csv")[list(small_budgets.Verdict._fields)]
    assert list(found.itertuples(index=False, name=None)) == [tuple(one) for one in small_budgets.measured()]
    assert tomllib.loads((folder / ABOUT).read_text(encoding="utf-8"))["network"] == small_budgets.NETWORK
