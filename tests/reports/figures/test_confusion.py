"""The confusion matrix of many classes: those that are mistaken most are drawn, others have no empty cells."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.reports.figures import confusion
from cifar_ablations.reports.reading import details


def _frame(matrix: np.ndarray) -> pd.DataFrame:
    classes = [f"class {i}" for i in range(len(matrix))]
    plan: Any = SimpleNamespace(arms=[SimpleNamespace(name="arm")], data=SimpleNamespace(classes=classes))
    runs = pd.DataFrame({"arm": ["arm"], "run_id": ["r"]})
    return confusion.data({"r": {details.CONFUSION: matrix}}, runs, plan)


@pytest.mark.parametrize("classes", [2, confusion.MOST])
def test_of_few_classes_every_pair_has_a_row_and_a_cell(classes: int) -> None:
    data = _frame(np.eye(classes, dtype=np.int64))
    assert len(data) == classes**2
    (axes, *_) = confusion.draw(data).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"class {i}" for i in range(classes)]
    assert not axes.get_title("left")


def test_of_many_classes_those_with_the_most_mistakes_are_drawn() -> None:
    matrix = np.diag(np.full(3_000, 5))
    mistaken = np.arange(40, 40 + confusion.MOST - 1)
    matrix[mistaken, 2_999] = 2 + np.arange(len(mistaken))
    matrix[7, 8] = 1
    matrix[40, 40] = 0  # nothing is taken for it
    data = _frame(matrix)
    assert len(data) == 3_000 + len(mistaken)
    assert data["count"].sum() == matrix.sum()
    row = data[(data["truth"] == "class 41") & (data["answer"] == "class 2999")].iloc[0]
    assert (row["count"], row["share"]) == (3, 3 / 8)
    (axes, *_) = confusion.draw(data).axes
    drawn = [label.get_text() for label in axes.get_yticklabels()]
    assert drawn == [*(f"class {i}" for i in mistaken), "class 2999"]
    assert axes.get_title("left") == "The 30 of 3,000 classes with the most mistakes"
    assert "class 40 taken for class 2999 100" in confusion.describe(data)


def test_of_many_classes_all_answers_may_be_right() -> None:
    data = _frame(np.eye(50, dtype=np.int64))
    (axes, *_) = confusion.draw(data).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"class {i}" for i in range(confusion.MOST)]
    assert confusion.describe(data).endswith("Most common mistakes: none.")
