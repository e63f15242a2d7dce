"""A rehearsal on drawn images is called one wherever a result could be read, and what was trained on stands first."""

from __future__ import annotations

import re
import zipfile
from dataclasses import replace

import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import ArmRecord, BaselineRecord, DataRecord, ProfileRecord, SearchRecord
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.pages import compare_page, index_page, plan_page
from cifar_ablations.reports.reading import load, searches
from cifar_ablations.reports.wording import phrases
from tests.reports.conftest import Writer, planted_runs, small_plan
from tests.reports.pages.test_plan_page import Parsed

pytestmark = pytest.mark.exhaustive

TERM = "rehearsal on drawn images"


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """The small plan on drawn images; one invocation says so in its plan, and one, older, in its tags alone."""
    folder = tmp_path_factory.mktemp("rehearsed")
    writer, plan = Writer(folder), small_plan()
    plan = replace(plan, data=replace(plan.data, name="synthetic", stand_in=True))
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan, started=1_000)
    for row in planted_runs(plan).to_dict("records"):
        writer.train(experiment, parent, plan, row)
    return writer


@pytest.fixture(scope="module")
def pages(rehearsed, tmp_path_factory):
    (path,) = plan_page.write_reports(rehearsed.uri, tmp_path_factory.mktemp("pages"))
    return path


def test_the_page_says_it_everywhere(pages):
    html = pages.read_text(encoding="utf-8")
    text = Parsed(html).text
    assert TERM in re.search(r"<title>(.*?)</title>", html)[1]
    assert TERM in re.search(r'<p class="eyebrow data">(.*?)</p>', html)[1]
    assert re.search(r'<p class="headline"><strong>Rehearsal on drawn images.</strong>', html)
    chips = re.findall(r'<span class="chip \w+">(.*?)</span>', html)
    assert chips
    assert all(chip.endswith(" · rehearsal") for chip in chips)
    tooltips = [a["title"] for a in Parsed(html).all("span") if "title" in a]
    assert tooltips
    assert all(TERM in sentence for sentence in tooltips)
    assert "ablate data cifar10 downloads that" in text
    assert "ablate data cifar10 --from PATH" in text
    assert "stand-in" not in text.lower()


@pytest.mark.parametrize("kind", ["supported", "refuted", "equivalent", "inconclusive"])
def test_every_kind_of_verdict_says_it(plan, runs, kind):
    plan = replace(plan, data=replace(plan.data, stand_in=True))
    row = phrases.with_sentences(plan, verdict.judge(plan, runs)).iloc[0].to_dict()
    row |= {"verdict": kind}
    assert phrases.verdict_label(row).startswith(phrases.LABELS[kind])
    assert phrases.verdict_label(row).endswith(" · rehearsal")
    assert f"in 3 epochs on 5,000 images; {TERM}" in phrases.verdict_sentence(row)
    if kind == "inconclusive":
        assert phrases.verdict_sentence(row | {"obstacle": "no runs"}) == f"Open · rehearsal: no runs; {TERM}."
    row["rehearsal"] = False
    assert "rehearsal" not in phrases.verdict_sentence(row)


def test_every_file_says_it(pages):
    files = sorted(pages.parent.glob(f"{pages.stem}-*"))
    kinds = {path.suffix for path in files}
    assert kinds == {".csv", ".parquet", ".md", ".tex", ".zip"}
    for path in files:
        if path.suffix == ".csv":
            assert set(pd.read_csv(path)["data_kind"]) == {TERM}, path.name
        elif path.suffix == ".parquet":
            assert set(pd.read_parquet(path)["data_kind"]) == {TERM}
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    assert set(pd.read_csv(archive.open(name))["data_kind"]) == {TERM}, name
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
            said = [line for line in lines if line.lower().lstrip("*% ").startswith(TERM)]
            assert len(said) == 1, path.name
            assert lines[0] == said[0]
            assert all("rehearsal" in line for line in lines if "dropout moves" in line)
    tex = next(path for path in files if path.suffix == ".tex").read_text(encoding="utf-8")
    assert tex.startswith("% ")
    assert r"\multicolumn{5}{l}{Rehearsal on drawn images: nothing here is a result on photographs.} \\" in tex
    assert tex.count("rule") == 4


def test_files_of_real_images_say_so_too(written, tmp_path):
    (path,) = plan_page.write_reports(written.uri, tmp_path, plan="techniques")
    for csv in path.parent.glob(f"{path.stem}-*.csv"):
        assert set(pd.read_csv(csv)["data_kind"]) == {"images"}
    for suffix in (".md", ".tex"):
        assert "ehearsal" not in path.with_name(f"{path.stem}-verdicts{suffix}").read_text(encoding="utf-8")


