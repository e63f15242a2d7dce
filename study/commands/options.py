"""Options that several commands share, each with its type, its help and how it is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cifar_ablations.ablations.naming import shown


def whole(text: str | int) -> int:
    """A whole number as it was typed."""
    try:
        return int(text)
    except ValueError:  # also of more digits than Python reads
        raise typer.BadParameter(f"must be a whole number, not {shown(text)}") from None


def number(text: str | float) -> float:
    """A number as it was typed."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a number, not {shown(text)}") from None


def path(text: str | Path) -> Path:
    """A path as it was typed; behind an equals sign, no shell puts a home folder in place of ~."""
    return Path(os.path.expanduser(text))


def plan_names(begun: str) -> list[str]:
    """The plans whose names begin so, for a shell to complete."""
    from cifar_ablations.ablations import catalog

    return [name for name in catalog.plan_names() if name.startswith(begun)]


def _profile_names(begun: str) -> list[str]:
    from cifar_ablations.ablations.profiles import PROFILES

    return [name for name in PROFILES if name.startswith(begun)]


def _named(folders: list[Path] | None) -> list[Path] | None:
    """Have these folders be extensions of this process; they are looked at when something is asked of them."""
    from cifar_ablations.ablations import extensions

    extensions.name(*(folders or ()))
    return folders


PlanName = Annotated[
    str,
    typer.Argument(
        metavar="PLAN",
        autocompletion=plan_names,
        help="Which question; `ablate list` shows them. Of run and plan also a FILE.toml with commands of any "
        "program as arms.",
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        autocompletion=_profile_names,
        help="smoke, quick or full (default: full with a GPU, else quick).",
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="N|adaptive|open",
        help="How many paired seeds; adaptive looks after 5, 10 and 15 and stops when every claim is decided, open "
        "after every five (default: the profile's).",
    ),
]
FirstSeed = Annotated[
    int, typer.Option("--first-seed", parser=whole, help="The first of them: fresh ones, to confirm a finding.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="OBJECT.FIELD=VALUE", help="Change the baseline, e.g. dropout.p=0.3. Repeatable."),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH|NAME",
        envvar="ABLATE_DATA",
        help="Folder or archive of images, or cifar10, cifar100 or synthetic (default: CIFAR-10, cached or downloaded, "
        "else a rehearsal on drawn images).",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        parser=whole,
        metavar="32",
        help="Resize the images of --data to this many pixels (default: refuse several sizes).",
    ),
]
Extensions = Annotated[
    list[Path] | None,
    typer.Option(
        "--extensions",
        metavar="FOLDER",
        parser=path,
        callback=_named,
        help="A folder of techniques, plans, searches, metrics or networks of your own. Repeatable; beside those that "
        "ABLATE_EXTENSIONS and tool.ablate.extensions of pyproject.toml name.",
    ),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu or cuda (default: cuda where there is one).")]
Baseline = Annotated[
    str | None,
    typer.Option("--baseline", metavar="RECIPE", help="An adopted recipe, by name or file (default: the notebook's)."),
]
LockFile = Annotated[
    Path | None,
    typer.Option(
        "--lock",
        metavar="FILE",
        parser=path,
        help="plan: write to this file, with its hash, what the plan fixes; run: train nothing but what it fixes.",
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        parser=number,
        help="A time in place of --seeds: as many seeds as fit, counted as if none were trained yet, or where too few "
        "do, the fewest that say anything, trained less. What it buys is said first. The same again goes on with the "
        "seeds that were chosen; what is trained is never trained twice (default: no limit).",
    ),
]
Retune = Annotated[
    bool,
    typer.Option(
        "--retune",
        help="Of the plans techniques and optimizers: also find a learning rate for each arm, on validation images, "
        "and give verdicts of each at its best rate; of techniques, beside those of the recipe as it is.",
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials", parser=whole, help="Trials of each study; of a plan, with --retune (default: the search's)."
    ),
]
KeepWeights = Annotated[
    str,
    typer.Option(
        "--keep-weights",
        metavar="none|best|all",
        help="Keep the weights of trainings as files of their runs: of all, or of each arm's best seed on validation "
        "images; plan: say how much disk they take (default: none).",
    ),
]
ShardOf = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Train only the I-th of N shares of the plan's seeds, as a job of an array does in an output folder of "
        "its own; `ablate merge` brings them together (default: all of them).",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Write one JSON document to standard output, as docs/automation.md has it, and all else beside it.",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        help="What computes: torch, the kernels (two to four times faster; need a C++ compiler on a CPU, Triton and a "
        "C compiler on a GPU), or auto.",
    ),
]
Executor = Annotated[
    str,
    typer.Option("--executor", help="Who trains: local (processes of this machine), or ray (tasks on a Ray cluster)."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="auto|HOST:PORT",
        help="With --executor ray: the cluster that this machine is a node of (default: one is started here).",
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", parser=whole, help="Workers (default: one per core; on cuda one per GPU).")
]
