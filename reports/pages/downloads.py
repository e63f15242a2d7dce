"""The files beside a plan's page: its tables for programs, papers and notes."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Mapping

import pandas as pd

from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.wording import tables

KINDS = {".zip": "CSV files", ".csv": "CSV", ".parquet": "Parquet", ".md": "Markdown", ".tex": "LaTeX"}
ABOUT = {
    "verdicts": "a row per claim",
    "arms": "a row per arm",
    "runs": "a row per run, with every metric",
    "mechanisms": "what happened inside: a row per technique, comparison and metric",
    "divergence": "runs that diverged: a row per two arms that a claim compares",
    "surroundings": "a row per technique, in the full recipe and on its own",
    "contributions": "Shapley values and main effects",
    "interactions": "a row per pair of techniques",
    "variance": "where the variance between runs comes from: a row per purpose",
    "figures": "what each figure shows, a file per figure",
    "pairing": "how much of a difference's variance equal seeds remove",
}


def files(results: Findings, drawn: Mapping[str, pd.DataFrame]) -> dict[str, bytes]:
    """The contents of the files beside a page, by the end of their names, in the order in which the page lists them.

    drawn: what the page's figures show, by their names, of `drawings.frames`.
    """
    labelled = {name: tables.labelled(frame, results.plan) for name, frame in _frames(results).items()}
    labelled["runs"] = tables.typed(labelled["runs"])
    made = {}
    for name, frame in labelled.items():
        made[f"{name}.csv"] = rendering.csv(frame)
        if name == "verdicts":
            made |= _printed(results)
        if name == "runs":
            made["runs.parquet"] = frame.to_parquet(index=False)
    made["figures.zip"] = _zipped(
        {f"{name}.csv": rendering.csv(tables.labelled(frame, results.plan)) for name, frame in drawn.items()}
    )
    return made


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    """An archive of files; without their time, so that the same figures are the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _frames(results: Findings) -> dict[str, pd.DataFrame]:
    """The tables that have something to say."""
    plan, made = results.plan, {"arms": results.arms}
    if plan.claims:
        made["verdicts"] = tables.verdict_table(results.verdicts, plan)
    if results.arms["diverged"].any() and len(results.divergence):
        made["divergence"] = results.divergence
    made["runs"] = tables.run_table(plan, results.runs)
    if len(results.surroundings):
        made["surroundings"] = results.surroundings.assign(places=results.surroundings["places"].map(", ".join))
    if len(results.inside):
        made["mechanisms"] = results.inside
    if len(results.variance):
        made["variance"], made["pairing"] = results.variance, results.pairing
    if plan.factors:
        made["contributions"] = pd.concat(results.contributions, names=["metric"]).reset_index("metric")
        made["interactions"] = results.interactions
    return made


def _printed(results: Findings) -> dict[str, bytes]:
    """The verdicts as a text and as a paper would print them."""
    short, note = tables.short_verdicts(results.verdicts), tables.NOTE if results.invocation.stand_in else ""
    return {
        "verdicts.md": tables.as_markdown(short, note).encode(),
        "verdicts.tex": tables.as_latex(short, note).encode(),
    }


def listed(stem: str, names: Iterable[str]) -> list[dict[str, str]]:
    """The files as a page lists them, the page's own name before theirs: `name`, `kind` and `about`."""
    split = [os.path.splitext(name) for name in names]
    return [{"name": f"{stem}-{about}{kind}", "kind": KINDS[kind], "about": ABOUT[about]} for about, kind in split]
