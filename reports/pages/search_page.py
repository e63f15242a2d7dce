"""One self-contained HTML page per search, from nothing but the store."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.reports.inference import registration, verdict
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.reading import load, order, searches
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.reading.searches import Parameter, Search, Study
from cifar_ablations.reports.wording import phrases, tables

if TYPE_CHECKING:
    from jinja2 import Template
    from mlflow.tracking import MlflowClient

TEST_PLAN = "tuned"
"""The plan that puts a search's best recipe to the test."""


def write_search_reports(
    tracking_uri: str,
    folder: Path,
    *,
    search: str | None = None,
    digest: str | None = None,
    ui_address: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write a page and a CSV file of trials for the newest invocation of each search; returns the pages, newest first.

    A search is a name on a data set, in a profile, with given overrides; `search` (a name) and `digest` (of a search
    as invoked) leave out all others. `ui_address` is where MLflow's UI answers (a tracking server is its own). `tell`
    is given which searches and trials of the store cannot be read. Files appear whole or not at all. A store
    without searches gets no page. Raises AblateError where the store does not exist, for a search that was never
    invoked, and for a `ui_address` that is not http or https.
    """
    address = rendering.address_of(tracking_uri, ui_address)
    unreadable: list[str] = []
    logged = searches.searches(tracking_uri, unreadable)
    names = sorted({one.name for one in logged})
    if search is not None and search not in names:
        hint = did_you_mean(search, names) if names else ": no search has run in this store. Start with `ablate tune`."
        raise AblateError("\n".join([f"no trials of a search {search!r}{hint}", *unreadable]))
    if tell is not None:
        for sentence in unreadable:
            tell(f"Left out: {sentence}.")
    if not logged:
        return []
    client, template = load.connect(tracking_uri), _template()
    invoked = load.invocations(tracking_uri)
    folder.mkdir(parents=True, exist_ok=True)
    asked = {registration.question(one) for one in logged if digest in (None, one.digest)}
    pages, unread, clocks, failed = list[Path](), list[str](), list[str](), list[str]()
    for stem, one in rendering.newest(logged).items():
        if search in (None, one.name) and registration.question(one) in asked:
            with rendering.uncollected(), rendering.kept_apart(f"search {one.name!r} (run {one.run_id})", failed):
                shown, table = _content(client, one, invoked, unread)
                clocks += filter(None, [shown["clock"]])
                name = f"search-{stem}"
                csv = f"{name}-trials.csv"
                write_atomically(folder / csv, rendering.csv(tables.typed(table)))
                html = template.render(**shown, address=address, csv=csv)
                pages.append(rendering.write_html(folder / f"{name}.html", html))
    if failed and not pages:
        raise AblateError("; ".join(failed))
    if tell is not None:
        for sentence in dict.fromkeys([*unread, *failed]):  # two searches may have been tested by one plan
            tell(f"Left out: {sentence}.")
        for sentence in dict.fromkeys(clocks):
            tell(sentence)
    return pages


def _template() -> Template:
    environment = rendering.environment()
    words = (setting, span, recipe_command, knobs)
    environment.globals |= {word.__name__: word for word in words}
    return environment.get_template("search.html.j2")


def _content(
    client: MlflowClient, search: Search, invoked: Sequence[Invocation], unreadable: list[str]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The values that the template shows of a search, and the table of its trials.

    unreadable: as of `searches.trials_of`.
    """
    from cifar_ablations.reports.figures import search_budget, search_importance, search_parallel, search_rungs

    left_out: list[str] = []
    trials = searches.trials_of(client, search, left_out)
    unreadable += left_out
    clock = order.ahead([search.dated, *trials["dated"].dropna()])
    search = searches.without_diverged(search, trials)
    studies = searches.studies_of(search, trials)
    trials = searches.by_study(trials, studies)
    rungs = searches.rungs_of(client, trials)
    importances = search_importance.data(trials, studies)
    table = searches.study_table(studies, trials)
    shown = {
        "search": search,
        "record": search.plan,
        "status": _status(search, trials, table),
        "latest": rendering.when(trials["ended"].max()),
        "answer": answer(search, studies, trials),
        "clock": clock,
        "left_out": left_out,
        "found": searches.best_of(trials) is not None,
        "changes": _changes(search, studies),
        "tested": _tested(client, search, table, invoked, unreadable),
        "studies": [row | {"about": study} for study, row in zip(studies, table.to_dict("records"), strict=True)],
        "docs": _docs(studies),
        "figures": _figures(client, search, studies, trials, importances),
        "importances": search_importance.table(importances),
        "compared": search_rungs.compared(rungs, trials, _rungs(search)),
        "fairness": fairness(search, studies, table),
        "trials": trials.to_dict("records"),
        "parameters": list(dict.fromkeys(p.name for study in studies for p in study.parameters)),
        "fronts": [(study.name, trial) for study in studies for trial in study.front],
        "conditional": _conditional(studies, trials),
        "most": search_parallel.MOST_PARAMETERS,
        "expected": any(study.sampler in search_budget.INDEPENDENT for study in studies),
        "grouped_view": schema.GROUPED_VIEW,
    }
    return shown, searches.trial_table(search, trials, rungs)


def setting(value: Any) -> str:
    """The value of a knob, as short as it can be written without doubt; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−") if value else "0"


def span(parameter: Parameter) -> str:
    """The range or the choices of a parameter that a search looked in, as text."""
    if not parameter.numeric:
        return f"one of {', '.join(parameter.choices)}"
    return f"{setting(parameter.low)} to {setting(parameter.high)}{', log' if parameter.log else ''}"


def knobs(values: Mapping[Any, Any]) -> list[str]:
    """Knobs with their values."""
    return [f"{name} {setting(value)}" for name, value in values.items()]


def recipe_command(search: Search) -> str:
    """The command that puts the best recipe to the test."""
    recipe = shlex.quote(f"out/recipes/{search.name}.toml")
    return f"ablate run {TEST_PLAN} --baseline {recipe} --profile {shlex.quote(search.profile)}"


def _status(search: Search, trials: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """How far the search is, and what is under way."""
    done, uncounted = int(table["counted"].sum()), int(table["uncounted"].sum())
    training = Counter(trials["outcome"]).get("", 0)
    parts = [f"{phrases.count(done, 'trial')} in {len(table)} {'study' if len(table) == 1 else 'studies'}"]
    if search.outcome is not None:
        parts[0] = f"finished: {parts[0]}"
    else:
        parts[0] = f"{'mid-run' if search.running else 'interrupted'}: {parts[0]} so far"
        if training:
            parts.append(f"{training} in training")
    if uncounted:
        parts.append(f"{uncounted} failed or interrupted")
    return {"text": ", ".join(parts), "finished": search.outcome is not None, "running": search.running}


def answer(search: Search, studies: Sequence[Study], trials: pd.DataFrame) -> list[str]:
    """The best recipe in sentences, and what its figure is worth."""
    best, winner = searches.best_of(trials), search.winner
    if best is None:
        return _none_best(trials)
    if winner:
        value, study = winner.value, winner.study
        named = f"The best recipe is that of trial {winner.trial} of {study}"
        moved = [f"{name} from {setting(old)} to {setting(new)}" for name, old, new in winner.changes]
        baseline = _baseline(search)
        what = f"Against {baseline} it changes {phrases.listing(moved)}." if moved else f"It is {baseline} unchanged."
    else:
        value, study = best["value"], best["study"]
        start = "So far the" if search.outcome is None else "The"
        named = f"{start} best recipe is that of trial {best['trial']} of {study}"
        sampled = knobs(next(searches.sampled_by(s, best) for s in studies if s.name == study))
        what = f"It has {phrases.listing(sampled)}." if sampled else ""
    seeds = [str(seed) for seed in search.plan.seeds]
    with_seeds = f", with {'seed' if len(seeds) == 1 else 'seeds'} {phrases.listing(seeds)}"
    sentences = [
        f"{named}, with a validation accuracy of {phrases.percent(value)} %. {what}".rstrip(),
        _retuned(search),
        _unchanged(search, trials, value),
        _beyond(studies, study),
        _taken_over(trials),
        f"This is a figure on validation images, and an optimistic one: it is the best of "
        f"{phrases.count(len(searches.counted(trials)), 'trial')}, measured on the images that chose it{with_seeds}. "
        f"The plan {TEST_PLAN} puts it to the test.",
    ]
    return [sentence for sentence in sentences if sentence]


def _retuned(search: Search) -> str:
    """A sentence on the best value of each study, for a search that keeps the baseline."""
    retuned = search.outcome.retuned if search.outcome else {}
    parts = [f"{study}: {phrases.listing(knobs(values))}" for study, values in retuned.items()]
    return f"The search keeps {_baseline(search)} and finds, by study, {'; '.join(parts)}." if parts else ""


def _none_best(trials: pd.DataFrame) -> list[str]:
    """Why no trial is best, where some have come to an end."""
    complete = searches.complete(trials)
    if complete.empty:
        return []
    which = f"all {len(complete)} trials" if len(complete) > 1 else "the one trial"
    return [f"No recipe is best: {which} that came to an end diverged, and nothing can be adopted."]


def _baseline(search: Search) -> str:
    """What the recipe is called that the search started from, with what the command changed of it."""
    settings = [one for one in search.plan.overrides if not one.startswith("baseline=")]
    return search.plan.baseline.name + (f" with {phrases.listing(settings)}" if settings else "")


def _taken_over(trials: pd.DataFrame) -> str:
    """A sentence on trials that were not trained for this store; else empty."""
    count = int((searches.counted(trials)["origin"] == schema.FROM_OPTUNA).sum())
    return (
        f"Of {phrases.count(count, 'trial')} the result was taken from Optuna's storage, which has no curves: trained "
        "from another output folder, or before this store was lost."
        if count
        else ""
    )


def _unchanged(search: Search, trials: pd.DataFrame, best: float) -> str:
    """A sentence on the baseline's own trial, where it is not the best one; else empty."""
    complete, baseline = searches.complete(trials), search.plan.baseline
    own = complete[complete["digest"] == baseline.digest].to_dict("records")
    if not own or own[0]["value"] == best:
        return ""
    named = f"{phrases.sentence_case(_baseline(search))} itself, trial {own[0]['trial']} of {own[0]['study']},"
    return f"{named} has {phrases.percent(own[0]['value'])} %."


def _beyond(studies: Sequence[Study], name: str) -> str:
    """A warning where the best study's best value lies at the end of what was searched."""
    edge = next((study.edge for study in studies if study.name == name), None)
    if not edge:
        return ""
    lie = "lies" if len(edge) == 1 else "lie"
    return f"Its {phrases.listing(edge)} {lie} at the edge of what was searched: a better value may be beyond."


def _docs(studies: Sequence[Study]) -> dict[str, str]:
    return {p.name: p.doc for study in studies for p in study.parameters if p.doc}


def _changes(search: Search, studies: Sequence[Study]) -> list[dict[str, Any]]:
    if search.winner is None:
        return []
    docs, titles = _docs(studies), search.plan.titles
    return [
        {"knob": name, "doc": docs.get(name) or titles.get(name.partition(".")[0], ""), "old": old, "new": new}
        for name, old, new in search.winner.changes
    ]


def _tested(
    client: MlflowClient, search: Search, table: pd.DataFrame, invoked: Sequence[Invocation], unreadable: list[str]
) -> dict[str, Any] | None:
    """The result of the plan that tests the best recipe, on the same data, in the same profile.

    A plan with an arm of that recipe (or of any study's best, where the search names none) comes before a newer one
    without.
    """
    plans = [
        one
        for one in invoked
        if one.name == TEST_PLAN and (one.data_digest, one.profile) == (search.data_digest, search.profile)
    ]
    if not plans:
        return None
    digests = {search.winner.digest} if search.winner else set(table["digest"].dropna())
    own = [one for one in plans if digests & {arm.digest for arm in one.plan.arms}]
    chosen = (own or plans)[0]
    runs = load.with_epochs_to_target(client, load.runs_of(client, chosen.plan, unreadable=unreadable), chosen.plan)
    verdicts = phrases.with_sentences(chosen.plan, verdict.judge(chosen.plan, runs))
    verdicts = registration.with_exploratory(verdicts, chosen, runs, invoked)
    return {
        "digest": chosen.digest,
        "own": bool(own),
        "seeds": chosen.plan.seeds,
        "shared": sorted(set(chosen.plan.seeds) & set(search.plan.seeds)),
        "verdicts": verdicts.to_dict("records"),
    }


def _rungs(search: Search) -> list[int]:
    """The epochs at which trials were compared; a pruner that counts seeds has none."""
    return [] if search.plan.pruner == "wilcoxon" else list(search.plan.rungs)


def _conditional(studies: Sequence[Study], trials: pd.DataFrame) -> list[str]:
    """Parameters that some complete trials of their study have and others lack."""
    complete = searches.complete(trials)
    return [
        p.name
        for study in studies
        for p in study.parameters
        if p.name in complete and complete.loc[complete["study"] == study.name, p.name].isna().any()
    ]


def fairness(search: Search, studies: Sequence[Study], table: pd.DataFrame) -> list[str]:
    """Whether the studies had the same chances, and what differs."""
    each = f"up to {search.plan.epochs} epochs"
    how = f"sampler {search.plan.sampler}, pruner {search.plan.pruner}"
    if len(studies) < 2:
        return [f"There is one study, with {how}: nothing had to be shared out. Every trial had {each}."]
    same, different = [f"trials of {each}", how], []
    if table["counted"].nunique() == 1:
        same.insert(0, phrases.count(int(table["counted"].iloc[0]), "trial"))
    else:
        different.append(f"the number of trials ({_by_study(table['study'], table['counted'])})")
    if table["epochs"].nunique() > 1:
        spent = [f"{epochs:g}" for epochs in table["epochs"]]
        different.append(f"the epochs trained, by pruning or divergence ({_by_study(table['study'], spent)})")
    widths = [_widths(study) for study in studies]
    if len(set(widths)) == 1:
        same.append(f"ranges of one width ({widths[0]})")
    else:
        different.append(f"what was searched ({_by_study(table['study'], widths)})")
    sentences = [f"Alike for all {len(studies)} studies: {'; '.join(same)}."]
    if different:
        sentences.append(f"Different between them: {'; '.join(different)}.")
    return sentences


def _by_study(names: Sequence[str] | pd.Series, values: Sequence[Any] | pd.Series) -> str:
    return ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))


