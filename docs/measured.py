"""What was measured of techniques, as the files of `results/` have it, in Markdown. No number comes from elsewhere."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.reference import ABOUT, ARMS, LEVELS, PAGE, PLAN, RESULTS, VERDICTS
from benchmarks.step_cost import COST, COSTS
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.designs import ALL
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.reports.inference.health import LEARNED
from cifar_ablations.reports.wording import phrases
from cifar_ablations.study.training.backend import KERNELS

NO_WORK = "early_stopping"
"""A technique that changes no step: how far its ratio lies from 1 is what the measurement varies by."""
PAGES = "pages"
"""The folder of the documentation's reference that has the whole page of each study."""
APART = ("budgets", "luck", "attribution")
"""Kinds of results that have a page of their own, by `docs.studies`."""
LEDGER = "ledger"
"""The layout of a plan whose claims are statements, each by itself."""
WAYS = {
    phrases.HELPS: "**helps**",
    phrases.HURTS: "**hurts**",
    phrases.SAME: "makes no difference that matters",
    phrases.OPEN: "is open",
}


@dataclass(frozen=True)
class Measured:
    """A folder of results: what its `about.toml` says, and the rows of its verdicts or costs."""

    name: str
    about: dict[str, Any]
    rows: pd.DataFrame
    arms: pd.DataFrame
    has_page: bool

    @property
    def costs(self) -> bool:
        """Whether it says what techniques cost; else it has a plan's verdicts."""
        return self.about["kind"] == COST

    @property
    def where(self) -> str:
        """The column of the verdicts that tells those on one technique apart: of a ledger's, their statements."""
        return "statement" if self.about["layout"] == LEDGER else "where"

    def is_of(self, technique: str) -> bool:
        """Whether it says anything of a technique."""
        return bool((self.rows["technique"] == technique).any()) or self.about.get("plan") == LEVELS + technique


def read(folder: Path = RESULTS) -> list[Measured]:
    """All folders of results, the newest first. Raises AblateError where one is of something that there is not."""
    files = sorted(folder.glob(f"*/{ABOUT}"))
    found = [_read(file) for file in files if tomllib.loads(file.read_text(encoding="utf-8")).get("kind") not in APART]
    return sorted(found, key=lambda one: one.about["date"], reverse=True)


def _read(file: Path) -> Measured:
    about = tomllib.loads(file.read_text(encoding="utf-8"))
    if about.get("kind") not in (PLAN, COST):
        raise AblateError(f"{file}: kind cannot be {about.get('kind')!r}{did_you_mean('', (PLAN, COST))}")
    table = file.with_name(COSTS if about["kind"] == COST else VERDICTS)
    rows = pd.read_csv(table, keep_default_na=False, na_values=[""])
    known = [*catalog.techniques(), *([ALL] if about["kind"] == PLAN else [])]
    for name in rows["technique"].unique():
        if name not in known:
            raise AblateError(f"{table}: no technique {name!r}{did_you_mean(str(name), known)}")
    if about["kind"] == PLAN and about["plan"] not in catalog.plan_names():
        raise AblateError(f"{file}: no plan {about['plan']!r}{did_you_mean(about['plan'], catalog.plan_names())}")
    arms = pd.read_csv(file.with_name(ARMS)) if about["kind"] == PLAN else pd.DataFrame()
    return Measured(file.parent.name, about, rows, arms, file.with_name(PAGE).exists())


def of_technique(name: str, measured: Sequence[Measured]) -> list[str]:
    """The parts of a technique's page: whether it helped and what it cost, or that it was not measured."""
    lines = ["## When it helps, when it hurts"]
    first = ("techniques", LEVELS + name)
    studies = [one for one in measured if not one.costs and one.is_of(name)]
    studies.sort(key=lambda one: first.index(one.about["plan"]) if one.about["plan"] in first else len(first))
    if not studies:
        lines += [f"Not measured so far. `ablate run levels/{name}` measures it on your machine."]
    for one in studies:
        lines += _of_study(name, one)
    lines += ["## What it costs"]
    timed = [one for one in measured if one.costs and one.is_of(name)]
    if not timed:
        lines += ["Not measured so far."]
    for one in timed:
        lines += _of_cost(name, one)
    return lines


