"""Searches: what is drawn, what is widened, and recipes that survive being written down."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cifar_ablations.ablations import adopted, catalog
from cifar_ablations.ablations.designs import bare
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import AdoptionRecord, RecipeRecord
from cifar_ablations.ablations.search import LISTED, Best, Study, around, parameter, widened
from cifar_ablations.study.training import contracts

ON_TOP = "test accuracy on top of the changes before it"


@pytest.fixture
def baseline() -> Recipe:
    return profile("quick").apply(catalog.notebook_recipe())


@pytest.mark.parametrize("check", contracts.SEARCHES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", catalog.search_names())
def test_every_search_keeps_to_the_contract(name: str, check: Callable[[str], None]) -> None:
    check(name)


def test_each_optimizer_gets_the_same_trials_and_the_same_width(baseline: Recipe) -> None:
    studies = next(catalog.search_module("learning-rate").search(baseline, 8))
    assert {study.trials for study in studies} == {8}
    widths = [math.log10(p.high / p.low) for study in studies for p in study.parameters]  # type: ignore[operator]
    assert widths == pytest.approx([2.0] * len(studies))
    assert {study.recipe.update_rule().adaptive for study in studies} == {True, False}


@pytest.mark.parametrize("settings", [(), ("optimizer=rmsprop", "mixup=on"), ("optimizer=off",)])
def test_each_arm_gets_the_same_trials_and_the_same_width_and_begins_with_its_own_rate(
    settings: tuple[str, ...], baseline: Recipe
) -> None:
    for setting in settings:
        baseline = baseline.set(setting)
    rounds = catalog.search_module("arms").search(baseline, 6)
    studies = next(rounds)
    plan = catalog.make_plan("techniques", baseline, profile("quick"), (0, 1))
    assert {study.name: study.recipe for study in studies} == {arm.name: arm.recipe for arm in plan.arms}
    assert {study.trials for study in studies} == {6}
    widths = [math.log10(p.high / p.low) for study in studies for p in study.parameters]  # type: ignore[operator]
    assert widths == pytest.approx([2.0] * len(studies))
    for study in studies:
        (first,) = study.first
        assert study.with_values(first) == study.recipe, "its own rate is tried first"
    at_edge = [Best(study, 0, 0.5, {"optimizer.rate": study.parameters[0].low}) for study in studies]  # type: ignore[dict-item]
    wider = rounds.send([*at_edge])
    assert {study.trials for study in wider} == {9}
    with pytest.raises(StopIteration):
        rounds.send([*at_edge])


def test_arms_of_one_recipe_share_a_study() -> None:
    alone = bare(profile("quick").apply(catalog.notebook_recipe())).set("dropout=on")
    studies = next(catalog.search_module("arms").search(alone, 6))
    assert [study.name for study in studies] == ["full recipe", "without dropout"]


def test_a_best_rate_at_an_edge_widens_all_alike_and_a_best_inside_ends_the_search(baseline: Recipe) -> None:
    rounds = catalog.search_module("learning-rate").search(baseline, 8)
    studies = next(rounds)

    def best(study: Study, share: float) -> Best:
        (p,) = study.parameters
        assert p.low is not None
        assert p.high is not None
        return Best(study, 0, 0.5, {p.name: p.low * (p.high / p.low) ** share})

    inside = [best(study, 0.5) for study in studies]
    wider = rounds.send([*inside[:-1], best(studies[-1], 0.97)])
    for before, after in zip(studies, wider, strict=True):
        (old,), (new,) = before.parameters, after.parameters
        assert new.low < old.low < old.high < new.high  # type: ignore[operator]
        assert (after.trials, after.widened, after.recipe) == (12, 1, before.recipe)
    with pytest.raises(StopIteration):
        rounds.send([best(study, 0.5) for study in wider])


def test_nobody_is_widened_beyond_what_is_legal() -> None:
    p = around("optimizer.rate", 50.0, 2.0)
    study = Study("s", catalog.notebook_recipe(), (p,), 4)
    assert p.high == 100.0
    assert not p.at_edge(99.0, 0.1)
    assert p.at_edge(5.1, 0.1)
    (after,) = widened([study], [Best(study, 0, 0.5, {"optimizer.rate": 5.1})], 2) or ()
    assert after.parameters[0].high == 100.0
    assert after.parameters[0].low < 5.0  # type: ignore[operator]
    assert widened([study], [Best(study, 0, 0.5, {"optimizer.rate": 30.0})], 2) is None
    assert widened([study], [None], 2) is None


def test_ranges_come_from_the_knobs_and_a_knob_without_one_says_so() -> None:
    p = parameter("dropout.p")
    assert (p.low, p.high, p.log, p.integer) == (0.0, 0.7, False, False)
    assert parameter("augmentation.padding").integer
    with pytest.raises(ValueError, match=re.escape("optimizer.momentum does not say in which range")):
        parameter("optimizer.momentum")
    with pytest.raises(ValueError, match=re.escape("dropout has no knob 'q'")):
        parameter("dropout.q")
    with pytest.raises(ValueError, match=re.escape("no technique 'dropot'; did you mean dropout?")):
        parameter("dropot.p")


def test_what_depends_on_another_is_sampled_only_with_it(baseline: Recipe) -> None:
    (study,) = next(catalog.search_module("regularization").search(baseline, 8))
    by_name = {p.name: p for p in study.parameters}
    assert by_name["mixup.alpha"].wanted({"mixup": "on"})
    assert not by_name["mixup.alpha"].wanted({"mixup": "off"})
    (own,) = study.first
    assert study.with_values(own) == baseline  # the baseline is tried first
    assert "mixup.alpha" not in own
    named = study.with_values(own | {"weight_decay": "on", "weight_decay.strength": 0.00123})
    assert named.knobs()["weight_decay.strength"] == 0.00123


@pytest.mark.parametrize("name", ["joint", "schedule"])
def test_a_knob_of_the_schedule_is_sampled_only_with_shapes_that_have_it(name: str, baseline: Recipe) -> None:
    (study,) = next(catalog.search_module(name).search(baseline, 8))
    of_schedule = [p for p in study.parameters if p.name.startswith("schedule.")]

    def sampled(shape: str) -> set[str]:
        return {p.name.removeprefix("schedule.") for p in of_schedule if p.wanted({"schedule.shape": shape})}

    assert next(p.name for p in of_schedule) == "schedule.shape"
    assert sampled("constant") == sampled("cosine") == {"shape"}
    assert sampled("step") == {"shape", "gamma"}
    assert sampled("linear") == sampled("one_cycle") == {"shape", "warmup"}
    assert sampled("warmup_stable_decay") == {"shape", "warmup", "decay"}
    (own,) = study.first
    assert study.with_values(own) == baseline


def test_the_search_of_everything_tries_muon_at_rates_of_its_own(baseline: Recipe) -> None:
    (study,) = next(catalog.search_module("joint").search(baseline, 8))
    by_name = {p.name: p for p in study.parameters}
    rate, factor = by_name["optimizer.rate"], by_name["learning_rate.factor"]
    assert by_name["optimizer"].choices == ("on", "muon")
    for optimizer, sampled in (("on", rate), ("muon", factor)):
        assert [p for p in (rate, factor) if p.wanted({"optimizer": optimizer})] == [sampled]
        assert sampled.low is not None
        assert sampled.high is not None
        assert sampled.high / sampled.low == pytest.approx(100)
    asked = {**study.own_values(), "optimizer": "muon", "learning_rate.factor": 2.0}
    muon = study.with_values({p.name: asked[p.name] for p in study.parameters if p.wanted(asked)})
    assert muon.without("optimizer").set("learning_rate=off") == baseline.without("optimizer")
    assert muon.knobs()["optimizer.kind"] == "muon"
    assert muon.update_rule().rate == baseline.set("optimizer=muon").update_rule().rate


@pytest.mark.parametrize("setting", ["optimizer=muon", "optimizer.rate=0.0123"])
def test_an_optimizer_that_is_muon_or_has_no_name_stays(setting: str, baseline: Recipe) -> None:
    (study,) = next(catalog.search_module("joint").search(baseline.set(setting), 8))
    names = [p.name for p in study.parameters]
    assert names[0] == "optimizer.rate"
    assert not {"optimizer", "learning_rate.factor"} & set(names)
    assert study.with_values(study.own_values()) == baseline.set(setting)


@pytest.mark.slow
@given(
    rate=st.floats(1e-7, 10.0),
    p=st.floats(0.0, 0.95),
    padding=st.integers(0, 16),
    shape=st.sampled_from(["constant", "cosine", "multistep"]),
)
def test_a_recipe_comes_back_from_its_file(rate: float, p: float, padding: int, shape: str) -> None:
    recipe = profile("quick").apply(catalog.notebook_recipe())
    for setting in (f"optimizer.rate={rate!r}", f"dropout.p={p!r}", f"augmentation.padding={padding}"):
        recipe = recipe.set(setting)
    recipe = recipe.set(f"schedule.shape={shape}")
    provenance = AdoptionRecord(search="joint", seeds=(1, 2), command='x"y')
    written = adopted.adopted_from("found", recipe, {"dropout": {"optimizer.rate": rate}}, provenance)
    again = _read_back(written)
    assert again == written
    assert again.seeds == (1, 2)
    assert again.applied(profile("quick").apply(catalog.notebook_recipe())) == recipe


def _read_back(written: adopted.Adopted) -> adopted.Adopted:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{written.name}.toml"
        path.write_bytes(written.as_toml().encode())
        return adopted.read(path)


@pytest.mark.exhaustive
@given(
    names=st.lists(st.text(), min_size=3, max_size=3),
    value=st.text() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
)
@example(names=["a.b", "ä", "\x7f"], value="\x7f\t\n\x00\\\"'\u2028")
@example(names=["", "two words", '"""'], value="'''")
def test_any_text_comes_back_from_its_file(names: list[str], value: str | int | float) -> None:
    title, study, knob = names
    record = RecipeRecord({title: {knob: value}}, {study: {knob: value}}, AdoptionRecord(command=title + str(value)))
    written = adopted.Adopted("found", record)
    assert _read_back(written) == written
    assert repr(_read_back(written)) == repr(written), "a whole number and a real one are told apart"