def _widths(study: Study) -> str:
    parts = []
    for p in study.parameters:
        if p.numeric:
            parts.append(f"{p.name} {setting(round(p.width, 2))}{' decades' if p.log else ' wide'}")
        else:
            parts.append(f"{p.name} {phrases.count(len(p.choices), 'choice')}")
    return " and ".join(parts) or "nothing"


def _figures(
    client: MlflowClient, search: Search, studies: Sequence[Study], trials: pd.DataFrame, importances: pd.DataFrame
) -> dict[str, dict[str, str]]:
    """The figures that show more than a sentence would: those of one trial, or of none, are left out."""
    from cifar_ablations.reports.figures import (
        search_budget,
        search_contour,
        search_history,
        search_importance,
        search_parallel,
        search_rungs,
        search_slices,
    )

    if len(searches.counted(trials)) < 2:
        return {}
    curves = searches.curves_of(client, trials)
    frames: dict[str, tuple[Any, pd.DataFrame]] = {
        "history": (search_history, search_history.data(trials)),
        "budget": (search_budget, search_budget.data(trials, {study.name: study.sampler for study in studies})),
        "slices": (search_slices, search_slices.data(trials, studies)),
        "contour": (search_contour, search_contour.data(trials, studies, importances)),
        "parallel": (search_parallel, search_parallel.data(trials, studies, importances)),
        "rungs": (search_rungs, search_rungs.data(curves, trials, _rungs(search))),
        "importance": (search_importance, importances),
    }
    return {
        name: rendering.drawn(name, room.draw(data), room.describe(data))
        for name, (room, data) in frames.items()
        if not data.empty
    }
