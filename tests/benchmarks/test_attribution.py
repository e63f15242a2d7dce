"""Where points come from: groups of what was changed, their combinations, and values that add up to the gain."""

from __future__ import annotations

import sys
from itertools import permutations
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import attribution, budgets, luck, reference
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plans.tuned import NOTEBOOK, TUNED

NOTEBOOKS = catalog.notebook_recipe()
FOUND = NOTEBOOKS.set("optimizer=muon").set("learning_rate=×0.3").set("dropout=off").set("label_smoothing=on")


def test_a_rate_goes_with_its_optimizer_and_nothing_else_together() -> None:
    groups = attribution.groups_of(FOUND, NOTEBOOKS)
    assert groups == {
        "optimizer": ("optimizer", "learning_rate"),
        "dropout": ("dropout",),
        "label_smoothing": ("label_smoothing",),
    }
    alone = attribution.groups_of(NOTEBOOKS.set("learning_rate=×0.3"), NOTEBOOKS)
    assert alone == {"learning_rate": ("learning_rate",)}, "the optimizer is the notebook's"


@pytest.mark.parametrize(("removed", "count"), [(False, 8), (True, 5)])
def test_combinations_lie_between_the_two_recipes(removed: bool, count: int) -> None:
    groups = attribution.groups_of(FOUND, NOTEBOOKS)
    arms = attribution.arms_of(FOUND, NOTEBOOKS, groups, removed)
    assert len(arms) == len(set(arms.values())) == count
    assert arms[frozenset()] == NOTEBOOKS
    assert arms[frozenset(groups)] == FOUND
    names = [attribution.named(used, groups) for used in arms]
    assert (names[0], names[-1]) == (NOTEBOOK, TUNED)
    assert len(set(names)) == count
    without = arms[frozenset({"dropout", "label_smoothing"})]
    assert without == FOUND.set("optimizer=on").set("learning_rate=off")


def test_shapley_values_are_means_over_all_orders_and_add_up_to_the_gain() -> None:
    groups = ("a", "b", "c")
    used = [frozenset(x for x, on in zip(groups, bits, strict=True) if on) for bits in np.ndindex(2, 2, 2)]
    values = np.random.default_rng(0).normal(0.5, 0.1, (8, 4))
    accuracies = pd.DataFrame(values, index=pd.Index(used, dtype=object), columns=range(4))
    found = attribution.table(accuracies, groups).set_index("group")
    place = {one: i for i, one in enumerate(used)}
    by_hand = {name: np.zeros(4) for name in groups}
    for order in permutations(groups):
        before = frozenset[str]()
        for name in order:
            by_hand[name] += (values[place[before | {name}]] - values[place[before]]) / 6
            before |= {name}
    for name in groups:
        expected = stats.t.interval(0.95, 3, by_hand[name].mean(), stats.sem(by_hand[name]))
        assert tuple(found.loc[name, ["shapley_low", "shapley_high"]]) == pytest.approx(expected)
    assert found["shapley"][list(groups)].sum() == pytest.approx(found["shapley"]["all together"])
    assert found["last"]["a"] == pytest.approx(
        (values[place[frozenset("abc")]] - values[place[frozenset("bc")]]).mean()
    )


def test_a_seed_that_lacks_a_run_is_left_out_and_without_all_combinations_there_are_no_shapley_values() -> None:
    used = [frozenset[str](), frozenset("a"), frozenset("b"), frozenset("ab")]
    accuracies = pd.DataFrame({0: [0.1, 0.2, 0.3, 0.5], 1: [0.1, np.nan, 0.3, 0.5], 2: [0.1, 0.3, 0.3, 0.5]})
    accuracies.index = pd.Index(used, dtype=object)
    found = attribution.table(accuracies, ("a", "b")).set_index("group")
    assert set(found["seeds"]) == {2}
    assert found["first"]["a"] == pytest.approx(0.15)
    text = attribution.drawn(found.reset_index()).decode()
    assert all(words in text for words in (*attribution.WAYS.values(), "percentage points"))
    fewer = attribution.table(accuracies.drop(index=[used[1]]), ("a", "b")).set_index("group")
    assert set(fewer["seeds"]) == {3}
    assert fewer["shapley"].isna().all()
    assert fewer["last"]["a"] == pytest.approx(0.2)
    text = attribution.drawn(fewer.reset_index()).decode()
    assert attribution.WAYS["shapley"] not in text
    with pytest.raises(AblateError, match="every seed"):
        attribution.table(accuracies[[1]], ("a", "b"))


@pytest.mark.parametrize("program", [attribution, budgets, luck])
def test_what_cannot_be_is_said_without_a_traceback(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--data", "synthetic"])
    monkeypatch.setattr(reference, "load", lambda source, folder: SimpleNamespace(stand_in=True))
    with pytest.raises(SystemExit) as stopped:
        program.main()
    assert stopped.value.code == 2
    assert "real images" in capsys.readouterr().err
