"""The sentence that says which learning rates were tuned for their arm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.designs import BEST_RATES, FULL, RATE
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.record import DataRecord, PlanRecord
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.inference.arms import surroundings
from cifar_ablations.reports.wording import headlines, outcome_lines, phrases, rates
from tests.reports.inference.test_verdict import WOBBLE, frame


def _plan(name: str = "techniques", *settings: str, best: dict[str, float] | None = None, **found: float) -> PlanRecord:
    """A plan as it is logged. best: the rates that a search found other than the recipe's; found: for `tuned`."""
    size = profile("quick")
    baseline = size.apply(catalog.notebook_recipe())
    for setting in settings:
        baseline = baseline.set(setting)
    known = {study.name: study.first[0][RATE] for study in next(catalog.search_module("arms").search(baseline, 1))}
    asked = {} if best is None else {**known, **best}
    retuned = {technique: {RATE: rate} for technique, rate in found.items()}
    made = catalog.make_plan(name, baseline, size, (0, 1), retuned, asked)
    overrides = () if best is None else (f"{BEST_RATES} (c0ffee)",)
    return made.record(size, DataRecord("images", "d" * 16), overrides)


def test_the_notebooks_rates_were_tuned_for_no_arm() -> None:
    said = "Learning rates: 0.003 with Adam, 0.1 with plain SGD; none was tuned for its arm (RETUNE=1 does)."
    assert rates.of_plan(_plan()) == said
    assert rates.of_plan(_plan("pairwise")).endswith("; none was tuned for its arm."), "RETUNE is not for it"


def test_a_factor_counts_and_the_optimizer_is_called_by_its_name() -> None:
    said = rates.of_plan(_plan("techniques", "optimizer=rmsprop", "mixup=on"))
    assert said.startswith("Learning rates: 0.001 with RMSProp, 0.1 with plain SGD; none")


def test_best_rates_are_said_beside_the_recipes() -> None:
    plan = _plan(best={FULL: 0.00423918, "without dropout": 0.0012, "bare recipe": 0.25})
    assert rates.of_plan(plan) == (
        "Learning rates: 0.003 with Adam, 0.1 with plain SGD, none of them tuned for its arm. A search with equally "
        "many trials for every arm found better ones for 3 of 14: 0.0012 to 0.00424 with Adam, 0.25 with plain SGD; "
        "these are compared where it says “each at its best rate”."
    )


def test_a_search_that_found_nothing_better_has_tuned_every_arm() -> None:
    said = rates.of_plan(_plan(best={}))
    assert said.endswith(", tuned for every arm: a search with equally many trials for every arm found no better one.")


def test_the_plan_tuned_says_which_arms_got_a_rate_of_their_own() -> None:
    said = rates.of_plan(_plan("tuned", "optimizer.rate=0.002", dropout=0.004))
    assert said.endswith(", not tuned arm by arm; tuned for 1 arm: 0.004 with Adam.")


@pytest.mark.parametrize("name", ["variance", "levels/learning_rate"])
def test_nothing_is_said_where_it_is_not_the_question(name: str) -> None:
    assert rates.of_plan(_plan(name)) == ""


def test_a_store_that_does_not_say_is_not_asked() -> None:
    plan = _plan()
    assert rates.of_plan(replace(plan, arms=tuple(replace(arm, knobs={}) for arm in plan.arms))) == ""
    other = replace(plan, arms=(replace(plan.arms[0], knobs={"optimizer.kind": "adagrad", RATE: 0.01}),))
    assert rates.of_plan(other).startswith("Learning rates: 0.01 with adagrad; none")


@pytest.mark.slow
def test_both_answers_to_the_whole_come_first_and_places_are_compared_once() -> None:
    plain, plan = _plan(), _plan(best={FULL: 0.0042, "bare recipe": 0.2})
    arms = {arm.name: 0.5 + 0.01 * i + WOBBLE[:6] for i, arm in enumerate(plan.arms)}
    plan = replace(plan, seeds=tuple(range(6)))
    runs = frame(plan, arms)
    verdicts = phrases.with_sentences(plan, verdict.judge(plan, runs))
    said = [line.text for line in headlines.of_plan(plan, verdicts) if line.label == "Overall"]
    assert len(said) == 2
    assert said[1].startswith("full recipe at its best rate 64.0 %, bare recipe at its best rate 65.0 %: −1.0 pp")
    first, second, third, *_ = outcome_lines.of_techniques(plan, verdicts)
    assert (first.place, second.place) == ("Overall", "Overall, each at its best rate")
    assert second.what == "full recipe at its best rate against bare recipe at its best rate"
    assert third.place == "In the full recipe"
    places = surroundings(plan, runs)
    assert len(places) == len(surroundings(replace(plain, seeds=plan.seeds), runs)) == 6
    assert set(places["places"]) == {("in the full recipe", "on its own")}
