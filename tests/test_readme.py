"""README and the command line agree, both ways.

What README shows can be typed: a line of a block is a whole command, and so is inline code that is more than a
command's name; names of plans, profiles, searches and settings exist. What can be typed is found: every command in
README, as itself or as a target of make; every option in README, or as a variable of make that `make help` lists, or
in OWN_HELP; every variable of make and of the environment in README or `make help`.

And what an earlier README showed can still be typed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from cifar_ablations.ablations import catalog, command_plan, profiles, schema
from cifar_ablations.ablations.plan import LOOKS
from cifar_ablations.reports.wording import phrases
from cifar_ablations.study.commands import app
from cifar_ablations.study.search.optuna_study import PRUNERS, SAMPLERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
"""README without its example of a technique."""
EARLIER = (ROOT / "tests" / "fixtures" / "commands-0.1.0.txt").read_text()
"""The commands that README showed in version 0.1.0, one a line."""

OWN_HELP = {"ui --port", "watch --every"}
"""Options that nobody needs to know of before reading the command's own --help."""


@cache
def _group() -> TyperGroup:
    group = typer.main.get_command(app.app)
    assert isinstance(group, TyperGroup)
    return group


@cache
def _commands() -> dict[str, TyperCommand]:
    return {name: command for name, command in _group().commands.items() if isinstance(command, TyperCommand)}


@cache
def _make_help() -> str:
    return subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _inline() -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"(?m)^    .*", "", PROSE))]


def _lines(program: str) -> list[str]:
    """README's commands of a program: lines of blocks without their comments, and inline code."""
    blocks = [re.sub(r"\s#.*", "", line).strip() for line in re.findall(r"(?m)^    (.*)", PROSE)]
    return _calls(program, [*blocks, *_inline()])


def _calls(program: str, lines: list[str]) -> list[str]:
    """Those lines that call a program, each once, without the folder it lies in."""
    found = [line.removeprefix(".venv/bin/") for line in lines]
    return list(dict.fromkeys(line for line in found if line.split()[0] == program))


def _settings_are_known(settings: list[str]) -> None:
    """Raise AblateError unless each can be set; the technique of the example in README is taken as known."""
    (example,) = re.findall(r'name: ClassVar\[str\] = "(\w+)"', README)
    for setting in settings:
        if re.split("[.=]", setting)[0] != example:
            catalog.notebook_recipe().set(setting)


@pytest.mark.parametrize("line", _lines("ablate"))
def test_a_line_of_ablate_can_be_typed(line: str) -> None:
    _ablate_takes(line, README)


@pytest.mark.parametrize("line", _calls("ablate", EARLIER.splitlines()))
def test_an_earlier_line_of_ablate_can_still_be_typed(line: str) -> None:
    _ablate_takes(line, EARLIER)


def _ablate_takes(line: str, text: str) -> None:
    """Raise where a command cannot be typed; text: where it stands, and where a baseline that it names is adopted."""
    words = shlex.split(line)[1:]
    while words and words[0].startswith("--"):  # options before the command
        assert words.pop(0) in {option for p in _group().params for option in p.opts}
    if not words:
        return
    name, *words = words
    command = _commands()[name]
    if not words:
        return  # the command is only named
    given = command.make_context(name, words, resilient_parsing=False).params
    if plan := given.get("plan"):
        own = plan.endswith(command_plan.SUFFIX) and name in ("run", "plan", "report")
        assert plan in catalog.plan_names() or own or name == "report"
    if search := given.get("search"):
        assert search in catalog.search_names()
    if profile := given.get("profile"):
        profiles.profile(profile)
    assert given.get("sampler", "tpe") in SAMPLERS
    assert given.get("pruner", "none") in PRUNERS
    _settings_are_known(given.get("settings") or [])
    if baseline := given.get("baseline"):
        assert re.search(rf"ablate adopt ({baseline}\b|\S+ --as {baseline}\b)", text), "it is adopted before"


