"""The answer in sentences: what a reader should know who reads nothing else of the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import health, registration, verdict
from cifar_ablations.reports.inference.arms import Placement
from cifar_ablations.reports.inference.health import Health
from cifar_ablations.reports.inference.registration import Change
from cifar_ablations.reports.reading.consulted import Consulted
from cifar_ablations.reports.reading.outside import Pairing
from cifar_ablations.reports.wording import phrases


def mechanism(means: Mapping[str, tuple[float, float]]) -> list[str]:
    """A clause per metric, from control to treatment; means: of `mechanisms.means`."""
    return [
        f"{phrases.metric_title(name)} {phrases.amount(name, control)} → {phrases.amount(name, treatment)}"
        for name, (control, treatment) in means.items()
    ]


def statements(verdicts: pd.DataFrame, technique: str) -> list[dict[str, Any]]:
    """The claims about a technique as the plan states them, each with its verdict and the verdict's label."""
    rows = verdicts[verdicts["technique"] == technique] if not verdicts.empty else verdicts
    return [
        {"statement": row["statement"], "verdict": row["verdict"], "label": phrases.verdict_label(row)}
        for row in rows.to_dict("records")
    ]


def in_brief(verdicts: pd.DataFrame, technique: str) -> str:
    """What a technique does to test accuracy, place by place: 'helps in the full recipe, open on its own'."""
    if verdicts.empty:
        return ""
    rows = verdicts[(verdicts["technique"] == technique) & (verdicts["metric"] == schema.TEST_ACCURACY)]
    said = [f"{phrases.outcome(row)} {row['where']}".rstrip() for row in rows.to_dict("records")]
    return ", ".join(said[:3]) + (", …" if len(said) > 3 else "")


def of_cost(runs: pd.DataFrame) -> str:
    """How long all runs together were trained; nothing before the first."""
    known = runs[schema.SECONDS].dropna()
    if known.empty:
        return ""
    return (
        f"{phrases.count(len(known), 'training')} took {phrases.duration(float(known.sum()))} of worker time in all. "
        "Runs are trained several at a time, so this machine cannot say what one arm costs more than another."
    )


def strength(plan: PlanRecord, verdicts: pd.DataFrame, rate: float) -> list[str]:
    """How far to trust the verdicts: the page's error rate, and what could be found at all.

    rate: the share of such pages that say something false, of `verdict.error_rate`.
    """
    if verdicts.empty:
        return []
    rule, claims = plan.rule, phrases.count(len(verdicts), "claim")
    said, share = list[str](), f"{100 * rate:.1f} %"
    if len(plan.seeds) < 2:
        return [*said, "One seed cannot tell an effect from chance: nothing is decided."]
    if rate > rule.alpha:
        few = f"by simulation, {share} of pages like this one would say something false with so few seeds"
        return [*said, f"No verdicts: {few}. The intervals stand."]
    said.append(
        f"The chance that any of these verdicts is wrong is at most {100 * rule.alpha:g} %, by simulation of such "
        f"pages ({share} at worst, for normal and heavy-tailed noise and spreads up to fourfold apart; skewed noise "
        "errs more often); " + (f"all {claims} share it." if len(verdicts) > 1 else "it has one claim.")
    )
    compared = verdicts[verdicts["metric"].map(phrases.decides) & verdicts["detectable"].notna()]
    if compared.empty:
        return said
    detectable, possible = compared["detectable"].to_list(), compared["possible"].to_list()
    name = compared["metric"].iloc[0]
    title = phrases.metric_title(name)
    changes, beyond = phrases.changes(name, detectable, possible, "claim")
    if not changes:
        return [*said, f"With so few seeds no change of {title} could be found reliably."]
    found = f"With these seeds a change of {title} of {changes} would be found four times out of five"
    found += f"; {beyond}" if beyond else ""
    small = min(detectable) > rule.margin
    found += f"; {phrases.size(name, rule.margin)}, the margin, is too small for so few" if small else ""
    return [*said, f"{found}."]


