"""What was fixed in advance and what after results, and verdicts at planned looks."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import contrast, registration, sequential, statistics, verdict
from cifar_ablations.reports.inference.registration import Change
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.wording import answer, phrases
from tests.reports.conftest import small_plan

ACCURACY = schema.TEST_ACCURACY


def invoked(plan, started, digest=None, overrides=(), profile="quick", data="aa11"):
    plan = replace(
        plan,
        digest=digest or f"{started:016x}",
        overrides=tuple(overrides),
        profile=replace(plan.profile, name=profile),
        data=replace(plan.data, digest=data),
    )
    return load.Invocation(f"run {started}", "1", datetime.fromtimestamp(started, UTC), False, {}, plan)


ARMS = tuple(arm.name for arm in small_plan().arms)


def ended(*seconds, arms=ARMS):
    """Runs of seed 0, 1, … of every arm, of which nothing else matters than when they ended."""
    rows = [
        {"arm": arm, "seed": seed, "run_id": f"{arm} {seed}", "ended": 1000.0 * at}
        for seed, at in enumerate(seconds)
        for arm in arms
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "run_id", "ended"]).astype({"ended": float})


def judged(invocation):
    claims = invocation.plan.claims
    return pd.DataFrame({"statement": [claim.statement for claim in claims], "exploratory": [False] * len(claims)})


def late(newest, found, runs):
    frame = registration.with_exploratory(judged(newest), newest, runs, found)
    assert frame["exploratory"].equals(frame["late"])
    assert frame["late"].equals(frame["seen"] > 0)
    return frame["late"].to_list()


def counts(newest, found, runs, elsewhere=None):
    """Of the first claim: how many of the runs that it rests on were seen before it was fixed, of how many."""
    frame = registration.with_exploratory(judged(newest), newest, runs, found, elsewhere)
    return frame["seen"].iloc[0], frame["runs"].iloc[0]


def changed(plan, **rule):
    return replace(plan, rule=replace(plan.rule, **rule))


def seeded(plan, *seeds):
    return replace(plan, seeds=tuple(range(*seeds)))


def with_another_claim(plan):
    claim = replace(plan.claims[0], statement="dropout loses", sign=-plan.claims[0].sign)
    return replace(plan, claims=(*plan.claims, claim))


def renamed(plan):
    """The same with other words for plan, question, arms and claims, and `--set` of what is so already."""
    names = {arm.name: f"arm {i}" for i, arm in enumerate(plan.arms)}
    return replace(
        plan,
        name="another",
        question="Another question?",
        arms=tuple(replace(arm, name=names[arm.name]) for arm in plan.arms),
        claims=tuple(
            replace(
                claim,
                statement=f"claim {i}",
                technique="t",
                family="f",
                source="s",
                treatment=names[claim.treatment],
                control=names[claim.control],
            )
            for i, claim in enumerate(plan.claims)
        ),
    )


def test_a_first_plan_is_not_late_unless_its_runs_had_ended(plan):
    only = invoked(plan, 100)
    for runs in (ended(), ended(150), ended(100)):
        assert late(only, [only], runs) == [False] * 4
    assert registration.deviations(only, [only]) == []
    assert counts(only, [only], ended()) == (0, 0)
    assert counts(only, [only], ended(150)) == (0, 2)
    assert late(only, [only], ended(50, 99, 100, 150)) == [True] * 4, "another plan trained them"
    assert counts(only, [only], ended(50, 99, 100, 150)) == (4, 8)
    assert registration.runs_before(only, ended(50, 99, 100, 150), [only]) == 2 * len(ARMS)


@pytest.mark.parametrize("seeds", [5, 15])
def test_another_name_for_the_question_makes_no_new_claim(plan, seeds):
    """Five seeds seen, then asked again under other names: nothing is late unless the seeds, too, are others."""
    old = invoked(seeded(plan, 5), 100)
    asked = {
        "another plan": replace(plan, name="another"),
        "an override that changes nothing": plan,
        "other words": renamed(plan),
    }
    for how, again in asked.items():
        overrides = ["dropout.p=0.5"] if "override" in how else []
        new = invoked(seeded(again, seeds), 200, overrides=overrides)
        runs = ended(*[150] * 5, *[250] * (seeds - 5), arms=[arm.name for arm in again.arms])
        assert late(new, [new, old], runs) == [seeds > 5] * 4, how
        assert counts(new, [new, old], runs) == (10 if seeds > 5 else 0, 2 * seeds), how
        found = [d.changes for d in registration.deviations(new, [new, old])]
        assert found == ([[Change("seeds", before=old.plan.seeds, now=new.plan.seeds)]] if seeds > 5 else []), how


def test_a_claim_turned_round_is_the_same(plan):
    old = invoked(plan, 100)
    first, *rest = plan.claims
    turned = replace(first, sign=-first.sign, treatment=first.control, control=first.treatment, statement="turned")
    new = invoked(replace(plan, claims=(turned, *rest)), 200)
    assert late(new, [old, new], ended(150)) == [False] * 4
    assert registration.deviations(new, [old, new]) == []


def test_a_new_claim_on_what_another_plan_trained_is_late(plan):
    trained = invoked(replace(plan, claims=plan.claims[:1]), 100)
    new = invoked(replace(plan, name="another", claims=plan.claims[1:]), 200)
    assert late(new, [trained, new], ended(150)) == [True] * 3
    assert counts(new, [trained, new], ended(150, 250)) == (2, 4)


def test_only_runs_of_the_claims_own_arms_are_seen(plan):
    new = invoked(plan, 200)
    runs = pd.concat([ended(150, arms=["bare recipe"]), ended(250, arms=[a for a in ARMS if a != "bare recipe"])])
    frame = registration.with_exploratory(judged(new), new, runs.reset_index(drop=True), [new])
    assert frame["late"].to_list() == [False, False, False, True]
    assert frame[["seen", "runs"]].to_numpy().tolist() == [[0, 2], [0, 2], [0, 2], [1, 2]]


def test_arms_of_one_recipe_rest_on_the_same_runs(plan):
    """Another name for an arm of the claim is not another run."""
    first = plan.claims[0]
    twin = replace(plan.arms[0], name="twin")
    over = ((first.treatment, 0.5), ("twin", 0.5), (first.control, -1.0))
    asked = replace(plan, arms=(*plan.arms, twin), claims=(replace(first, over=over),))
    runs = ended(150, arms=[*ARMS, "twin"])
    runs["run_id"] = runs["run_id"].replace("twin 0", f"{first.treatment} 0")
    old, new = invoked(replace(plan, claims=(first,)), 100), invoked(asked, 200)
    assert counts(new, [old, new], runs) == (0, 2), "and the claim is the one that was made before"


def test_results_of_another_store_are_seen(plan):
    new = invoked(plan, 200)
    runs, there = ended(250, 260), ended(150, arms=ARMS[:2])
    assert counts(new, [new], runs) == (0, 4)
    assert counts(new, [new], runs, elsewhere=there) == (2, 4)
    assert counts(new, [new, invoked(plan, 120)], runs, elsewhere=there) == (0, 4), "it was fixed there before them"
    assert counts(new, [new], runs, elsewhere=there[:0]) == (0, 4)


def test_more_seeds_after_results_make_all_claims_late(plan):
    old, new = invoked(seeded(plan, 5), 100), invoked(seeded(plan, 12), 200)
    assert late(new, [new, old], ended(150)) == [True] * 4
    (deviation,) = registration.deviations(new, [new, old])
    assert (deviation.digest, deviation.started) == (old.digest, old.started)
    assert deviation.changes == [Change("seeds", before=old.plan.seeds, now=new.plan.seeds)]
    assert answer.of_changes(deviation.changes) == ["seeds 0 to 4, now 0 to 11"]


def test_what_was_exploratory_stays_so(plan):
    only = invoked(plan, 100)
    verdicts = judged(only).assign(exploratory=[True, False, True, False])
    found = registration.with_exploratory(verdicts, only, ended(150), [only])
    assert found["exploratory"].to_list() == [True, False, True, False]
    assert not found["late"].any()
    assert registration.with_exploratory(pd.DataFrame(), only, ended(150), [only]).empty


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"margin": 0.01}, "the margin 0.005, now 0.01"),
        ({"alpha": 0.1}, "α 0.05, now 0.1"),
        ({"looks": (3, 6)}, "the looks none, now 3 and 6"),
        ({"test": "paired t e-process"}, f"the test {small_plan().rule.test}, now paired t e-process"),
        ({"confirmatory_seeds": 5}, "the seeds that confirm 10, now 5"),
    ],
)
def test_another_rule_after_results_makes_all_claims_late(plan, rule, words):
    old, new = invoked(plan, 100), invoked(changed(plan, **rule), 200)
    assert late(new, [new, old], ended(150)) == [True] * 4
    assert [answer.of_changes(d.changes) for d in registration.deviations(new, [new, old])] == [[words]]


def test_other_looks_after_results_are_a_deviation(plan):
    old, new = (invoked(changed(plan, looks=looks), at) for looks, at in (((5, 10, 15), 100), ((5, 8, 15), 200)))
    assert late(new, [new, old], ended(150)) == [True] * 4
    (change,) = registration.deviations(new, [new, old])[0].changes
    assert change == Change("rule", "looks", (5, 10, 15), (5, 8, 15))
    assert answer.of_changes([change]) == ["the looks 5, 10 and 15, now 5, 8 and 15"]


def test_only_an_added_claim_is_late(plan):
    old, new = invoked(plan, 100), invoked(with_another_claim(plan), 200)
    assert late(new, [new, old], ended(150)) == [False] * 4 + [True]
    (change,) = registration.deviations(new, [new, old])[0].changes
    assert change == Change("claim", added=("dropout loses",))
    assert answer.of_changes([change]) == ["1 claim added (dropout loses)"]
    assert late(old, [new, old], ended(150)) == [False] * 4, "what came later does not matter"


def test_a_claim_of_another_sign_metric_or_arm_is_another_claim(plan):
    old = invoked(plan, 100)
    first, *rest = plan.claims
    other_arms = (*plan.arms[:3], replace(plan.arms[3], digest="f" * 16), *plan.arms[4:])
    for at, change, expected in (
        (200, {"claims": (replace(first, sign=-1), *rest)}, [True, False, False, False]),
        (300, {"claims": (replace(first, allowed=True), *rest)}, [True, False, False, False]),
        (400, {"arms": other_arms}, [False, False, False, True]),
    ):
        new = invoked(replace(plan, **change), at)
        assert late(new, [old, new], ended(150)) == expected
    (change,) = registration.deviations(new, [old, new])[0].changes
    assert change == Change("arm", gone=("bare recipe [00000000]",), added=("bare recipe [ffffffff]",))
    assert answer.of_changes([change]) == [
        "1 arm dropped (bare recipe [00000000])",
        "1 arm added (bare recipe [ffffffff])",
    ]


def test_an_arm_that_is_only_renamed_is_the_same(plan):
    old = invoked(plan, 100)
    claims = [replace(claim, treatment=claim.treatment.replace("full recipe", "everything")) for claim in plan.claims]
    arms = (replace(plan.arms[0], name="everything"), *plan.arms[1:])
    new = invoked(replace(plan, arms=arms, claims=tuple(claims)), 200)
    assert late(new, [old, new], ended(150)) == [False] * 4


def test_fresh_seeds_owe_nothing_to_earlier_ones(plan):
    old = invoked(seeded(plan, 5), 100)
    new = invoked(seeded(with_another_claim(changed(plan, margin=0.01)), 5, 10), 200)
    assert registration.earlier(new, [new, old]) == []
    assert late(new, [new, old], ended(250)) == [False] * 5
    assert registration.deviations(new, [new, old]) == []
    overlapping = invoked(seeded(plan, 4, 7), 300)
    assert registration.earlier(overlapping, [overlapping, new, old]) == [old, new]


def test_the_same_plan_again_is_not_late(plan):
    old, new = invoked(plan, 100, "same"), invoked(plan, 200, "same")
    assert late(new, [new, old], ended(150)) == [False] * 4
    assert registration.deviations(new, [new, old]) == []


def test_a_change_before_the_first_run_ended_is_not_late(plan):
    old, new = invoked(plan, 100), invoked(with_another_claim(changed(plan, margin=0.01)), 200)
    assert late(new, [new, old], ended(200, 250)) == [False] * 5
    assert late(new, [new, old], ended(100)) == [True] * 5
    assert late(new, [new, old], ended(99, 250)) == [True] * 5, "seen before either"
    assert counts(new, [new, old], ended(99, 250)) == (2, 4)
    assert registration.runs_before(new, ended(99, 250), [new, old]) == len(ARMS)
    assert len(registration.deviations(new, [new, old])) == 1, "said nevertheless"


def test_a_change_that_was_taken_back_is_not_late_but_said(plan):
    first, between, last = (
        invoked(p, at, digest)
        for p, at, digest in ((plan, 100, "one"), (changed(plan, margin=0.01), 200, "two"), (plan, 300, "one"))
    )
    everything = [last, between, first]
    assert late(between, everything, ended(150, 250)) == [True] * 4
    assert late(last, everything, ended(150, 250)) == [False] * 4
    assert [d.digest for d in registration.deviations(last, everything)] == ["two"]


def test_the_last_plan_before_the_first_result_is_the_one_that_was_fixed(plan):
    """Changed before any run had ended, then run, then invoked again as it was."""
    first, changed_in_time = invoked(plan, 100), invoked(changed(plan, margin=0.01), 120, "two")
    again, too_late = invoked(changed(plan, margin=0.01), 200, "two"), invoked(plan, 300)
    everything, runs = [first, changed_in_time, again, too_late], ended(150)
    assert late(changed_in_time, everything, runs) == [False] * 4
    assert late(again, everything, runs) == [False] * 4
    assert late(too_late, everything, runs) == [True] * 4, "back to what was given up before the first result"


def test_of_alternatives_under_two_names_only_the_last_before_the_first_result_was_fixed(plan):
    """Opposite signs and another margin, both registered in time: one of the two pages would have been confirmed."""
    first = plan.claims[0]
    other = replace(changed(plan, margin=0.02), name="other", claims=(replace(first, sign=-first.sign),))
    given_up, chosen = invoked(plan, 100), invoked(other, 110)
    both, runs = [chosen, given_up], ended(150, 160)
    assert late(chosen, both, runs) == [False]
    assert late(given_up, both, runs) == [True, False, False, False], "claims that have no alternative stay"
    assert counts(given_up, both, runs) == (4, 4)
    again = invoked(plan, 155)
    assert counts(given_up, [again, *both], runs) == counts(again, [again, *both], runs) == (2, 4)
    assert late(given_up, both, ended(105, 160)) == [False] * 4, "the other one came after results"
    assert late(chosen, both, ended(105, 160)) == [True]
    same = invoked(replace(plan, name="other", claims=plan.claims[:1]), 110)
    assert late(given_up, [given_up, same], runs) == [False] * 4, "the same claim under another name"
    elsewhere = invoked(seeded(other, 20, 30), 110)
    assert late(given_up, [given_up, elsewhere], runs) == [False] * 4, "other seeds"


def test_each_earlier_plan_is_said_once_oldest_first(plan):
    plans = [invoked(seeded(plan, n), at, f"{n}") for n, at in ((3, 100), (4, 200), (3, 300))]
    new = invoked(plan, 400)
    assert [d.digest for d in registration.deviations(new, [new, *plans[::-1]])] == ["3", "4"]
    assert registration.runs_before(new, ended(50, 150, 350), [new, *plans]) == len(ARMS)


def test_other_data_and_other_recipes_do_not_matter(plan):
    """Of another profile, or after a `--set`, the recipes have other digests."""
    new = invoked(changed(plan, margin=0.01), 200)
    other_arms = replace(plan, arms=tuple(replace(arm, digest=f"f{arm.digest[1:]}") for arm in plan.arms))
    others = [
        invoked(replace(other_arms, name="optimizers"), 100),
        invoked(other_arms, 101, overrides=["dropout.p=0.3"]),
        invoked(other_arms, 102, profile="full"),
        invoked(plan, 103, data="bb22"),
    ]
    assert len({registration.question(i) for i in [new, *others]}) == 5
    assert registration.question(invoked(plan, 1, overrides=["b", "a"])) == registration.question(
        invoked(plan, 2, overrides=["a", "b"])
    )
    assert registration.earlier(new, [new, *others]) == others[:3], "the data are other ones"
    assert registration.deviations(new, [new, *others]) == []
    assert late(new, [new, *others], ended(250)) == [False] * 4


def test_of_another_plan_only_what_it_claims_of_the_same_deviates(plan):
    """It shares one comparison: that it has other arms and claims besides is nobody's deviation."""
    first = plan.claims[0]
    of_one = replace(plan, name="levels", claims=(replace(first, sign=-first.sign), plan.claims[1]), arms=plan.arms[:2])
    new, old = invoked(plan, 200), invoked(changed(seeded(of_one, 3), margin=0.01), 100)
    (deviation,) = registration.deviations(new, [new, old])
    assert (deviation.plan, deviation.digest) == ("levels", old.digest)
    assert deviation.changes == [
        Change("seeds", before=(0, 1, 2), now=plan.seeds),
        Change("rule", "margin", 0.01, 0.005),
        Change("claim", gone=(first.statement,), added=(first.statement,)),
    ]
    assert registration.deviations(new, [new, invoked(replace(of_one, claims=()), 100)]) == []


