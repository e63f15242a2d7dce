"""Writes pages anew from the store, and says at the end what the newest one found."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import remove_left
from cifar_ablations.ablations.stores import without_password
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.pages.foundations_page import write_foundations_report
from cifar_ablations.reports.pages.index_page import write_index
from cifar_ablations.reports.pages.plan_page import write_reports
from cifar_ablations.reports.pages.search_page import write_search_reports
from cifar_ablations.reports.reading import searches
from cifar_ablations.study.commands import answer_table, facts, next_step
from cifar_ablations.study.data.typed import program
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    from cifar_ablations.study.execution.fleets import Progress
    from cifar_ablations.study.execution.runner import Invocation
    from cifar_ablations.study.search.invocation import SearchInvocation

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
        remove_left(home.reports)
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


def run_told(home: Home, invocation: Invocation, say: Say, answer: facts.Document | None, *, quiet: bool) -> bool:
    """Carry out a plan as `execute.run_plan` does, for a program or for who wants the answer alone.

    answer: the document to be written, in place of the table. Returns whether trainings failed.
    """
    from cifar_ablations.study.commands.execute import carry_out_plan

    progress, results, pages = carry_out_plan(home, invocation, say, quiet=quiet)
    if quiet:
        _tell_failed(progress)
    if answer is None and results:
        answer_table.show_answer(results[0])
    elif answer is not None and results:
        answer.write(facts.of_run(progress, results[0], pages[0]))
    return bool(progress.failed)


def search_quietly(home: Home, invocation: SearchInvocation, storage: str | None) -> bool:
    """Carry out a search and say what it found alone; returns whether trials failed. storage: as of `run_search`."""
    from cifar_ablations.study.commands.execute import carry_out_search

    progress, outcome, _ = carry_out_search(home, invocation, storage, _nothing, quiet=True)
    _tell_failed(progress)
    answer_table.show_search(outcome)
    return bool(progress.failed)


def _nothing(sentence: str) -> None:
    """Says nothing."""


def _tell_failed(progress: Progress) -> None:
    for name, why in progress.failed.items():
        print(f"ablate: failed: {name}: {why.strip().splitlines()[-1]}", file=sys.stderr)


def report_facts(home: Home, plan: str | None, say: Say) -> dict[str, Any]:
    """Write the pages, and return what they found: of each plan and each search, the newest first, and all pages."""
    results: list[Findings] = []
    pages = write_pages(home, plan, say, results.append)
    known = rendering.newest(searches.searches(home.tracking_uri)) if plan is None else {}
    of_searches = {home.reports / f"search-{stem}.html": one for stem, one in known.items()}
    return {
        "plans": [facts.of_findings(one, page) for one, page in zip(results, pages, strict=False)],
        "searches": [facts.of_search(one, page) for page, one in of_searches.items() if page in pages],
        "pages": pages,
    }


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
