"""From a store with searches to their pages, which are parsed."""

import base64
import hashlib
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import (
    ArmRecord,
    BaselineRecord,
    ClaimRecord,
    DataRecord,
    FrontRecord,
    ParameterRecord,
    PlanRecord,
    ProfileRecord,
    ProvenanceRecord,
    RuleRecord,
    SearchOutcomeRecord,
    SearchRecord,
    StudyRecord,
    WinnerRecord,
)
from cifar_ablations.reports.pages import search_page
from cifar_ablations.reports.reading import load, searches
from cifar_ablations.reports.wording import phrases
from tests.reports.conftest import CLOCK, Unmade, Writer
from tests.reports.figures.test_search_figures import (
    CHANCE,
    EPOCHS,
    HOSTILE,
    JOINT,
    RATE,
    RATES,
    RUNGS,
    planted_curves,
    planted_joint,
    planted_rates,
)
from tests.reports.pages.test_plan_page import Parsed

pytestmark = pytest.mark.slow

LEARNING = "learning-rate"
OPEN = "<script>alert('search')</script>"


DATA = DataRecord("cifar10", "aa11bb22", "an archive", classes=tuple(f"class {i}" for i in range(10)))


def asked_for(name, digest, **changes):
    asked = SearchRecord(
        name=name,
        question="Which rate is best, & is 1 < 2?",
        profile=ProfileRecord("quick", "a laptop's answer"),
        data=DATA,
        epochs=EPOCHS,
        baseline=BaselineRecord("the notebook's recipe", "sgd5", {RATE: 0.003}),
        seeds=(100000,),
        seed=0,
        sampler="tpe",
        pruner="halving",
        rungs=tuple(RUNGS),
        trials=8,
        pareto=False,
        at_once=8,
        chance=CHANCE,
        digest=digest,
        model="notebook × 0.25",
        budget="5,000 training images, batch 64, 12 epochs",
        titles={"optimizer": "the optimizer"},
        command=f"ablate tune {name}",
    )
    return replace(asked, **changes)


def outcome_of(asked, studies, trials, changes, front=()):
    top = searches.best_of(trials)
    records = [
        StudyRecord(
            study.name,
            f"{asked.name}/{study.name}",
            study.fixed,
            tuple(
                ParameterRecord(p.name, p.doc, log=p.log, choices=p.choices)
                if p.choices
                else ParameterRecord(p.name, p.doc, p.low, p.high, p.log)
                for p in study.parameters
            ),
            study.sampler or asked.sampler,
            study.widened,
            study.edge,
            None,
            front,
        )
        for study in studies
    ]
    winner = WinnerRecord(top["study"], int(top["trial"]), float(top["value"]), top["digest"], {}, changes)
    return SearchOutcomeRecord(asked.digest, tuple(records), winner)


