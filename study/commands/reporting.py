"""Writes pages anew from the store, and says at the end what the newest one found."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.stores import without_password
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.pages.foundations_page import write_foundations_report
from cifar_ablations.reports.pages.index_page import write_index
from cifar_ablations.reports.pages.plan_page import write_reports
from cifar_ablations.reports.pages.search_page import write_search_reports
from cifar_ablations.reports.reading import searches
from cifar_ablations.study.commands import answer_table, next_step
from cifar_ablations.study.data.typed import program
from cifar_ablations.study.store.home import Home

Say = Callable[[str], None]


def write_pages(
    home: Home, plan: str | None, tell: Say | None = None, found: Callable[[Findings], None] | None = None
) -> list[Path]:
    """Write the pages of a plan, or of all plans and searches, and the index, which comes last; returns their paths.

    tell, found: as of `write_reports`. Raises AblateError for an unknown plan, and where there is nothing to write.
    """
    if plan is not None:
        from cifar_ablations.ablations import catalog

        catalog.plan_module(plan)
    if home.has_store:
        check_writable(home)
    told: list[str] = []

    def hear(sentence: str) -> None:
        told.append(sentence)
        if tell is not None:
            tell(sentence)

    pages = write_reports(home.tracking_uri, home.reports, plan=plan, tell=hear, found=found)
    if plan is None:
        pages += write_search_reports(home.tracking_uri, home.reports, tell=hear)
        pages += write_foundations_report(home.tracking_uri, home.reports)
    if not pages and told:
        why = "" if tell is not None else f": {' '.join(told)}"
        raise AblateError(f"no page was written: nothing that was asked of this store can be read{why}")
    if not pages:
        raise AblateError("no runs yet: nothing has been asked of this store. Start with `make ablate`.")
    return [*pages, write_index(home.tracking_uri, home.reports)]


def check_writable(home: Home) -> None:
    """Raise AblateError where pages cannot be written, with a command that writes them elsewhere."""
    store = shlex.quote(without_password(home.tracking_uri))
    here = f"ABLATE_HOME=FOLDER MLFLOW_TRACKING_URI={store} {program()} report"
    home.check_writable(home.reports, f"To write the pages elsewhere: {here}")


def report(home: Home, plan: str | None, say: Say) -> None:
    """Write the pages, say where they lie, and end with the answer of the newest, its page and the next command."""
    results: list[Findings] = []
    pages = write_pages(home, plan, say, results.append)
    # Pages of plans come first, the newest of them foremost; those of searches follow in the same way.
    newest = results[0].invocation.order if results else None
    search = next(iter(searches.searches(home.tracking_uri)), None) if plan is None else None
    if search is not None and search.outcome is not None and (newest is None or search.order > newest):
        page = pages.pop(len(results))
        _say_pages(home, pages, say)
        answer_table.show_search(search.outcome)
        command, why = next_step.after_search(search.name), ""
    elif results:
        page = pages.pop(0)
        _say_pages(home, pages, say)
        answer_table.show_answer(results[0])
        ending = next_step.known_ending(results[0].plan)
        command, why = (f"{program()} ui", "") if ending is None else next_step.after_plan(results[0], ending)
    else:
        _say_pages(home, pages, say)
        return
    next_step.say_end(home, page, command, why, say)


def _say_pages(home: Home, pages: list[Path], say: Say) -> None:
    for page in pages:
        say(f"Report: {home.shown(page)}")
