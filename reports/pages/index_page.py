"""The page that leads to all others: every question that was asked of a store, the newest first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.reading import load, searches
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.reading.searches import Search
from cifar_ablations.reports.wording import phrases

INDEX = "index.html"


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
    entries.sort(key=lambda entry: entry["order"], reverse=True)
    linked = {entry["page"] for entry in entries} | {INDEX}
    others = sorted(path.name for path in folder.glob("*.html") if path.name not in linked)
    template = rendering.environment().get_template("index.html.j2")
    path = folder / INDEX
    folder.mkdir(parents=True, exist_ok=True)
    return rendering.write_html(path, template.render(entries=entries, others=others, unreadable=unreadable))


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