def standing(plan: PlanRecord, verdicts: pd.DataFrame) -> str:
    """Whether the answer is a confirmation, and if not, why; nothing where nothing is claimed."""
    if verdicts.empty:
        return ""
    rule, seeds = plan.rule, phrases.count(len(plan.seeds), "seed")
    claims = phrases.count(len(verdicts), "claim")
    if "late" in verdicts and verdicts["late"].any():
        late = verdicts[verdicts["late"]]
        most = max(late.to_dict("records"), key=lambda row: row["seen"] / row["runs"])
        return (
            f"Exploratory: these seeds were seen before {len(late)} of {claims} {'was' if len(late) == 1 else 'were'} "
            f"fixed (of one claim {int(most['seen'])} of {int(most['runs'])} runs). Fresh seeds confirm."
        )
    waiting = verdicts["reason"].isin([verdict.UNFINISHED, verdict.NOT_REACHED])
    if waiting.any():
        return f"Preliminary: {int(waiting.sum())} of {claims} wait for runs; {seeds} are planned."
    if verdicts["exploratory"].any():
        last = phrases.count(int(verdicts["seeds"].max()), "seed")
        few = f"{last} so far, fewer than" if rule.looks else f"{seeds}, fewer than"
        asked = f"the {rule.confirmatory_seeds} that this plan asks for before an answer counts as confirmed"
        return f"Exploratory: {few} {asked}."
    if rule.looks:
        return f"Up to {seeds}; the plan's looks are corrected for."
    return f"{seeds[:1].upper()}{seeds[1:]}, at least the {rule.confirmatory_seeds} that this plan asks for."


def of_correlation(plan: PlanRecord, correlation: float, pairs: int, worth: float) -> str:
    """Whether runs of equal seeds are compared as pairs, and how alike they are; nothing where that is not known.

    correlation, pairs: of `arms.seed_correlation`; worth: of `statistics.seeds_worth`.
    """
    if not plan.claims or math.isnan(correlation):
        return ""
    how = "as independent" if plan.rule.test == "welch t" else "in pairs"
    measured = f"ρ = {phrases.number(correlation)} on average over {phrases.count(pairs, 'pair')}"
    gain = "" if math.isnan(worth) else f", so that pairs are worth {phrases.number(worth, 1, signed=True)} seeds"
    return f"Runs of equal seeds are compared {how}: the accuracies of two arms correlate {measured}{gain}."


PAIRS_FROM = 0.5
"""The correlation over seeds from which pairs find what independent arms do not, at five to fifteen seeds."""


def of_pairing(plan: PlanRecord, pairing: Pairing, correlation: float, pairs: int, worth: float) -> str:
    """Whether runs of another program could be compared within seeds, whether they are, and if not, why.

    correlation, pairs, worth: as of `of_correlation`.
    """
    together = plan.rule.test != "welch t"
    if pairing.paired:
        said = f"Every arm has the control's {phrases.count(len(plan.seeds), 'seed')}, each once; they are compared "
        said += "within seeds (paired t test)" if together else "as independent (Welch's t test)"
        if math.isnan(correlation):
            return f"{said}."
        gain = "" if math.isnan(worth) else f", so that pairs are worth {phrases.number(worth, 1, signed=True)} seeds"
        said += f". Runs of equal seeds correlate ρ = {phrases.number(correlation)} on average over "
        said += f"{phrases.count(pairs, 'pair')} of arms{gain}."
        if correlation >= PAIRS_FROM and not together:
            said += " Where that is expected before the runs, --paired compares within seeds."
        return said
    reasons = ["there is no column of seeds"] if not pairing.seed else []
    if pairing.unnamed:
        reasons.append(f"{phrases.count(pairing.unnamed, 'run')} {'has' if pairing.unnamed == 1 else 'have'} no seed")
    if pairing.repeated:
        rows = phrases.count(pairing.repeated, "row")
        reasons.append(f"{rows} {'repeats' if pairing.repeated == 1 else 'repeat'} the arm and seed of another")
    if pairing.differing:
        names = [f"'{name}'" for name in pairing.differing[:MOST_NAMED]]
        names += [f"{len(pairing.differing) - MOST_NAMED} more"] if len(pairing.differing) > MOST_NAMED else []
        has = "has" if len(pairing.differing) == 1 else "have"
        reasons.append(f"{phrases.listing(names)} {has} not the control's seeds")
    said = f"Not paired, since {phrases.listing(reasons)}: arms are compared as independent (Welch's t test)."
    if pairing.repeated:
        by = f", as “{phrases.listing(pairing.steps)}” suggests" if pairing.steps else ""
        said += (
            f" Every row counts as a run; if several are of one training{by}, keep one of each, or nothing here holds."
        )
    return said


