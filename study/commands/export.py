"""What `ablate export` does: a plan's table or figure for a paper, as a file or to standard output."""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.reports.pages import exporting
from cifar_ablations.study.commands.ending import complain
from cifar_ablations.study.store.home import Home

STDOUT = "-"


def export_plan(
    home: Home,
    plan: str,
    to: str,
    output: str | None,
    say: Callable[[str], None],
    *,
    style: str | None,
    spread: str,
    width: float,
    told: bool = False,
) -> dict[str, Any]:
    """Write what `exporting.export` makes to `output`, "-" for standard output, else to the folder of exports.

    Returns what was written, and where, for a program; told: whether that stands on the standard output in place of the
    table. Raises AblateError for what cannot be exported, or written there.
    """
    catalog.plan_module(plan)
    if output == STDOUT:
        if to == "pdf":
            raise AblateError("--output -: a PDF is no text; name a file, or take --to svg")
        say = complain
    made = exporting.export(home.tracking_uri, plan, to, style=style, spread=spread, width=width, tell=say)
    sha256 = hashlib.sha256(made.content).hexdigest()
    facts: dict[str, Any] = {"plan": plan, "format": to, "bytes": len(made.content), "sha256": sha256}
    if output == STDOUT and told:
        return {**facts, "file": None, "content": made.content.removeprefix(codecs.BOM_UTF8).decode()}
    if output == STDOUT:
        # As bytes, since the encoding is the file's and not the terminal's; a program wants no mark of it in a pipe.
        typer.echo(made.content.removeprefix(codecs.BOM_UTF8), nl=False)
        return {**facts, "file": None, "content": None}
    path = home.exports / made.name if output is None else Path(os.path.expanduser(output))
    try:
        write_atomically(path, made.content)
    except OSError as error:
        raise AblateError(f"--output {path}: {error.strerror or error}") from None
    say(f"Exported: {home.shown(path)}")
    return {**facts, "file": path.resolve(), "content": None}
