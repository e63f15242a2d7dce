"""What a page shows beyond its verdicts: the inside of the networks, the gap, and what the networks saw."""

import base64
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import GalleryRecord, PictureRecord, ReasonRecord
from cifar_ablations.reports.figures import gallery, gap, images, theme
from cifar_ablations.reports.inference import mechanisms
from cifar_ablations.reports.pages import plan_page
from tests.reports.conftest import HOSTILE, Writer
from tests.reports.pages.test_plan_page import Parsed


def picture(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), value, np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def kept():
    """Two pipelines that change images, one of them with a hostile name, and one that does not."""
    rows = []
    for first, pipeline, arms in ((0, "augmentation", ("full recipe", "without dropout", "x")), (100, HOSTILE, ("y",))):
        for subject in (0, 1):
            rows += [
                PictureRecord(pipeline, arms, subject, f"class {subject}", epoch, picture(first + 10 * subject + epoch))
                for epoch in range(4)
            ]
    rows += [replace(rows[0], pipeline="", arms=("bare recipe",), epoch=epoch) for epoch in range(4)]
    return GalleryRecord(0, tuple(rows))


def test_the_gallery_leaves_out_what_changes_nothing(kept):
    data = gallery.data(kept)
    assert data["pipeline"].unique().tolist() == ["augmentation", HOSTILE]
    assert data["arms"].unique().tolist() == ["“full recipe” and 2 arms with the same", "“y”"]
    assert len(data) == 16
    assert gallery.data(GalleryRecord()).empty
    assert gallery.data(GalleryRecord(0, kept.images[-4:])).empty


def test_a_gallery_places_its_pictures_pixel_by_pixel(kept):
    data = gallery.data(kept)
    figure = gallery.draw(data)
    for axes, (_, rows) in zip(figure.axes, data.groupby("pipeline", sort=False), strict=True):
        (shown,) = axes.images
        canvas = np.asarray(shown.get_array())
        assert canvas.shape == (2 * 32 + gallery.GAP, 4 * (32 + gallery.GAP) - gallery.GAP + gallery.LEAD, 4)
        for row in rows.to_dict("records"):
            top = row["subject"] * (32 + gallery.GAP)
            left = row["epoch"] * (32 + gallery.GAP) + (gallery.LEAD if row["epoch"] else 0)
            cut = canvas[top : top + 32, left : left + 32]
            assert (cut[..., :3] == images.pixels(row["png"])).all()
            assert (cut[..., 3] == 255).all()
        assert (canvas[..., 3] == 255).sum() == 8 * 32 * 32
    svg = theme.svg(figure, "gallery")
    assert svg == theme.svg(gallery.draw(data), "gallery")
    assert "<script" not in svg.lower()
    assert "class 0 and class 1" in gallery.describe(data)


def test_a_visit_that_was_not_leaves_a_gap(kept):
    rows = tuple(row for row in kept.images if (row.epoch, row.subject) != (2, 0))
    data = gallery.data(GalleryRecord(0, rows))
    (shown,) = gallery.draw(data).axes[0].images
    left = 2 * (32 + gallery.GAP) + gallery.LEAD
    canvas = np.asarray(shown.get_array())
    assert not canvas[:32, left : left + 32].any()
    assert canvas[:32, left + 32 + gallery.GAP :].all(axis=(0, 1))[3]


def test_gap_data(plan, runs):
    data = gap.data(runs, plan).set_index("arm")
    assert list(data.index) == [arm.name for arm in plan.arms]
    expected = runs.groupby("arm")[[schema.TRAIN_ACCURACY, schema.TEST_ACCURACY]].mean() * 100
    np.testing.assert_allclose(data["train"], expected[schema.TRAIN_ACCURACY].reindex(data.index))
    np.testing.assert_allclose(data["test"], expected[schema.TEST_ACCURACY].reindex(data.index))
    assert data.loc["only dropout", "n"] == 5
    assert gap.data(runs.iloc[:0], plan).empty
    for frame in (runs, runs.iloc[:0]):
        found = gap.data(frame, plan)
        assert theme.svg(gap.draw(found), "gap") == theme.svg(gap.draw(found), "gap")
        assert gap.describe(found).startswith("No ") == found.empty


