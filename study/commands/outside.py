"""Commands for other programs and other people's code: check, judge, script, check-extension.

`app` gives them their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.commands.ending import FAILED, along, errors, say
from cifar_ablations.study.commands.options import (
    Baseline,
    Extensions,
    Json,
    ProfileName,
    Settings,
    number,
    path,
    plan_names,
    whole,
)


def check_command(
    plan: Annotated[
        str | None,
        typer.Argument(
            metavar="PLAN", autocompletion=plan_names, help="Which plan (default: that of --expect, else techniques)."
        ),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            "--expect",
            metavar="FILE",
            parser=path,
            help="What is expected, as TOML (default: that each claim of the plan is supported).",
        ),
    ] = None,
    markdown: Annotated[
        str | None,
        typer.Option(
            "--markdown",
            metavar="FILE|-",
            help="Where a summary for a pull request is written; - is standard output (default: nowhere).",
        ),
    ] = None,
    as_json: Json = False,
    extensions: Extensions = None,
) -> None:
    """Say whether the newest runs of a plan found what is expected: it holds (exit code 0), does not (1), is open (3).

    Trains nothing.
    """
    with errors("check", as_json) as answer:
        if answer is not None and markdown == "-":
            raise AblateError("--json and --markdown - both ask for the standard output; name a file for the summary")
        from cifar_ablations.study.commands.check import as_facts, check
        from cifar_ablations.study.store.home import Home

        done = check(Home(), plan, expect, markdown, say, shown=answer is None)
        if answer is not None:
            answer.write(as_facts(done))
        raise typer.Exit(done.code)


def check_extension_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", parser=path, help="The folder of an extension.")],
    extensions: Extensions = None,
) -> None:
    """Put an extension to the tests that the suite's techniques, plans and networks pass; exit code 1: one fails."""
    with errors("check-extension"):
        from cifar_ablations.study.commands.check_extension import check_extension

        raise typer.Exit(0 if check_extension(folder, say) else FAILED)


def script_command(
    profile: ProfileName = None,
    baseline: Baseline = None,
    settings: Settings = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="TECHNIQUE", help="Switch a technique of the baseline off. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", parser=whole, help="What the program takes by default.")] = 0,
    extensions: Extensions = None,
) -> None:
    """Print a recipe as one program of PyTorch and torchvision alone, to read, check or take along."""
    with errors():
        from cifar_ablations.study.commands.script import ScriptRequest, write_script
        from cifar_ablations.study.store.home import Home

        write_script(Home(), ScriptRequest(profile, baseline, tuple(settings or ()), tuple(without or ()), seed))


def judge_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", parser=path, help="A CSV or Parquet file with a row per run (default: an --experiment)."
        ),
    ] = None,
    arm: Annotated[str, typer.Option("--arm", help="The column that names what was changed.")] = "arm",
    seed: Annotated[
        str | None, typer.Option("--seed", help="The column of seeds (default: seed, if there is one).")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help="The column with the numbers, empty where a run diverged (default: the columns are shown)."
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            "--control", metavar="ARM", help="The arm that the others are compared with (default: the arms are shown)."
        ),
    ] = None,
    better: Annotated[
        str | None,
        typer.Option("--better", metavar="higher|lower", help="Which is better (default: higher; of a loss, lower)."),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="higher|lower", help="Claim a direction (default: that an arm differs)."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            parser=number,
            help="The smallest difference that matters, in the metric's unit (default: half a point of an accuracy).",
        ),
    ] = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="Compare within seeds; choose it before you see the numbers.")
    ] = False,
    experiment: Annotated[
        str | None,
        typer.Option(
            "--experiment",
            metavar="NAME",
            help="An MLflow experiment, whose parameters and tags --arm and --seed name (default: the file).",
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", metavar="URI", help="Its MLflow store (default: the suite's own).")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="PATH", parser=path, help="The page (default: one among the reports)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge the runs of any program, from a table or MLflow: each arm against a control, and write a page."""
    with errors("judge", as_json) as answer:
        from cifar_ablations.study.commands.judge import Question, as_facts, judge_runs
        from cifar_ablations.study.store.home import Home

        asked = Question(
            file, experiment, tracking_uri, arm, seed, metric, control, better, expect, margin, paired, output
        )
        done = judge_runs(Home(), asked, along)
        if answer is not None:
            answer.write(as_facts(*done))
