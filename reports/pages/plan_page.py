"""One self-contained HTML page per question, from nothing but the store."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.reports.inference import factorial, health, mechanisms, registration, verdict
from cifar_ablations.reports.pages import drawings, rendering
from cifar_ablations.reports.reading import details, load
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.wording import answer, phrases, tables

if TYPE_CHECKING:
    from jinja2 import Template
    from mlflow.tracking import MlflowClient

KINDS = {".csv": "CSV", ".parquet": "Parquet", ".md": "Markdown", ".tex": "LaTeX"}
ABOUT = {
    "verdicts": "a row per claim",
    "arms": "a row per arm",
    "runs": "a row per run, with every metric",
    "mechanisms": "what happened inside: a row per technique, comparison and metric",
    "surroundings": "a row per technique, in the full recipe and on its own",
    "contributions": "Shapley values and main effects",
    "interactions": "a row per pair of techniques",
}


def write_reports(
    tracking_uri: str,
    folder: Path,
    *,
    plan: str | None = None,
    digest: str | None = None,
    ui_address: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write a page and its CSV files for the newest invocation of each question; returns the pages, newest first.

    A question is a plan on a data set, in a profile, with given overrides; `plan` (a name) and `digest` (of a plan as
    invoked) leave out all others. `ui_address` is where MLflow's UI answers (a tracking server is its own). `tell` is
    given what each page says of whether its networks have learned, a sentence or two at a time. Files appear whole or
    not at all. Raises AblateError where the store does not exist, for a plan that was never invoked, and
    for a `ui_address` that is not http or https.
    """
    address = rendering.address_of(tracking_uri, ui_address)
    found = load.invocations(tracking_uri)
    names = sorted({invocation.name for invocation in found})
    if plan is not None and plan not in names:
        near = did_you_mean(plan, names) if names else ": no plan has been invoked in this store yet."
        raise AblateError(f"no runs of a plan {plan!r}{near}")
    client, template = load.connect(tracking_uri), rendering.environment().get_template("page.html.j2")
    folder.mkdir(parents=True, exist_ok=True)
    asked = {registration.question(invocation) for invocation in found if digest in (None, invocation.digest)}
    pages = []
    for stem, invocation in registration.newest(found).items():
        if plan in (None, invocation.name) and registration.question(invocation) in asked:
            with rendering.uncollected():
                path, learned = _write(client, template, folder, stem, invocation, found, address)
            pages.append(path)
            if tell is not None:
                for sentence in learned:
                    tell(sentence)
    return pages


def _write(
    client: MlflowClient, template: Template, folder: Path, stem: str,
    invocation: Invocation, found: Sequence[Invocation], address: str,
) -> tuple[Path, list[str]]:  # fmt: skip
    """Write one page; returns it, and what it says of whether its networks have learned."""
    plan = invocation.plan
    matching = load.matching_runs(client, plan)
    runs = load.with_epochs_to_target(client, load.results_among(matching, invocation.chance), plan)
    arrays = details.arrays_of(client, runs, plan)
    verdicts = verdict.judge(plan, runs, details.answers(arrays) if plan["claims"] else None)
    verdicts = registration.with_exploratory(verdicts, invocation, runs, found)
    ledger = plan.get("layout") == "ledger"
    arms = tables.arm_table(plan, runs)
    curves = load.curves_of(client, runs, [schema.VALIDATION_ACCURACY, *health.CURVES])
    learned = answer.of_health(plan, health.of_plan(plan, runs, curves))
    divergence = answer.of_divergence(arms, invocation.chance)

    def csv(frame: pd.DataFrame) -> bytes:
        return rendering.csv(tables.labelled(frame, plan))

    arms_csv, verdicts_csv = f"{stem}-arms.csv", f"{stem}-verdicts.csv" if plan["claims"] else ""
    downloads = {f"{stem}-arms.csv": csv(arms)}
    if verdicts_csv:
        short, note = tables.short_verdicts(verdicts), tables.NOTE if invocation.stand_in else ""
        downloads |= {
            verdicts_csv: csv(tables.verdict_table(verdicts, plan)),
            f"{stem}-verdicts.md": tables.as_markdown(short, note).encode(),
            f"{stem}-verdicts.tex": tables.as_latex(short, note).encode(),
        }
    tidy = tables.labelled(tables.run_table(plan, runs), plan)
    downloads |= {f"{stem}-runs.csv": rendering.csv(tidy), f"{stem}-runs.parquet": tidy.to_parquet(index=False)}
    shares = {}
    kept = load.gallery_of(client, invocation)
    figures = drawings.of_plan(plan, runs, curves, verdicts, arrays, kept)
    inside = mechanisms.table(plan, runs)
    around = tables.surroundings(plan, runs)
    if len(around):
        downloads[f"{stem}-surroundings.csv"] = csv(around.assign(places=around["places"].map(", ".join)))
    if len(inside):
        downloads[f"{stem}-mechanisms.csv"] = csv(inside)
    if plan.get("factors"):
        for name in (schema.TEST_ACCURACY, schema.GENERALISATION_GAP):
            shares[name] = factorial.contributions(plan, runs, name)
        pairs = factorial.interactions(plan, runs, schema.TEST_ACCURACY)
        whole = pd.concat(shares, names=["metric"]).reset_index("metric")
        downloads |= {
            f"{stem}-contributions.csv": csv(whole),
            f"{stem}-interactions.csv": csv(pairs),
        }
        figures |= drawings.of_factorial(plan, runs, shares[schema.TEST_ACCURACY], pairs)
    for name, content in downloads.items():
        rendering.replace(folder / name, content)
    html = template.render(
        invocation=invocation,
        plan=plan,
        status=_status(plan, matching, runs),
        latest=rendering.when(runs["ended"].max()),
        headlines=[
            *(answer.of_ledger(plan, verdicts) if ledger else answer.headlines(plan, verdicts)),
            *answer.of_arms(plan, arms),
            *answer.of_references(plan, runs),
        ],
        ledger=ledger,
        contributions=[{"metric": name, "rows": frame.to_dict("records")} for name, frame in shares.items()],
        interactions=pairs.sort_values("p", kind="stable").to_dict("records") if shares else [],
        learned=learned,
        LEARNED=health.LEARNED,
        FIT=health.FIT,
        strength=answer.strength(plan, verdicts),
        divergence=divergence,
        techniques=[] if ledger else answer.by_technique(plan, verdicts),
        families=_families(verdicts, runs, ledger),
        arms=arms.to_dict("records"),
        figures={
            name: rendering.drawn(name, room.draw(data), room.describe(data)) for name, (room, data) in figures.items()
        },
        undrawn=kept.get("error", ""),
        many=drawings.MANY_ARMS,
        mechanisms=_mechanisms(plan, verdicts, inside, figures),
        level=verdict.level(plan["rule"]),
        looks=verdict.looks_taken(plan, runs),
        undecided=int((verdicts["verdict"] == verdict.INCONCLUSIVE).sum()) if len(verdicts) else 0,
        surroundings=around.to_dict("records"),
        alike=tables.alike(plan, runs) if len(plan["arms"]) > 2 and not plan.get("factors") else None,
        deviations=registration.deviations(invocation, found),
        runs_total=len(runs),
        before=registration.runs_before(invocation, runs, found),
        mixture=_mixture(runs, found),
        runs=_matrix(plan, runs),
        address=address,
        downloads=[_about(name, stem) for name in downloads],
        csv={"verdicts": verdicts_csv, "arms": arms_csv, "mechanisms": f"{stem}-mechanisms.csv"},
        grouped_view=schema.GROUPED_VIEW,
    )
    path = rendering.write_html(folder / f"{stem}.html", html)
    return path, [*learned, *([divergence] if divergence else [])]