def _of_study(name: str, one: Measured) -> list[str]:
    """The verdicts on a technique, and what each of its levels came to where that was the question."""
    rows = one.rows[one.rows["technique"] == name].to_dict("records")
    said = [
        f"{WAYS[row['direction']]} {row['where']} ({_effect(row)})"
        for row in rows
        if row["metric"] == schema.TEST_ACCURACY and one.where == "where"
    ]
    found = f"it {phrases.listing(said)}" if said else f"by the plan `{one.about['plan']}`"
    lines = [f"At the profile `{one.about['profile']}`, {one.about['budget']}, {found}. {_caveat(one)}"]
    if one.about["plan"] == LEVELS + name:
        lines += [_arm_table(one)]
    if rows:
        lines += [_verdict_table(rows, one.where)]
    return [*lines, _source(one, up="../")]


def _arm_table(one: Measured) -> str:
    """Accuracies of every arm."""
    cells = [
        [
            phrases.sentence_case(row["arm"]),
            f"{phrases.percent(row['accuracy'])} {_between(row['low'], row['high'])}".rstrip(),
            phrases.percent(row["train_accuracy"]),
            f"{row['n']}, {row['diverged']} diverged" if row["diverged"] else f"{row['n']}",
        ]
        for row in one.arms.to_dict("records")
    ]
    return table(["arm", "test accuracy [interval], %", "training accuracy, %", "runs"], cells)