def test_a_claim_moved_to_an_arm_that_was_there_is_another(plan):
    first, *rest = plan.claims
    moved = replace(plan, claims=(replace(first, control="bare recipe"), *rest))
    assert registration.changes(plan, moved) == [Change("claim", gone=(first.statement,), added=(first.statement,))]


def test_a_lock_is_of_this_very_plan_and_the_first_that_it_was_held_to(plan):
    def locked(at, started, digest="one", **other):
        return invoked(replace(plan, lock=f"{at}", locked=1000 * at, **other), started, digest)

    bare, first, second = invoked(plan, 100, "one"), locked(90, 200), locked(80, 300)
    others = [locked(70, 50, "two"), invoked(replace(plan, lock="60", locked=1), 50, "one", data="bb22")]
    later = locked(50, 400)
    runs = ended(85, 95, 150, 250)
    everything = [later, *others, second, first, bare]
    assert registration.lock(bare, runs, everything) is None, "what came later does not matter"
    found = registration.lock(second, runs, everything)
    assert found == registration.lock(first, runs, everything)
    assert (found.sha256, found.created, found.logged) == ("90", datetime.fromtimestamp(90, UTC), first.started)
    n = len(ARMS)
    assert (found.seen, found.before_logged, found.runs) == (n, 3 * n, 4 * n)


