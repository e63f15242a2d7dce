"""Two invocations side by side, of one store or of two: what was different, and what came out differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_ablations.ablations import addresses, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.reports.inference import joined, registration, verdict
from cifar_ablations.reports.inference.joined import Joined
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.wording import comparisons, phrases


@dataclass(frozen=True)
class Side:
    """One of the two: its invocation, its runs with a result, its verdicts, and what of its store cannot be read.

    known: all invocations of its store, which is at `uri`.
    """

    asked: str
    uri: str
    known: tuple[Invocation, ...]
    invocation: Invocation
    runs: pd.DataFrame
    verdicts: pd.DataFrame
    unreadable: tuple[str, ...] = ()

    @property
    def plan(self) -> PlanRecord:
        """Its plan as invoked."""
        return self.invocation.plan

    @property
    def judged(self) -> joined.Side:
        """What is joined of it."""
        return joined.Side(self.plan, self.runs, self.verdicts)


def side(asked: str, default_uri: str) -> Side:
    """The side that `[STORE#]PLAN` or `[STORE#]RUN` names: a plan's newest invocation, or that of a parent run.

    A store is an output folder or a tracking URI; without one it is the default. Raises AblateError, with what is near,
    for what is not there.
    """
    place, mark, name = asked.rpartition("#")
    uri = addresses.store_address(place) if mark else default_uri
    unreadable: list[str] = []
    invocations = load.invocations(uri, unreadable)
    chosen = [one for one in invocations if one.name == name]
    if not chosen and len(name) >= 6:
        chosen = [one for one in invocations if one.run_id.startswith(name)]
    if not chosen:
        names = sorted({one.name for one in invocations})
        where = without_password(place) or "this store"
        near = did_you_mean(name, names) if names else ": no plan has been invoked there."
        left_out = rendering.left_out(unreadable)
        raise AblateError(f"--compare: no plan and no parent run {name!r} in {where}{near}{left_out}")
    client = load.connect(uri)
    plan = chosen[0].plan
    runs = load.with_epochs_to_target(client, load.runs_of(client, plan, unreadable=unreadable), plan)
    verdicts = registration.with_exploratory(verdict.judge(plan, runs), chosen[0], runs, invocations)
    worded = phrases.with_sentences(plan, verdicts)
    return Side(without_password(asked), uri, tuple(invocations), chosen[0], runs, worded, tuple(unreadable))


def _aware(one: Side, other: Side) -> Side:
    """A side whose claims count as fixed late also where results of the other side's store had been seen before."""
    if one.uri == other.uri:
        return one
    plan = one.invocation.plan
    elsewhere = load.runs_of(load.connect(other.uri), plan)
    verdicts = registration.with_exploratory(
        one.verdicts, one.invocation, one.runs, [*one.known, *other.known], elsewhere
    )
    return replace(one, verdicts=phrases.with_sentences(plan, verdicts))


