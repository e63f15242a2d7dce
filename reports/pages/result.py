"""What an invocation of a plan found, for a notebook or a script: tables, figures and its page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.naming import did_you_mean, shown
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import Value
from cifar_ablations.reports.inference import joined
from cifar_ablations.reports.pages import drawings, guide, plan_page, rendering
from cifar_ablations.reports.pages.drawings import Drawing
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.reading import load as reading
from cifar_ablations.reports.reading import searches
from cifar_ablations.reports.wording import headlines, phrases, tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EFFECT_COLUMNS = ["metric", "treatment", "control", "effect", "low", "high", "p", "n_treatment", "n_control", "verdict"]


class Plots:
    """The figures of a result, each as matplotlib Axes: `result.plot.forest()`; `result.plot.names` has all of them."""

    def __init__(self, figures: Mapping[str, Drawing]):
        self._figures = figures

    @property
    def names(self) -> list[str]:
        """What can be drawn."""
        return list(self._figures)

    def __call__(self, name: str) -> Axes:
        """The figure of that name, as its first Axes. Raises AblateError, with what is near, for an unknown name."""
        if name not in self._figures:
            raise AblateError(f"no figure {name!r}{did_you_mean(name, self.names)}")
        room, data = self._figures[name]
        return room.draw(data).axes[0]  # type: ignore[no-any-return]

    def forest(self) -> Axes:
        """Every effect with its interval."""
        return self("forest")

    def curves(self) -> Axes:
        """Validation accuracy by epoch."""
        return self("curves")

    def seeds(self) -> Axes:
        """Test accuracy of every seed of every arm."""
        return self("seeds")


class Result:
    """What an invocation of a plan found. Its frames are read once; it does not change when more runs end."""

    def __init__(self, findings: Findings, tracking_uri: str):
        self._findings = findings
        self._address = rendering.address_of(tracking_uri, None)

    @property
    def name(self) -> str:
        """The plan's name."""
        return self._findings.plan.name

    @cached_property
    def effects(self) -> pd.DataFrame:
        """A row per claim, columns EFFECT_COLUMNS: treatment less control, in the metric's own unit (fractions for
        accuracies), with the limits of its interval, p corrected for all claims of the plan, the runs on both sides,
        and the verdict in a word."""
        verdicts = self._findings.verdicts
        if verdicts.empty:
            return pd.DataFrame(columns=EFFECT_COLUMNS)
        rows = verdicts.to_dict("records")
        named = {"difference": "effect", "p_page": "p", "treatment_n": "n_treatment", "control_n": "n_control"}
        frame = verdicts.drop(columns=["p", "verdict"]).rename(columns=named)
        return frame.assign(verdict=[phrases.outcome(row) for row in rows])[EFFECT_COLUMNS]

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """A row per claim with all that is known of it, as in the page's file of verdicts."""
        return tables.verdict_table(self._findings.verdicts, self._findings.plan)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row per run: arm, seed, levels, outcome, every metric. A run that diverged has no accuracy."""
        return tables.run_table(self._findings.plan, self._findings.runs)

    @property
    def curves(self) -> pd.DataFrame:
        """Metrics by epoch, long: columns arm, seed, epoch, metric, value."""
        return self._findings.curves.copy()

    @cached_property
    def arms(self) -> pd.DataFrame:
        """A row per arm: runs, mean, standard deviation and interval of test accuracy, and more."""
        return self._findings.arms.copy()

    @cached_property
    def plot(self) -> Plots:
        """The figures of the page."""
        return Plots(drawings.of_plan(self._findings))

    def compare(self, other: Result) -> pd.DataFrame:
        """A row per claim that both make, whatever plans and arms are called: `statement`, and the columns of
        `joined.Joined.claims`, such as the `difference` of the other effect less this one, with `low`, `high`, `p` and
        `p_page`, and what the `runs` have to do with each other."""
        first, second = (joined.Side(of.plan, of.runs, of.verdicts) for of in (self._findings, other._findings))
        claims = joined.join(first, second).claims
        said = [first.plan.claims[place].statement for place in claims["first"]]
        return claims.assign(statement=said)[["statement", *claims]]

    def to_html(self) -> str:
        """The whole page, in one piece that needs no other file."""
        return plan_page.html_of(self._findings, self._address)

    def save(self, path: str | Path) -> Path:
        """Write the page, alone into a file whose name ends in .html, or else with its files into a folder.

        Returns the page's path.
        """
        folder = Path(path)
        if folder.suffix == ".html":
            if folder.is_dir():
                raise AblateError(f"{shown(str(folder))} is a folder; give the page's file another name")
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(folder, self.to_html().encode())
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        guide.write_guide(folder)
        (stem,) = rendering.newest([self._findings.invocation])
        return plan_page.write_page(self._findings, folder, stem, self._address)

    def _repr_html_(self) -> str:
        first = plan_page.html_of(self._findings, self._address, answer_alone=True)
        return (
            f'<iframe srcdoc="{html.escape(first)}" title="{html.escape(self._findings.plan.question)}" '
            'style="width: 100%; height: 46em; border: 0" sandbox></iframe>'
        )

    def __repr__(self) -> str:
        plan, found = self._findings.plan, self._findings
        lines = [f"{line.label}: {line.text}" for line in headlines.of_plan(plan, found.verdicts)]
        runs = f"{len(found.runs)} of {len(plan.arms) * len(plan.seeds)} runs done"
        return "\n".join([f"<Result of {plan.name}: {runs}>", *lines])


@dataclass(frozen=True)
class SearchResult:
    """What a search found, by validation images alone."""

    name: str
    recipe: Recipe | None
    """The best of all studies; None where no trial came to an end, and where a search keeps its baseline."""
    changes: Mapping[str, Value]
    """The knobs in which it differs from the baseline, with its values."""
    trials: pd.DataFrame
    """A row per trial of the search: its study, state, sampled values, and validation accuracy as a fraction."""
    page: Path

    def to_html(self) -> str:
        """The search's page, which is written already."""
        return self.page.read_text(encoding="utf-8")

    def __repr__(self) -> str:
        changes = ", ".join(f"{knob}={value}" for knob, value in self.changes.items())
        return f"<SearchResult of {self.name}: {len(self.trials)} trials; best: {changes or 'the baseline'}>"


def trials_in(tracking_uri: str, search_digest: str) -> pd.DataFrame:
    """The trials of a search in a store, of `searches.trials_of`."""
    search = next(one for one in searches.searches(tracking_uri) if one.digest == search_digest)
    return searches.trials_of(reading.connect(tracking_uri), search)


def load(tracking_uri: str, plan: str | None = None) -> Result:
    """The newest invocation of a plan in a store, or of the only plan that there is.

    Raises AblateError where there is no such store or plan, and where several plans are there and none is named.
    """
    from cifar_ablations.reports.pages import findings

    unreadable: list[str] = []
    known = reading.invocations(tracking_uri, unreadable)
    names = sorted({invocation.name for invocation in known})
    if plan is None and len(names) > 1:
        raise AblateError(f"several plans are in this store; name one of them: {', '.join(names)}")
    chosen = next((invocation for invocation in known if plan in (None, invocation.name)), None)
    if chosen is None:
        near = did_you_mean(plan, names) if plan is not None and names else ": the store has no plan"
        raise AblateError(f"no runs of a plan{f' {plan!r}' if plan else ''}{near}")
    return Result(findings.of_invocation(reading.connect(tracking_uri), chosen, known, unreadable), tracking_uri)