# Planned looks


def looking(plan, test="paired t", looks=(5, 10, 15), claims=(0, 2), correction="holm"):
    """A plan with looks of two claims, about the full recipe and one arm each; an old one, of pairs, if not asked."""
    chosen = tuple(plan.claims[i] for i in claims)
    names = {name for claim in chosen for name in claim.arms}
    arms = tuple(arm for arm in plan.arms if arm.name in names)
    rule = {"test": test, "correction": correction, "looks": looks}
    return replace(changed(seeded(plan, looks[-1]), **rule), claims=chosen, arms=arms)


def only_first(plan):
    return replace(plan, claims=plan.claims[:1])


def runs_with(plan, differences, base=0.7):
    """Runs in which the differences of each claim's treatment from its control are given, by claim."""
    treatment = plan.claims[0].treatment
    n = len(differences[0])
    by_arm = {treatment: np.full(n, base)}
    for claim, d in zip(plan.claims, differences, strict=True):
        by_arm[claim.control] = by_arm[treatment] - d
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "run_id": f"{arm} {seed}", "converged": True, ACCURACY: value}
            for arm, values in by_arm.items()
            for seed, value in enumerate(values)
        ]
    )


WOBBLE = 0.001 * np.array([1, -1, 2, -2, 0, 1, -1, 2, -2, 0, 1, -1, 2, -2, 0])
UNCLEAR = 0.05 * np.array([1, -1, 1, -1, 0.5] * 3)


