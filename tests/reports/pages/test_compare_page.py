"""Two invocations side by side, and the index that leads to every page."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.reports.inference import statistics as st
from cifar_ablations.reports.pages import compare_page, index_page, plan_page
from tests.reports.conftest import Writer, planted_runs


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
    arms = compare_page.arms(one, other).set_index("arm")
    first, second = (
        s.runs[s.runs["arm"] == "full recipe"].set_index("seed")[schema.TEST_ACCURACY] for s in (one, other)
    )
    expected = stats.ttest_rel(second, first)
    row = arms.loc["full recipe"]
    assert row["how"] == "paired"
    assert row["difference"] == pytest.approx((second - first).mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    facts = {f["name"]: f for f in compare_page.facts(one, other)}
    assert facts["commit"]["values"] == ["2222222", "3333333"]
    assert facts["commit"]["differ"]
    assert not facts["data"]["differ"]
    changed = [c["statement"] for c in compare_page.claims(one, other) if c["differ"]]
    assert "dropout moves test accuracy in the full recipe" in changed
    text = compare_page.write_comparison(one, other, tmp_path).read_text()
    assert "<script" not in text
    assert "of 4 verdicts" in text
    assert "The plans differ" not in text
    fewer = replace(other.invocation, plan=replace(other.invocation.plan, seeds=(0, 1)))
    text = compare_page.write_comparison(one, replace(other, invocation=fewer), tmp_path).read_text()
    assert "The plans differ: seeds 0 to 5, now 0 to 1." in text


def test_shared_runs_are_no_comparison(written):
    one = compare_page.side("techniques", written.uri)
    arms = compare_page.arms(one, one)
    assert set(arms["how"]) == {"same runs"}
    assert arms["low"].isna().all()
    assert (arms["difference"] == 0).all()
    fewer = replace(one, asked="x", runs=one.runs[one.runs["seed"] < 3])
    assert set(compare_page.arms(one, fewer)["how"]) == {"some runs shared"}


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


def test_the_index_links_what_is_there_and_says_what_is_not(written, tmp_path):
    path = index_page.write_index(written.uri, tmp_path)
    assert "no page yet" in path.read_text()
    (tmp_path / "compare-x.html").write_text("")
    pages = plan_page.write_reports(written.uri, tmp_path)
    text = index_page.write_index(written.uri, tmp_path).read_text()
    for one in pages:
        assert f'href="{one.name}"' in text
    assert 'href="compare-x.html"' in text
    assert "no page yet" not in text
    assert "../drawn &lt;shapes&gt;" in text
    assert "5 arms, 6 seeds" in text
    assert "Left out" not in text


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
    compare_page.write_comparison(one, one, tmp_path, tell=heard.append)
    assert heard == [f"Left out: run {edited}: the tag digest is missing."]
