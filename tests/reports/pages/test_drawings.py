"""Which figures a page has, and the frames that they draw."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import GalleryRecord
from cifar_ablations.reports.figures import forest, theme
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.pages import drawings


def found(plan, runs, **more):
    """What `drawings.of_plan` needs of a page's findings."""
    curves = pd.DataFrame(
        [
            {"arm": row["arm"], "seed": row["seed"], "epoch": 1, "metric": schema.TRAIN_LOSS, "value": 1.0}
            for row in runs.to_dict("records")
        ],
        columns=["arm", "seed", "epoch", "metric", "value"],
    )
    return SimpleNamespace(
        plan=plan,
        runs=runs,
        curves=curves,
        verdicts=verdict.judge(plan, runs),
        arrays={},
        gallery=GalleryRecord(),
        variance=pd.DataFrame({"variance": [], "purpose": []}),
        contributions={},
        **more,
    )


def explained(plan):
    return replace(plan, claims=tuple(replace(claim, mechanism=(schema.ENTROPY,)) for claim in plan.claims))


def test_the_forest_is_about_test_accuracy_and_another_about_the_rest(plan, runs):
    figures = drawings.of_plan(found(explained(plan), runs))
    assert list(figures) == [
        *("curves", "seeds", "forest", "forest_narrow", "forest_others"),
        *("paired", "gap", "mechanism-1", "mechanism-2"),
    ]
    about = {name: set(data["metric"]) for name, (_, data) in figures.items() if name.startswith("forest")}
    accuracy = {schema.TEST_ACCURACY}
    others = {schema.GENERALISATION_GAP}
    assert about == {"forest": accuracy, "forest_narrow": accuracy, "forest_others": others}
    only_gap = replace(plan, claims=plan.claims[1:2])
    figures = drawings.of_plan(found(only_gap, runs))
    assert set(figures["forest"][1]["metric"]) == {schema.GENERALISATION_GAP}
    assert "forest_others" not in figures


def test_the_narrow_forest_is_narrow_and_says_the_same(plan, runs):
    figures = drawings.of_plan(found(plan, runs))
    (room, data), (wide, _) = figures["forest_narrow"], figures["forest"]
    assert room.draw(data).get_size_inches()[0] == forest.NARROW
    assert wide.draw(data).get_size_inches()[0] == theme.WIDTH
    assert room.describe(data) == wide.describe(data)


def test_a_ledger_and_a_plan_without_claims_have_no_forest(plan, runs):
    for other in (replace(plan, layout="ledger"), replace(plan, claims=())):
        assert not any(name.startswith("forest") for name in drawings.of_plan(found(other, runs)))


@pytest.mark.parametrize("seeds", [6, 0])
def test_the_frames_are_what_the_figures_draw_each_row_once(plan, runs, seeds):
    figures = drawings.of_plan(found(explained(plan), runs[runs["seed"] < seeds]))
    frames = drawings.frames(figures)
    drawn = {name: len(data) for name, (_, data) in figures.items()}
    expected = {
        "curves": drawn["curves"],
        "seeds": drawn["seeds"],
        "forest": drawn["forest"] + drawn.get("forest_others", 0),
        **{name: drawn[name] for name in ("paired", "gap") if name in drawn},
        **({"mechanism": drawn["mechanism-1"] + drawn["mechanism-2"]} if seeds else {}),
    }
    assert {name: len(frame) for name, frame in frames.items()} == expected
    for name, frame in frames.items():
        assert frame.index.tolist() == list(range(len(frame)))
        assert frame.columns.is_unique, name
        pd.testing.assert_index_equal(frame.columns, figures.get(name, figures.get(f"{name}-1"))[1].columns)
