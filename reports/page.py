"""One self-contained HTML page per question, from nothing but the store."""

from __future__ import annotations

import base64
import gc
import hashlib
import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ablations import schema
from ablations.naming import did_you_mean
from reports import answer, details, drawings, factorial, load, registration, tables, verdict, wording
from reports.load import Invocation

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

UI_ADDRESS = "http://127.0.0.1:5000"
TEMPLATES = Path(__file__).parent / "templates"
MANY_ARMS = 20
"""Of more arms, what lists every one is folded."""
KINDS = {".csv": "CSV", ".parquet": "Parquet", ".md": "Markdown", ".tex": "LaTeX"}
ABOUT = {
    "verdicts": "a row per claim",
    "arms": "a row per arm",
    "runs": "a row per run, with every metric",
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
) -> list[Path]:
    """Write a page and its CSV files for the newest invocation of each question; returns the pages, newest first.

    A question is a plan on a data set, in a profile, with given overrides; `plan` (a name) and `digest` (of a plan as
    invoked) leave out all others. `ui_address` is where MLflow's UI answers (a tracking server is its own). Files
    appear whole or not at all. Raises ValueError where the store does not exist or holds no plan, for a plan that was
    never invoked, and for a `ui_address` that is not http or https.
    """
    address = (ui_address or (tracking_uri if tracking_uri.startswith("http") else UI_ADDRESS)).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"ui_address must begin with http:// or https://, not {ui_address!r}")
    found = load.invocations(tracking_uri)
    if not found:
        raise ValueError("no runs yet: no plan has been invoked in this store. Start with `make ablate`.")
    names = sorted({invocation.name for invocation in found})
    if plan is not None and plan not in names:
        raise ValueError(f"no runs of a plan {plan!r}{did_you_mean(plan, names)}")
    client, template = load.connect(tracking_uri), _template()
    folder.mkdir(parents=True, exist_ok=True)
    asked = {registration.question(invocation) for invocation in found if digest in (None, invocation.digest)}
    pages = []
    for stem, invocation in _newest(found).items():
        if plan in (None, invocation.name) and registration.question(invocation) in asked:
            with uncollected():
                pages.append(_write(client, template, folder, stem, invocation, found, address))
    return pages


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector of cycles: what a page is made of lives until it is written, and walking it again and again
    takes as long as all the rest."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _newest(found: Sequence[Invocation]) -> dict[str, Invocation]:
    """The newest invocation of each question by file stem; the newer of two with one name keeps the plain one."""
    by_question: dict[tuple[Any, ...], Invocation] = {}
    for invocation in found:
        by_question.setdefault(registration.question(invocation), invocation)
    stems: dict[str, Invocation] = {}
    for invocation in by_question.values():
        stem = _slug(f"{invocation.name}-{invocation.data_name}-{invocation.profile}")
        if invocation.overrides:
            stem += "-" + hashlib.sha256("\n".join(sorted(invocation.overrides)).encode()).hexdigest()[:6]
        if stem in stems:
            stem += "-" + _slug(invocation.data_digest)[:8]
        stems.setdefault(stem, invocation)
    return stems


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-") or "unnamed"


def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    words = (
        wording.points, wording.percent, wording.interval, wording.mean_and_std, wording.p_value, wording.margin,
        wording.verdict_label, wording.duration, wording.sentence_case, wording.listing, wording.metric_title,
        wording.number, wording.count, wording.detectable, wording.spread, wording.difference, wording.limits,
        wording.looks_taken, wording.epochs, sort_key,
    )  # fmt: skip
    environment.globals |= {word.__name__: word for word in words} | {"sort_script": sort_script()}
    return environment.get_template("page.html.j2")


@dataclass(frozen=True)
class Script:
    """A script to stand in a page, and the source that a Content-Security-Policy must name for it to run."""

    text: Markup
    hash: str


def sort_script() -> Script:
    """The script that makes tables of class "sortable" sortable."""
    from markupsafe import Markup

    text = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), f"sha256-{digest}")


def sort_key(value: float | None) -> str:
    """A number as the sorting script reads it; empty, which sorts last, for NaN."""
    if value is None or math.isnan(value):
        return ""
    return f"{value:.9g}".replace("inf", "Infinity")