def _between(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"[{phrases.percent(low)}, {phrases.percent(high)}]"


def _effect(row: dict[str, Any]) -> str:
    name = row["metric"]
    return f"{phrases.difference(name, row['difference'])} {phrases.limits(name, row['low'], row['high'])}".rstrip()


def _caveat(one: Measured) -> str:
    """What a reader must know of the networks before an effect on accuracy means anything."""
    first, low = one.arms.iloc[0], int((one.arms["train_accuracy"] < LEARNED).sum())
    accuracy = phrases.percent(first["train_accuracy"], 0)
    right = f"The arm “{first['arm']}” got {accuracy} % of its own training images right"
    if not low:
        return f"{right}."
    return (
        f"{right}; {low} of {phrases.count(len(one.arms), 'arm')} got less than {phrases.percent(LEARNED, 0)} %: "
        "there, an effect of a regulariser is an effect on the speed of learning."
    )


def _verdict_table(rows: Sequence[dict[str, Any]], where: str) -> str:
    cells = [
        [
            row[where],
            phrases.metric_title(row["metric"]),
            _value(row, "control"),
            _value(row, "treatment"),
            _effect(row),
            row["outcome"],
        ]
        for row in rows
    ]
    return table([where, "metric", "without (runs)", "with (runs)", "effect [interval]", "verdict"], cells)


def _value(row: dict[str, Any], side: str) -> str:
    """The mean of a side, with how many runs it is of and how many diverged."""
    name, lost = row["metric"], row[f"{side}_diverged"]
    unit = " %" if metric(name).share else ""
    diverged = f", {lost} diverged" if lost else ""
    return f"{phrases.amount(name, row[f'{side}_mean'])}{unit} ({row[f'{side}_n']}{diverged})"


def _of_cost(name: str, one: Measured) -> list[str]:
    rows = one.rows[one.rows["technique"] == name].to_dict("records")
    cells = [
        [
            f"`{row['level']}`",
            f"{row['seconds']:.1f} s",
            f"{row['bare_seconds']:.1f} s",
            _ratio(row),
            row["backend"],
        ]
        for row in rows
    ]
    about, idle = one.about, one.rows[one.rows["technique"] == NO_WORK].to_dict("records")
    lines = [
        f"Seconds of a training at the profile `{about['profile']}`{_network(about)}, with the level put into the bare "
        f"recipe and without, alone on one core. Steps are timed in turns, {about['repeats']} of each; the "
        "median, and of the ratio the middle half.",
        table(["level", "with", "without", "ratio", "computed by"], cells),
    ]
    if idle and name != NO_WORK:
        lines += [f"Early stopping, which changes no step, came out at {_ratio(idle[0])}: so much is noise."]
    if KERNELS in {row["backend"] for row in rows}:
        lines += [
            "The kernels leave out what ReLU does not let through, so that a technique can also change the time by "
            "what it does to the weights."
        ]
    return [*lines, _source(one, up="../")]


def _network(about: Mapping[str, Any]) -> str:
    """Of which network a cost is, where it is not the profile's own."""
    own = str(PROFILES[about["profile"]].model)
    return "" if about["network"] == own else f" of the {about['network']}"


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"


def _source(one: Measured, up: str = "") -> str:
    """When, where and by what it was measured, and where the numbers lie.

    up: the way from the page that says it to the reference's folder.
    """
    about = one.about
    what = f"{len(about['seeds'])} seeds, {about['trainings']} trainings" if not one.costs else ""
    took = f" in {phrases.duration(60 * about['minutes'])}" if "minutes" in about else ""
    page = f"[the whole page]({up}{PAGES}/{one.name}.html)" if one.has_page else ""
    return source(about, one.name, f"{what}{took}", page)


def source(about: Mapping[str, Any], name: str, what: str = "", page: str = "") -> str:
    """What every folder of results says of its origin, with what was trained and where the page is, if given."""
    machine, versions, date = about["machine"], about["versions"], about["date"]
    gpu = f", {machine['device']}" if machine["device"] != "cpu" else ""
    parts = [
        f"Measured on {date.day} {date:%B %Y}",
        f"{machine['processor']} with {' and '.join(machine['instructions'])}, {machine['cores']} cores{gpu}",
        what,
        f"images {about['data']['name']} ({about['data']['digest']})",
        f"torch {versions['torch']}",
        f"commit {versions['commit'][:7]}{' with changes' if versions['dirty'] == 'true' else ''}",
        f"numbers in `results/{name}`",
        page,
    ]
    return f"*{'; '.join(part for part in parts if part)}.*"


def overview(measured: Sequence[Measured]) -> str:
    """A page of all that was measured."""
    lines = [
        "# What was measured",
        "Every number on the pages of techniques comes from the folder `results/` of the repository, which "
        "`make results`, or the command in a folder's `about.toml`, writes: the plans below, on real images. An effect "
        "holds for its budget, network and images; "
        "[what it does not tell](../explanation/limits.md) says more. `make ablate` measures it on your own.",
    ]
    if not measured:
        lines += ["Nothing has been measured so far."]
    for one in measured:
        lines += _overview_of_cost(one) if one.costs else _overview_of_study(one)
    return "\n\n".join(lines) + "\n"


def _overview_of_study(one: Measured) -> list[str]:
    """The verdicts on test accuracy, of a ledger those on all its statements, and of a plan without claims its arms."""
    about, stated = one.about, one.where == "statement"
    rows = (one.rows if stated else one.rows[one.rows["metric"] == schema.TEST_ACCURACY]).to_dict("records")
    cells = [
        [
            phrases.sentence_case(row["title"]) if row["technique"] == ALL else _link(row["technique"], row["title"]),
            row[one.where],
            *([metric(row["metric"]).title] if stated else []),
            _effect(row),
            row["verdict"] if stated else row["outcome"],
        ]
        for row in rows
    ]
    head = ["technique", one.where, f"effect on {metric(schema.TEST_ACCURACY).title} [interval]", "verdict"]
    if stated:
        head[2:3] = ["metric", "effect [interval]"]
    return [
        f"## {about['plan']}, {about['profile']}",
        f"*{about['question']}* {about['network'][:1].upper()}{about['network'][1:]}; {about['budget']}.",
        _caveat(one),
        table(head, cells) if cells else _arm_table(one),
        _source(one),
    ]


def _overview_of_cost(one: Measured) -> list[str]:
    rows = one.rows.to_dict("records")
    cells = [
        [
            _link(row["technique"], row["title"]),
            _ratio(row),
            row["backend"],
        ]
        for row in rows
    ]
    return [
        f"## Cost of a training, {one.about['profile']}{_network(one.about)}",
        f"Times the bare recipe's, by the same backend; {one.about['repeats']} turns, median and middle half.",
        table(["technique", "times the bare recipe", "computed by"], cells),
        _source(one),
    ]


def _link(technique: str, title: str) -> str:
    return f"[{title}](techniques/{technique.replace('_', '-')}.md)"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    every = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in every)
