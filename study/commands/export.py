"""What `ablate export` does: a plan's table or figure for a paper, as a file or to standard output."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.reports.pages import exporting
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
) -> None:
    """Write what `exporting.export` makes to `output`, "-" for standard output, else to the folder of exports.

    Raises AblateError for what cannot be exported, or written there.
    """
    catalog.plan_module(plan)
    if output == STDOUT:
        if to == "pdf":
            raise AblateError("--output -: a PDF is no text; name a file, or take --to svg")
        say = _beside_the_output
    made = exporting.export(home.tracking_uri, plan, to, style=style, spread=spread, width=width, tell=say)
    if output == STDOUT:
        # As bytes, since the encoding is the file's and not the terminal's; a program wants no mark of it in a pipe.
        typer.echo(made.content.removeprefix(codecs.BOM_UTF8), nl=False)
        return
    path = home.exports / made.name if output is None else Path(os.path.expanduser(output))
    try:
        write_atomically(path, made.content)
    except OSError as error:
        raise AblateError(f"--output {path}: {error.strerror or error}") from None
    say(f"Exported: {home.shown(path)}")


def _beside_the_output(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