def test_the_file_is_written_as_it_always_was() -> None:
    recipe = profile("quick").apply(catalog.notebook_recipe()).set("optimizer.rate=0.00001").set("mixup=on")
    text = adopted.adopted_from("mine", recipe, {}, AdoptionRecord(search="joint", seeds=(7, 8), trial=3)).as_toml()
    head, *tables = text.split("\n\n")
    assert head == "# mine: adopted from a search; see [provenance]."
    assert '[techniques.optimizer]\nkind = "adam"\nrate = 1e-05' in tables
    assert tables[-1].startswith('[provenance]\nsearch = "joint"\n')
    assert "\nseeds = [7, 8]\n" in tables[-1]
    assert tables[-1].endswith("\ntrial = 3\n"), "what a search did not say is left out"
    assert not [table for table in tables if table.startswith("[retuned")]


@given(st.floats(1e-7, 10.0), st.integers(0, 16))
def test_values_reach_a_recipe_as_they_were_sampled(rate: float, padding: int) -> None:
    recipe = catalog.notebook_recipe()
    study = Study("s", recipe, (), 1)
    values = {"optimizer.rate": rate, "dropout.p": 0, "augmentation.padding": padding, "mixup": "on"}
    trained = study.with_values(values)
    typed = recipe.set(f"optimizer.rate={rate!r}").set("dropout.p=0").set(f"augmentation.padding={padding}")
    assert repr(trained) == repr(typed.set("mixup=on"))
    assert trained.digest() == typed.set("mixup=on").digest()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[techniques.dropot]\np = 0.5", "no technique 'dropot'; did you mean dropout?"),
        ("[techniques.dropout]\nq = 0.5", "dropout has no knob 'q'"),
        ("[techniques.dropout]\np = 1.5", "dropout.p must lie between 0 and 0.95, not at 1.5"),
        ("[technique.dropout]\np = 0.5", "no section 'technique'; did you mean techniques?"),
        ("[techniques]\ndropout = 0.5", "the field techniques.dropout input should be an object, not '0.5'"),
        ("techniques = ", "cannot be read as a recipe"),
    ],
)
def test_a_damaged_recipe_says_what_is_wrong(content: str, said: str, tmp_path: Path, baseline: Recipe) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(said)):
        adopted.read(path).applied(baseline)