VARIABLES = [f"make ablate {code}" for code in _inline() if re.match("(?!ABLATE_)[A-Z_]+=", code)]
"""Of sentences: `SEEDS=15`."""


@pytest.mark.parametrize("line", [*_lines("make"), *VARIABLES])
def test_a_line_of_make_can_be_typed(line: str) -> None:
    _make_takes(line)


@pytest.mark.parametrize("line", _calls("make", EARLIER.splitlines()))
def test_an_earlier_line_of_make_can_still_be_typed(line: str) -> None:
    _make_takes(line)


def _make_takes(line: str) -> None:
    """Raise where a command cannot be typed."""
    words = shlex.split(line)[1:]
    targets = [word for word in words if "=" not in word]
    assert set(targets) <= set(re.findall(r"^  make (\S+)", _make_help(), re.MULTILINE))
    for variable, _, value in (word.partition("=") for word in words if "=" in word):
        assert _listed(variable), f"make help lists no {variable}"
        match variable:
            case "PLAN":
                assert value in catalog.plan_names()
            case "PROFILE":
                profiles.profile(value)
            case "SEEDS":
                assert value in LOOKS or value.isdigit()
            case "SET":
                _settings_are_known(value.split())


def test_options_and_settings_in_a_sentence_exist() -> None:
    known = {option for command in _commands().values() for p in command.params for option in p.opts}
    for code in _inline():
        if not code.startswith("--"):
            continue
        words = shlex.split(code)
        assert {word for word in words if word.startswith("--")} <= known
        _settings_are_known([after for word, after in pairwise(words) if word == "--set"])


def test_searches_in_a_comment_exist() -> None:
    (others,) = re.findall(r"# all knobs at once; also: (.*)", README)
    assert set(others.split(", ")) <= set(catalog.search_names())


def test_every_command_is_in_the_readme() -> None:
    named = {line.split()[1] for line in _lines("ablate")}
    behind_targets = {
        command
        for target, recipe in re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
        if re.search(rf"make {target}\b", README)
        for command in re.findall(r"\$\(BIN\)/ablate (\w+)", recipe)
    }
    assert set(_commands()) <= named | behind_targets


def test_every_option_is_in_the_readme_or_a_variable_of_make() -> None:
    passed = set(re.findall(r"\$\(if \$\([A-Z_]+\),(--[a-z-]+) ", MAKEFILE)) | {"--set"}
    unmentioned = {
        f"{name} {option}"
        for name, command in _commands().items()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option not in passed and not re.search(rf"{option}\b", README)
    }
    assert unmentioned == OWN_HELP


def test_every_variable_of_make_is_in_its_help_and_those_of_the_environment_in_the_readme() -> None:
    assigned = set(re.findall(r"^([A-Z_]+) :=", MAKEFILE, re.MULTILINE)) | {"MAKE", "MAKEFILE_LIST"}
    asked_for = set(re.findall(r"\$\(([A-Z_]+)\)", MAKEFILE)) - assigned
    assert asked_for >= {"PLAN", "SET", "MINUTES", "UPGRADE"}
    assert [variable for variable in asked_for if not _listed(variable)] == []
    sources = "".join(file.read_text() for file in (ROOT / "study").rglob("*.py"))
    of_environment = set(re.findall(r'(?:environ\.get\(|environ\[|envvar=|in os\.environ )"?([A-Z_]+)"', sources))
    assert of_environment >= {"ABLATE_DATA", "ABLATE_HOME", "ABLATE_STORAGE", "MLFLOW_TRACKING_URI"}
    of_terminals = {"COLUMNS"}
    assert [variable for variable in of_environment - of_terminals if variable not in README] == []


def _listed(variable: str) -> bool:
    return re.search(rf"\b{variable}=", _make_help()) is not None


