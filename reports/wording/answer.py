"""The answer in sentences: what a reader should know who reads nothing else of the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import health, registration, verdict
from cifar_ablations.reports.inference.arms import Placement
from cifar_ablations.reports.inference.health import Health
from cifar_ablations.reports.inference.registration import Change
from cifar_ablations.reports.wording import phrases


def headlines(plan: PlanRecord, verdicts: pd.DataFrame) -> list[str]:
    """One sentence per place: which techniques raise the accuracy, which lower it, and which remain open."""
    if verdicts.empty:
        return []
    of_accuracy = verdicts[verdicts["metric"] == schema.TEST_ACCURACY]
    return [
        _headline(plan, place, of_accuracy[of_accuracy["where"] == place].to_dict("records"))
        for place in of_accuracy["where"].unique()
    ]


def _headline(plan: PlanRecord, place: str, rows: list[Any]) -> str:
    raising: list[str] = []
    lowering: list[str] = []
    same: list[str] = []
    unresolved: list[str] = []
    diverging: list[str] = []
    for row in rows:
        title = phrases.technique_title(plan, row["technique"])
        if row["verdict"] == verdict.EQUIVALENT:
            same.append(title)
        elif row["verdict"] == verdict.INCONCLUSIVE:
            unresolved.append(title)
        elif row["counted"] and row["treatment_diverged"] > row["control_diverged"]:
            diverging.append(title)
        else:
            (raising if phrases.raises(row) else lowering).append(title)
    start = phrases.sentence_case(f"{place}, " if place else "")
    if len(unresolved) == len(rows):
        return f"{start}no technique has a resolved effect on test accuracy ({phrases.count(len(rows), 'claim')})."
    parts = [
        f"{phrases.listing(titles)} {words[0] if len(titles) == 1 else words[1]} {rest}"
        for titles, words, rest in (
            (raising, ("raises", "raise"), "test accuracy"),
            (lowering, ("lowers", "lower"), "test accuracy"),
            (diverging, ("makes", "make"), "training diverge"),
            (same, ("changes", "change"), f"test accuracy by less than {100 * plan.rule.margin:g} pp"),
        )
        if titles
    ]
    if unresolved:
        count = f"{len(unresolved)} of {len(rows)} unresolved"
        parts.append(f"{count} ({phrases.listing(unresolved)})")
    return start + "; ".join(parts) + "."


@dataclass(frozen=True)
class Line:
    """A claim about test accuracy in five words: where, what is switched, accuracies without and with it, and what came
    of it."""

    place: str
    what: str
    without: str
    with_it: str
    effect: str
    outcome: str


def lines(plan: PlanRecord, verdicts: pd.DataFrame) -> list[Line]:
    """A line for each claim about test accuracy, in the order of the plan."""
    if verdicts.empty:
        return []
    found = []
    for row in verdicts[verdicts["metric"] == schema.TEST_ACCURACY].to_dict("records"):
        if row["verdict"] == verdict.INCONCLUSIVE:
            outcome = "open"
        elif row["verdict"] == verdict.EQUIVALENT:
            outcome = f"same within {100 * plan.rule.margin:g} pp"
        elif row["counted"]:
            more = row["treatment_diverged"] > row["control_diverged"]
            outcome = "diverges more" if more else "diverges less"
        else:
            outcome = "raises it" if phrases.raises(row) else "lowers it"
        found.append(
            Line(
                place=phrases.sentence_case(row["where"]),
                what=phrases.technique_title(plan, row["technique"]),
                without=_mean(row["control_mean"]),
                with_it=_mean(row["treatment_mean"]),
                effect=row["obstacle"].partition(":")[0] or _difference(row),
                outcome=outcome + (" (rehearsal)" if row["rehearsal"] else ""),
            )
        )
    return found


def _difference(row: phrases.Row) -> str:
    return phrases.diverged(row) if row["counted"] else phrases.effect(row)


def _mean(accuracy: float) -> str:
    return "–" if math.isnan(accuracy) else f"{100 * accuracy:.1f} %"


def of_ledger(plan: PlanRecord, verdicts: pd.DataFrame) -> list[str]:
    """How many of a plan's statements came out in which way, and which did not hold."""
    if verdicts.empty:
        return []
    totals = {kind: int((verdicts["verdict"] == kind).sum()) for kind in verdict.VERDICTS}
    counts = [f"{n or 'none'} {'is' if n <= 1 else 'are'} {kind}" for kind, n in totals.items()]
    tally = phrases.listing(counts)
    sentences = [f"Of the notebook's {phrases.count(len(verdicts), 'statement')}, {phrases.scope(plan)}, {tally}."]
    against = verdicts.loc[verdicts["verdict"] == verdict.REFUTED, "statement"].tolist()
    if against:
        sentences.append(f"Here the opposite was found of: {'; '.join(against)}.")
    return sentences


