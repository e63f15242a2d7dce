"""The page that leads to all others: every question that was asked of a store, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_ablations.reports.inference import registration
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.reading import load, searches
from cifar_ablations.reports.reading.load import Invocation

INDEX = "index.html"


def write_index(tracking_uri: str, folder: Path) -> Path:
    """Write `index.html` in the folder of the reports, with links to the pages that lie there; returns it."""
    plans, asked = load.invocations(tracking_uri), searches.searches(tracking_uri)
    entries = [_entry("plan", stem, one, folder) for stem, one in registration.newest(plans).items()]
    entries += [_entry("search", f"search-{stem}", one, folder) for stem, one in registration.newest(asked).items()]
    entries.sort(key=lambda entry: entry["started"], reverse=True)
    linked = {entry["page"] for entry in entries} | {INDEX}
    others = sorted(path.name for path in folder.glob("*.html") if path.name not in linked)
    template = rendering.environment().get_template("index.html.j2")
    path = folder / INDEX
    folder.mkdir(parents=True, exist_ok=True)
    rendering.write_html(path, template.render(entries=entries, others=others))
    return path


def _entry(kind: str, stem: str, one: Invocation, folder: Path) -> dict[str, Any]:
    name = f"{stem}.html"
    return {
        "kind": kind,
        "name": one.name,
        "question": one.plan["question"],
        "overrides": one.overrides,
        "profile": one.profile,
        "size": _size(kind, one.plan),
        "data": one.data_name,
        "stand_in": one.stand_in,
        "started": one.started,
        "state": "under way" if one.running else "ended",
        "page": name if (folder / name).is_file() else "",
    }


def _size(kind: str, asked: dict[str, Any]) -> str:
    if kind == "plan":
        return f"{_count(asked['arms'], 'arm')}, {_count(asked['seeds'], 'seed')}"
    return f"{asked['trials']} trials of each study"


def _count(items: Sequence[Any], what: str) -> str:
    return f"{len(items)} {what}{'s' * (len(items) != 1)}"
