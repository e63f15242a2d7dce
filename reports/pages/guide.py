"""The page that says how to read the others, for people who know no statistics."""

from __future__ import annotations

from pathlib import Path

from cifar_ablations.reports.pages import rendering

GUIDE = "how-to-read.html"


def write_guide(folder: Path) -> Path:
    """Write the page into the folder of the reports, which link to it; returns it."""
    template = rendering.environment().get_template("how_to_read.html.j2")
    return rendering.write_html(folder / GUIDE, template.render())