def test_a_claim_decided_at_the_first_look_keeps_its_verdict_and_the_estimate_is_of_all_seeds(plan):
    """Statistics, 8: it kept the estimate of the look too, which is the larger the luckier: it covered 83 %."""
    plan = looking(plan)
    first = 0.05 + WOBBLE
    first[5:] = -0.2 + 5 * WOBBLE[5:]  # later seeds would say the opposite
    runs = runs_with(plan, [first, UNCLEAR])
    found = phrases.with_sentences(plan, verdict.judge(plan, runs))
    decided, open_ = found.iloc[0], found.iloc[1]
    assert (decided["verdict"], decided["n"], decided["look"]) == ("supported", 15, 5)
    assert decided["p"] == pytest.approx(stats.ttest_1samp(first[:5], 0).pvalue)
    assert decided["difference"] == pytest.approx(first.mean())
    interval = stats.ttest_1samp(first, 0).confidence_interval(1 - 0.05 / 3)
    assert (decided["low"], decided["high"]) == pytest.approx((interval.low, interval.high))
    assert (open_["verdict"], open_["n"], open_["look"]) == ("inconclusive", 15, 15)
    assert open_["p"] == pytest.approx(stats.ttest_1samp(UNCLEAR, 0).pvalue)
    assert f"{phrases.effect(decided)}, 15 against 15 runs" in decided["sentence"]
    assert phrases.effect(decided).endswith("] (98.3 %)")
    assert found["confidence"].to_list() == pytest.approx([1 - 0.05 / 3] * 2)
    early = verdict.judge(plan, runs[runs["seed"] < 5]).iloc[0]
    kept = ["verdict", "look", "p", "p_page", "tost_p", "tost_p_page"]
    pd.testing.assert_series_equal(early[kept], decided[kept], check_names=False)
    assert early["difference"] == pytest.approx(0.05)
    at_once = verdict.judge(changed(plan, looks=()), runs)
    assert at_once.iloc[0]["verdict"] != "supported"
    assert math.isnan(at_once.iloc[0]["look"])