def test_a_recipe_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none has been adopted yet"):
        adopted.find("tuned", tmp_path)
    (tmp_path / "tuned.toml").write_text("")
    with pytest.raises(ValueError, match=re.escape("no recipe 'tund'; did you mean tuned?")):
        adopted.find("tund", tmp_path)
    assert adopted.find("tuned", tmp_path) == tmp_path / "tuned.toml"
    with pytest.raises(ValueError, match="there is no recipe at"):
        adopted.read(tmp_path / "other.toml")


def test_the_tuned_plan_goes_from_the_notebooks_recipe_to_the_tuned_one(baseline: Recipe) -> None:
    tuned = baseline.set("optimizer.rate=0.002").set("dropout.p=0.2").set("mixup=on")
    plan = catalog.make_plan("tuned", tuned, profile("quick"), (0, 1), {"dropout": {"optimizer.rate": 0.004}})
    names = [arm.name for arm in plan.arms]
    assert names[:4] == ["tuned recipe", "notebook's recipe", "+ Adam (rate 0.002)", "+ dropout (p = 0.2)"]
    assert plan.arm("+ dropout (p = 0.2)").recipe == baseline.set("optimizer.rate=0.002").set("dropout.p=0.2")
    assert plan.arm("notebook's recipe").recipe == baseline
    # mixup is the last rung: without it the tuned recipe is the rung before, which is trained once.
    assert "tuned without mixup" not in names
    removed = {c.control for c in plan.claims if c.family == "test accuracy in the tuned recipe"}
    assert "+ dropout (p = 0.2)" in removed
    anew = plan.arm("tuned without dropout, rate found anew").recipe
    assert anew == tuned.without("dropout").set("optimizer.rate=0.004")
    rungs = [(c.treatment, c.control) for c in plan.claims if c.family == ON_TOP]
    first, second = "+ Adam (rate 0.002)", "+ dropout (p = 0.2)"
    assert rungs == [(first, "notebook's recipe"), (second, first), ("tuned recipe", second)]
    with pytest.raises(ValueError, match="the tuned recipe is the notebook's"):
        catalog.make_plan("tuned", baseline, profile("quick"), (0, 1))