def test_the_inside_of_a_comparison_has_the_interval_of_its_verdicts(plan, runs):
    claims = tuple(replace(claim, mechanism=(schema.ENTROPY,)) for claim in plan.claims)
    runs[schema.ENTROPY] = np.random.default_rng(0).normal(1, 0.1, len(runs))
    table = mechanisms.table(replace(plan, claims=claims), runs)
    assert table.columns.tolist() == mechanisms.COLUMNS
    by_arm = runs[runs["converged"]].pivot(index="seed", columns="arm", values=schema.ENTROPY)
    rows = table[table["metric"] == schema.ENTROPY].set_index(["technique", "comparison"])
    assert rows.index.tolist() == [
        ("dropout", "in the full recipe"),
        ("hostile", "in the full recipe"),
        ("dropout", "on its own"),
    ]
    assert rows["named"].all()
    for key, treatment, control in (
        (("dropout", "in the full recipe"), "full recipe", "without dropout"),
        (("dropout", "on its own"), "only dropout", "bare recipe"),
    ):
        both = [by_arm[name].dropna() for name in (treatment, control)]
        test = stats.ttest_ind(*both, equal_var=False)
        found = rows.loc[key]
        assert found["n"] == min(map(len, both))
        assert found["difference"] == pytest.approx(both[0].mean() - both[1].mean())
        assert (found["low"], found["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
    others = table[~table["named"]]
    assert set(others["metric"]) == {m for m in mechanisms.MEASURED if m in runs} - {schema.ENTROPY}


def test_the_inside_of_a_factorial_is_of_all_its_arms(plan, runs):
    over = (("full recipe", 0.5), ("without dropout", 0.5), ("bare recipe", -1.0))
    claim = replace(plan.claims[0], over=over, treatment="with dropout", control="without dropout, anywhere")
    table = mechanisms.table(replace(plan, claims=(claim,)), runs)
    found = table[table["metric"] == schema.TRAIN_ACCURACY].iloc[0]
    means = runs[runs["converged"]].groupby("arm")[schema.TRAIN_ACCURACY].mean()
    treatment = (means["full recipe"] + means["without dropout"]) / 2
    assert found["n"] == 5, "one seed's bare recipe diverged"
    assert found["treatment"] == pytest.approx(treatment)
    assert found["difference"] == pytest.approx(treatment - means["bare recipe"])


def test_comparisons_in_one_place_are_told_apart_by_their_arms(plan):
    one, other = plan.claims[0], replace(plan.claims[0], treatment="bare recipe")
    labels = [c.label for c in mechanisms.comparisons(replace(plan, claims=(one, other)))]
    assert labels == ["full recipe / without dropout", "bare recipe / without dropout"]
    more = mechanisms.comparisons(replace(plan, claims=(replace(one, beyond=("bare recipe", "only dropout")),)))
    assert more[0].label == "full recipe / without dropout", "the numbers are of these two alone"
    ledger = mechanisms.comparisons(replace(plan, layout="ledger"))
    assert ledger[0].label == "full recipe / without dropout"


@pytest.mark.exhaustive
def test_the_page_sets_claims_beside_what_was_seen(plan, runs, kept, tmp_path):
    reason = ReasonRecord("Because of <noise>", "Author & Author 2014")
    claims = [replace(claim, mechanism=(schema.ENTROPY,)) for claim in plan.claims]
    claims[2] = replace(claims[2], technique=HOSTILE + r' "\d')
    plan = replace(plan, claims=tuple(claims), reasons={"dropout": reason})
    writer = Writer(tmp_path)
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan, gallery=kept)
    for row in runs.to_dict("records"):
        writer.train(experiment, parent, plan, row)
    (path,) = plan_page.write_reports(writer.uri, tmp_path / "pages")
    parsed = Parsed(path.read_text(encoding="utf-8"))
    assert "Because of <noise> Author & Author 2014." in " ".join(parsed.text.split())
    panels = [a for a in parsed.all("details") if a.get("class") == "mechanism"]
    assert len(panels) == 2
    shown = list(parsed.all("image"))
    assert len(shown) == 2, "an image per pipeline that changes anything"
    assert all(a["xlink:href"].startswith("data:image/png") for a in shown)
    table = pd.read_csv(path.with_name(f"{path.stem}-mechanisms.csv"))
    assert table["technique"].unique().tolist() == ["dropout", claims[2].technique]
    assert len(parsed.all("script")) == 1
    grouped = f"/runs?workflowType=machine_learning&viewStateShareKey={schema.GROUPED_VIEW}"
    assert any(a.get("href", "").endswith(grouped) for a in parsed.all("a"))


def test_the_page_says_why_there_are_no_pictures(plan, tmp_path):
    writer = Writer(tmp_path)
    writer.invoke(writer.experiment("first"), plan, gallery=GalleryRecord(error=f"ValueError: {HOSTILE}"))
    (path,) = plan_page.write_reports(writer.uri, tmp_path / "pages")
    assert f"could not be drawn: ValueError: {HOSTILE}" in Parsed(path.read_text(encoding="utf-8")).text