def test_looks_of_independent_arms_are_tested_at_their_share(plan):
    plan = looking(plan, "welch t", claims=(0,), correction="weighted holm")
    rng = np.random.default_rng(3)
    runs = runs_with(plan, [np.zeros(15)])
    runs[ACCURACY] += 0.01 * rng.standard_normal(30) + np.where(runs["arm"] == "full recipe", 0.02, 0.0)
    whole = runs.pivot(index="arm", columns="seed", values=ACCURACY).loc[["full recipe", "without dropout"]].to_numpy()
    p = []
    for look in (5, 10, 15):
        arms = whole[:, :look]
        own = arms.var(axis=1, ddof=1)
        typical = np.median(own) * (look - 1) / stats.chi2.median(look - 1)
        raised = np.maximum(own, (typical + (look - 1) * own) / look)
        t = abs(arms[0].mean() - arms[1].mean()) / math.sqrt(raised.sum() / look)
        p.append(2 * stats.t.sf(t, raised.sum() ** 2 / (raised**2 / look).sum()))
    first = next(i for i, value in enumerate(p) if value <= 0.03 / 3)
    assert first > 0
    row = verdict.judge(plan, runs).iloc[0]
    assert (row["verdict"], row["look"]) == ("supported", (5, 10, 15)[first])
    assert (row["p"], row["p_page"]) == (pytest.approx(p[first]), pytest.approx(p[first] * 0.05 / 0.01))
    limits = stats.ttest_ind(*whole, equal_var=False).confidence_interval(1 - 0.05 / 3)
    assert (row["low"], row["high"]) == pytest.approx(tuple(limits))


