"""A plan's answer for where runs are looked at: as a description of its parent run, and arm by arm beside the runs."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import EffectRecord
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.wording import headlines, phrases, tables

MOST_ROWS = 40
"""Claims in a description's table: MLflow keeps 8,000 characters."""


def of_plan(results: Findings, page: str) -> str:
    """The question, the answer, a table of the claims about test accuracy, and where the page lies, in Markdown.

    page: the page's name among the run's artifacts.
    """
    plan, invocation = results.plan, results.invocation
    rows = _of_accuracy(results)
    run = f"#/experiments/{invocation.experiment_id}/runs/{invocation.run_id}"
    place = f"{run}/artifacts/{page}?workflowType=machine_learning"
    parts = [
        f"**{tables.markdown(plan.question)}**",
        f"**{phrases.sentence_case(schema.REHEARSAL)}: nothing here is about photographs.**"
        if invocation.stand_in
        else "",
        "\n".join(f"- {tables.markdown(sentence)}" for sentence in _answer(results)),
        tables.as_markdown(_table(results, rows[:MOST_ROWS])) if rows else "",
        f"{len(rows) - MOST_ROWS} more stand on the page." if len(rows) > MOST_ROWS else "",
        tables.markdown(f"{plan.model}; {plan.budget}."),
        f"[The page]({place}) has the figures and every run. Plan `{plan.digest}`, fixed before the first training.",
    ]
    return "\n\n".join(part.strip() for part in parts if part)


def _answer(results: Findings) -> list[str]:
    return headlines.sentences(results.plan, results.verdicts)


def _of_accuracy(results: Findings) -> list[dict[Any, Any]]:
    verdicts = results.verdicts
    return verdicts[verdicts["metric"] == schema.TEST_ACCURACY].to_dict("records") if len(verdicts) else []


def _table(results: Findings, rows: list[dict[Any, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Test accuracy": phrases.sentence_case(_about(results, row)),
                "without": _mean(row["control_mean"]),
                "with it": _mean(row["treatment_mean"]),
                "effect": _effect(row),
                "": ", ".join(filter(None, [phrases.outcome(row), row["obstacle"]])),
            }
            for row in rows
        ]
    )


def _about(results: Findings, row: dict[Any, Any]) -> str:
    return f"{phrases.subject(results.plan, row)} {phrases.place(row)}".strip()


def _effect(row: dict[Any, Any]) -> str:
    if row["counted"]:
        return phrases.diverged(row)
    return "–" if math.isnan(row["difference"]) else phrases.effect(row)


def _mean(accuracy: float) -> str:
    return "–" if math.isnan(accuracy) else f"{phrases.percent(accuracy, 1)} %"


def effects(results: Findings) -> list[EffectRecord]:
    """What single techniques do to test accuracy, each with the arm that its claim singles out.

    That is the one of the claim's two arms which fewer claims compare; an arm that several single out has the first.
    """
    compared = {
        claim.statement: claim
        for claim in results.plan.claims
        if claim.metric == schema.TEST_ACCURACY and not claim.over and not claim.beyond
    }
    often = Counter(arm for claim in compared.values() for arm in (claim.treatment, claim.control))
    found: dict[str, EffectRecord] = {}
    for row in _of_accuracy(results):
        if row["statement"] not in compared or math.isnan(row["difference"]):
            continue
        arm = min(row["treatment"], row["control"], key=lambda name: often[name])
        about = _about(results, row)
        effect = EffectRecord(arm, row["difference"], row["low"], row["high"], phrases.outcome(row), about)
        found.setdefault(arm, effect)
    return list(found.values())
