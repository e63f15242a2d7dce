"""The whole way: a real store, read back and written as pages, which are parsed."""

import base64
import hashlib
import itertools
import os
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.metrics import EPOCHS_TO_TARGET, REACHED_TARGET
from cifar_ablations.reports.figures import forest
from cifar_ablations.reports.inference import divergence, registration, verdict
from cifar_ablations.reports.inference.arms import arm_table, seed_correlation
from cifar_ablations.reports.pages import guide, plan_page, rendering
from cifar_ablations.reports.reading import load, stored
from cifar_ablations.reports.wording import phrases, tables
from tests.fresh_store import put_fresh_store
from tests.reports.conftest import Writer, planted_runs, small_plan

pytestmark = pytest.mark.slow

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Parsed(HTMLParser):
    """Elements with their attributes, scripts, all other text outside <style>, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.ids, self.scripts, self._open = [], [], [], [], []
        self.feed(text)
        assert self._open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "script" in self._open:
            self.scripts.append(data)
        elif "style" not in self._open:
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def pages(written, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    return {path.name: path for path in plan_page.write_reports(written.uri, folder / "new")}


@pytest.fixture(scope="module")
def techniques(pages):
    return pages["techniques-cifar10-quick.html"]


def test_runs_come_back(written):
    newest = load.invocations(written.uri)
    assert [i.digest for i in newest] == ["feedfacefeedface", "feedfacefeedface", "0123012301230123"]
    assert [i.name for i in newest] == ["techniques", "notebook", "techniques"]
    found = load.runs_of(load.connect(written.uri), newest[0].plan)
    pd.testing.assert_frame_equal(found[list(written.runs.columns)], written.runs, check_dtype=False)
    assert dict(zip(zip(found["arm"], found["seed"], strict=True), found["run_id"], strict=True)) == written.run_ids


@pytest.mark.parametrize("bulk", [True, False])
def test_curves_come_back(written, bulk, monkeypatch):
    client = load.connect(written.uri)
    if not bulk:  # as with a tracking server
        monkeypatch.setattr(stored, "database", lambda client: None)
    runs = load.runs_of(client, load.invocations(written.uri)[0].plan)
    curves = load.curves_of(client, runs)
    assert list(curves.columns) == load.CURVE_COLUMNS
    assert set(curves["metric"]) == {schema.VALIDATION_ACCURACY}
    diverged = curves[(curves["arm"] == "bare recipe") & (curves["seed"] == 2)]
    assert diverged["epoch"].to_list() == [1]
    rest = curves.drop(diverged.index).merge(runs, on=["arm", "seed"])
    assert len(rest) == 3 * (len(runs) - 1)
    expected = rest[schema.TEST_ACCURACY] * rest["epoch"] / 3
    pd.testing.assert_series_equal(rest["value"], expected, check_names=False)


def test_epochs_to_target_come_from_the_curves(written):
    client, invocation = load.connect(written.uri), load.invocations(written.uri)[0]
    runs = load.runs_of(client, invocation.plan)
    plan = replace(written.plan, claims=(replace(written.plan.claims[0], metric=EPOCHS_TO_TARGET),))
    found = load.with_epochs_to_target(client, runs, plan).set_index(["arm", "seed"])
    missed = 0
    for run in runs.to_dict("records"):
        reached = [e for e in (1, 2, 3) if run["converged"] and run[schema.TEST_ACCURACY] * e / 3 >= 0.4]
        of_run, missed = found.loc[(run["arm"], run["seed"])], missed + (not reached)
        assert of_run[REACHED_TARGET] == bool(reached)
        assert of_run[EPOCHS_TO_TARGET] == reached[0] if reached else np.isnan(of_run[EPOCHS_TO_TARGET])
    assert missed, "a run that never got there has no number of epochs"
    assert load.with_epochs_to_target(client, runs, written.plan) is runs


@pytest.mark.exhaustive
def test_pages_are_named_safely_and_whole(pages, techniques):
    assert sorted(pages) == ["notebook-drawn-shapes-quick-fb5451.html", "techniques-cifar10-quick.html"]
    kinds = {
        "techniques-cifar10-quick": [
            "-divergence.csv",
            "-mechanisms.csv",
            "-surroundings.csv",
            "-verdicts.csv",
            "-verdicts.md",
            "-verdicts.tex",
        ]
    }
    expected = [
        stem + kind
        for stem in ("notebook-drawn-shapes-quick-fb5451", "techniques-cifar10-quick")
        for kind in [".html", "-arms.csv", "-figures.zip", "-runs.csv", "-runs.parquet", *kinds.get(stem, [])]
    ]
    assert sorted(os.listdir(techniques.parent)) == sorted([*expected, guide.GUIDE])
    text = techniques.read_text(encoding="utf-8")
    assert all(f'href="{name}"' in text for name in expected if name.startswith("techniques") and "html" not in name)
    for kind in (
        "CSV: a row per claim",
        "Markdown: a row per claim",
        "LaTeX: a row per claim",
        "Parquet: a row per run",
    ):
        assert f">{kind}" in text


def test_runs_are_there_as_tidy_files(written, techniques):
    stem = techniques.with_suffix("")
    parquet = pd.read_parquet(f"{stem}-runs.parquet")
    as_text = {name: str for name in parquet if parquet[name].dtype in ("category", "str", "object")}
    whole = dict.fromkeys(("epochs", "threads"), "Int64")
    csv = pd.read_csv(f"{stem}-runs.csv", dtype=as_text | whole | {"converged": bool}, parse_dates=["ended"])
    plain = parquet.astype(as_text).assign(ended=parquet["ended"].dt.floor("s"))
    pd.testing.assert_frame_equal(plain, csv, check_dtype=False, rtol=1e-6)
    assert parquet["ended"].dtype.tz is not None
    assert parquet["seed"].dtype == "int64"
    assert parquet["epochs"].dtype == parquet["threads"].dtype == "Int64"
    assert all(parquet[name].dtype == "category" for name in ("arm", "outcome", "backend", "data_kind"))
    assert len(parquet) == len(written.runs)
    np.testing.assert_allclose(parquet["test_accuracy"], written.runs[schema.TEST_ACCURACY])


def test_tables_of_text_cannot_be_broken_out_of():
    table = pd.DataFrame({"Claim": ["a | b & 5 % of $x_1$ \\ {y}\nnext"], "Seeds": ["5"], "Verdict": ["−1 ± 2"]})
    assert tables.as_markdown(table).splitlines()[2] == r"| a \| b & 5 % of \$x\_1\$ \\ {y} next | 5 | −1 ± 2 |"
    latex = tables.as_latex(table)
    assert r"a \textbar{} b \& 5 \% of \$x\_1\$ \textbackslash{} \{y\} next & 5 & $-$1 $\pm$ 2 \\" in latex
    assert latex.startswith("\\begin{tabular}{lrl}\n\\toprule\n")
    assert latex.count("rule") == 3


def test_page_loads_nothing_and_escapes(pages):
    for path in pages.values():
        parsed = Parsed(path.read_text(encoding="utf-8"))
        assert parsed.all("script") == [{}]
        assert parsed.all("b") == []
        assert parsed.all("html")[0]["lang"] == "en"
        for tag, attributes in parsed.elements:
            for name, value in attributes.items():
                assert not name.startswith("on")
                if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                    local = value.startswith(("#", "data:")) or "/" not in value
                    assert local or (tag == "a" and value.startswith("http://127.0.0.1:5000/#/experiments/")), value
        assert "@import" not in path.read_text(encoding="utf-8")
        assert "url(http" not in path.read_text(encoding="utf-8")
        policy = next(m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
        (script,) = parsed.scripts
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        scripts = f"script-src 'sha256-{digest}'"
        assert policy == f"default-src 'none'; {scripts}; style-src 'unsafe-inline'; img-src data:"
        assert len(set(parsed.ids)) == len(parsed.ids)
        for region in (a for _, a in parsed.elements if "tabindex" in a and a.get("role")):
            assert region["aria-label"]


def test_page_says_it(written, techniques):
    parsed = Parsed(techniques.read_text(encoding="utf-8"))
    text = parsed.text
    assert "What is each technique worth, & is 1 < 2?" in text
    assert "Mid-run: 29 of 30 runs done, 1 in training" in text
    row = phrases.with_sentences(written.plan, verdict.judge(written.plan, written.runs)).iloc[0]
    assert f"Helps Dropout {100 * row['difference']:+.1f} pp in the full recipe." in text
    assert (
        "Exploratory: these seeds were seen before 4 of 4 claims were fixed (of one claim 12 of 12 runs). Fresh "
        "seeds confirm."
    ) in text
    assert "The chance that any of these verdicts is wrong is at most 5 %, by simulation" in text
    assert "all 4 claims share it." in text
    assert "saw 12 of 12" in text
    assert "Diverged: 1 of 6 of 'bare recipe'. Means are of the others; a run that diverged never counts" in text
    assert "Only dropout, against bare recipe open 0 of 5 [0, 52] % 1 of 6 [0, 64] % 1" in text
    rho, pairs = seed_correlation(written.plan, written.runs)
    assert f"the accuracies of two arms correlate ρ = {rho:.2f} on average over {pairs} pairs" in text
    assert "In this store 30 trainings were measured on the test images of cifar10, by which 4 claims of 1 plan" in text
    assert "Test images consulted by 30 trainings of this store, for 4 claims of 1 plan" in text
    assert "5,000 training images, batch 64, 3 epochs" in text
    assert "<script>alert('arm')</script>" in text
    assert "a <b>book</b>" in text
    assert "rehearsal" not in text.lower()
    assert "Deviation from the plan 0123012301230123 , logged 1970-01-01 00:00 UTC: seeds 0 to 2, now 0 to 5." in text
    assert "The runs come from 2 commits: 2222222 (26 runs) and 1111111 (3 runs); what changed between them" in text
    rounding = "rounding differs between them, which can move a run as far as another seed does"
    for what, shares in (
        ("backends", "kernels (26 runs) and torch (3 runs)"),
        ("numbers of threads", "1 (26 runs) and 2 (3 runs)"),
    ):
        assert f"The runs come from 2 {what}: {shares}; {rounding}." in text
    assert "sets of instructions" not in text
    assert "ablate run techniques --profile quick" in text
    assert "a & b" in text
    verdicts = phrases.with_sentences(written.plan, verdict.judge(written.plan, written.runs))
    tooltips = [a["title"] for a in parsed.all("span") if "title" in a]
    assert len(tooltips) == len(verdicts)
    assert all(any(tooltip.endswith(said) for tooltip in tooltips) for said in verdicts["sentence"])
    ids = [a["id"] for a in parsed.all("h2")]
    assert ids == ["answer", "arms", "verdicts", "curves", "mechanism", "seeds", "cost", "provenance"]


def test_nothing_is_said_twice(techniques):
    """Surface, 4: the budget stood on the page 23 times and every claim three times."""
    text = Parsed(techniques.read_text(encoding="utf-8")).text
    assert text.count("batch 64, 3 epochs") == 1
    assert text.count("latest run ended") == 1


def test_arms_are_ranked_by_their_means(written, techniques):
    parsed = Parsed(techniques.read_text(encoding="utf-8"))
    ranked = arm_table(written.plan, written.runs).sort_values("accuracy", ascending=False)["arm"].to_list()
    assert f"Highest mean of 5 arms, not tested: {ranked[0]}, " in parsed.text
    table = parsed.text[parsed.text.index("Every arm") :]
    places = [table.index(phrases.sentence_case(arm)) for arm in ranked]
    assert places == sorted(places)


def test_contents_name_every_section_and_headings_are_in_order(pages):
    for path in pages.values():
        parsed = Parsed(path.read_text(encoding="utf-8"))
        sections = [attributes["aria-labelledby"] for attributes in parsed.all("section")]
        links = [a["href"] for a in parsed.all("a") if a.get("href", "").startswith("#")]
        assert links == ["#main", *(f"#{name}" for name in sections)]
        assert [attributes["id"] for attributes in parsed.all("h2")] == sections
        assert set(sections) <= set(parsed.ids)
        assert len(parsed.all("h1")) == 1
        levels = [int(tag[1]) for tag, _ in parsed.elements if tag in ("h1", "h2", "h3", "h4")]
        assert all(deeper - level <= 1 for level, deeper in itertools.pairwise(levels))
        assert len(parsed.all("caption")) == len(parsed.all("table"))
        assert all(attributes.get("scope") in ("col", "row") for attributes in parsed.all("th"))


def test_tables_of_verdicts_and_arms_sort_by_number(written, techniques):
    parsed = Parsed(techniques.read_text(encoding="utf-8"))
    sortable = [a for a in parsed.all("table") if "sortable" in a.get("class", "").split()]
    assert len(sortable) == 2 + 1 + 1 + 1 + 2, "metrics with verdicts, divergence, two places, the arms, two mechanisms"
    values = [a["data-value"] for a in parsed.all("td") if "data-value" in a]
    assert all(value == "" or np.isfinite(float(value)) for value in values)
    arms = arm_table(written.plan, written.runs)
    assert {f"{accuracy:.9g}" for accuracy in arms["accuracy"]} <= set(values)


def test_sort_keys_are_numbers_for_the_script():
    values = [1 / 3, -2.0, 1e-12, float("nan"), None, float("inf"), float("-inf")]
    assert [rendering.sort_key(v) for v in values] == ["0.333333333", "-2", "1e-12", "", "", "Infinity", "-Infinity"]
    script = rendering.sort_script()
    assert "</script" not in script.text.lower()
    assert "<!--" not in script.text


def test_every_run_is_linked(written, techniques):
    links = [a["href"] for a in Parsed(techniques.read_text(encoding="utf-8")).all("a")]
    for run_id in written.run_ids.values():
        assert sum(f"/runs/{run_id}?" in link for link in links) == 1


def test_of_more_runs_than_a_page_can_link_the_list_is_named(written, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_page, "MOST_LINKED", len(written.run_ids) - 1)
    (page,) = plan_page.write_reports(written.uri, tmp_path, plan="techniques")
    text = page.read_text(encoding="utf-8")
    assert "Runs by arm and seed" not in text
    assert f"With a link to each of {len(written.run_ids)} runs" in text
    assert f"{page.stem}-runs.csv</code> lists them" in text
    rows = (tmp_path / f"{page.stem}-runs.csv").read_text(encoding="utf-8")
    assert all(run_id in rows for run_id in written.run_ids.values())


def test_a_run_that_was_tried_again_and_again_is_said_once(tmp_path):
    """Its page could not be written."""
    writer, plan = Writer(tmp_path), small_plan()
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan)
    done, again, *_ = planted_runs(plan).to_dict("records")
    writer.train(experiment, parent, plan, done)
    for outcome in (schema.FAILED, schema.FAILED):
        writer.train(experiment, parent, plan, again | {"outcome": outcome})
    (page,) = plan_page.write_reports(writer.uri, tmp_path / "pages")
    total = len(plan.arms) * len(plan.seeds)
    assert f"1 of {total} runs done, 1 failed" in " ".join(page.read_text(encoding="utf-8").split())


def test_of_very_many_seeds_none_is_shown_at_an_interval(written, tmp_path, monkeypatch):
    shown = "to see its seeds"
    assert shown in plan_page.write_reports(written.uri, tmp_path, plan="techniques")[0].read_text(encoding="utf-8")
    monkeypatch.setattr(forest, "MOST_SEEDS", 1)
    text = plan_page.write_reports(written.uri, tmp_path, plan="techniques")[0].read_text(encoding="utf-8")
    assert shown not in text
    assert "forest-seeds-" not in text
    assert "forest-row-" in text


def test_stand_in_page_shouts(pages):
    text = Parsed(pages["notebook-drawn-shapes-quick-fb5451.html"].read_text(encoding="utf-8")).text
    assert "Rehearsal on drawn images: not photographs" in text
    assert "../drawn <shapes>" in text
    assert "Finished: all 3 runs done" in text
    assert "in which one more run is expected with 95 % probability" in text
    assert "Verdicts" not in text


def test_csv_is_the_frame(written, techniques):
    runs = load.runs_of(load.connect(written.uri), load.invocations(written.uri)[0].plan)
    found = load.invocations(written.uri)
    judged = registration.with_exploratory(verdict.judge(written.plan, runs), found[0], runs, found)
    assert judged["late"].all()
    verdicts = tables.verdict_table(phrases.with_sentences(written.plan, judged), written.plan)
    arms = arm_table(written.plan, runs)
    diverged = divergence.table(written.plan, runs, judged)
    for name, expected in (("verdicts", verdicts), ("arms", arms), ("divergence", diverged)):
        path = techniques.with_name(f"techniques-cifar10-quick-{name}.csv")
        found = pd.read_csv(path, dtype={"digest": str, "plan_digest": str})
        if "reason" in found:
            found["reason"] = found["reason"].fillna("")
        expected = expected.assign(data_kind="images")
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_exact=False, rtol=1e-7)


@pytest.mark.exhaustive
def test_same_store_same_bytes(written, techniques, tmp_path):
    (again,) = plan_page.write_reports(written.uri, tmp_path, plan="techniques")
    assert again.read_bytes() == techniques.read_bytes()


@pytest.mark.exhaustive
def test_pages_of_one_plan_alone(written, tmp_path):
    (one,) = plan_page.write_reports(written.uri, tmp_path, digest="0123012301230123")
    assert one.name == "techniques-cifar10-quick.html", "the older plan's question"
    assert plan_page.write_reports(written.uri, tmp_path, digest="none of these") == []
    assert plan_page.write_reports(written.uri, tmp_path, data="none of these") == []


@pytest.mark.exhaustive
def test_other_address(written, tmp_path):
    (path,) = plan_page.write_reports(written.uri, tmp_path, plan="techniques", ui_address="https://mlflow.example/ui/")
    assert 'href="https://mlflow.example/ui/#/experiments/' in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="ui_address must begin with"):
        plan_page.write_reports(written.uri, tmp_path, ui_address="javascript:alert(1)//")


def test_errors_help(written, tmp_path):
    with pytest.raises(ValueError, match=r"no runs of a plan 'technique'; did you mean techniques\?"):
        plan_page.write_reports(written.uri, tmp_path, plan="technique")
    nowhere = tmp_path / "mlflow.db"
    with pytest.raises(ValueError, match=r"no runs yet: there is no store at .*make ablate"):
        plan_page.write_reports(f"sqlite:///{nowhere}", tmp_path / "reports")
    assert not nowhere.exists()


def test_a_store_without_plans_has_no_pages_of_plans(tmp_path):
    # It may hold searches or demonstrations, whose pages must not be lost for it.
    uri = f"sqlite:///{put_fresh_store(tmp_path) / 'mlflow.db'}"
    assert plan_page.write_reports(uri, tmp_path / "reports") == []
    with pytest.raises(ValueError, match="no runs of a plan 'techniques': no plan has been invoked"):
        plan_page.write_reports(uri, tmp_path / "reports", plan="techniques")


@pytest.mark.parametrize("secret", ["user:password@", "user@", "user:p@ss@word@"])
def test_no_password_is_on_a_page(secret):
    assert rendering.address_of(f"https://{secret}host:5000/mlflow/", None) == "https://host:5000/mlflow"
    assert rendering.address_of("sqlite:///x", f"http://{secret}host") == "http://host"


def test_a_statement_that_the_notebook_does_not_make_names_its_source_alone(plan, tmp_path):
    writer = Writer(tmp_path)
    first, second = plan.claims[:2]
    claims = replace(first, notebook="Dropout", source="a book"), replace(second, notebook="", source="a paper")
    asked = replace(plan, layout="ledger", claims=claims)
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, asked)
    for row in planted_runs(asked).to_dict("records"):
        writer.train(experiment, parent, asked, row)
    (page, *_) = plan_page.write_reports(writer.uri, tmp_path / "new")
    text = Parsed(page.read_text()).text
    assert "Notebook, “Dropout”; a book." in text
    assert "A paper." in text
    assert "“”" not in text


def test_two_data_sets_of_one_name_are_two_pages(plan):
    def invocation(digest, started):
        asked = replace(plan, data=replace(plan.data, digest=digest))
        return load.Invocation("id", "1", pd.Timestamp(started, unit="s", tz="UTC"), False, {}, asked)

    newer, older = invocation("bbbbbbbbbb", 2), invocation("aaaaaaaaaa", 1)
    assert rendering.newest([newer, older]) == {
        "techniques-cifar10-quick-bbbbbbbb": newer,
        "techniques-cifar10-quick": older,
    }