MOST_NAMED = 3
"""Arms that a sentence names; the others are counted."""


def of_references(plan: PlanRecord, placements: Sequence[Placement]) -> list[str]:
    """Where each published value falls among the runs of its arm; placements: of `arms.placements`."""
    sentences = []
    for placed in placements:
        reference = placed.reference
        value = f"{phrases.percent(reference.value)} % ({reference.source})"
        if placed.n < 2:
            sentences.append(f"The reference {value} cannot be placed yet: {placed.n} of {len(plan.seeds)} runs.")
            continue
        inside = placed.low <= reference.value <= placed.high
        sentences.append(
            f"The reference {value} falls {'inside' if inside else 'outside'} the range "
            f"{phrases.share_interval(placed.low, placed.high)} in which one more run is expected with "
            f"{100 * (1 - plan.rule.alpha):g} % probability; {placed.above} of {placed.n} seeds lie above it."
        )
    return sentences


def of_arms(plan: PlanRecord, arms: pd.DataFrame) -> list[str]:
    """Where a plan claims nothing: what each of its arms reaches, from `arms.arm_table`."""
    if plan.claims:
        return []
    return [
        f"{phrases.sentence_case(row['arm'])}: test accuracy "
        f"{phrases.mean_and_std(row['accuracy'], row['accuracy_std'])} % "
        f"over {phrases.count(row['converged'], 'seed')}"
        + (f", mean within {text}" if (text := phrases.share_interval(row["low"], row["high"])) else "")
        + "."
        for row in arms.to_dict("records")
        if row["converged"]
    ]


def of_divergence(arms: pd.DataFrame, what: str = "Diverged", most: int | None = None) -> str:
    """Which arms had runs that diverged, and how those count; nothing where none did.

    what: that they did, in words; most: how many arms are named, those with the largest shares; None for all.
    """
    lost = arms[arms["diverged"] > 0]
    if most is not None and len(lost) > most:
        share = (lost["diverged"] / lost["n"]).sort_values(ascending=False, kind="stable")
        lost = lost.loc[share.index[:most]]
    parts = [f"{row['diverged']} of {row['n']} of '{row['arm']}'" for row in lost.to_dict("records")]
    if not parts:
        return ""
    left = int((arms["diverged"] > 0).sum()) - len(parts)
    parts += [f"some of {left} more"] if left else []
    return f"{what}: {phrases.listing(parts)}. Means are of the others; a run that diverged never counts for its arm."


def of_odd_runs(odd: pd.DataFrame) -> str:
    """Which runs lie far below their arm's others, of `arms.odd_runs`; nothing where none does.

    Of many those are named that lie the furthest below.
    """
    left = len(odd) - MOST_NAMED
    if left > 0:
        odd = odd.loc[(odd["others"] - odd["accuracy"]).nlargest(MOST_NAMED).index]
    parts = [
        f"seed {row['seed']} of '{row['arm']}' ({phrases.percent(row['accuracy'], 1)} %, "
        f"the others {phrases.percent(row['others'], 1)} %)"
        for row in odd.to_dict("records")
    ]
    parts += [phrases.count(left, "more run")] if left > 0 else []
    return f"Far below the others, and it widens intervals: {phrases.listing(parts)}." if parts else ""