@pytest.mark.parametrize(("p", "expected"), [(0.04, "inconclusive"), (0.012, "inconclusive"), (0.011, "supported")])
def test_a_p_value_between_the_shared_and_the_whole_level_decides_nothing(plan, p, expected):
    plan = looking(plan, claims=(0,))
    wobble = WOBBLE[:5] - WOBBLE[:5].mean()
    d = stats.t.ppf(1 - p / 2, 4) * wobble.std(ddof=1) / math.sqrt(5) + wobble
    plan = changed(plan, margin=1e-6)
    row = verdict.judge(plan, runs_with(plan, [d])).iloc[0]
    assert row["p"] == pytest.approx(p)
    assert row["p_page"] == pytest.approx(min(1, p * 0.05 * 3 / 0.035))
    assert row["verdict"] == expected


def test_equivalence_at_a_look_is_at_the_shared_level_too(plan):
    plan = looking(plan, claims=(0,))
    wobble = WOBBLE[:5] - WOBBLE[:5].mean()
    # The TOST's p is that of the distance to the nearer margin.
    for p, expected in ((0.004, "inconclusive"), (0.003, "equivalent")):
        plan = changed(plan, margin=stats.t.ppf(1 - p, 4) * wobble.std(ddof=1) / math.sqrt(5))
        row = verdict.judge(plan, runs_with(plan, [wobble])).iloc[0]
        assert row["tost_p"] == pytest.approx(p)
        assert row["tost_p_page"] == pytest.approx(min(1, p * 0.05 * 3 / 0.01))
        assert row["verdict"] == expected


def test_the_page_is_corrected_within_each_look(plan):
    plan = looking(plan)
    runs = runs_with(plan, [0.05 + WOBBLE, UNCLEAR])
    found = verdict.judge(plan, runs)
    small = stats.ttest_1samp((0.05 + WOBBLE)[:5], 0).pvalue
    assert found.iloc[0]["p_page"] == pytest.approx(2 * small * 0.05 * 3 / 0.035)


def test_undecided_claims_are_those_of_the_last_look_reached(plan):
    plan = looking(plan)
    for seeds, look in ((5, 5), (9, 5), (10, 10), (12, 10), (15, 15)):
        found = verdict.judge(plan, runs_with(plan, [UNCLEAR[:seeds], UNCLEAR[:seeds] * 1.1]))
        assert found["look"].to_list() == [look] * 2
        assert found["n"].to_list() == [look] * 2
        assert found["difference"].iloc[0] == pytest.approx(UNCLEAR[:look].mean())


def test_a_claim_is_decided_at_the_first_look_that_can(plan):
    plan = looking(plan)
    later = 0.03 * np.array([1, -1, 1, -1, 0.5, *[2] * 10]) + WOBBLE
    found = verdict.judge(plan, runs_with(plan, [later, -later]))
    assert found["verdict"].to_list() == ["supported", "refuted"]
    p = [2 * stats.ttest_1samp(later[:n], 0).pvalue for n in (5, 10, 15)]
    first = next(look for look, value in zip((5, 10, 15), p, strict=True) if value < 0.035 / 3)
    assert first > 5
    assert found["look"].to_list() == [first] * 2


def test_before_the_first_look_nothing_is_decided(plan):
    plan = looking(plan)
    runs = runs_with(plan, [0.05 + WOBBLE, 0.05 - WOBBLE])
    early = runs[runs["seed"] < 4]
    found = phrases.with_sentences(plan, verdict.judge(plan, early))
    assert found["verdict"].to_list() == ["inconclusive"] * 2
    assert found["reason"].to_list() == [verdict.NOT_REACHED] * 2
    assert found["look"].isna().all()
    assert "the first look, at 5 seeds, has not been reached" in found["sentence"].iloc[0]
    assert verdict.looks_taken(plan, early) == []
    assert verdict.looks_taken(plan, runs) == [5, 10, 15]
    # One arm lags behind.
    behind = runs[(runs["arm"] != plan.claims[1].control) | (runs["seed"] != 7)]
    assert verdict.looks_taken(plan, behind) == [5]
    assert verdict.judge(plan, behind)["n"].to_list() == [5, 5]


def test_looks_are_at_the_plans_own_seeds(plan):
    plan = seeded(looking(plan), 100, 115)
    runs = runs_with(plan, [0.05 + WOBBLE, UNCLEAR])
    assert verdict.looks_taken(plan, runs) == []
    moved = runs.assign(seed=runs["seed"] + 100)
    assert verdict.judge(plan, moved)["look"].to_list() == [5, 15]