def _about(name: str, stem: str) -> Mapping[str, str]:
    """A file beside the page, as the page lists it."""
    about, suffix = os.path.splitext(name.removeprefix(f"{stem}-"))
    return {"name": name, "kind": KINDS[suffix], "about": ABOUT[about]}


def _status(plan: dict[str, Any], matching: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Any]:
    """How far the plan is; what is under way or went wrong counts only where there is no result."""
    planned, done = len(plan["arms"]) * len(plan["seeds"]), len(runs)
    have = set(zip(runs["arm"], runs["seed"], strict=True))
    open_runs = [row for row in matching.to_dict("records") if (row["arm"], row["seed"]) not in have]
    # The last attempt at a run says where it stands.
    last = {(row["arm"], row["seed"]): row["outcome"] or "in training" for row in open_runs}
    text = f"finished: all {planned} runs done" if done == planned else f"mid-run: {done} of {planned} runs done"
    rest = [f"{count} {what}" for what, count in sorted(Counter(last.values()).items())]
    return {"text": ", ".join([text, *rest]), "finished": done == planned, "done": done, "planned": planned}


def _families(verdicts: pd.DataFrame, runs: pd.DataFrame, ledger: bool) -> list[dict[str, Any]]:
    """Per family its rows; in a ledger each with what its mechanism metrics are in both arms."""
    if verdicts.empty:
        return []
    rows = [row | {"why": answer.mechanism(row, runs) if ledger else []} for row in verdicts.to_dict("records")]
    titles = dict.fromkeys(row["family"] for row in rows)
    return [{"title": title, "rows": [row for row in rows if row["family"] == title]} for title in titles]


def _mechanisms(
    plan: dict[str, Any], verdicts: pd.DataFrame, inside: pd.DataFrame, figures: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Per technique what was claimed and why it should hold, beside what was seen inside."""
    return [
        {
            "title": phrases.sentence_case(phrases.technique_title(plan, technique)),
            "reason": plan.get("reasons", {}).get(technique),
            "statements": answer.statements(verdicts, technique),
            **{
                kind: name if (name := drawings.mechanism_name(plan, kind, technique)) in figures else ""
                for kind in ("mechanism", "depth")
            },
            "rows": inside[inside["technique"] == technique].to_dict("records"),
        }
        for technique in dict.fromkeys(inside["technique"])
    ]


def _mixture(runs: pd.DataFrame, found: Iterable[Invocation]) -> list[str]:
    """Sentences about what differed between the invocations that trained the runs of the page."""
    by_id = {invocation.run_id: invocation for invocation in found}
    sentences = []
    for key, name in (("commit", "commits"), ("device", "devices"), ("torch", "versions of torch")):
        counts = Counter(
            by_id[parent].provenance.get(key, "unknown") if parent in by_id else "unknown"
            for parent in runs["parent_run_id"]
        )
        if len(counts) > 1:
            shares = phrases.listing([f"{value[:40]} ({count} runs)" for value, count in counts.most_common()])
            sentences.append(f"The runs come from {len(counts)} {name}: {shares}.")
    return sentences


def _matrix(plan: dict[str, Any], runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Per arm a cell per seed of the plan: the run's record, or None."""
    by_cell = {(row["arm"], row["seed"]): row for row in runs.to_dict("records")}
    return [
        {"arm": arm["name"], "cells": [by_cell.get((arm["name"], seed)) for seed in plan["seeds"]]}
        for arm in plan["arms"]
    ]
