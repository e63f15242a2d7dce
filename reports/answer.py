"""The answer in sentences: what a reader should know who reads nothing else of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ablations import schema
from reports import statistics, verdict, wording


def headlines(plan: Mapping[str, Any], verdicts: pd.DataFrame) -> list[str]:
    """One sentence per place: which techniques raise the accuracy, which lower it, and which remain open."""
    if verdicts.empty:
        return []
    of_accuracy = verdicts[verdicts["metric"] == schema.TEST_ACCURACY]
    return [
        _headline(plan, place, of_accuracy[of_accuracy["where"] == place].to_dict("records"))
        for place in of_accuracy["where"].unique()
    ]


def _headline(plan: Mapping[str, Any], place: str, rows: list[Any]) -> str:
    raising: list[str] = []
    lowering: list[str] = []
    same: list[str] = []
    unresolved: list[str] = []
    for row in rows:
        title = wording.technique_title(plan, row["technique"])
        if row["verdict"] == verdict.EQUIVALENT:
            same.append(title)
        elif row["verdict"] == verdict.INCONCLUSIVE:
            unresolved.append(title)
        else:
            (raising if row["difference"] > 0 else lowering).append(title)
    start = wording.sentence_case(f"{place}, " if place else "")
    if len(unresolved) == len(rows):
        return f"{start}no technique has a resolved effect on test accuracy yet ({wording.count(len(rows), 'claim')})."
    parts = [
        f"{wording.listing(titles)} {words[0] if len(titles) == 1 else words[1]} {rest}"
        for titles, words, rest in (
            (raising, ("raises", "raise"), "test accuracy"),
            (lowering, ("lowers", "lower"), "test accuracy"),
            (same, ("changes", "change"), f"it by less than {wording.margin(plan['rule']['margin'])}"),
        )
        if titles
    ]
    if unresolved:
        count = f"{len(unresolved)} of {len(rows)} unresolved"
        parts.append(f"{count} ({wording.listing(unresolved)})")
    return start + "; ".join(parts) + "."


def of_ledger(verdicts: pd.DataFrame) -> list[str]:
    """How many of a plan's statements came out in which way, and which did not hold."""
    if verdicts.empty:
        return []
    totals = {kind: int((verdicts["verdict"] == kind).sum()) for kind in verdict.VERDICTS}
    counts = [f"{n or 'none'} {'is' if n <= 1 else 'are'} {kind}" for kind, n in totals.items()]
    found = wording.listing(counts)
    sentences = [f"Of the notebook's {wording.count(len(verdicts), 'statement')}, at this scale, {found}."]
    against = verdicts.loc[verdicts["verdict"] == verdict.REFUTED, "statement"].tolist()
    if against:
        sentences.append(f"Here the opposite was found of: {'; '.join(against)}.")
    return sentences


def mechanism(row: wording.Row, runs: pd.DataFrame) -> list[str]:
    """What a claim's mechanism metrics are in its two arms, as the mean over the seeds that both have a number for."""
    clauses = []
    for name in row["mechanism"]:
        if name not in runs:
            continue
        having, lacking = (runs[runs["arm"] == row[side]].set_index("seed")[name] for side in ("treatment", "control"))
        shared = (having - lacking).dropna().index
        if len(shared):
            values = [wording.amount(name, float(arm[shared].mean())) for arm in (lacking, having)]
            clauses.append(f"{wording.metric_title(name)} {values[0]} → {values[1]}")
    return clauses


def by_technique(plan: Mapping[str, Any], verdicts: pd.DataFrame) -> list[dict[str, Any]]:
    """Per technique its title and findings: clause, verdict and the full sentence, accuracy first."""
    answers = []
    for technique in verdicts["technique"].unique() if not verdicts.empty else ():
        rows = verdicts[verdicts["technique"] == technique]
        rows = rows.sort_values("metric", key=lambda m: m != schema.TEST_ACCURACY, kind="stable").to_dict("records")
        findings = [
            {
                "clause": wording.sentence_case(wording.finding(row)),
                "verdict": row["verdict"],
                "label": wording.verdict_label(row),
                "sentence": row["sentence"],
            }
            for row in rows
        ]
        title = wording.sentence_case(wording.technique_title(plan, technique))
        answers.append({"title": title, "findings": findings})
    return answers


