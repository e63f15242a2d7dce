"""Pages of the reference that are made of the code itself: techniques, plans, searches, the command line."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.plan import Plan
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.technique import Technique
from cifar_ablations.study.commands import app
from docs import measured, studies
from docs.measured import table

FOLDERS = ("techniques", "plans", "searches")


@cache
def pages(folder: str) -> list[tuple[str, str]]:
    """Names and texts of a folder's pages."""
    return list(_made_pages(folder))


@cache
def single_pages() -> dict[str, tuple[str, str]]:
    """Titles and texts of the pages that lie in no folder, by name."""
    return {
        "measured": ("What was measured", measured.overview(_results())),
        "studies": (studies.TITLE, studies.page()),
        "command-line": ("The command line", command_line()),
    }


@cache
def _results() -> list[measured.Measured]:
    return measured.read()


def _made_pages(folder: str) -> Iterator[tuple[str, str]]:
    if folder == "techniques":
        for name, cls in catalog.techniques().items():
            yield name.replace("_", "-"), technique(cls, measured.of_technique(name, _results()))
    elif folder == "plans":
        for module, names in groupby(catalog.plan_names(), catalog.plan_module):
            variants = list(names)
            yield variants[0].partition("/")[0], plan(module.QUESTION, variants)
    else:
        for name in catalog.search_names():
            yield name, search(name)


def technique(cls: type[Technique], found: list[str]) -> str:
    """What a technique does, its knobs and levels, its sources, and what it is said to do and to act through.

    found: what was measured of it, of `measured.of_technique`.
    """
    off = cls.at("off")
    knobs = [
        [f"`{cls.name}.{name}`", about.doc, _legal(about.choices, about.low, about.high), f"{getattr(off, name)}"]
        for name, about in cls.knobs().items()
    ]
    levels = [
        [f"`{level}`", (cls.at(level).kind_title if level != "off" else "off"), _settings(settings)]
        for level, settings in cls.levels.items()
    ]
    lines = [f"# {_sentence(cls.title)}", _paragraph(cls.__doc__), cls.reason, f"Source: {cls.source}."]
    lines += ["## Levels", f"`--set {cls.name}=LEVEL`; the notebook's is `{cls.notebook}`."]
    lines += [table(["level", "what it is called", "settings"], levels)]
    if knobs:
        lines += ["## Knobs", f"`--set {cls.name}.KNOB=VALUE`.", table(["knob", "what it is", "legal", "off"], knobs)]
    if cls.expectations:
        said = [[("raises " if e.sign > 0 else "lowers ") + metric(e.metric).title, e.source] for e in cls.expectations]
        lines += ["## What it is said to do", table(["claim", "by"], said)]
    if cls.mechanism:
        watched = "".join(f"- {metric(name).title}\n" for name in cls.mechanism)
        lines += ["## What to look at beside the verdict", watched]
    lines += found
    example = next(level for level in cls.levels if level != "off")
    lines += [
        "## Try it",
        f"```sh\n.venv/bin/ablate run levels/{cls.name}\n"
        f".venv/bin/ablate run techniques --set {cls.name}={example}\n```",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def plan(question: str, names: list[str]) -> str:
    """A plan's question, arms and claims at the quick profile, around the notebook's recipe."""
    made = _made(names[0])
    lines = [f"# {names[0].partition('/')[0]}", f"*{question}*"]
    if len(names) > 1:
        lines += ["One for each: " + ", ".join(f"`{name}`" for name in names) + f". Below, `{names[0]}`."]
    lines += [f"```sh\n.venv/bin/ablate run {names[0]}\n```"]
    if made.note:
        lines += [made.note]
    epochs = made.arms[0].recipe.budget.epochs
    lines += [
        f"At the profile `quick`: {len(made.arms)} arms, {len(made.seeds)} seeds, "
        f"{len(made.arms) * len(made.seeds)} trainings of {epochs} epochs."
    ]
    shown = made.arms[:20]
    more = f"\n\nand {len(made.arms) - len(shown)} more." if len(made.arms) > len(shown) else ""
    lines += ["## Arms", "".join(f"- {arm.name}\n" for arm in shown) + more]
    if made.claims:
        claims = [[claim.statement, metric(claim.metric).title, claim.source] for claim in made.claims[:30]]
        lines += ["## Claims, fixed before the first training", table(["statement", "metric", "by"], claims)]
    return "\n\n".join(lines) + "\n"


def _made(name: str) -> Plan:
    profile = PROFILES["quick"]
    baseline = profile.apply(catalog.notebook_recipe())
    if name in ("tuned", "gain"):  # which compares another recipe with the notebook's
        baseline = baseline.set("dropout.p=0.3")
    return catalog.make_plan(name, baseline, profile, tuple(range(profile.seeds)))


def search(name: str) -> str:
    """A search's question and size."""
    module = catalog.search_module(name)
    about = _paragraph(getattr(module, "__doc__", ""))
    return (
        f"# {name}\n\n*{module.QUESTION}*\n\n{about}\n\n{module.DEFAULT_TRIALS} trials of each study unless "
        f"`--trials` says otherwise.\n\n```sh\n.venv/bin/ablate tune {name} --dry-run\n```\n"
    )


def command_line() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    group = typer.main.get_command(app.app)
    assert isinstance(group, TyperGroup)
    lines = ["# The command line", "`ablate COMMAND --help` says the same. `make help` lists what make does."]
    for name, command in group.commands.items():
        assert isinstance(command, TyperCommand)
        if command.hidden:
            continue
        lines += [f"## ablate {name}", _paragraph(command.help)]
        rows = [_parameter(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        lines += [table(["option", "what it does", "default"], [row for row in rows if row[0] != "`--help`, `-h`"])]
    return "\n\n".join(lines) + "\n"


def _parameter(parameter: Any) -> list[str]:
    """An option or argument: how it is written, what it does, its default."""
    names = parameter.opts if isinstance(parameter, TyperOption) else [parameter.metavar or parameter.name]
    default = parameter.default
    shown = "" if default in (None, False) or callable(default) else str(default)
    return [", ".join(f"`{name}`" for name in names), parameter.help or "", shown]


def _legal(choices: tuple[str, ...] | None, low: float | None, high: float | None) -> str:
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if low is None:
        return "any"
    return f"{low:g} to {high:g}" if high is not None else f"from {low:g}"


def _settings(settings: Any) -> str:
    return ", ".join(f"{knob} = {value}" for knob, value in settings.items())


def _sentence(title: str) -> str:
    title = title.removeprefix("the ")
    return title[:1].upper() + title[1:]


def _paragraph(text: str | None) -> str:
    return " ".join((text or "").split())
