"""What `ablate plan` says of small budgets: which verdicts of the reference study a larger budget took back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.record import DataRecord
from cifar_ablations.reports.wording import phrases, small_budgets
from cifar_ablations.reports.wording.small_budgets import Verdict

FULL, ALONE = "in the full recipe", "on its own"
WAYS = {  # at 100, 400 and 1,600 images
    ("dropout", FULL): (phrases.HURTS, phrases.OPEN, phrases.HELPS),
    ("dropout", ALONE): (phrases.HURTS, phrases.HURTS, phrases.HURTS),
    ("optimizer", FULL): (phrases.HELPS, phrases.HELPS, phrases.HELPS),
    ("schedule", FULL): (phrases.HELPS, phrases.SAME, phrases.OPEN),
}
KNOWN = [
    Verdict(images, technique, {"optimizer": "Adam"}.get(technique, technique), where, ways[place])
    for place, images in enumerate((100, 400, 1_600))
    for (technique, where), ways in WAYS.items()
]
ALL = {"dropout", "optimizer", "schedule"}


@pytest.mark.parametrize(
    ("techniques", "images", "words"),
    [
        (
            ALL,
            150,
            "In the reference study, which removes each of the notebook's techniques and adds each alone, 2 of 4 "
            "verdicts on these at 100 training images held at 1,600; turned around: dropout in the full recipe; not "
            "decided there: schedule in the full recipe.",
        ),
        (ALL, 75, "2 of 4 verdicts on these at 100 training images"),
        (ALL, 3, ""),
        (ALL, 300, "2 of 2 verdicts on these at 400 training images held at 1,600."),
        ({"dropout"}, 400, "1 of 1 verdict on these at 400"),
        (ALL, 1_600, ""),
        (ALL, 50_000, ""),
        ({"schedule"}, 400, ""),
        ({"mixup"}, 100, ""),
    ],
)
def test_what_held_turned_or_was_lost_is_said(techniques: set[str], images: int, words: str) -> None:
    said = small_budgets.said(techniques, images, KNOWN)
    assert words in said
    assert bool(said) == bool(words)


def test_without_a_study_nothing_is_said() -> None:
    assert small_budgets.said(ALL, 100, ()) == ""


def test_of_another_network_or_other_images_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_budgets, "measured", lambda: tuple(KNOWN))
    size, images = profile("quick"), tuple(sorted(small_budgets.CLASSES))

    def of(data: DataRecord, *settings: str) -> str:
        baseline = size.apply(catalog.notebook_recipe())
        for setting in ("budget.train_images=150", *settings):
            baseline = baseline.set(setting)
        return small_budgets.of_plan(catalog.make_plan("techniques", baseline, size, (0, 1)).record(size, data))

    cifar = DataRecord("cifar10", "aa", classes=images)
    assert "2 of 4 verdicts" in of(cifar)
    assert of(cifar, "model.name=resnet9") == ""
    assert of(replace(cifar, stand_in=True)) == ""
    assert of(replace(cifar, classes=("cat", "dog"))) == ""


def test_the_study_comes_with_the_package() -> None:
    known = small_budgets.measured()
    assert len({one.train_images for one in known}) >= 4
    assert {one.technique for one in known} <= {*catalog.techniques(), "everything"}
    assert {one.direction for one in known} <= {phrases.HELPS, phrases.HURTS, phrases.SAME, phrases.OPEN}
    assert small_budgets.said({"dropout", "optimizer"}, 2_000)