ROUNDING = "rounding differs between them, which can move a run as far as another seed does"
SOURCES = {
    "commit": ("commits", "what changed between them may be part of a difference"),
    "device": ("devices", ROUNDING),
    "torch": ("versions of torch", ROUNDING),
    "backend": ("backends", ROUNDING),
    "threads": ("numbers of threads", ROUNDING),
    "instructions": ("sets of instructions", ROUNDING),
    "kernels": ("builds of the kernels", ROUNDING),
}
"""What runs may come from several of, and what that can do."""


def of_lost_files(lost: int, runs: int) -> str:
    """A sentence where files of arrays are gone that runs had kept; "" where none is."""
    if not lost:
        return ""
    return (
        f"Of {lost} of {phrases.count(runs, 'run')} the file {schema.DETAILS_FILE} is missing or damaged: which images "
        "they answered rightly, their mistakes and their variance by depth are left out here, and intervals for new "
        "images. All other numbers stand."
    )


def of_sources(sources: Mapping[str, Counter[str]]) -> list[str]:
    """A sentence for each of SOURCES in which the runs of a page differ, with the runs per value counted.

    sources: runs by value, by the keys of SOURCES.
    """
    sentences = []
    for key, counts in sources.items():
        if len(counts) > 1:
            what, so = SOURCES[key]
            runs = [f"{value[:40]} ({phrases.count(count, 'run')})" for value, count in counts.most_common()]
            shares = phrases.listing(runs)
            sentences.append(f"The runs come from {len(counts)} {what}: {shares}; {so}.")
    return sentences


RULE = {
    "margin": "the margin",
    "alpha": "α",
    "test": "the test",
    "correction": "the correction",
    "confirmatory_seeds": "the seeds that confirm",
    "target": "the target accuracy",
    "looks": "the looks",
}


def of_changes(changes: Sequence[Change]) -> list[str]:
    """The changes of `registration.changes`, a clause each."""
    clauses = []
    for change in changes:
        match change:
            case Change(registration.SEEDS, before=tuple(before), now=tuple(now)):
                clauses.append(f"seeds {_seeds(before)}, now {_seeds(now)}")
            case Change(registration.RULE, name, before, now):
                clauses.append(f"{RULE[name]} {_said(before)}, now {_said(now)}")
            case Change(kind, gone=gone, added=added):
                for names, became in ((gone, "dropped"), (added, "added")):
                    if names:
                        listed = phrases.listing(names[:5])
                        clauses.append(f"{phrases.count(len(names), kind)} {became} ({listed})")
    return clauses


