"""The page that leads to all others: every question that was asked of a store, the newest first."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cifar_ablations.reports.pages import command_page, rendering
from cifar_ablations.reports.reading import command_plans, load, searches
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.reading.searches import Search
from cifar_ablations.reports.wording import phrases

INDEX = "index.html"
KINDS = {"compare": "Comparisons", "judged": "Runs of other programs, judged"}
"""What pages are whose names begin so; those of OTHERS are listed last."""
OTHERS = "Other pages"


def write_index(tracking_uri: str, folder: Path) -> Path:
    """Write `index.html` in the folder of the reports, with links to the pages that lie there; returns it.

    What cannot be read of the store is said on it, a sentence each.
    """
    unreadable: list[str] = []
    plans, asked = load.invocations(tracking_uri, unreadable), searches.searches(tracking_uri, unreadable)
    entries = [
        _entry("plan", stem, one, folder)
        | {"size": f"{phrases.count(len(one.plan.arms), 'arm')}, {phrases.count(len(one.plan.seeds), 'seed')}"}
        for stem, one in rendering.newest(plans).items()
    ]
    entries += [
        _entry("search", f"search-{stem}", one, folder) | {"size": f"{one.plan.trials} trials of each study"}
        for stem, one in rendering.newest(asked).items()
    ]
    commands = command_plans.newest(command_plans.invocations(tracking_uri, unreadable))
    entries += [_entry_of_commands(one, folder) for one in commands.values()]
    entries.sort(key=lambda entry: entry["order"], reverse=True)
    linked = {entry["page"] for entry in entries} | {INDEX}
    others = sorted(path for path in folder.glob("*.html") if path.name not in linked)
    listed = {title: [path for path in others if _kind(path) == title] for title in (*KINDS.values(), OTHERS)}
    template = rendering.environment().get_template("index.html.j2")
    path = folder / INDEX
    folder.mkdir(parents=True, exist_ok=True)
    return rendering.write_html(path, template.render(entries=entries, others=_titled(listed), unreadable=unreadable))


def _kind(page: Path) -> str:
    return KINDS.get(page.name.partition("-")[0], OTHERS)


def _titled(listed: Mapping[str, list[Path]]) -> dict[str, list[tuple[str, str]]]:
    """By kind the names of pages' files with their titles, of those kinds that there are."""
    return {kind: [(page.name, _title(page)) for page in pages] for kind, pages in listed.items() if pages}


def _title(page: Path) -> str:
    """What a page is called by itself; its name where it does not say, or cannot be read."""
    with suppress(OSError, ValueError):
        if found := re.search("<title>(.+?)</title>", page.read_text(encoding="utf-8")):
            return html.unescape(found[1])
    return page.name


def _entry(kind: str, stem: str, one: Invocation | Search, folder: Path) -> dict[str, Any]:
    name = f"{stem}.html"
    return {
        "kind": kind,
        "name": one.name,
        "question": one.plan.question,
        "overrides": one.overrides,
        "profile": one.profile,
        "data": one.data_name,
        "stand_in": one.stand_in,
        "order": one.order,
        "started": one.started,
        "state": "under way" if one.running else "ended",
        "page": name if (folder / name).is_file() else "",
    }


def _entry_of_commands(one: command_plans.Invocation, folder: Path) -> dict[str, Any]:
    plan, name = one.plan, f"{command_page.PREFIX}{one.plan.name}.html"
    return {
        "kind": "commands",
        "name": plan.name,
        "question": plan.question,
        "overrides": (),
        "profile": phrases.count(len(plan.arms) * len(plan.seeds), "run"),
        "size": f"{phrases.count(len(plan.arms), 'arm')}, {phrases.count(len(plan.seeds), 'seed')}",
        "data": plan.metric,
        "stand_in": False,
        "order": one.order,
        "started": one.started,
        "state": "under way" if one.running else "ended",
        "page": name if (folder / name).is_file() else "",
    }