def _write(
    client: MlflowClient, template: Template, folder: Path, stem: str,
    invocation: Invocation, found: Sequence[Invocation], address: str,
) -> Path:  # fmt: skip
    plan = invocation.plan
    matching = load.matching_runs(client, plan)
    runs = load.with_epochs_to_target(client, load.results_among(matching, invocation.chance), plan)
    arrays = details.arrays_of(client, runs, plan)
    verdicts = verdict.judge(plan, runs, details.answers(arrays) if plan["claims"] else None)
    verdicts = registration.with_exploratory(verdicts, invocation, runs, found)
    ledger = plan.get("layout") == "ledger"
    arms = tables.arm_table(plan, runs)
    arms_csv, verdicts_csv = f"{stem}-arms.csv", f"{stem}-verdicts.csv" if plan["claims"] else ""
    downloads = {f"{stem}-arms.csv": _csv(arms).encode()}
    if verdicts_csv:
        short = tables.short_verdicts(verdicts)
        downloads |= {
            verdicts_csv: _csv(tables.verdict_table(verdicts, plan)).encode(),
            f"{stem}-verdicts.md": tables.as_markdown(short).encode(),
            f"{stem}-verdicts.tex": tables.as_latex(short).encode(),
        }
    tidy = tables.run_table(plan, runs)
    downloads |= {f"{stem}-runs.csv": _csv(tidy).encode(), f"{stem}-runs.parquet": tidy.to_parquet(index=False)}
    shares = {}
    figures = drawings.of_plan(client, plan, runs, verdicts, arrays)
    if plan.get("factors"):
        for name in (schema.TEST_ACCURACY, schema.GENERALISATION_GAP):
            shares[name] = factorial.contributions(plan, runs, name)
        pairs = factorial.interactions(plan, runs, schema.TEST_ACCURACY)
        whole = pd.concat(shares, names=["metric"]).reset_index("metric")
        downloads |= {
            f"{stem}-contributions.csv": _csv(whole).encode(),
            f"{stem}-interactions.csv": _csv(pairs).encode(),
        }
        figures |= drawings.of_factorial(plan, runs, shares[schema.TEST_ACCURACY], pairs)
    for name, content in downloads.items():
        _replace(folder / name, content)
    html = template.render(
        invocation=invocation,
        plan=plan,
        status=_status(plan, matching, runs),
        latest=_when(runs["ended"].max()),
        headlines=[
            *(answer.of_ledger(verdicts) if ledger else answer.headlines(plan, verdicts)),
            *answer.of_arms(plan, arms),
            *answer.of_references(plan, runs),
        ],
        ledger=ledger,
        contributions=[{"metric": name, "rows": frame.to_dict("records")} for name, frame in shares.items()],
        interactions=pairs.sort_values("p", kind="stable").to_dict("records") if shares else [],
        strength=answer.strength(plan, verdicts),
        divergence=answer.of_divergence(arms, invocation.chance),
        techniques=[] if ledger else answer.by_technique(plan, verdicts),
        families=_families(verdicts, runs),
        arms=arms.to_dict("records"),
        figures={name: _drawn(name, room.draw(data), room.describe(data)) for name, (room, data) in figures.items()},
        many=MANY_ARMS,
        level=verdict.level(plan["rule"]),
        looks=verdict.looks_taken(plan, runs),
        undecided=int((verdicts["verdict"] == verdict.INCONCLUSIVE).sum()) if len(verdicts) else 0,
        surroundings=tables.surroundings(plan, runs).to_dict("records"),
        alike=tables.alike(plan, runs) if len(plan["arms"]) > 2 and not plan.get("factors") else None,
        deviations=registration.deviations(invocation, found),
        runs_total=len(runs),
        before=registration.runs_before(invocation, runs, found),
        mixture=_mixture(runs, found),
        runs=_matrix(plan, runs),
        address=address,
        downloads=[_about(name, stem) for name in downloads],
        csv={"verdicts": verdicts_csv, "arms": arms_csv},
    )
    path = folder / f"{stem}.html"
    _replace(path, (html.lstrip() + "\n").encode())
    return path


def _about(name: str, stem: str) -> Mapping[str, str]:
    """A file beside the page, as the page lists it."""
    about, suffix = os.path.splitext(name.removeprefix(f"{stem}-"))
    return {"name": name, "kind": KINDS[suffix], "about": ABOUT[about]}


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n", float_format="%.8g")


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


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


def _when(milliseconds: float) -> str:
    return "" if pd.isna(milliseconds) else f"{pd.Timestamp(milliseconds, unit='ms'):%Y-%m-%d %H:%M} UTC"


def _families(verdicts: pd.DataFrame, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Per family its rows, each with what its mechanism metrics are in both arms."""
    if verdicts.empty:
        return []
    rows = [row | {"why": answer.mechanism(row, runs)} for row in verdicts.to_dict("records")]
    titles = dict.fromkeys(row["family"] for row in rows)
    return [{"title": title, "rows": [row for row in rows if row["family"] == title]} for title in titles]


def _drawn(name: str, figure: Figure, description: str) -> dict[str, str]:
    from markupsafe import Markup

    from reports.figures import theme

    # matplotlib escapes the text it writes, so its SVG is safe to place as it is.
    return {"svg": Markup(theme.svg(figure, name)), "description": description}


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
            shares = wording.listing([f"{value[:40]} ({count} runs)" for value, count in counts.most_common()])
            sentences.append(f"The runs come from {len(counts)} {name}: {shares}.")
    return sentences


def _matrix(plan: dict[str, Any], runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Per arm a cell per seed of the plan: the run's record, or None."""
    by_cell = {(row["arm"], row["seed"]): row for row in runs.to_dict("records")}
    return [
        {"arm": arm["name"], "cells": [by_cell.get((arm["name"], seed)) for seed in plan["seeds"]]}
        for arm in plan["arms"]
    ]