def mechanism(means: Mapping[str, tuple[float, float]]) -> list[str]:
    """A clause per metric, from control to treatment; means: of `mechanisms.means`."""
    return [
        f"{phrases.metric_title(name)} {phrases.amount(name, control)} → {phrases.amount(name, treatment)}"
        for name, (control, treatment) in means.items()
    ]


def by_technique(plan: PlanRecord, verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    """Per technique its title and findings: clause, verdict and the full sentence, accuracy first."""
    answers = []
    for technique in verdicts["technique"].unique() if not verdicts.empty else ():
        rows = verdicts[verdicts["technique"] == technique]
        rows = rows.sort_values("metric", key=lambda m: m != schema.TEST_ACCURACY, kind="stable").to_dict("records")
        findings = [
            {
                "clause": phrases.sentence_case(phrases.finding(row)),
                "verdict": row["verdict"],
                "label": phrases.verdict_label(row),
                "sentence": row["sentence"],
            }
            for row in rows
        ]
        title = phrases.sentence_case(phrases.technique_title(plan, technique))
        answers.append({"title": title, "findings": findings})
    return answers


def statements(verdicts: pd.DataFrame, technique: str) -> list[dict[str, Any]]:
    """The claims about a technique as the plan states them, each with its verdict and the verdict's label."""
    rows = verdicts[verdicts["technique"] == technique] if not verdicts.empty else verdicts
    return [
        {"statement": row["statement"], "verdict": row["verdict"], "label": phrases.verdict_label(row)}
        for row in rows.to_dict("records")
    ]


def strength(plan: PlanRecord, verdicts: pd.DataFrame, rate: float) -> list[str]:
    """How far to trust the verdicts: what was fixed when, the page's error rate, and what could be found at all.

    rate: the share of such pages that say something false, of `verdict.error_rate`.
    """
    if verdicts.empty:
        return []
    rule, claims = plan.rule, phrases.count(len(verdicts), "claim")
    said, share = [_standing(plan, verdicts)], f"{100 * rate:.1f} %"
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
    compared = verdicts[(verdicts["metric"] == schema.TEST_ACCURACY) & verdicts["detectable"].notna()]
    if compared.empty:
        return said
    detectable, possible = compared["detectable"].to_list(), compared["possible"].to_list()
    changes, beyond = phrases.changes(schema.TEST_ACCURACY, detectable, possible, "claim")
    if not changes:
        return [*said, "With so few seeds no change of test accuracy could be found reliably."]
    found = f"With these seeds a change of test accuracy of {changes} would be found four times out of five"
    found += f"; {beyond}" if beyond else ""
    small = min(detectable) > rule.margin
    found += f"; a change the size of the margin, {100 * rule.margin:g} pp, is out of their reach" if small else ""
    return [*said, f"{found}."]


def _standing(plan: PlanRecord, verdicts: pd.DataFrame) -> str:
    """Whether the answer is a confirmation, and if not, why."""
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


def of_divergence(arms: pd.DataFrame) -> str:
    """Which arms had runs that diverged, and how those count; nothing where none did."""
    parts = [f"{row['diverged']} of {row['n']} of '{row['arm']}'" for row in arms.to_dict("records") if row["diverged"]]
    if not parts:
        return ""
    return f"Diverged: {phrases.listing(parts)}. Means are of the others; a run that diverged never counts for its arm."


def of_odd_runs(odd: pd.DataFrame) -> str:
    """Which runs lie far below their arm's others, of `arms.odd_runs`; nothing where none does."""
    parts = [
        f"seed {row['seed']} of '{row['arm']}' ({phrases.percent(row['accuracy'], 1)} %, "
        f"the others {phrases.percent(row['others'], 1)} %)"
        for row in odd.to_dict("records")
    ]
    return f"Far below the others, and it widens intervals: {phrases.listing(parts)}." if parts else ""


SOURCES = {"commit": "commits", "device": "devices", "torch": "versions of torch", "backend": "backends"}


def of_sources(sources: Mapping[str, Counter[str]]) -> list[str]:
    """A sentence for each of SOURCES in which the runs of a page differ, with the runs per value counted.

    sources: runs by value, by the keys of SOURCES.
    """
    sentences = []
    for key, counts in sources.items():
        if len(counts) > 1:
            shares = phrases.listing([f"{value[:40]} ({count} runs)" for value, count in counts.most_common()])
            sentences.append(f"The runs come from {len(counts)} {SOURCES[key]}: {shares}.")
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
