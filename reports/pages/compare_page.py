"""Two invocations side by side, of one store or of two: what was different, and what came out differently."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_ablations.ablations import addresses, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.identity import identity_of
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.reports.inference import registration, statistics, verdict
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.wording import phrases


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


def side(asked: str, default_uri: str) -> Side:
    """The side that `[STORE#]PLAN` or `[STORE#]RUN` names: a plan's newest invocation, or that of a parent run.

    A store is an output folder or a tracking URI; without one it is the default. Raises AblateError, with what is near,
    for what is not there.
    """
    place, mark, name = asked.rpartition("#")
    uri = _uri(place) if mark else default_uri
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


def _uri(place: str) -> str:
    """The tracking URI of an output folder, or the URI itself."""
    return place if "://" in place else addresses.sqlite_address((Path(place) / "mlflow.db").resolve())


def write_comparison(one: Side, other: Side, folder: Path, tell: Callable[[str], None] | None = None) -> Path:
    """Write the page of two sides; returns it. `tell` is given which plans and runs of the stores cannot be read."""
    one, other = _aware(one, other), _aware(other, one)
    template = rendering.environment().get_template("compare.html.j2")
    stem = "-".join(f"{rendering.slug(s.invocation.name)}-{s.invocation.run_id[:6]}" for s in (one, other))
    folder.mkdir(parents=True, exist_ok=True)
    html = template.render(
        sides=[one, other],
        facts=facts(one, other),
        arms=arms(one, other).to_dict("records"),
        claims=claims(one, other),
        changed=registration.changes(one.invocation.plan, other.invocation.plan),
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


def arms(one: Side, other: Side) -> pd.DataFrame:
    """One row per arm that both have: accuracies, and the second less the first with its interval.

    `how` says from what: `same runs` or `some runs shared`, which is no comparison and has no interval; `paired` by
    seed where both trained the same recipe on the same images with the same seeds; else `Welch`.
    """
    confidence = 1 - one.invocation.plan.rule.alpha
    digests = [{arm.name: arm.digest for arm in s.invocation.plan.arms} for s in (one, other)]
    rows = []
    for name in digests[0]:
        if name not in digests[1]:
            continue
        both = [s.runs[s.runs["arm"] == name].set_index("seed") for s in (one, other)]
        first, second = (runs[schema.TEST_ACCURACY].dropna() for runs in both)
        means = [statistics.mean_interval(values.to_numpy(), confidence) for values in (first, second)]
        same_data = one.invocation.data_digest == other.invocation.data_digest
        same_question = same_data and digests[0][name] == digests[1][name]
        if shared := set(both[0]["run_id"]) & set(both[1]["run_id"]):
            how = "same runs" if len(shared) == max(map(len, both)) else "some runs shared"
            difference, low, high = means[1].mean - means[0].mean, math.nan, math.nan
        elif same_question and len(first) > 1 and list(first.index) == list(second.index):
            paired = statistics.paired(second, first, confidence)
            how, difference, low, high = "paired", paired.mean, paired.low, paired.high
        else:
            how, (difference, low, high) = "Welch", statistics.welch(second.to_numpy(), first.to_numpy(), confidence)
        rows.append(
            {
                "arm": name,
                "same_recipe": digests[0][name] == digests[1][name],
                "how": how,
                "first": means[0].mean,
                "first_std": means[0].std,
                "first_n": means[0].n,
                "second": means[1].mean,
                "second_std": means[1].std,
                "second_n": means[1].n,
                "difference": difference,
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def claims(one: Side, other: Side) -> list[dict[str, Any]]:
    """One entry per claim that both judge, with both rows of `verdict.judge`; changed verdicts first.

    Claims are the same where they say the same of the same recipes (`identity.Identity.statement`), or else where they
    are worded alike.
    """
    if one.verdicts.empty or other.verdicts.empty:
        return []
    theirs = _by_claim(other)
    entries: list[dict[str, Any]] = []
    for keys, row in _claims(one):
        match = next((theirs[key] for key in keys if key in theirs), None)
        if match is not None:
            entries.append(
                {
                    "statement": row["statement"],
                    "rows": [row, match],
                    "texts": [phrases.effect(row), phrases.effect(match)],
                    "differ": row["verdict"] != match["verdict"],
                }
            )
    return sorted(entries, key=lambda entry: not entry["differ"])


def _claims(side: Side) -> list[tuple[list[Hashable], Mapping[Any, Any]]]:
    """Each claim's identity and wording, and its row of verdicts."""
    plan = side.invocation.plan
    rows = side.verdicts.to_dict("records")
    return [
        ([identity_of(claim, plan).statement, claim.statement], row)
        for claim, row in zip(plan.claims, rows, strict=True)
    ]


def _by_claim(side: Side) -> dict[Hashable, Mapping[Any, Any]]:
    return {key: row for keys, row in reversed(_claims(side)) for key in reversed(keys)}
