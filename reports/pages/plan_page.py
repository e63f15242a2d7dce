"""One self-contained HTML page per question, from nothing but the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import forest
from cifar_ablations.reports.inference import arms, decision, mechanisms, registration, statistics, verdict
from cifar_ablations.reports.pages import downloads, drawings, findings, guide, rendering
from cifar_ablations.reports.pages.drawings import Drawing
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.wording import answer, headlines, origins, phrases, rates, small_budgets


def write_reports(
    tracking_uri: str,
    folder: Path,
    *,
    plan: str | None = None,
    digest: str | None = None,
    data: str | None = None,
    ui_address: str | None = None,
    tell: Callable[[str], None] | None = None,
    found: Callable[[Findings], None] | None = None,
    anew: bool = True,
) -> list[Path]:
    """Write a page and its CSV files for the newest invocation of each question; returns the pages, newest first.

    A question is a plan on a data set, in a profile, with given overrides; `plan` (a name), `digest` (of a plan as
    invoked) and `data` (the data set's digest) leave out all others. `ui_address` is where MLflow's UI answers (a
    tracking server is its own). `tell` is given what each page says of whether its networks have learned, a sentence or
    two at a time, and which plans and runs of the store cannot be read; `found` is given all that each page is written
    from. Files appear whole or not at all. Unless they are to be made `anew`, a page stays that was made of the same,
    with its files. Raises AblateError where the store does not exist, for a plan that was never invoked, and for a
    `ui_address` that is not http or https.
    """
    address = rendering.address_of(tracking_uri, ui_address)
    unreadable: list[str] = []
    known = load.invocations(tracking_uri, unreadable)
    names = sorted({invocation.name for invocation in known})
    if plan is not None and plan not in names:
        near = did_you_mean(plan, names) if names else ": no plan has been invoked in this store yet."
        raise AblateError(f"no runs of a plan {plan!r}{near}{rendering.left_out(unreadable)}")
    client = load.connect(tracking_uri)
    folder.mkdir(parents=True, exist_ok=True)
    guide.write_guide(folder)
    asked = {
        registration.question(invocation)
        for invocation in known
        if digest in (None, invocation.digest) and data in (None, invocation.data_digest)
    }
    pages, failed = list[Path](), list[str]()
    for stem, invocation in rendering.newest(known).items():
        if plan in (None, invocation.name) and registration.question(invocation) in asked:
            before, what = len(pages), f"plan {invocation.name!r} (run {invocation.run_id})"
            with rendering.uncollected(), rendering.kept_apart(what, failed):
                results = findings.of_invocation(client, invocation, known, unreadable)
                path, made_of = folder / f"{stem}.html", rendering.fingerprint(results, stem, address)
                if anew or not rendering.is_made_of(path, made_of):
                    write_page(results, folder, stem, address, made_of)
                pages.append(path)
            if len(pages) == before:
                continue
            if found is not None:
                found(results)
            if tell is not None:
                for sentence in [*_learned(results), *filter(None, [results.clock])]:
                    tell(sentence)
    if failed and not pages:
        raise AblateError("; ".join(failed))
    if tell is not None:
        for sentence in dict.fromkeys([*unreadable, *failed]):  # plans may share runs
            tell(f"Left out: {sentence}.")
    return pages


def write_page(results: Findings, folder: Path, stem: str, address: str, made_of: str = "") -> Path:
    """Write a page and the files beside it, whose names begin with `stem`; returns the page's path.

    address: where MLflow's UI answers; made_of: of `rendering.fingerprint`.
    """
    figures = drawings.of_plan(results)
    beside = downloads.files(results, drawings.frames(figures))
    for name, content in beside.items():
        write_atomically(folder / f"{stem}-{name}", content)
    html = html_of(results, address, stem, downloads.listed(stem, beside), figures)
    return rendering.write_html(folder / f"{stem}.html", html, made_of)


FIRST = ("forest", "forest_narrow")
"""The figures that a page begins with."""


def html_of(
    results: Findings,
    address: str = "",
    stem: str = "",
    beside: Sequence[Mapping[str, str]] = (),
    figures: Mapping[str, Drawing] | None = None,
    *,
    answer_alone: bool = False,
) -> str:
    """The page as text. Without a `stem` it links to no other file, without an `address` to no run.

    address: where MLflow's UI answers; beside: the files that it lists, of `downloads.listed`; figures: of
    `drawings.of_plan`, where they are there already; answer_alone: whether it ends after the answer.
    """
    figures = figures or drawings.of_plan(results)
    if answer_alone:
        figures = {name: figures[name] for name in FIRST if name in figures}
    return (
        rendering.environment()
        .get_template("page.html.j2")
        .render(
            **_heading(results),
            **_answer(results),
            **_arms(results),
            **_factorial(results),
            **_provenance(results),
            variance=results.variance.to_dict("records"),
            mechanisms=_mechanisms(results, figures),
            figures={
                name: rendering.drawn(name, room.draw(data), room.describe(data))
                for name, (room, data) in figures.items()
            },
            answer_alone=answer_alone,
            stem=stem,
            guide=guide.GUIDE if stem else "",
            address=address,
            downloads=beside,
        )
    )


def _heading(results: Findings) -> dict[str, Any]:
    """The template's values for the heading: the question, the setting, and how many runs have ended."""
    return {
        "invocation": results.invocation,
        "plan": results.plan,
        "ledger": results.plan.layout == "ledger",
        "many": drawings.MANY_ARMS,
        "status": _status(results),
        "latest": rendering.when(results.runs["ended"].max()),
    }


def _answer(results: Findings) -> dict[str, Any]:
    """The answer in lines and sentences, what a reader must know beside it, and the verdicts that it rests on."""
    plan, verdicts = results.plan, results.verdicts
    correlation, pairs = arms.seed_correlation(plan, results.runs)
    return {
        "lines": headlines.of_plan(plan, verdicts),
        "headlines": [
            *(origins.sentences(results.variance, results.pairing) or answer.of_arms(plan, results.arms)),
            *answer.of_references(plan, arms.placements(plan, results.runs)),
        ],
        "standing": answer.standing(plan, verdicts),
        "seeds_shown": len(plan.seeds) <= forest.MOST_SEEDS,
        "learned": answer.of_health(plan, results.learned),
        "consulted": answer.of_test_images(plan.data.name, results.consulted),
        "caveats": [
            *filter(None, [answer.of_divergence(results.arms), answer.of_odd_runs(arms.odd_runs(plan, results.runs))]),
            *filter(None, [plan.note, results.clock, *(f"Left out: {sentence}." for sentence in results.left_out)]),
            *filter(None, [answer.of_lost_files(len(results.lost), results.runs["run_id"].nunique())]),
        ],
        "divergence": bool(results.arms["diverged"].any()),
        "strength": [
            *answer.strength(plan, verdicts, results.error_rate),
            *filter(None, [rates.of_plan(plan), small_budgets.of_plan(plan)]),
        ],
        "correlated": answer.of_correlation(
            plan, correlation, pairs, statistics.seeds_worth(correlation, len(plan.seeds))
        ),
        "seen_before": bool(verdicts["late"].any()) if "late" in verdicts else False,
        "diverging": _diverging(results.divergence),
        "families": _families(results),
        "confidence": decision.confidence(plan.rule),
        "error": decision.error_of_page(plan.rule.test, len(plan.seeds), len(plan.rule.looks)),
        "looks": verdict.looks_taken(plan, results.runs),
        "undecided": int((verdicts["verdict"] == verdict.INCONCLUSIVE).sum()) if len(verdicts) else 0,
        "claimed": len(verdicts),
        "surroundings": results.surroundings.to_dict("records"),
    }


def _diverging(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The rows in which a run diverged; the others say the same of every arm: none of so many."""
    return table[(table["treatment_diverged"] > 0) | (table["control_diverged"] > 0)].to_dict("records")


def _arms(results: Findings) -> dict[str, Any]:
    """The template's values for the arms: their table, the highest mean first, and what is said of it."""
    plan = results.plan
    ranked = results.arms.sort_values("accuracy", ascending=False, kind="stable", na_position="last")
    return {
        "arms": ranked.to_dict("records"),
        "first_arm": plan.arms[0].name,
        "highest": headlines.highest_mean(plan, results.arms),
        "alike": arms.alike(plan, results.runs) if len(plan.arms) > 2 and not plan.factors else None,
        "undrawn": results.gallery.error,
        "cost": answer.of_cost(results.runs),
    }


def _factorial(results: Findings) -> dict[str, Any]:
    """Who contributes what, where all combinations were trained."""
    shares, pairs = results.contributions, results.interactions
    return {
        "contributions": [{"metric": name, "rows": frame.to_dict("records")} for name, frame in shares.items()],
        "interactions": pairs.sort_values("p", kind="stable").to_dict("records") if shares else [],
    }


MOST_LINKED = 20_000
"""Runs that a page has a link to, each; more would be a page that no browser likes."""


def _provenance(results: Findings) -> dict[str, Any]:
    """The template's values for the provenance: the plan as registered, deviations from it, and every run."""
    return {
        "deviations": results.deviations,
        "lock": results.lock,
        "before": results.ended_before,
        "mixture": answer.of_sources(results.sources),
        "measured": results.consulted,
        "runs_total": len(results.runs),
        "runs": _matrix(results.plan, results.runs) if len(results.runs) <= MOST_LINKED else [],
        "grouped_view": schema.GROUPED_VIEW,
    }


def _learned(results: Findings) -> list[str]:
    """Sentences that say whether the arms' networks have learned, and which runs diverged."""
    divergence = answer.of_divergence(results.arms)
    return [*answer.of_health(results.plan, results.learned), *([divergence] if divergence else [])]


def _status(results: Findings) -> dict[str, Any]:
    """How far the plan is; what is under way or went wrong counts only where there is no result."""
    planned, done = len(results.plan.arms) * len(results.plan.seeds), len(results.runs)
    have, of = pd.MultiIndex.from_frame(results.runs[["arm", "seed"]]), results.attempts.set_index(["arm", "seed"])
    # The last attempt at a run says where it stands.
    last = of.loc[~of.index.isin(have), "outcome"].replace("", "in training").groupby(level=[0, 1], sort=False).last()
    text = f"finished: all {planned} runs done" if done == planned else f"mid-run: {done} of {planned} runs done"
    rest = [f"{count} {what}" for what, count in sorted(Counter(last).items())]
    return {"text": ", ".join([text, *rest]), "finished": done == planned}


def _families(results: Findings) -> list[dict[str, Any]]:
    """Per metric its rows, in a ledger per family and each with what its mechanism metrics are in both arms."""
    plan, ledger = results.plan, results.plan.layout == "ledger"
    rows: list[dict[Any, Any]] = [
        row
        | {
            "why": answer.mechanism(mechanisms.means(row, results.runs)) if ledger else [],
            "subject": phrases.subject(plan, row),
            "place": phrases.place(row),
            "table": row["family"] if ledger else phrases.metric_title(row["metric"]),
        }
        for row in results.verdicts.to_dict("records")
    ]
    titles = dict.fromkeys(row["table"] for row in rows)
    return [{"title": title, "rows": [row for row in rows if row["table"] == title]} for title in titles]


def _mechanisms(results: Findings, figures: Container[str]) -> list[dict[str, Any]]:
    """Per technique what was claimed and why it should hold, beside what was seen inside and drawn."""
    plan, inside = results.plan, results.inside
    return [
        {
            "title": phrases.sentence_case(phrases.technique_title(plan, technique)),
            "brief": answer.in_brief(results.verdicts, technique),
            "reason": plan.reasons.get(technique),
            "statements": answer.statements(results.verdicts, technique),
            **{
                kind: name if (name := drawings.mechanism_name(plan, kind, technique)) in figures else ""
                for kind in ("mechanism", "depth")
            },
            "rows": inside[inside["technique"] == technique].to_dict("records"),
        }
        for technique in dict.fromkeys(inside["technique"])
    ]


def _matrix(plan: PlanRecord, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Per arm a cell per seed of the plan: the run's record, or None."""
    by_cell = {(row["arm"], row["seed"]): row for row in runs.to_dict("records")}
    return [{"arm": arm.name, "cells": [by_cell.get((arm.name, seed)) for seed in plan.seeds]} for arm in plan.arms]