class SearchWriter(Writer):
    """Writes to a store of its own what a search would."""

    def __init__(self, folder):
        super().__init__(folder)
        from cifar_ablations.study.store.search_log import SearchLog

        self.log = SearchLog(self.store)

    def search(self, asked, started, outcome=None, running=False):
        """The parent of a search, which has ended with an outcome, was interrupted, or is still running."""
        experiment = self.log.experiment(asked.name, asked.data)
        with patch(CLOCK, return_value=started):
            parent = self.log.open(experiment, asked, ProvenanceRecord(processor="a & b"))
        if outcome is not None:
            self.log.close(parent, outcome, failures=False)
        elif not running:
            self.store.interrupt(parent.run_id)
        return parent

    def trials(self, parent, trials):
        """The ids of the runs of trials, in their order."""
        curves = planted_curves(trials)
        return [self.trial(parent, row, curves) for row in trials.to_dict("records")]

    def trial(self, parent, row, curves):
        from cifar_ablations.study.training.engine import Epoch

        sampled = {k: v for k, v in row.items() if k not in searches.TRIAL_COLUMNS and not pd.isna(v)}
        run = self.log.start_trial(parent, row["study"], row["trial"], sampled, Unmade(row["digest"]))
        mine = curves[(curves["study"] == row["study"]) & (curves["trial"] == row["trial"])]
        for epoch, value in zip(mine["epoch"], mine["value"], strict=True):
            self.store.epoch(run, Epoch(None, epoch, {schema.VALIDATION_ACCURACY: value}))
            if epoch in RUNGS:
                self.log.rung(run, epoch, value)
        ends = {schema.SECONDS: row["seconds"], schema.EPOCHS: row["epochs"], schema.OBJECTIVE: row["value"]}
        counts = row["outcome"] in searches.COUNTED
        ends = {name: value for name, value in ends.items() if counts and not np.isnan(value)}
        if row["outcome"]:
            with patch(CLOCK, return_value=int(row["ended"])):
                self.log.end_trial(run, row["outcome"], ends, "")
        return run

    def tuned(self, asked):
        """The plan that tests the joint search's best recipe, with two seeds of it."""
        arms = {"notebook's recipe": "sgd5", "tuned recipe": f"joint{planted_joint()['value'].idxmax()}"}
        claim = ClaimRecord(
            "the tuned recipe is better",
            "everything",
            schema.TEST_ACCURACY,
            1,
            "tuned recipe",
            "notebook's recipe",
            "test accuracy overall",
            "the search",
        )
        tested = PlanRecord(
            name="tuned",
            question=asked.question,
            arms=tuple(ArmRecord(name, digest) for name, digest in arms.items()),
            seeds=(0, 1, 2),
            rule=RuleRecord(margin=0.005, confirmatory_seeds=2),
            profile=asked.profile,
            data=asked.data,
            claims=(claim,),
            digest="7e57",
            model=asked.model,
            budget=asked.budget,
        )
        experiment = self.store.experiment(tested.name, tested.data)
        parent = self.invoke(experiment, tested, started=900_000)
        nothing = dict.fromkeys(schema.ENDINGS, 0.0)
        for seed in tested.seeds:
            for accuracy, (arm, digest) in zip((0.5, 0.6), arms.items(), strict=True):
                value = accuracy + 0.01 * seed + 0.001 * seed * (accuracy > 0.5)
                row = {"arm": arm, "seed": seed, "digest": digest, "outcome": schema.FINISHED}
                self.train(experiment, parent, tested, nothing | row | {schema.TEST_ACCURACY: value})


@dataclass(frozen=True)
class Written:
    uri: str
    runs: dict


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """A store with a resumed search, a joint one that was tested, one that is running, and much that is not theirs."""
    writer = SearchWriter(tmp_path_factory.mktemp("searches"))
    rates, joint, runs = planted_rates(), planted_joint(), {}
    learning = asked_for(LEARNING, "feed0001")
    early = rates["trial"] < 4
    first = writer.search(learning, 1_000)
    runs["early"] = writer.trials(first, rates[early])
    second = writer.search(learning, 2_000, outcome_of(learning, RATES, rates, ((RATE, 0.003, 0.0021),)))
    runs["late"] = writer.trials(second, rates[~early])
    # The same question, asked before with fewer trials, and its trials on other data.
    older = asked_for(LEARNING, "feed0000", trials=2)
    writer.trials(writer.search(older, 500), rates.head(2).assign(value=0.99))
    elsewhere = replace(second, record=replace(learning, data=replace(DATA, digest="cc33")))
    writer.trials(elsewhere, rates.head(1).assign(value=0.98))

    whole = asked_for("joint", "feed0002", sampler="random", baseline=BaselineRecord("the baseline", "none"))
    changes = ((RATE, 0.003, 0.0063), ("schedule.shape", "constant", "cosine"))
    front = (FrontRecord(3, 0.4211, 61.0, {RATE: 0.02, "schedule.shape": "cosine"}),)
    parent = writer.search(whole, 3_000, outcome_of(whole, JOINT, joint, changes, front))
    runs["joint"] = writer.trials(parent, joint)
    writer.tuned(whole)

    drawn = replace(DATA, name="../drawn <shapes>", digest="5555", stand_in=True)
    mid = asked_for(OPEN, "feed0003", data=drawn, overrides=("dropout.p=0.3",))
    parent = writer.search(mid, 4_000, running=True)
    some = rates[rates["study"] == HOSTILE].head(5)
    writer.trials(parent, some.assign(outcome=[schema.FINISHED] * 4 + [""], epochs=12.0))
    smoke = ProfileRecord("smoke", "seconds")
    writer.search(asked_for("begun", "feed0004", profile=smoke), 5_000, running=True)
    return Written(writer.uri, runs)