def test_claims_of_the_tuned_plan_name_techniques(baseline: Recipe) -> None:
    tuned = (
        baseline.set("optimizer=rmsprop").set("schedule=cosine").set("dropout=off").set("weight_decay.strength=0.002")
    )
    plan = catalog.make_plan("tuned", tuned.set("early_stopping=on"), profile("quick"), (0, 1))
    assert {c.technique for c in plan.claims} <= {"everything", *catalog.techniques()}
    rungs = ["+ RMSProp", "+ cosine schedule", "+ no dropout", "+ weight decay (strength 0.002)"]
    assert [arm.name for arm in plan.arms if arm.name.startswith("+ ")] == rungs
    top = "raises test accuracy, on top of the changes before it"
    assert [c.statement for c in plan.claims if c.family == ON_TOP] == [
        f"RMSProp in place of Adam {top}",
        f"The cosine schedule in place of the learning-rate schedule {top}",
        f"No dropout in place of dropout {top}",
        f"Weight decay (strength 0.002) in place of weight decay {top}",
        f"Early stopping {top}",
    ]
    assert plan.arm("tuned without RMSProp").recipe == plan.arms[0].recipe.without("optimizer")


def test_studies_are_called_after_what_they_search(baseline: Recipe) -> None:
    tuned = baseline.set("optimizer=rmsprop")
    titles = {s.name: s.title for s in next(catalog.search_module("learning-rate").search(tuned, 2))}
    assert (titles["rmsprop"], titles["adam"], titles["sgd"]) == ("RMSProp", "Adam", "plain SGD")
    titles = {s.name: s.title for s in next(catalog.search_module("retune").search(tuned, 2))}
    assert (titles["optimizer"], titles["dropout"]) == ("without RMSProp", "without dropout")


def test_multi_fidelity_hands_the_best_on_to_larger_budgets(baseline: Recipe) -> None:
    module = catalog.search_module("multi-fidelity")
    rounds = module.search(baseline, 32)
    (smallest,) = next(rounds)
    assert smallest.trials == 32
    assert not smallest.decides
    assert smallest.recipe.budget.train_images == round(baseline.budget.train_images / 16)
    assert smallest.recipe.budget.validation_images == round(baseline.budget.validation_images / 4)
    assert smallest.recipe.model.width == baseline.model.width / 4
    trials = [{**smallest.first[0], "dropout.p": i / 100} for i in range(9)]
    (larger,) = rounds.send([Best(smallest, 0, 0.6, trials[0], tuple(trials))])
    assert larger.sampler == LISTED
    assert larger.first == tuple(trials[:8]), "a quarter, the best first"
    assert larger.trials == 8
    assert larger.parameters == smallest.parameters
    (whole,) = rounds.send([Best(larger, 3, 0.7, trials[3], (trials[3], trials[1], trials[0]))])
    assert whole.first == (trials[3], trials[1])
    assert whole.recipe == baseline
    assert whole.decides
    with pytest.raises(StopIteration):
        rounds.send([Best(whole, 0, 0.8, trials[3], (trials[3],))])
    full = profile("full").apply(catalog.notebook_recipe())
    shares = [module.at(full, share).budget for share in (1 / 16, 1 / 4, 1.0)]
    assert [budget.steps_per_epoch for budget in shares] == [176, 176, full.budget.steps_per_epoch]


def test_multi_fidelity_begins_with_each_choice_changed_alone(baseline: Recipe) -> None:
    (study,) = next(catalog.search_module("multi-fidelity").search(baseline, 64))
    own, *changed = study.first
    assert study.with_values(own).techniques == baseline.techniques
    for values in changed:
        names = {name.partition(".")[0] for name in values.keys() | own.keys() if values.get(name) != own.get(name)}
        assert len(names - {"learning_rate"}) == 1, "one technique"
        assert study.with_values(values) != study.with_values(own)
    assert [values for values in changed if values.get("normalisation") == "on"]
    assert len({study.with_values(values).digest() for values in study.first}) == len(study.first)
    (few,) = next(catalog.search_module("multi-fidelity").search(baseline, 4))
    assert few.first == study.first[:4]
    outside = baseline.set("dropout.p=0.9")  # beyond what is searched
    assert next(catalog.search_module("multi-fidelity").search(outside, 4))[0].first == ()