def statements(verdicts: pd.DataFrame, technique: str) -> list[dict[str, Any]]:
    """What was claimed of a technique, in the plan's words, and what came of it."""
    rows = verdicts[verdicts["technique"] == technique] if not verdicts.empty else verdicts
    return [
        {"statement": row["statement"], "verdict": row["verdict"], "label": wording.verdict_label(row)}
        for row in rows.to_dict("records")
    ]


def strength(plan: Mapping[str, Any], verdicts: pd.DataFrame) -> str:
    """How much these seeds can say: exploratory or confirmatory, and what effect they can find at all."""
    if verdicts.empty or verdicts["n"].max() < 2:
        return ""
    rule, n = plan["rule"], verdicts["n"]
    count = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    if "late" in verdicts and verdicts["late"].any():
        text = (
            f"Exploratory: {int(verdicts['late'].sum())} of {wording.count(len(verdicts), 'claim')} came, with their "
            f"rule, after results had been seen; {count} paired seeds."
        )
    elif n.min() < len(plan["seeds"]) and not rule.get("looks"):
        text = f"Preliminary: {count} of {len(plan['seeds'])} paired seeds so far."
    elif verdicts["exploratory"].any():
        text = (
            f"Exploratory: {count} paired seeds, fewer than the {rule['confirmatory_seeds']} that this plan asks for "
            "before an answer counts as confirmed."
        )
    elif rule.get("looks"):
        text = f"{count} paired seeds; the plan's looks are corrected for."
    else:
        text = f"{count} paired seeds, at least the {rule['confirmatory_seeds']} that this plan asks for."
    detectable = verdicts.loc[verdicts["metric"] == schema.TEST_ACCURACY, "detectable"].dropna()
    if detectable.empty:
        return text
    if detectable.median() > 1:
        return f"{text} With so few no change of test accuracy could be found reliably."
    low, typical, high = (
        wording.detectable(schema.TEST_ACCURACY, x) for x in (detectable.min(), detectable.median(), detectable.max())
    )
    among = "" if low == high else f" ({low} to {high} pp, depending on the technique)"
    text += (
        f" With these seeds a change of test accuracy of typically {typical} pp{among} would be found four times out "
        "of five, at the upper 95 % limit of the spread seen"
    )
    if detectable.min() > rule["margin"]:
        text += f"; a change the size of the margin, {100 * rule['margin']:g} pp, is out of their reach"
    return text + "."


def of_references(plan: Mapping[str, Any], runs: pd.DataFrame) -> list[str]:
    """Where each published value falls among the runs of its arm, by the t prediction interval of one more run."""
    confidence = 1 - plan["rule"]["alpha"]
    sentences = []
    for reference in plan["references"]:
        values = runs.loc[runs["arm"] == reference["arm"], reference["metric"]].dropna().to_numpy()
        value = f"{wording.percent(reference['value'])} % ({reference['source']})"
        if len(values) < 2:
            sentences.append(f"The reference {value} cannot be placed yet: {len(values)} of {len(plan['seeds'])} runs.")
            continue
        low, high = statistics.prediction_interval(values, confidence)
        inside = low <= reference["value"] <= high
        sentences.append(
            f"The reference {value} falls {'inside' if inside else 'outside'} the range "
            f"{wording.interval(low, high)} in which one more run is expected with {100 * confidence:g} % probability; "
            f"{int((values > reference['value']).sum())} of {len(values)} seeds lie above it."
        )
    return sentences


def of_arms(plan: Mapping[str, Any], arms: pd.DataFrame) -> list[str]:
    """Where a plan claims nothing: what each of its arms reaches, from `tables.arm_table`."""
    if plan["claims"]:
        return []
    return [
        f"{wording.sentence_case(row['arm'])}: test accuracy "
        f"{wording.mean_and_std(row['accuracy'], row['accuracy_std'])} % "
        f"over {wording.count(row['n'], 'seed')}"
        + (f", mean within {text}" if (text := wording.interval(row["low"], row["high"])) else "")
        + "."
        for row in arms.to_dict("records")
        if row["n"]
    ]


def of_divergence(arms: pd.DataFrame, chance: float) -> str:
    """Which arms had runs that diverged, and how those count; nothing where none did."""
    parts = [f"{row['diverged']} of {row['n']} of '{row['arm']}'" for row in arms.to_dict("records") if row["diverged"]]
    if not parts:
        return ""
    counted = f"Diverged runs stay in, at chance accuracy ({100 * chance:g} %) and no gap."
    return f"Diverged: {wording.listing(parts)}. {counted}"