FOUND = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
FINDINGS = [
    finding
    for text in (*re.findall(r"## What it found\n(.*?)\n## ", README, flags=re.DOTALL), *FOUND.split("\n## ")[1:])
    for finding in text.split("\n- ")[1:]
    if " pp [" in finding or " % [" in finding
]


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda text: text[:20])
def test_what_was_found_is_in_the_results(finding: str) -> None:
    finding = " ".join(finding.split())
    (source,) = re.findall(r"\((?:\[numbers\]\(|`)(results/[a-z0-9-]+/[a-z]+\.csv)", finding)
    table = pd.read_csv(ROOT / source)
    if "metric" in table:
        table = table[table["metric"] == schema.TEST_ACCURACY]
    known = set()
    ways = {way: f"{way}_" for way in ("gain", "shapley", "first", "last")}
    for name, limits in {"difference": "", "effect": "", "promised_too_much": "promised_", **ways}.items():
        if name in table and f"{limits}low" in table:
            for value, low, high in table[[name, f"{limits}low", f"{limits}high"]].itertuples(index=False):
                of = schema.TEST_ACCURACY
                known.add(f"{phrases.difference(of, value)} {phrases.limits(of, low, high)}")
    if source.endswith("arms.csv"):
        for value, low, high in table[["accuracy", "low", "high"]].itertuples(index=False):
            known.add(f"{phrases.percent(value)} % [{phrases.percent(low)}, {phrases.percent(high)}]")
    told = re.findall(r"(?:[+−][0-9.]+ pp|[0-9.]+ %) \[[^]]*\]", finding)
    assert told, finding
    assert set(told) <= known
    about = tomllib.loads((ROOT / source).with_name("about.toml").read_text(encoding="utf-8"))
    if about["kind"] == "plan":
        seeds = re.search(r"(\d+)(?: fresh)? seeds", finding)
        assert len(about["seeds"]) == (int(seeds[1]) if seeds else 6)


def test_counts_that_are_told_are_those_of_the_results() -> None:
    told = " ".join((README + FOUND).split())
    of = {name: pd.read_csv(ROOT / "results" / name) for name in re.findall(r"`results/([^`]+\.csv)`", FOUND)}
    came = of["claims-quick/verdicts.csv"]["verdict"].value_counts()
    assert came["opposite found"] == 1
    assert f"of {came.sum()} about training {came['supported']} hold, {came['open']} stay open, and one was the" in told
    searches = pd.read_csv(ROOT / "results/luck-joint-quick/searches.csv")
    gains = 100 * searches["gain"]
    assert f"between {phrases.number(gains.min(), 1)} and {phrases.number(gains.max(), 1)} points" in told
    alike = ~((searches["gain_low"] > 0) | (searches["gain_high"] < 0))
    assert (alike.sum(), len(searches)) == (3, 10)
    assert "Three of the ten cannot be told from the notebook's recipe" in told
    *small, large = pd.read_csv(ROOT / "results/budgets-techniques-full/agreement.csv").to_dict("records")
    decided, carried, lost, turned = (
        sum(row[name] for row in small) for name in ("decided", "carried", "open_at_the_largest", "turned")
    )
    assert turned == 0
    assert (
        f"Of {decided} verdicts at {small[0]['train_images']:,} to {small[-1]['train_images']:,} images {carried} were "
        f"the same at {large['train_images']:,}, {lost} were open there, none turned around"
    ) in told
    assert f"decided at a smaller budget, {decided} times in all" in told
    *shares, last = (f"{100 * row['pairs_alike']:.0f}" for row in small)
    ordered = f"{', '.join(shares)} and {last} % are ordered"
    assert ordered in told
    assert f"the other half agree in {100 * large['halves_alike']:.0f} %" in told
    accuracies = of["gain-full/verdicts.csv"].iloc[0]
    shown = (f"{100 * accuracies[side]:.1f} %" for side in ("treatment_mean", "control_mean"))
    assert "reaches {}, +10.85 pp [9.04, 12.67] over the notebook's recipe ({})".format(*shown) in told