def test_looks_that_confirm_are_no_glances(plan):
    """Statistics, 8: a stop at 5 seeds was never called exploratory."""
    many = looking(plan)
    runs = runs_with(many, [0.05 + WOBBLE, UNCLEAR])
    assert not verdict.judge(many, runs)["exploratory"].any()
    decided = runs_with(many, [0.05 + WOBBLE[:5], 0.05 - WOBBLE[:5]])
    stopped = verdict.judge(many, decided)
    assert (stopped["verdict"] == "supported").all()
    assert stopped["exploratory"].all(), "fewer than the 10 that confirm"
    said = answer.standing(many, stopped)
    asked = "the 10 that this plan asks for before an answer counts as confirmed"
    assert said == f"Exploratory: 5 seeds so far, fewer than {asked}."
    few = looking(plan, looks=(5, 8))
    assert verdict.judge(few, runs)["exploratory"].all(), "fewer are planned than a confirmation takes"


def test_an_e_process_is_judged_at_the_whole_level_with_its_own_interval(plan):
    plan = looking(plan, "paired t e-process", (5, 10, 15))
    strong = 0.05 + WOBBLE
    found = verdict.judge(plan, runs_with(plan, [strong, UNCLEAR]))
    row = found.iloc[0]
    # Five seeds reach a p-value of 1 / 36 at the least, which is too much for one of two claims.
    assert (row["verdict"], row["look"], row["confidence"]) == ("supported", 10, 0.95)
    assert row["p"] == pytest.approx(sequential.zero_p(strong[:10]))
    assert row["tost_p"] == pytest.approx(sequential.equivalence_p(strong[:10], 0.005))
    assert (row["low"], row["high"]) == pytest.approx(sequential.interval(strong))
    assert row["p_page"] == pytest.approx(2 * row["p"] * 0.05 / 0.035)
    assert found.iloc[1]["verdict"] == "inconclusive"
    alone = verdict.judge(only_first(plan), runs_with(plan, [strong, UNCLEAR]))
    assert alone.iloc[0]["look"] == 5
    same = 0.0001 + WOBBLE / 5
    none = verdict.judge(plan, runs_with(plan, [same, UNCLEAR])).iloc[0]
    assert none["verdict"] == "equivalent"
    assert none["tost_p"] == pytest.approx(sequential.equivalence_p(same[: int(none["look"])], 0.005))
    assert none["tost_p_page"] == pytest.approx(2 * none["tost_p"] * 0.05 / 0.01)


def test_an_e_process_without_looks_is_of_all_the_seeds(plan):
    plan = changed(looking(plan, "paired t e-process"), looks=())
    row = verdict.judge(plan, runs_with(plan, [0.05 + WOBBLE, UNCLEAR])).iloc[0]
    assert (row["n"], row["verdict"]) == (15, "supported")
    assert row["p"] == pytest.approx(sequential.zero_p(0.05 + WOBBLE))


# Right answers, image by image


IMAGES = 40


@pytest.fixture
def answered(plan):
    """Runs whose accuracies are those of drawn answers, but for one that diverged and has none."""
    plan = seeded(plan, 4)
    rng, rows, answers = np.random.default_rng(0), [], {}
    difficulty = rng.uniform(0.2, 0.95, IMAGES)
    for k, arm in enumerate(plan.arms):
        for seed in plan.seeds:
            run_id, right = f"{k}-{seed}", rng.uniform(size=IMAGES) < difficulty + 0.03 * k
            diverged = (k, seed) == (1, 2)
            if not diverged:
                answers[run_id] = right
            accuracy = math.nan if diverged else right.mean()
            rows.append(
                {
                    "arm": arm.name,
                    "seed": seed,
                    "run_id": run_id,
                    "converged": not diverged,
                    ACCURACY: accuracy,
                    schema.GENERALISATION_GAP: math.nan if diverged else 0.1 + 0.01 * rng.standard_normal(),
                }
            )
    return plan, pd.DataFrame(rows), answers


CLAIMS = {
    "two arms": {},
    "the other way": {"treatment": "without dropout", "control": "full recipe"},
    "without a diverged run": {"treatment": "only dropout", "control": "bare recipe"},
    "beyond another difference": {"beyond": ("only dropout", "bare recipe")},
    "a mean over arms": {
        "over": (("full recipe", 0.5), ("only dropout", 0.5), ("without dropout", -0.5), ("bare recipe", -0.5))
    },
}


