"""Writes pages anew from the store, and says at the end what the newest one found."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import remove_left
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.pages.command_page import Written, write_command_pages
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.pages.foundations_page import write_foundations_report
from cifar_ablations.reports.pages.index_page import write_index
from cifar_ablations.reports.pages.plan_page import write_reports
from cifar_ablations.reports.pages.search_page import write_search_reports
from cifar_ablations.reports.reading import command_plans, searches
from cifar_ablations.study.commands import answer_table, facts, judge, next_step
from cifar_ablations.study.commands.ending import complain
from cifar_ablations.study.data.typed import program
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    from cifar_ablations.study.execution.fleets import Progress
    from cifar_ablations.study.execution.runner import Invocation
    from cifar_ablations.study.search.invocation import SearchInvocation

Say = Callable[[str], None]


def write_pages(
    home: Home,
    plan: str | None,
    tell: Say | None = None,
    found: Callable[[Findings], None] | None = None,
    judged: Callable[[Written], None] = lambda written: None,
) -> list[Path]:
    """Write the pages of a plan, or of all plans and searches, and the index, which comes last; returns their paths.

    plan: also one of commands, by its name or its file. tell, found: as of `write_reports`; judged: is given the pages
    of plans of commands. Raises AblateError for an unknown plan, and where there is nothing to write.
    """
    commands = _plan_of_commands(home, plan)
    if plan is not None and commands is None:
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

    pages = []
    if commands is None:
        pages += write_reports(home.tracking_uri, home.reports, plan=plan, tell=hear, found=found)
    if plan is None:
        pages += write_search_reports(home.tracking_uri, home.reports, tell=hear)
        pages += write_foundations_report(home.tracking_uri, home.reports)
    if plan is None or commands is not None:
        pages += write_command_pages(home.tracking_uri, home.reports, commands, hear, judged)
    if not pages and told:
        why = "" if tell is not None else f": {' '.join(told)}"
        raise AblateError(f"no page was written: nothing that was asked of this store can be read{why}")
    if not pages:
        raise AblateError("no runs yet: nothing has been asked of this store. Start with `make ablate`.")
    return [*pages, write_index(home.tracking_uri, home.reports)]


def _plan_of_commands(home: Home, plan: str | None) -> str | None:
    """The name of a plan whose arms are commands; None for one of the suite's, and for all."""
    from cifar_ablations.ablations import catalog, command_plan

    if plan is None or plan in catalog.plan_names():
        return None
    if plan.endswith(command_plan.SUFFIX):
        return command_plan.read(Path(plan)).name
    known = command_plans.invocations(home.tracking_uri) if home.has_store else []
    return plan if plan in command_plans.newest(known) else None


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
        complain(f"ablate: failed: {name}: {why.strip().splitlines()[-1]}")


def report_facts(home: Home, plan: str | None, say: Say) -> dict[str, Any]:
    """Write the pages, and return what they found: of each plan and each search, the newest first, and all pages."""
    results, judged = list[Findings](), list[Written]()
    pages = write_pages(home, plan, say, results.append, judged.append)
    known = rendering.newest(searches.searches(home.tracking_uri)) if plan is None else {}
    of_searches = {home.reports / f"search-{stem}.html": one for stem, one in known.items()}
    return {
        "plans": [facts.of_findings(one, page) for one, page in zip(results, pages, strict=False)],
        "searches": [facts.of_search(one, page) for page, one in of_searches.items() if page in pages],
        "commands": [judge.of_commands(one) for one in judged],
        "pages": pages,
        "comparison": None,
    }


def report_comparison(home: Home, asked: tuple[str, str], say: Say, answer: facts.Document | None) -> None:
    """Write the page of two invocations side by side, and say what they have in common and where they differ.

    asked: as of `compare_page.side`, which says what is raised. answer: the document for a program, if it asks for one.
    """
    from cifar_ablations.reports.pages import compare_page

    one, other = (compare_page.side(each, home.tracking_uri) for each in asked)
    check_writable(home)
    compared = compare_page.compare(one, other)
    page = compare_page.write_comparison(compared, home.reports, say)
    if home.has_store:
        write_index(home.tracking_uri, home.reports)
    for sentence in compared.sentences:
        say(sentence)
    say(f"Report: {home.shown(page)}")
    if answer is not None:
        answer.write(
            {"plans": [], "searches": [], "commands": [], "pages": [page], "comparison": facts.of_comparison(compared)}
        )


def report(home: Home, plan: str | None, say: Say) -> None:
    """Write the pages, say where they lie, and end with the answer of the newest, its page and the next command."""
    results, judged = list[Findings](), list[Written]()
    pages = write_pages(home, plan, say, results.append, judged.append)
    # Pages of plans come first, the newest of them foremost; those of searches follow in the same way.
    newest = results[0].invocation.order if results else None
    search = next(iter(searches.searches(home.tracking_uri)), None) if plan is None else None
    others = [order for order in (newest, search.order if search is not None else None) if order is not None]
    if judged and all(judged[0].invocation.order > other for other in others):
        pages.remove(judged[0].page)
        _say_pages(home, pages, say)
        judge.show(judged[0].judged, say)
        page, command, why = judged[0].page, "", ""
    elif search is not None and search.outcome is not None and (newest is None or search.order > newest):
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