@pytest.fixture(scope="module")
def pages(searched, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "new"
    return {path.name: path for path in search_page.write_search_reports(searched.uri, folder)}


def text_of(pages, start):
    return Parsed(next(path for name, path in pages.items() if name.startswith(start)).read_text("utf-8")).text


@pytest.mark.exhaustive
def test_trials_come_back(searched):
    newest = next(s for s in searches.searches(searched.uri) if s.name == LEARNING)
    assert newest.digest == "feed0001"
    found = searches.trials_of(load.connect(searched.uri), newest)
    expected = planted_rates()
    columns = ["study", "trial", "outcome", "digest", RATE]
    pd.testing.assert_frame_equal(found[columns], expected[columns])
    counts = expected["outcome"].isin(searches.COUNTED)
    for column in ("value", "last", "epochs"):
        np.testing.assert_allclose(found.loc[counts, column], expected.loc[counts, column])
    assert set(found["run_id"]) == {*searched.runs["early"], *searched.runs["late"]}


def test_curves_and_rungs_come_back(searched):
    client = load.connect(searched.uri)
    newest = next(s for s in searches.searches(searched.uri) if s.name == LEARNING)
    trials = searches.trials_of(client, newest)
    expected = planted_curves(planted_rates())
    pd.testing.assert_frame_equal(searches.curves_of(client, trials), expected, check_dtype=False)
    at_rungs = expected[expected["epoch"].isin(RUNGS)].reset_index(drop=True)
    pd.testing.assert_frame_equal(searches.rungs_of(client, trials), at_rungs, check_dtype=False)


def test_a_resumed_search_has_its_outcome_in_every_invocation(searched):
    found = [s for s in searches.searches(searched.uri) if s.digest == "feed0001"]
    assert [s.started.timestamp() for s in found] == [2, 1]
    assert found[0].outcome == found[1].outcome
    assert found[0].winner.study == HOSTILE


def test_ranges_are_derived_where_there_is_no_outcome(searched):
    newest = next(s for s in searches.searches(searched.uri) if s.name == OPEN)
    trials = searches.trials_of(load.connect(searched.uri), newest)
    (study,) = searches.studies_of(newest, trials)
    (parameter,) = study.parameters
    assert (study.name, study.edge, study.sampler) == (HOSTILE, None, "tpe")
    assert parameter.low == pytest.approx(3e-4)
    assert parameter.log
    mixed = trials.assign(**{"a.b": ["x", "y", "x", "y", None], "c.d": 3.0})
    assert [(p.name, p.choices, p.low) for p in searches.studies_of(newest, mixed)[0].parameters[1:]] == [
        ("a.b", ("x", "y"), pytest.approx(np.nan, nan_ok=True)),
        ("c.d", (), 3.0),
    ]


def test_study_table(searched):
    table = searches.study_table(RATES, planted_rates()).set_index("study")
    assert table.loc["sgd", ["finished", "pruned", "diverged", "uncounted"]].to_list() == [6, 1, 1, 0]
    assert table.loc[HOSTILE, ["finished", "pruned", "diverged", "uncounted", "counted"]].to_list() == [8, 0, 0, 1, 8]
    assert table.loc["sgd", "epochs"] == 6 * 12 + 3 + 2
    assert list(table.loc["sgd", "sampled"]) == [RATE]


def test_pages_and_their_files(searched, pages):
    names = ["search-joint-cifar10-quick", "search-learning-rate-cifar10-quick"]
    assert [name.removesuffix(".html") for name in sorted(pages)][1:3] == names
    assert len(pages) == 4
    (open_one,) = (name for name in pages if "script" in name)
    assert open_one.startswith("search-script-alert-search-script-drawn-shapes-quick-")
    csv = pd.read_csv(pages[f"{names[1]}.html"].with_name(f"{names[1]}-trials.csv"), dtype={"digest": str})
    expected = searches.by_study(planted_rates(), RATES)
    assert csv["trial"].to_list() == expected["trial"].to_list()
    np.testing.assert_allclose(csv[RATE], expected[RATE], rtol=1e-7)
    assert csv["ended"].dropna().str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").all()
    assert csv["counted"].sum() == 16
    curves = planted_curves(expected).set_index(["study", "trial", "epoch"])["value"]
    last = csv[csv["study"] == "sgd"].set_index("trial")
    assert last.loc[4, "rung_3"] == pytest.approx(curves["sgd", 4, 3])
    assert np.isnan(last.loc[7, "rung_3"])


def test_pages_load_nothing_and_escape(pages):
    for path in pages.values():
        text = path.read_text("utf-8")
        parsed = Parsed(text)
        (script,) = parsed.scripts
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for tag, attributes in parsed.elements:
            for name, value in attributes.items():
                assert not name.startswith("on")
                if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                    local = value.startswith(("#", "data:")) or "/" not in value
                    assert local or (tag == "a" and value.startswith("http://127.0.0.1:5000/#/experiments/")), value
        assert "@import" not in text
        assert "url(http" not in text
        policy = next(m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
        scripts = f"script-src 'sha256-{digest}'"
        assert policy == f"default-src 'none'; {scripts}; style-src 'unsafe-inline'; img-src data:"
        assert len(set(parsed.ids)) == len(parsed.ids)
        for region in (a for _, a in parsed.elements if "tabindex" in a and a.get("role")):
            assert region["aria-label"]


def test_page_says_it(pages):
    text = text_of(pages, "search-learning")
    best = searches.best_of(planted_rates())
    assert "Which rate is best, & is 1 < 2?" in text
    assert "Finished: 16 trials in 2 studies, 1 failed or interrupted" in text
    assert f"The best recipe is that of trial {best['trial']} of {HOSTILE}, with a validation accuracy of" in text
    assert (
        f"accuracy of {100 * best['value']:.2f} %. Against the notebook's recipe it changes {RATE} from 0.003" in text
    )
    assert "The notebook's recipe itself, trial 5 of sgd, has" in text
    assert (
        "an optimistic one: it is the best of 16 trials, measured on the images that chose it, with seed 100000" in text
    )
    assert "The plan tuned puts it to the test." in text
    assert "optimizer.rate at the edge" in text
    assert "Alike for all 2 studies: 8 trials; trials of up to 12 epochs; sampler tpe, pruner halving; ranges" in text
    assert "Different between them: the epochs trained, by pruning or divergence (sgd: 77, " in text
    assert "At epoch 3, 15 trials were compared and 1 pruned." in text
    assert "Importances take a study of ten complete trials" in text
    assert "ablate tune learning-rate" in text
    assert "a & b" in text
    assert "STAND-IN" not in text
    assert "None of its arms has the digest of this search's best recipe" in text
    order = ["The answer", "Put to the test", "Studies", "How the search went", "Every trial", "Data and provenance"]
    assert [text.index(title) for title in order] == sorted(text.index(title) for title in order)


def test_a_joint_search_shows_its_parameters(pages):
    text = text_of(pages, "search-joint")
    assert "it changes optimizer.rate from 0.003 to 0.0063 and schedule.shape from constant to cosine." in text
    assert "Importances, descriptive" in text
    assert "Dodge et al. 2019" in text
    assert "There is one study, with sampler random, pruner halving: nothing had to be shared out." in text
    for said in ("A line per complete trial across all parameters", "between the trials, interpolated"):
        assert said in text
    assert f"joint 3 42.11 {phrases.duration(61.0)} optimizer.rate 0.02, schedule.shape cosine" in text, "its front"


def test_the_test_of_the_best_recipe_is_told(pages):
    text = text_of(pages, "search-joint")
    assert (
        "Plan tuned ( 7e57 ) compares on test images, with seeds 0, 1 and 2, none of which the search has used" in text
    )
    assert "None of its arms has the digest" not in text
    assert "The tuned recipe is better. supported +10.10 pp [9.85, 10.35], 3 against 3 runs" in text


def test_mid_run_page(pages):
    text = text_of(pages, "search-script")
    assert "Mid-run: 4 trials in 1 study so far, 1 in training" in text
    assert "So far the best recipe is that of trial 3 of" in text
    assert "which recipe is best may still change" in text
    assert "the ranges given here are those of the values sampled so far" in text
    assert "in training" in text
    assert "Rehearsal on drawn images: not photographs" in text
    assert "The answer Rehearsal on drawn images. So far" in text
    assert text.startswith(
        "Search <script>alert('search')</script> on ../drawn <shapes>, quick, rehearsal on drawn images"
    )
    data = "Data: ../drawn <shapes>, rehearsal on drawn images, digest 5555, 10 classes, 5,000 training images"
    assert text.partition("Skip to the answer ")[2].startswith(data)
    assert f"{data} Search <script>alert('search')</script> · quick · rehearsal on drawn images" in text
    assert "../drawn <shapes>" in text
    assert f"Not yet: ablate run tuned --baseline '{'out/recipes/' + OPEN}.toml'".replace(
        "('search')", ""
    ) in text.replace("('\"'\"'search'\"'\"')", "")


def test_every_trial_is_linked(searched, pages):
    path = pages["search-learning-rate-cifar10-quick.html"]
    links = [a["href"] for a in Parsed(path.read_text("utf-8")).all("a")]
    for run_id in searched.runs["early"] + searched.runs["late"]:
        assert any(f"/runs/{run_id}?" in link for link in links)


@pytest.mark.exhaustive
def test_same_store_same_bytes(searched, pages, tmp_path):
    (again,) = search_page.write_search_reports(searched.uri, tmp_path, search="joint")
    assert again.read_bytes() == pages["search-joint-cifar10-quick.html"].read_bytes()


def test_pages_of_one_search_alone(searched, tmp_path, monkeypatch):
    monkeypatch.setattr(search_page, "_figures", lambda *_: {})
    (one,) = search_page.write_search_reports(searched.uri, tmp_path, search="begun")
    assert one.name == "search-begun-cifar10-smoke.html"
    (older,) = search_page.write_search_reports(searched.uri, tmp_path, digest="feed0000")
    assert older.name == "search-learning-rate-cifar10-quick.html", "the older search's question"
    assert search_page.write_search_reports(searched.uri, tmp_path, digest="none of these") == []


def test_errors_help(searched, tmp_path):
    with pytest.raises(ValueError, match=r"no trials of a search 'learning-rat'; did you mean learning-rate\?"):
        search_page.write_search_reports(searched.uri, tmp_path, search="learning-rat")
    with pytest.raises(ValueError, match="ui_address must begin with"):
        search_page.write_search_reports(searched.uri, tmp_path, ui_address="javascript:alert(1)//")
    with pytest.raises(ValueError, match="no runs yet: there is no store at"):
        search_page.write_search_reports(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)


def test_a_store_without_searches_gets_no_page(searched, tmp_path, monkeypatch):
    monkeypatch.setattr(searches, "searches", lambda uri, unreadable: [])
    assert search_page.write_search_reports(searched.uri, tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match=r"no search has run in this store\. Start with `ablate tune`\."):
        search_page.write_search_reports(searched.uri, tmp_path, search="joint")


def test_a_search_before_its_first_trial(searched, tmp_path):
    (path,) = search_page.write_search_reports(searched.uri, tmp_path, search="begun")
    text = Parsed(path.read_text("utf-8")).text
    assert "No trial has ended yet." in text
    assert "Not yet: ablate run tuned --baseline out/recipes/begun.toml --profile smoke" in text
    assert "How the search went" not in text


def test_a_search_that_cannot_be_read_stops_no_page_and_is_named(tmp_path):
    writer = SearchWriter(tmp_path / "store")
    whole, damaged = (asked_for(name, name, data=replace(DATA, digest=name)) for name in ("whole", "damaged"))
    writer.search(whole, 1_000, running=True)
    for name in (schema.SEARCH_FILE, schema.OUTCOME_FILE):
        parent = writer.search(damaged, 2_000, running=True)
        writer.client.log_dict(parent.run_id, {"seeds": "few"}, name)
    unreadable = []
    (found,) = searches.searches(writer.uri, unreadable)
    assert found.name == "whole"
    assert len(unreadable) == 2
    assert sum(sentence.startswith(f"{schema.OUTCOME_FILE} of run ") for sentence in unreadable) == 1
    (page,) = search_page.write_search_reports(writer.uri, tmp_path)
    assert page.name.startswith("search-whole")
    with pytest.raises(ValueError, match=r"(?s)no trials of a search 'damaged'.*\nsearch\.json of run \w+ was changed"):
        search_page.write_search_reports(writer.uri, tmp_path, search="damaged")


@pytest.mark.exhaustive
def test_a_test_run_that_cannot_be_read_is_said(tmp_path):
    writer = SearchWriter(tmp_path / "store")
    whole = asked_for("joint", "feed0002", sampler="random")
    parent = writer.search(whole, 3_000, outcome_of(whole, JOINT, planted_joint(), ()))
    writer.trials(parent, planted_joint().head(2))
    writer.tuned(whole)
    edited, *_ = load.search(writer.client, f"tags.{schema.KIND} = '{schema.KIND_TRAINING}'")
    writer.client.delete_tag(edited.info.run_id, schema.SEED)
    heard = []
    search_page.write_search_reports(writer.uri, tmp_path, tell=heard.append)
    assert heard == [f"Left out: run {edited.info.run_id}: the tag seed is missing."]


def test_a_search_for_more_than_one_recipe(searched):
    found = next(s for s in searches.searches(searched.uri) if s.name == LEARNING)
    kept = replace(found, outcome=replace(found.outcome, winner=None, retuned={"sgd": {RATE: 0.02}}))
    sentences = search_page.answer(kept, RATES, planted_rates())
    assert sentences[0].startswith("The best recipe is that of trial")
    assert sentences[1] == f"The search keeps the notebook's recipe and finds, by study, sgd: {RATE} 0.02."
