"""Plans: their arms, claims and digest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.designs import (
    ALL,
    BARE,
    EACH_AT_BEST,
    FULL,
    RATE,
    bare,
    by_recipe,
    one_at_a_time,
    switched_on,
)
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plan import LOOKS, with_looks
from cifar_ablations.ablations.plans.modern import BASELINE, MODERN, TOGETHER
from cifar_ablations.ablations.profiles import PROFILES, profile
from cifar_ablations.ablations.record import DataRecord
from cifar_ablations.study.training import contracts

NOTEBOOK_SECTIONS = (
    "Weight Decay",
    "Dropout",
    "Data Augmentation",
    "Exploding & Vanishing Gradients",
    "Weight Initialization",
    "Learning Rate",
    "Stochastic Gradient Descent",
    "Momentum",
    "RMSProp",
    "Adam",
    "Training Efficient Model",
)


@pytest.fixture(params=list(PROFILES))
def size(request):
    return profile(request.param)


def _plan(name, size, seeds=(0, 1)):
    baseline = size.apply(catalog.notebook_recipe())
    if name in ("tuned", "gain"):  # which is about another recipe than the notebook's
        baseline = baseline.set("optimizer.rate=0.002").set("dropout.p=0.2")
    return catalog.make_plan(name, baseline, size, seeds)


def test_the_techniques_plan_removes_and_adds_each_of_six(size) -> None:
    plan = _plan("techniques", size)
    full = plan.arm("full recipe").recipe
    empty = plan.arm("bare recipe").recipe
    assert len(plan.arms) == 14
    assert len({arm.recipe.digest() for arm in plan.arms}) == 14
    assert len(switched_on(full)) == 6
    assert switched_on(empty) == []
    for technique in switched_on(full):
        assert plan.arm(f"without {technique.kind_title}").recipe == full.without(technique.name)
        alone = plan.arm(f"only {technique.kind_title}").recipe
        assert switched_on(alone) == [technique]
        assert bare(alone) == empty


def test_claims_compare_arms_that_differ_in_their_technique_alone(size) -> None:
    plan = _plan("techniques", size)
    assert len({claim.statement for claim in plan.claims}) == len(plan.claims)
    for claim in plan.claims:
        treatment, control = plan.arm(claim.treatment).recipe, plan.arm(claim.control).recipe
        assert (bare(treatment) if claim.technique == ALL else treatment.without(claim.technique)) == control
        assert claim.source


def test_the_full_recipe_is_claimed_to_beat_the_bare_one(size) -> None:
    (claim,) = (claim for claim in _plan("techniques", size).claims if claim.technique == ALL)
    assert (claim.treatment, claim.control, claim.metric, claim.sign) == (FULL, BARE, schema.TEST_ACCURACY, +1)
    assert claim.statement == "The full recipe reaches a higher test accuracy than the bare one"
    assert claim.family not in {other.family for other in _plan("techniques", size).claims if other != claim}


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_nothing_is_claimed_twice_or_against_itself(count: int) -> None:
    size = profile("quick")
    baseline = size.apply(bare(catalog.notebook_recipe()))
    for name in ("dropout", "mixup", "optimizer")[:count]:
        baseline = baseline.set(f"{name}=on")
    plan = catalog.make_plan("techniques", baseline, size, (0, 1))
    recipes = {arm.name: arm.recipe for arm in plan.arms}
    compared = [(claim.metric, recipes[claim.treatment], recipes[claim.control]) for claim in plan.claims]
    overall = [claim for claim in plan.claims if claim.technique == ALL]
    assert len(overall) == (count > 1)
    assert all(treatment != control for _, treatment, control in compared)
    for claim in overall:
        assert compared.count((claim.metric, recipes[claim.treatment], recipes[claim.control])) == 1


def _own_rates(baseline) -> dict[str, float]:
    """The learning rates that the arms have, as a search for better ones names them."""
    return {name: recipe.update_rule().rate for recipe, name in by_recipe(one_at_a_time(baseline)).items()}


def _retuned(baseline, rates):
    return catalog.make_plan("techniques", baseline, profile("quick"), (0, 1), {}, rates)


@pytest.mark.parametrize("settings", [(), ("optimizer=rmsprop", "mixup=on"), ("optimizer=off",), ("dropout=off",)])
def test_a_recipe_whose_rates_are_the_best_gets_no_arm_and_no_claim_more(settings: tuple[str, ...]) -> None:
    baseline = profile("quick").apply(catalog.notebook_recipe())
    for setting in settings:
        baseline = baseline.set(setting)
    plain, retuned = _retuned(baseline, {}), _retuned(baseline, _own_rates(baseline))
    assert (retuned.arms, retuned.claims) == (plain.arms, plain.claims)
    assert retuned.digest() != plain.digest(), "it says that rates were looked for"


@pytest.mark.exhaustive
@given(st.lists(st.sampled_from([None, 0.0005, 0.02, 0.3]), min_size=14, max_size=14))
def test_each_claim_is_made_of_both_rates_in_places_of_its_own(found: list[float | None]) -> None:
    baseline = profile("quick").apply(catalog.notebook_recipe())
    own = _own_rates(baseline)
    best = {name: rate or own[name] for name, rate in zip(own, found, strict=True)}
    plain, plan = _retuned(baseline, {}), _retuned(baseline, best)
    assert plan.arms[: len(plain.arms)] == plain.arms, "what is trained already is not trained again"
    assert plan.claims[: len(plain.claims)] == plain.claims
    assert len({arm.recipe.digest() for arm in plan.arms}) == len(plan.arms)
    assert len(plan.arms) == 14 + sum(rate not in (None, own[name]) for name, rate in zip(own, found, strict=True))
    again = {(c.technique, c.metric, c.family): c for c in plan.claims[len(plain.claims) :]}
    moved = {name for name in own if best[name] != own[name]}
    for claim in plain.claims:
        other = again.pop((claim.technique, claim.metric, f"{claim.family}{EACH_AT_BEST}"), None)
        assert (other is None) == (not moved & {claim.treatment, claim.control})
        if other:
            for before, now in ((claim.treatment, other.treatment), (claim.control, other.control)):
                assert plan.arm(now).recipe == plan.arm(before).recipe.with_knob(RATE, best[before])
            assert (other.sign, other.mechanism) == (claim.sign, claim.mechanism)
    assert not again


def test_a_claim_at_best_rates_names_the_rate_that_it_is_about() -> None:
    baseline = profile("quick").apply(catalog.notebook_recipe()).set("optimizer=rmsprop").set("optimizer.rate=0.002")
    plan = _retuned(baseline, _own_rates(baseline) | {FULL: 0.0071234})
    statements = [claim.statement for claim in plan.claims if claim.technique == "optimizer"]
    assert statements == [
        "RMSProp (rate 0.002) raises test accuracy in the full recipe",
        "RMSProp (rate 0.002) raises test accuracy on its own",
        "RMSProp (rate 0.00712) raises test accuracy in the full recipe, each at its best rate",
    ]
    record = plan.record(profile("quick"), DataRecord("images", "d" * 16))
    assert record.titles["optimizer"] == "RMSProp", "one title for both rates"


def test_where_the_technique_is_a_rate_best_rates_leave_nothing_to_compare() -> None:
    baseline = profile("quick").apply(bare(catalog.notebook_recipe())).set("optimizer.rate=0.003").set("dropout=on")
    plan = _retuned(baseline, dict.fromkeys(_own_rates(baseline), 0.05))
    again = [claim for claim in plan.claims if claim.family.endswith(EACH_AT_BEST)]
    assert {claim.technique for claim in again} == {"dropout", ALL}
    assert all(claim.treatment != claim.control for claim in again)


OTHERS = ("optimizer=rmsprop", "initialisation=orthogonal")
NAMED = re.compile("Adam|Kaiming|He et al. 2015")


@pytest.mark.parametrize("name", catalog.plan_names())
def test_nothing_is_called_what_it_is_not(name: str) -> None:
    """On a recipe with RMSProp and orthogonal weights, others are named where they are trained, and only there."""
    size = profile("quick")
    baseline = size.apply(catalog.notebook_recipe())
    for setting in OTHERS:
        baseline = baseline.set(setting)
    plan = catalog.make_plan(name, baseline, size, (0, 1), {"optimizer": {"optimizer.rate": 0.05}})
    record = plan.record(size, DataRecord("images", "d" * 16), OTHERS)
    reasons = [word for reason in record.reasons.values() for word in (reason.text, reason.source)]
    assert not any(NAMED.search(text) for text in (*record.titles.values(), *reasons, plan.question, plan.note))
    for arm in plan.arms:
        if NAMED.search(arm.name):
            assert NAMED.search(" ".join(t.setting_title for t in arm.recipe.techniques)), arm.name
    for claim in plan.claims:
        if NAMED.search(claim.statement) or NAMED.search(claim.source):
            arms = [plan.arm(arm) for arm in claim.arms]
            named = {t.setting_title for arm in arms for t in arm.recipe.techniques}
            assert NAMED.search(" ".join(named)), claim.statement
    if name in ("techniques", "factorial", "half-factorial", "pairwise", "ladder", "data-size", "variance"):
        said = " ".join([*(arm.name for arm in plan.arms), *(claim.statement for claim in plan.claims)])
        assert not NAMED.search(said)
        assert "RMSProp" in said or name in ("data-size", "variance")
    if name == "notebook":
        assert (plan.arms[0].name, plan.references) == (FULL, ())
        assert "notebook" not in plan.question, "that is another recipe's"


def test_levels_are_called_by_their_names() -> None:
    size = profile("quick")
    baseline = size.apply(catalog.notebook_recipe()).set("optimizer.rate=0.002")
    plan = catalog.make_plan("levels/optimizer", baseline, size, (0, 1))
    assert [arm.name for arm in plan.arms[:4]] == ["Adam (rate 0.002)", "plain SGD", "Adam", "SGD with momentum"]
    claims = {claim.treatment: claim for claim in plan.claims}
    assert claims["RMSProp"].statement == "RMSProp raises test accuracy against plain SGD"
    assert claims["RMSProp"].source == "Tieleman & Hinton 2012"
    assert claims["RMSProp"].family == "test accuracy (RMSProp)"
    assert {claim.control for claim in plan.claims} == {"plain SGD"}
    # The claims compare several optimizers, and none of them is called by the name of the baseline's.
    assert plan.record(size, DataRecord("images", "d" * 16)).titles["optimizer"] == "optimizer"


def test_arms_leave_knobs_out_and_statements_do_not() -> None:
    size = profile("quick")
    baseline = size.apply(catalog.notebook_recipe()).set("dropout.p=0.37").set("optimizer.kind=sgd")
    plan = catalog.make_plan("techniques", baseline, size, (0, 1))
    names = [arm.name for arm in plan.arms]
    assert {"without dropout", "only dropout"} <= set(names)
    # What is left without it is plain SGD too, at its own rate.
    assert "without plain SGD (rate 0.003)" in names
    statements = [claim.statement for claim in plan.claims]
    assert "Dropout (p = 0.37) raises test accuracy in the full recipe" in statements
    assert plan.record(size, DataRecord("images", "d" * 16)).titles["dropout"] == "dropout (p = 0.37)"


def test_the_notebook_plan_is_the_notebooks_recipe() -> None:
    plan = _plan("notebook", profile("full"))
    knobs = plan.arms[0].recipe.knobs()
    notebook = {
        "model.name": "notebook",
        "model.width": 1.0,
        "budget.epochs": 20,
        "budget.batch_size": 256,
        "budget.train_images": 50_000,
        "budget.validation_images": 0,
        "budget.test_images": 10_000,
        "augmentation.padding": 4,
        "augmentation.flip": 0.5,
        "dropout.p": 0.5,
        "initialisation.scheme": "kaiming_uniform",
        "optimizer.kind": "adam",
        "optimizer.rate": 3e-3,
        "schedule.shape": "multistep",
        "schedule.gamma": 0.1,
        "weight_decay.strength": 1e-4,
    }
    assert notebook.items() <= knobs.items()
    assert [r.value for r in plan.references] == [0.7804]


def test_a_smaller_notebook_plan_is_not_held_against_the_printed_accuracy() -> None:
    assert _plan("notebook", profile("quick")).references == ()


def test_the_digest_is_of_everything_that_was_fixed() -> None:
    size = profile("quick")
    plan = _plan("techniques", size)
    assert plan.digest() == _plan("techniques", size).digest()
    assert plan.digest() != _plan("techniques", size, seeds=(0, 1, 2)).digest()
    changed = size.apply(catalog.notebook_recipe()).set("dropout.p=0.3")
    assert plan.digest() != catalog.make_plan("techniques", changed, size, (0, 1)).digest()


@pytest.mark.slow
@pytest.mark.parametrize("check", contracts.PLANS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", catalog.plan_names())
def test_every_plan_keeps_to_the_contract(name: str, check: Callable[[str, contracts.MakePlan], None]) -> None:
    check(name, lambda size: _plan(name, profile(size)))


def test_there_is_a_plan_of_levels_for_each_technique() -> None:
    for name, cls in catalog.techniques().items():
        plan = _plan(f"levels/{name}", profile("quick"))
        assert len(plan.arms) == len(cls.levels)
        assert plan.arms[0].recipe == profile("quick").apply(catalog.notebook_recipe())
        assert {claim.technique for claim in plan.claims} <= {name}


def test_the_ledger_has_the_notebooks_statements() -> None:
    plan = _plan("claims", profile("quick"))
    assert len(plan.claims) >= 20
    assert plan.layout == "ledger"
    for claim in plan.claims:
        assert claim.notebook in NOTEBOOK_SECTIONS
        assert claim.mechanism


def test_fewer_images_are_visited_more_often() -> None:
    recipe = profile("quick").apply(catalog.notebook_recipe())
    steps = recipe.sized.budget.epochs * recipe.sized.budget.steps_per_epoch
    for level in ("1/2", "1/16"):
        budget = recipe.set(f"data_size={level}").sized.budget
        assert budget.train_images == 2000 * (0.5 if level == "1/2" else 1 / 16)
        assert budget.epochs * budget.steps_per_epoch == pytest.approx(steps, rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: catalog.plan_module("technique"), "no plan 'technique'; did you mean techniques?"),
        (lambda: profile("quik"), "no profile 'quik'; did you mean quick?"),
        (lambda: _plan("techniques", profile("quick"), seeds=()), "at least one seed"),
    ],
)
def test_unknown_names_get_the_nearest(call, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_the_arms_of_the_a_a_plan_are_one_recipe_on_disjoint_seeds() -> None:
    plan = _plan("a-a", profile("quick"), seeds=tuple(range(15)))
    one, other = plan.arms
    assert one.recipe == other.recipe
    trained = [{seed + arm.seed_offset for seed in plan.seeds} for arm in plan.arms]
    assert not trained[0] & trained[1]


@pytest.mark.parametrize("way", sorted(LOOKS))
def test_looks_are_part_of_what_a_plan_fixes(way: str) -> None:
    fixed = _plan("techniques", profile("quick"), seeds=(7,))
    plan = with_looks(fixed, way)
    assert plan.seeds == tuple(range(7, 7 + plan.rule.looks[-1]))
    assert plan.digest() != fixed.digest()
    assert (plan.arms, plan.claims, plan.rule.margin) == (fixed.arms, fixed.claims, fixed.rule.margin)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.plan_names())
def test_a_plan_is_logged_whole(name):
    plan = _plan(name, profile("quick"))
    data = DataRecord("images", "d" * 16, "an archive", False, ("cat", "dog"))
    record = plan.record(profile("quick"), data, ("dropout.p=0.2",), "ablate run")
    for field in fields(plan):
        kept = getattr(plan, field.name)
        assert getattr(record, field.name) == (tuple(arm.record() for arm in kept) if field.name == "arms" else kept)
    assert (record.digest, record.data, record.profile.name) == (plan.digest(), data, "quick")
    assert (record.overrides, record.command) == (("dropout.p=0.2",), "ablate run")
    baseline = plan.arms[0].recipe
    assert (record.model, record.budget) == (str(baseline.model), str(baseline.budget))
    assert set(record.titles) == set(record.reasons) == {technique.name for technique in baseline.techniques}


def test_the_modern_plan_adds_and_removes_each_newer_technique(size) -> None:
    plan = _plan("modern", size)
    baseline, together = plan.arm(BASELINE).recipe, plan.arm(TOGETHER).recipe
    assert baseline == size.apply(catalog.notebook_recipe())
    for name, level in MODERN.items():
        newer = catalog.techniques()[name].at(level)
        assert newer in together.techniques
        assert plan.arm(f"with {newer.setting_title}").recipe == baseline.with_technique(newer)
        own = next(technique for technique in baseline.techniques if technique.name == name)
        assert plan.arm(f"all but {newer.setting_title}").recipe == together.with_technique(own)
    assert len(plan.arms) == len({arm.recipe for arm in plan.arms}) == 2 + 2 * len(MODERN)
    assert len(plan.claims) == 1 + 2 * len(MODERN)
    for claim in plan.claims:
        treatment, control = plan.arm(claim.treatment).recipe, plan.arm(claim.control).recipe
        changed = [a.name for a, b in zip(treatment.techniques, control.techniques, strict=True) if a != b]
        assert changed == (sorted(MODERN) if claim.technique == ALL else [claim.technique])


def test_a_baseline_with_nothing_to_add_is_refused_by_the_modern_plan(size) -> None:
    baseline = size.apply(catalog.notebook_recipe())
    for name, level in [*MODERN.items()][1:]:
        baseline = baseline.set(f"{name}={level}")
    with pytest.raises(AblateError, match="lacks two of its techniques or more"):
        catalog.make_plan("modern", baseline, size, (0, 1))


def test_optimizers_are_compared_at_their_usual_and_at_their_best_rates(size) -> None:
    baseline = size.apply(catalog.notebook_recipe())
    plain = catalog.make_plan("optimizers", baseline, size, (0, 1))
    assert {arm.recipe for arm in plain.arms} == {
        baseline.set(f"optimizer={level}") for level in catalog.techniques()["optimizer"].levels
    }
    rates = {arm.name: 2 * arm.recipe.update_rule().rate for arm in plain.arms}
    tuned = catalog.make_plan("optimizers", baseline, size, (0, 1), {}, rates)
    assert len(tuned.arms) == 2 * len(plain.arms)
    assert [claim.source for claim in tuned.claims] == [claim.source for claim in plain.claims]
    for before, after in zip(plain.claims, tuned.claims, strict=True):
        for usual, best in ((before.treatment, after.treatment), (before.control, after.control)):
            rate = plain.arm(usual).recipe.update_rule().rate
            assert tuned.arm(best).recipe == plain.arm(usual).recipe.with_knob("optimizer.rate", 2 * rate)