def _seeds(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"


def _said(value: object) -> str:
    if not value:
        return "none"
    return phrases.listing([str(part) for part in value]) if isinstance(value, tuple) else str(value)


APART = 0.1
"""How far an arm's training accuracy must lie below the first arm's to be named."""


def of_health(plan: PlanRecord, arms: Sequence[Health]) -> list[str]:
    """Whether the plan's first arm has learned its training images, and where arms differ much, which learned least.

    arms: of `health.of_plan`. Nothing before the first result.
    """
    if not any(arm.n for arm in arms):
        return []
    return [_learning(arms[0], phrases.scope(plan, [arms[0].arm])), *_learning_of_others(arms)]


def of_test_images(data: str, consulted: Consulted) -> str | None:
    """How often a data set's test images were consulted, and what that means; None where they never were."""
    if not consulted.trainings:
        return None
    count = phrases.count
    were = "was" if consulted.trainings == 1 else "were"
    sentence = f"In this store {count(consulted.trainings, 'training')} {were} measured on the test images of {data}"
    if consulted.claims:
        are = "is" if consulted.claims == 1 else "are"
        sentence += f", by which {count(consulted.claims, 'claim')} of {count(consulted.plans, 'plan')} {are} judged"
    return f"{sentence}. What is chosen for its test accuracy looks better than it is on other images."


def _learning(arm: Health, scope: str) -> str:
    name = phrases.sentence_case(arm.arm)
    if not arm.n:
        return f"{name}: no run has ended, so whether the network learns is not known."
    if not arm.converged:
        runs = "its run" if arm.n == 1 else f"all {arm.n} runs"
        return f"{name}: {runs} diverged, and effects within it are about what makes it diverge."
    if math.isnan(arm.accuracy):
        return f"{name}: the store has no training accuracy, so whether the network has learned is not known."
    sentence = f"{name}: training accuracy {phrases.percent(arm.accuracy, 1)} % ({_counted(arm)})"
    if arm.fit == health.NO_BETTER:
        return (
            f"{sentence}, {arm.fit} ({100 * arm.chance:.3g} %): the network has learned nothing, and effects within it "
            "are about what keeps it from learning."
        )
    ending = {health.FALLS: "still falling", health.LEVEL: "level", health.RISES: "rising"}
    sentence += f", training loss {ending[arm.trend]} at the end" if arm.trend else ""
    if arm.fit == health.FIT:
        how_many = "its" if arm.accuracy >= health.NEARLY_ALL else "most of its"
        return f"{sentence}: the network has learned {how_many} training images."
    small_steps = arm.rate_left < health.DECAYED
    if arm.trend == health.LEVEL and not small_steps and not math.isnan(arm.rate_left):
        return (
            f"{sentence} with the learning rate still high: the network has not fitted its training images, and more "
            "epochs alone would hardly help. Effects of regularisers are effects on a network that underfits."
        )
    sentence += " after the learning rate had decayed" if arm.trend == health.LEVEL and small_steps else ""
    if 2 * arm.stopped > arm.converged:
        return f"{sentence}. Early stopping ended it before it had fitted its training images: {SPEED}"
    return f"{sentence}. {phrases.sentence_case(scope)} the network has not fitted its training images: {SPEED}"


SPEED = "effects of regularisers are effects on the speed of learning."


def _counted(arm: Health) -> str:
    """The runs that an arm's training accuracy is the mean of, and what became of others."""
    parts = [f"{arm.converged} of {arm.n} seeds" if arm.diverged else phrases.count(arm.n, "seed")]
    for number, what in (
        (arm.diverged, "diverged"),
        (arm.stopped, "stopped early"),
        (0 if arm.fit == health.NO_BETTER else arm.guessing, health.NO_BETTER),
    ):
        parts += [f"{number} {what}"] if number else []
    return ", ".join(parts)


def _learning_of_others(arms: Sequence[Health]) -> list[str]:
    """The arm with the lowest training accuracy, where it lies far below the first arm's or learned nothing."""
    known = [arm for arm in arms[1:] if not math.isnan(arm.accuracy)]
    if not known:
        return []
    lowest = min(known, key=lambda arm: arm.accuracy)
    apart = lowest.accuracy <= arms[0].accuracy - APART
    if not apart and (lowest.fit != health.NO_BETTER or arms[0].fit == health.NO_BETTER):
        return []
    unfit = sum(arm.fit in (health.UNFIT, health.NO_BETTER) for arm in arms)
    many = f"{unfit} of {len(arms)} arms {'has' if unfit == 1 else 'have'} not learned theirs"
    count = f"{many}; l" if arms[0].fit == health.FIT and unfit else "L"
    none = f", {lowest.fit}" if lowest.fit == health.NO_BETTER else ""
    return [f"{count}owest: '{lowest.arm}', {phrases.percent(lowest.accuracy, 1)} %{none}."]
