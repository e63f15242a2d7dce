"""What a paper takes from a store: which invocation it is of, tables whose numbers are the store's, vector figures."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.reports.pages import exporting
from cifar_ablations.reports.wording import tables
from tests.reports.conftest import HOSTILE, Writer, small_plan

pytestmark = pytest.mark.exhaustive


def test_the_newest_invocation_is_taken_and_named(written) -> None:
    said = []
    made = exporting.export(written.uri, "techniques", "csv", tell=said.append)
    assert made.name == "techniques-cifar10-quick.csv"
    assert not any("asked in" in sentence for sentence in said), "there is one question, asked twice"
    table = pd.read_csv(io.BytesIO(made.content)).set_index("arm")
    means = written.runs.groupby("arm")[schema.TEST_ACCURACY].mean()
    np.testing.assert_allclose(table["accuracy"], means[table.index], rtol=1e-7)
    assert set(table["plan_digest"]) == {written.plan.digest}
    assert set(table["data_kind"]) == {"images"}


def test_a_plan_asked_in_several_ways_is_that_of_the_last(tmp_path) -> None:
    writer, plan = Writer(tmp_path), replace(small_plan(), claims=())
    experiment = writer.experiment("techniques")
    for i, overrides in enumerate([(), ("dropout.p=0.3",), ("dropout.p=0.4", "a=b")]):
        asked = replace(plan, overrides=overrides, digest=f"{i:016x}", profile=replace(plan.profile, name=f"p{i}"))
        parent = writer.invoke(experiment, asked, started=[1_000, 90_000, 60_000][i])
    row = {"arm": "full recipe", "seed": 0, "digest": plan.arms[0].digest, "outcome": schema.FINISHED}
    row |= dict.fromkeys(schema.ENDINGS, 0.5)
    writer.train(experiment, parent, plan, row)
    said = []
    made = exporting.export(writer.uri, "techniques", "markdown", tell=said.append)
    assert said == [
        "Plan 'techniques' was asked in 3 ways; this is the newest: cifar10, profile p1, with dropout.p=0.3, "
        "of 1970-01-01 00:01 UTC."
    ]
    assert re.fullmatch(r"techniques-cifar10-p1-[0-9a-f]{6}\.md", made.name)


def test_a_rehearsal_says_so_in_the_table_and_beside_it(written) -> None:
    said = []
    made = exporting.export(written.uri, "notebook", "latex", tell=said.append)
    assert said == [tables.NOTE]
    assert tables.latex(tables.NOTE) in made.content.decode()
    assert "notebook-drawn-shapes-quick" in made.name
    csv = exporting.export(written.uri, "notebook", "csv")
    assert set(pd.read_csv(io.BytesIO(csv.content))["data_kind"]) == {schema.REHEARSAL}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"to": "latx"}, "no format 'latx'; did you mean latex?"),
        ({"to": "svg", "style": "row"}, "no style 'row'; did you mean rows?"),
        ({"to": "csv", "spread": "sd"}, "no spread 'sd'; did you mean std?"),
        ({"to": "pdf", "width": 0.5}, "the width must lie between 3 and 20 inches, not at 0.5"),
        ({"to": "pdf", "width": float("nan")}, "the width must lie between 3 and 20 inches, not at nan"),
        ({"to": "csv", "plan": "ladder"}, "no runs of plan 'ladder' yet; `ablate run ladder` trains them"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(written, asked, said) -> None:
    with pytest.raises(AblateError, match=re.escape(said)):
        exporting.export(written.uri, **({"plan": "techniques"} | asked))


def test_a_plan_whose_runs_have_not_ended_is_a_sentence(tmp_path) -> None:
    writer, plan = Writer(tmp_path), small_plan()
    writer.invoke(writer.experiment("techniques"), plan)
    with pytest.raises(AblateError, match="no run of plan 'techniques' has ended yet"):
        exporting.export(writer.uri, "techniques", "latex")


@pytest.mark.parametrize(("plan", "width"), [("techniques", 3.0), ("techniques", 7.2), ("notebook", 3.3)])
def test_a_figure_is_a_vector_file_of_its_width_without_foreign_fonts(written, plan, width) -> None:
    svg = exporting.export(written.uri, plan, "svg", width=width).content
    root = ElementTree.fromstring(svg)
    assert float(root.get("width").removesuffix("pt")) == pytest.approx(72 * width, abs=0.01)
    assert not list(root.iter("{http://www.w3.org/2000/svg}text")), "letters are drawn"
    assert not list(root.iter("{http://www.w3.org/2000/svg}image"))
    assert exporting.export(written.uri, plan, "svg", width=width).content == svg
    pdf = exporting.export(written.uri, plan, "pdf", width=width).content
    assert pdf.startswith(b"%PDF")
    (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) [\d.]+ ?\]", pdf)
    assert float(box) == pytest.approx(72 * width, abs=0.01)
    assert b"/FontFile2" in pdf, "TrueType, as submission systems want it"
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf


def test_nothing_is_written_over_anything_at_a_columns_width(written) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    from cifar_ablations.reports.pages import findings
    from cifar_ablations.reports.reading import load

    known = load.invocations(written.uri)
    of_plan = next(one for one in known if one.digest == written.plan.digest)
    figure = exporting._figure(findings.of_invocation(load.connect(written.uri), of_plan, known), 3.3)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    unseen = {
        label
        for axes in figure.axes
        for label in axes.get_xticklabels()
        if not axes.get_xlim()[0] <= label.get_position()[0] <= axes.get_xlim()[1]
    }
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in unseen]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in shown]
    assert len(boxes) > 10
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 - 1 <= box.x0, shown[i]
        assert box.x1 <= figure.bbox.x1 + 1, shown[i]
        for j in range(i):
            assert not box.padded(-1).overlaps(boxes[j].padded(-1)), (shown[i], shown[j])


def test_names_out_of_the_store_are_harmless_in_every_table(written) -> None:
    for to in ("latex", "markdown", "csv"):
        for style in ("rows", "statements"):
            text = exporting.export(written.uri, "techniques", to, style=style).content.decode()
            assert style == "statements" or "cript" in text
            if to == "markdown":
                assert HOSTILE not in text
            if to == "latex":
                assert "<" not in text.replace("\\textless{}", "")