@pytest.mark.parametrize("change", CLAIMS.values(), ids=CLAIMS)
def test_the_mean_over_images_is_the_difference_in_accuracy(answered, change):
    plan, runs, answers = answered
    claim = replace(plan.claims[0], **change)
    sides = contrast.sides(claim, runs)
    d = statistics.differences(sides.treatment, sides.control)
    matrix = contrast.by_image(claim, runs, d.index, answers)
    weights = contrast.weights(claim)
    assert matrix.shape == (3 if "without dropout" in weights else 4, IMAGES), "of seeds in which no arm diverged"
    np.testing.assert_allclose(matrix.mean(axis=1), d, atol=1e-6)
    assert sum(weights.values()) == pytest.approx(0)
    wide = runs.pivot(index="seed", columns="arm", values=ACCURACY)
    np.testing.assert_allclose(sum(w * wide[arm] for arm, w in weights.items()).dropna(), d)


def test_the_sides_of_a_claim_are_its_treatment_and_its_control(answered):
    plan, runs, _ = answered
    wide = runs.pivot(index="seed", columns="arm", values=ACCURACY)
    sides = contrast.sides(plan.claims[0], runs)
    np.testing.assert_allclose(sides.treatment, wide["full recipe"])
    np.testing.assert_allclose(sides.control, wide["without dropout"])
    over = contrast.sides(replace(plan.claims[0], **CLAIMS["a mean over arms"]), runs)
    np.testing.assert_allclose(over.treatment, (wide["full recipe"] + wide["only dropout"]) / 2)
    np.testing.assert_allclose(over.control, (wide["without dropout"] + wide["bare recipe"]) / 2)


def test_a_diverged_run_has_no_images(answered):
    plan, runs, answers = answered
    assert contrast.by_image(plan.claims[0], runs, pd.Index(plan.seeds), answers) is None
    matrix = contrast.by_image(plan.claims[0], runs, pd.Index([0, 1, 3]), answers)
    np.testing.assert_array_equal(matrix[0], answers["0-0"].astype(int) - answers["1-0"].astype(int))


def test_missing_answers_and_other_metrics_have_no_images(answered):
    plan, runs, answers = answered
    claim, seeds = plan.claims[2], pd.Index(plan.seeds)
    without = {run_id: right for run_id, right in answers.items() if run_id != "0-1"}
    assert contrast.by_image(claim, runs, seeds, without) is None
    assert contrast.by_image(claim, runs, pd.Index([0, 2, 3]), without) is not None
    assert contrast.by_image(plan.claims[1], runs, seeds, answers) is None
    assert contrast.by_image(claim, runs, seeds, {}) is None
    assert contrast.by_image(claim, runs, seeds, answers | {"other": np.ones(7, bool)}) is None
    assert contrast.by_image(claim, runs, pd.Index([0, 1, 9]), answers) is None, "a seed that was not trained"


def test_a_verdict_has_an_interval_for_new_images(answered):
    plan, runs, answers = answered
    found = verdict.judge(plan, runs, answers)
    for index in (0, 2, 3):
        claim = plan.claims[index]
        seeds = pd.Index([0, 1, 3]) if index == 0 else pd.Index(plan.seeds)
        row = found.iloc[index]
        matrix = contrast.by_image(claim, runs, seeds, answers)
        expected = statistics.for_new_images(row["low"], row["high"], matrix)
        assert (row["images_low"], row["images_high"]) == pytest.approx(expected)
        assert row["images_low"] <= row["low"] + 1e-12
        assert row["images_high"] >= row["high"] - 1e-12
        if index:  # with as many runs in both arms
            assert (row["images_low"] + row["images_high"]) / 2 == pytest.approx(row["difference"], abs=1e-6)
    assert found.iloc[1][["images_low", "images_high"]].isna().all(), "a gap has no answers"
    assert verdict.judge(plan, runs)[["images_low", "images_high"]].isna().all(axis=None)


def test_the_images_of_a_look_are_those_of_its_seeds(answered):
    plan, runs, answers = answered
    plan = replace(changed(plan, looks=(3, 4)), claims=plan.claims[3:])
    # The arms of the claim are right on other images, seed by seed the same: what other images would make is much.
    arms = {arm.name: i for i, arm in enumerate(plan.arms)}
    only, bare = (arms[name] for name in (plan.claims[0].treatment, plan.claims[0].control))
    every = np.arange(IMAGES)
    answers = answers | {f"{only}-{seed}": every % 3 != seed % 2 for seed in plan.seeds}
    answers = answers | {f"{bare}-{seed}": every % 5 > 1 for seed in plan.seeds}
    row = verdict.judge(plan, runs[runs["seed"] < 3], answers).iloc[0]
    matrix = contrast.by_image(plan.claims[0], runs, pd.Index([0, 1, 2]), answers)
    expected = statistics.for_new_images(row["low"], row["high"], matrix, 1 - 0.05 / 2)
    assert row["look"] == 3
    assert row["images_low"] < row["low"] - 0.01
    assert (row["images_low"], row["images_high"]) == pytest.approx(expected)
