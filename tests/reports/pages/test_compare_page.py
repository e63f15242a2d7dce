"""Two invocations side by side, and the index that leads to every page."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.reports.inference import joined
from cifar_ablations.reports.inference import statistics as st
from cifar_ablations.reports.pages import compare_page, index_page, plan_page
from cifar_ablations.study.commands.facts import encoded as of_program
from cifar_ablations.study.commands.facts import of_comparison
from tests.reports.conftest import HOSTILE, Writer, planted_runs
from tests.reports.pages.test_plan_page import Parsed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def elsewhere(written, tmp_path_factory):
    """Another store with the same plan and seeds, trained again: each run a little better, dropout without effect."""
    folder = tmp_path_factory.mktemp("elsewhere")
    writer, plan = Writer(folder), written.plan
    experiment = writer.experiment("again")
    parent = writer.invoke(experiment, plan, started=7_000, commit="3333333", device="gpu")
    runs = written.runs.copy()
    rng = np.random.default_rng(5)
    runs[schema.TEST_ACCURACY] += np.where(runs["converged"], 0.01 + rng.normal(0, 0.002, len(runs)), 0.0)
    full = runs["arm"] == "full recipe"
    without = runs["arm"] == "without dropout"
    runs.loc[without, schema.TEST_ACCURACY] = runs.loc[full, schema.TEST_ACCURACY].to_numpy() + rng.normal(0, 0.02, 6)
    for row in runs.to_dict("records"):
        writer.train(experiment, parent, plan, row)
    return folder


def test_two_stores_are_paired_by_seed_and_told_apart(written, elsewhere, tmp_path):
    one = compare_page.side("techniques", written.uri)
    other = compare_page.side(f"{elsewhere}#techniques", written.uri)
    compared = compare_page.compare(one, other)
    arms = compared.found.arms.set_index(compared.found.arms["first"].str[0])
    first, second = (
        s.runs[s.runs["arm"] == "full recipe"].set_index("seed")[schema.TEST_ACCURACY] for s in (one, other)
    )
    expected = stats.ttest_rel(second, first)
    row = arms.loc["full recipe"]
    assert row["runs"] == joined.AGAIN
    assert row["difference"] == pytest.approx((second - first).mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    facts = {f["name"]: f for f in compare_page.facts(one, other)}
    assert facts["commit"]["values"] == ["2222222", "3333333"]
    assert facts["commit"]["differ"]
    assert not facts["data"]["differ"]
    entries = compare_page.claims(compared)
    assert entries[0]["rows"][0]["statement"] == "dropout moves test accuracy in the full recipe"
    assert entries[0]["joined"]["differs"]
    parsed = Parsed(compare_page.write_comparison(compared, tmp_path).read_text())
    assert parsed.all("script") == []
    assert compared.sentences[0].startswith("Both have 4 claims: ")
    for sentence in compared.sentences:
        assert sentence in parsed.text
    assert "The plans differ" not in parsed.text
    fewer = replace(other.invocation, plan=replace(other.invocation.plan, seeds=(0, 1)))
    compared = compare_page.compare(one, replace(other, invocation=fewer))
    text = compare_page.write_comparison(compared, tmp_path).read_text()
    assert "From A to B the plans differ: seeds 0 to 5, now 0 to 1." in text


def test_shared_runs_are_no_comparison(written, tmp_path):
    one = compare_page.side("techniques", written.uri)
    compared = compare_page.compare(one, one)
    assert set(compared.found.arms["runs"]) == {joined.SAME}
    assert compared.found.arms["low"].isna().all()
    assert (compared.found.claims["difference"] == 0).all()
    assert "not at all: the same runs" in compare_page.write_comparison(compared, tmp_path).read_text()
    fewer = replace(one, asked="x", runs=one.runs[one.runs["seed"] < 3])
    assert set(compare_page.compare(one, fewer).found.arms["runs"]) == {joined.PART}


@pytest.fixture(scope="module")
def another(written, tmp_path_factory):
    """A store of another plan: two of the recipes under other names, one name with another recipe, and one more arm."""
    folder = tmp_path_factory.mktemp("another")
    writer, plan = Writer(folder), written.plan
    experiment = writer.experiment("another")
    full, without, _, bare, only = plan.arms
    arms = (
        replace(full, name=f"all of {HOSTILE}"),
        replace(without, name="no dropout"),
        replace(bare, digest="b" * 16),
        replace(only, name="more", digest="c" * 16),
    )
    claim = replace(
        plan.claims[0],
        statement=f"{HOSTILE} costs",
        sign=-1,
        treatment="no dropout",
        control=arms[0].name,
    )
    more = replace(plan.claims[3], statement="more is more", treatment="more", control=bare.name)
    other = replace(plan, name="another", arms=arms, claims=(claim, more), references=(), seeds=(10, 11, 12))
    parent = writer.invoke(experiment, other, started=8_000)
    names = {arm.name: new.name for arm, new in zip((full, without, bare, only), arms, strict=True)}
    digests = {arm.name: arm.digest for arm in arms}
    for row in written.runs[written.runs["seed"].isin([0, 1, 3]) & written.runs["arm"].isin(names)].to_dict("records"):
        name = names[row["arm"]]
        place = {"arm": name, "digest": digests[name], "seed": 10 + min(row["seed"], 2)}
        writer.train(experiment, parent, other, row | place)
    return folder


@pytest.mark.exhaustive
def test_plans_are_joined_by_recipe_and_claim_whatever_they_are_called(written, another, tmp_path):
    sides = [compare_page.side(asked, written.uri) for asked in ("techniques", f"{another}#another")]
    compared = compare_page.compare(*sides)
    assert compared.found.arms[["first", "second"]].to_numpy().tolist() == [
        [("full recipe",), (f"all of {HOSTILE}",)],
        [("without dropout",), ("no dropout",)],
    ]
    assert list(compared.found.namesakes) == ["bare recipe"]
    (entry,) = compare_page.claims(compared)
    expected = -sides[1].verdicts["difference"].iloc[0]
    assert entry["rows"][1]["difference"] == pytest.approx(expected)
    assert entry["joined"]["difference"] == pytest.approx(expected - sides[0].verdicts["difference"].iloc[0])
    page = compare_page.write_comparison(compared, tmp_path).read_text()
    parsed = Parsed(page)
    assert HOSTILE not in page
    assert parsed.all("script") == []
    for said in (
        "Both have 1 claim (of 4 and 2): ",
        f"B: all of {HOSTILE}",
        "turned round here",
        "One name, two recipes",
        "not said by a store",
        "Only in A",
        "Only in B",
        "more is more",
    ):
        assert said in parsed.text, said
    assert "3.0 runs" not in page
    told = json.loads(of_program(of_comparison(compared)))
    (claim,) = told["claims"]
    assert (claim["first"]["number"], claim["second"]["number"], claim["turned"]) == (1, 1, -1)
    assert claim["difference"] == pytest.approx(entry["joined"]["difference"])
    assert claim["second"]["difference"] == pytest.approx(expected)
    assert told["answer"] == compared.sentences
    assert told["arms"][0]["second"] == [f"all of {HOSTILE}"]
    assert told["same_name"] == [{"arm": "bare recipe", "knobs": {}}]
    assert [one["statement"] for one in told["only"]["second"]["claims"]] == ["more is more"]
    assert [one["arm"] for one in told["only"]["second"]["arms"]] == ["more"]
    assert told["second"]["plan"]["name"] == "another"
    assert told["second"]["runs"]["ended"] == 12


def test_what_has_nothing_in_common_is_shown_side_by_side(written, another, tmp_path):
    one = compare_page.side("techniques", written.uri)
    arms = tuple(replace(arm, digest=f"f{arm.digest[1:]}", name=f"their {arm.name}") for arm in one.plan.arms)
    other = compare_page.side(f"{another}#another", written.uri)
    apart = replace(other, invocation=replace(other.invocation, plan=replace(one.plan, arms=arms, claims=())))
    apart = replace(apart, runs=other.runs.iloc[:0], verdicts=other.verdicts.iloc[:0])
    parsed = Parsed(compare_page.write_comparison(compare_page.compare(one, apart), tmp_path).read_text())
    assert "The two have nothing in common: no recipe is in both, and no claim." in parsed.text
    for said in ("Full recipe", "Their full recipe", "dropout moves test accuracy on its own"):
        assert said in parsed.text
    assert "Claims that both make" not in parsed.text
    assert "Arms that are one recipe" not in parsed.text


def test_a_parent_run_is_named_by_the_beginning_of_its_id(written):
    run_id = compare_page.side("techniques", written.uri).invocation.run_id
    assert compare_page.side(run_id[:8], written.uri).invocation.run_id == run_id


@pytest.mark.parametrize(
    ("asked", "said"),
    [("techniqes", "did you mean techniques?"), ("nowhere#techniques", "there is no store at"), ("ab", "Known: ")],
)
def test_what_is_not_there_says_what_is(written, asked, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        compare_page.side(asked, written.uri)


def test_welch_is_scipys():
    rng = np.random.default_rng(2)
    one, other = rng.normal(1, 1, 5), rng.normal(0, 3, 9)
    expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.9)
    assert st.welch(one, other, 0.9) == pytest.approx((one.mean() - other.mean(), *expected))
    assert np.isnan(st.welch(one[:1], other)[1])


@pytest.mark.exhaustive
def test_the_index_links_what_is_there_and_says_what_is_not(written, tmp_path):
    path = index_page.write_index(written.uri, tmp_path)
    assert "no page yet" in path.read_text()
    (tmp_path / "compare-x.html").write_text("")
    (tmp_path / "judged-y.html").write_text("<title>accuracy in &lt;y&gt;.csv, judged</title>")
    pages = plan_page.write_reports(written.uri, tmp_path)
    text = index_page.write_index(written.uri, tmp_path).read_text()
    for one in pages:
        assert f'href="{one.name}"' in text
    assert 'href="compare-x.html">compare-x.html<' in text
    assert 'href="judged-y.html">accuracy in &lt;y&gt;.csv, judged<' in text
    assert text.index("Comparisons") < text.index("Runs of other programs, judged") < text.index("Other pages")
    assert "no page yet" not in text
    assert "../drawn &lt;shapes&gt;" in text
    assert "5 arms, 6 seeds" in text
    assert "Left out" not in text


@pytest.mark.exhaustive
def test_what_cannot_be_read_is_said_and_stops_no_page(plan, runs, tmp_path):
    writer = Writer(tmp_path)
    experiment = writer.experiment("one")
    parent = writer.invoke(experiment, plan)
    for row in runs.to_dict("records"):
        writer.train(experiment, parent, plan, row)
    broken = writer.invoke(experiment, replace(plan, name="<broken>"), started=2_000)
    writer.client.log_text(broken, '{"name": "<bro', schema.PLAN_FILE)
    (page,) = plan_page.write_reports(writer.uri, tmp_path / "reports")
    assert page.name == "techniques-cifar10-quick.html"
    text = index_page.write_index(writer.uri, tmp_path / "reports").read_text()
    assert text.count("Left out: ") == 1
    assert f"Left out: plan.json of run {broken} was changed or damaged since it was logged" in text
    assert f'href="{page.name}"' in text
    left_out = f"'<broken>'.*; left out: plan.json of run {broken} was changed or damaged since"
    with pytest.raises(AblateError, match=f"no runs of a plan {left_out}"):
        plan_page.write_reports(writer.uri, tmp_path / "reports", plan="<broken>")
    with pytest.raises(AblateError, match=f"no plan and no parent run {left_out}"):
        compare_page.side("<broken>", writer.uri)


def test_runs_that_cannot_be_read_are_left_out_and_said_once(plan, tmp_path):
    writer = Writer(tmp_path / "store")
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan)
    rows = planted_runs(plan).iloc[:3].to_dict("records")
    edited, *_ = (writer.train(experiment, parent, plan, row) for row in rows)
    writer.client.delete_tag(edited, schema.DIGEST)
    one = compare_page.side("techniques", writer.uri)
    assert len(one.runs) == 2
    heard = []
    compare_page.write_comparison(compare_page.compare(one, one), tmp_path, tell=heard.append)
    assert heard == [f"Left out: run {edited}: the tag digest is missing."]