@dataclass(frozen=True)
class Comparison:
    """Two sides, and what came of joining them."""

    first: Side
    second: Side
    found: Joined

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both."""
        return self.first, self.second

    @cached_property
    def sentences(self) -> list[str]:
        """The answer, and what a reader must know beside it."""
        return comparisons.sentences(self.first.judged, self.second.judged, self.found)


def compare(one: Side, other: Side) -> Comparison:
    """Two sides joined by what their arms and claims are, whatever they are called."""
    one, other = _aware(one, other), _aware(other, one)
    return Comparison(one, other, joined.join(one.judged, other.judged))


def write_comparison(compared: Comparison, folder: Path, tell: Callable[[str], None] | None = None) -> Path:
    """Write the page of a comparison; returns it. `tell` is given which plans and runs of the stores cannot be read."""
    one, other = compared.sides
    changed = registration.changes(one.plan, other.plan)
    template = rendering.environment().get_template("compare.html.j2")
    stem = "-".join(f"{rendering.slug(s.invocation.name)}-{s.invocation.run_id[:6]}" for s in (one, other))
    folder.mkdir(parents=True, exist_ok=True)
    html = template.render(
        sides=[one, other],
        sentences=compared.sentences,
        claims=claims(compared),
        arms=compared.found.arms.to_dict("records"),
        namesakes=namesakes(compared),
        only=only(compared),
        facts=facts(one, other),
        how=comparisons.HOW,
        knobs=comparisons.knobs,
        confidence=joined.CONFIDENCE,
        changed=[change for change in changed if change.kind in (registration.SEEDS, registration.RULE)],
    )
    if tell is not None:
        for sentence in dict.fromkeys([*one.unreadable, *other.unreadable]):
            tell(f"Left out: {sentence}.")
    return rendering.write_html(folder / f"compare-{stem}.html", html)


def facts(one: Side, other: Side) -> list[dict[str, Any]]:
    """The settings of the two sides: `name`, the two values, and whether they differ; those that differ first."""
    rows = {
        "invoked": [f"{s.invocation.started:%Y-%m-%d %H:%M} UTC" for s in (one, other)],
        "plan": [s.invocation.digest for s in (one, other)],
        "data": [phrases.data_line(s.invocation.plan.data, s.invocation.plan.budget) for s in (one, other)],
        "profile": [s.invocation.profile for s in (one, other)],
        "network": [s.invocation.plan.model for s in (one, other)],
        "budget": [s.invocation.plan.budget for s in (one, other)],
        "changed settings": [", ".join(s.invocation.overrides) or "none" for s in (one, other)],
        "runs with a result": [str(len(s.runs)) for s in (one, other)],
    }
    for key in dict.fromkeys([*one.invocation.produced_by, *other.invocation.produced_by]):
        rows[key] = [s.invocation.produced_by.get(key, "–") for s in (one, other)]
    listed = [{"name": name, "values": values, "differ": values[0] != values[1]} for name, values in rows.items()]
    return sorted(listed, key=lambda row: not row["differ"])


def claims(compared: Comparison) -> list[dict[str, Any]]:
    """One entry per claim that both make: `joined`, its row of the join, and `rows`, both rows of `verdict.judge`, with
    the difference as the first plan has it. Effects that differ first, then verdicts that do."""
    entries: list[dict[str, Any]] = []
    for row in compared.found.claims.to_dict("records"):
        rows = [
            side.verdicts.iloc[row[name]].to_dict()
            for side, name in zip(compared.sides, ("first", "second"), strict=True)
        ]
        if row["turned"] < 0:
            low, high = rows[1]["low"], rows[1]["high"]
            rows[1] |= {"difference": -rows[1]["difference"], "low": -high, "high": -low}
        entries.append({"joined": row, "rows": rows, "texts": [phrases.effect(one) for one in rows]})
    return sorted(entries, key=lambda entry: (not entry["joined"]["differs"], entry["joined"]["agree"]))


def namesakes(compared: Comparison) -> list[dict[str, Any]]:
    """Arms that are called alike and are other recipes: their name, the knobs in which they differ, and both means."""
    means = [_means(side).to_dict("index") for side in compared.sides]
    return [
        {"name": name, "knobs": differing, "means": [of_side[name] for of_side in means]}
        for name, differing in compared.found.namesakes.items()
    ]


def only(compared: Comparison) -> list[dict[str, Any]]:
    """What only one side has, side by side: its `arms` with their means, and its `claims` with their verdicts."""
    found = compared.found
    return [
        {"arms": _means(side).loc[arms].reset_index().to_dict("records"), "claims": _verdicts_at(side, places)}
        for side, arms, places in zip(compared.sides, found.only_arms, found.only_claims, strict=True)
    ]


def _means(side: Side) -> pd.DataFrame:
    """By arm the mean and standard deviation of its test accuracy, over the `n` of `ended` runs that have one."""
    grouped = side.runs.groupby("arm")[schema.TEST_ACCURACY]
    found = pd.DataFrame({"mean": grouped.mean(), "std": grouped.std(), "n": grouped.count(), "ended": grouped.size()})
    found = found.reindex(pd.Index([arm.name for arm in side.plan.arms], name="arm"))
    return found.fillna({"n": 0, "ended": 0}).astype({"n": int, "ended": int})


def _verdicts_at(side: Side, places: list[int]) -> list[dict[Any, Any]]:
    rows = side.verdicts.iloc[places].to_dict("records") if places else []
    return [row | {"text": phrases.effect(row)} for row in rows]