def test_the_index_and_a_comparison_say_it(rehearsed, written, pages):
    index = index_page.write_index(rehearsed.uri, pages.parent).read_text(encoding="utf-8")
    assert f'<span class="under">{TERM}</span>' in index
    one, other = compare_page.side("techniques", rehearsed.uri), compare_page.side("techniques", written.uri)
    compared = compare_page.compare(one, other)
    html = compare_page.write_comparison(compared, pages.parent / "compared").read_text(encoding="utf-8")
    assert TERM in re.search(r"<title>(.*?)</title>", html)[1]
    assert f"Comparison · {TERM}" in html
    text = Parsed(html).text
    assert f"A: synthetic, {TERM}, digest aa11bb22cc33dd44, 10 classes, 5,000 training images" in text
    assert "B: cifar10, digest aa11bb22cc33dd44, 10 classes, 5,000 training images" in text
    chips = re.findall(r'<span class="chip \w+">(.*?)</span>', html)
    assert sum(chip.endswith(" · rehearsal") for chip in chips) == len(chips) / 2 > 0
    compared = compare_page.compare(other, other)
    alone = compare_page.write_comparison(compared, pages.parent / "compared").read_text(encoding="utf-8")
    assert "ehearsal" not in alone


def test_tags_alone_make_a_rehearsal():
    plan = small_plan()
    assert load.with_kind_of_data(plan, {schema.STAND_IN: "true"}).data == replace(plan.data, stand_in=True)
    assert load.with_kind_of_data(plan, {schema.STAND_IN: "false"}) is plan


def test_what_was_trained_on_stands_first(written, tmp_path):
    (path,) = plan_page.write_reports(written.uri, tmp_path, plan="techniques")
    text = Parsed(path.read_text(encoding="utf-8")).text
    first = "techniques · quick · cifar10, digest aa11bb22cc33dd44, 10 classes, 5,000 training images"
    assert text.partition("Skip to the answer ")[2].startswith(first)
    assert phrases.data_line(DataRecord("x", ""), "") == "x", "as far as a store says it"
    assert phrases.data_line(DataRecord("x", "ab", classes=("one",)), "") == "x, digest ab, 1 class"


KNOBS = {"budget.epochs": 12, "budget.train_images": 4_000, "budget.batch_size": 32}


def arm(name, **more):
    return ArmRecord(name, name, KNOBS | more)


@pytest.mark.parametrize(
    ("changed", "arms", "scope"),
    [
        ({"arms": [arm("a"), arm("b")]}, [], "in 12 epochs on 4,000 images"),
        ({"arms": [arm("a", **{"budget.epochs": 1})]}, [], "in 1 epoch on 4,000 images"),
        (
            {"arms": [arm("a"), arm("b", **{"data_size.share": 1 / 16})]},
            [],
            "in about 1,500 steps on 250 to 4,000 images",
        ),
        ({"arms": [arm("a"), arm("b", **{"data_size.share": 1 / 16})]}, ["a"], "in 12 epochs on 4,000 images"),
        (
            {"budget": "4,000 training images, batch 32, 12 epochs (1,500 steps), fp32"},
            [],
            "in 12 epochs on 4,000 images",
        ),
        ({"budget": "5,000 training images, batch 64, 1 epochs"}, [], "in 1 epoch on 5,000 images"),
        ({"budget": "as long as it takes"}, [], "at this budget"),
        ({"budget": ""}, [], "at this budget"),
    ],
)
def test_the_budget_in_a_few_words(plan, changed, arms, scope):
    assert phrases.scope(replace(plan, **changed), arms) == scope


def test_search_files_say_it():
    trials = pd.DataFrame({"study": ["sgd"], "trial": [0], "outcome": [schema.FINISHED]})
    rungs = pd.DataFrame(columns=searches.CURVE_COLUMNS)
    for drawn, kind in ((True, TERM), (False, "images")):
        asked = SearchRecord(
            "rates",
            "Which?",
            ProfileRecord("quick"),
            DataRecord("x", "ab", stand_in=drawn),
            epochs=1,
            baseline=BaselineRecord("notebook", "cd"),
            seeds=(0,),
            seed=0,
            sampler="tpe",
            pruner="none",
            rungs=(),
            trials=1,
            pareto=False,
            at_once=1,
            chance=0.1,
            digest="ef",
        )
        search = searches.Search("id", "1", pd.Timestamp(0, tz="UTC"), False, {}, asked)
        assert searches.trial_table(search, trials, rungs)["data_kind"].to_list() == [kind]
