"""What `ablate check` does: the verdicts of a plan's newest runs beside what is expected of them, as an exit code."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from cifar_ablations.ablations import catalog, expectations
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.expectations import FAILS, HOLDS, UNDECIDED, Expectations, Found, Placed
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.pages import findings, rendering
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.wording import phrases, tables
from cifar_ablations.reports.wording.outcome_lines import WHY_OPEN
from cifar_ablations.reports.wording.phrases import Row
from cifar_ablations.study.commands import answer_table, facts, locking
from cifar_ablations.study.commands.ending import complain
from cifar_ablations.study.store.home import Home

Say = Callable[[str], None]

CODES = {HOLDS: locking.HELD, FAILS: locking.BROKEN, UNDECIDED: locking.OPEN}
"""Exit codes, as of `ablate verify`."""
ENDINGS = {HOLDS: "Held", FAILS: "Does not hold", UNDECIDED: "Undecided"}
STDOUT = "-"
DEFAULT = "techniques"


@dataclass(frozen=True)
class Checked:
    """An expectation, and what the runs say of it."""

    placed: Placed
    row: Row
    """Of the verdicts' frame, with difference and interval turned as what is expected."""
    found: Found
    outcome: str

    @property
    def expected(self) -> str:
        """What is expected, in words."""
        asked, claim = self.placed.expectation, self.placed.claim
        if asked.arm is None:
            what = f"claim {self.placed.number} {asked.verdict or asked.effect or ''}".rstrip()
            words = f"{what}: {claim.statement}"
        else:
            title = phrases.metric_title(claim.metric)
            words = f"{self.placed.arm} against {self.placed.against}: {title} {asked.effect or ''}".rstrip()
        limits = (("at least", asked.at_least), ("at most", asked.at_most))
        bounds = [f"{word} {_bound(claim.metric, bound)}" for word, bound in limits if bound is not None]
        return ", ".join([words, *bounds])

    @property
    def seen(self) -> str:
        """What was found, in words: the effect with its interval, and which way it goes where that is expected."""
        row, asked = self.row, self.placed.expectation
        numbers = phrases.diverged(row) if row["counted"] else phrases.effect(row)
        why = WHY_OPEN.get(row["reason"], "") if self.found.held_back else ""
        label = phrases.LABELS[row["verdict"]] if asked.verdict else self.found.way if asked.effect else ""
        return ", ".join(filter(None, [numbers, label, why]))

    def why(self) -> str:
        """Why it does not hold or is undecided, in a sentence or two; "" where it holds."""
        if self.outcome == HOLDS:
            return ""
        asked, found, said = self.placed.expectation, self.found, list[str]()
        for side, bound, inside, beyond in (
            ("below", asked.at_least, found.low, found.high),
            ("above", asked.at_most, found.high, found.low),
        ):
            if bound is None or found.held_back:
                continue
            sign = 1 if side == "below" else -1
            limit = _bound(self.placed.claim.metric, bound)
            if sign * (beyond - bound) < 0:
                said.append(f"The whole interval lies {side} {limit}.")
            elif sign * (inside - bound) < 0:
                said.append(f"The interval has {limit} within it; more seeds make it narrower.")
        if asked.effect or asked.verdict or not said:
            said.append(f"Claim {self.placed.number}, “{self.placed.claim.statement}”: {self.row['sentence']}")
        return " ".join(said)


@dataclass(frozen=True)
class Check:
    """What came of all expectations; `results` is None where no invocation was found."""

    outcome: str
    checked: tuple[Checked, ...] = ()
    results: Findings | None = None
    plan: str = ""
    missing: str = ""
    """Where no invocation was found, a sentence that says so."""

    @property
    def code(self) -> int:
        """The exit code."""
        return CODES[self.outcome]

    def ending(self) -> str:
        """The sentence that says what came of them."""
        if self.missing:
            return self.missing
        count = {outcome: sum(one.outcome == outcome for one in self.checked) for outcome in CODES}
        total = phrases.count(len(self.checked), "expectation")
        if len(self.checked) == 1:
            return f"{ENDINGS[self.outcome]}: the one expectation."
        if self.outcome == HOLDS:
            return f"{ENDINGS[HOLDS]}: {total}."
        others = ", ".join(f"{count[one]} {one}" for one in (UNDECIDED, HOLDS) if one != self.outcome and count[one])
        return f"{ENDINGS[self.outcome]}: {count[self.outcome]} of {total}{f' ({others})' if others else ''}."


def check(
    home: Home, plan: str | None, expect: Path | None, markdown: str | None, say: Say, *, shown: bool = True
) -> Check:
    """Compare, say what came of it in a table and a sentence, and write the summary; trains and changes nothing.

    expect: a file of `ablations.expectations`, None for the plan's own claims; markdown: a file for a summary, "-" for
    standard output; shown: whether the table is printed. Raises AblateError for an unknown plan, for what is wrong with
    the file, and where the summary cannot be written.
    """
    expected = None if expect is None else expectations.read(expect)
    name = _plan_of(plan, expected)
    if markdown == STDOUT:
        say, shown = complain, False
    known = locking.known_invocations(home, say)
    _check_name(name, known)
    invocation = _newest(name, expected, known, say)
    if invocation is None:
        of = "".join(f", {key} {asked}" for key, asked in _selected(expected).items())
        where = home.shown(home.folder)
        done = Check(UNDECIDED, plan=name, missing=f"Undecided: no invocation of plan {name!r}{of} in {where}.")
    else:
        client, left_out = load.connect(home.tracking_uri), list[str]()
        with rendering.uncollected():
            results = findings.of_invocation(client, invocation, known[::-1], left_out)
        for sentence in dict.fromkeys(left_out):
            say(f"Left out: {sentence}.")
        done = _compared(results, expected or expectations.of_claims(results.plan))
    if shown:
        _show(done, say)
    if markdown is not None:
        _write(markdown, summary(done))
    say(done.ending())
    return done


def as_facts(done: Check) -> dict[str, Any]:
    """What came of it for a program."""
    about = {"plan": {"name": done.plan}} if done.results is None else facts.of_asked(done.results)
    return {
        **about,
        "outcome": done.outcome,
        "exit_code": done.code,
        "sentence": done.ending(),
        "expectations": [_fact(one) for one in done.checked],
    }


def _fact(one: Checked) -> dict[str, Any]:
    asked, row = one.placed.expectation, one.row
    scale, bounds = _scale(row["metric"]), {"at_least": asked.at_least, "at_most": asked.at_most}
    return {
        "claim": one.placed.number,
        "statement": one.placed.claim.statement,
        "metric": one.placed.claim.metric,
        "arm": one.placed.arm,
        "against": one.placed.against,
        "expected": {
            "effect": asked.effect,
            "verdict": asked.verdict,
            **{name: None if bound is None else bound / scale for name, bound in bounds.items()},
        },
        "found": {
            "effect": one.found.way,
            "verdict": one.found.verdict,
            "reason": row["reason"],
            **{name: row[name] for name in ("difference", "low", "high", "confidence", "p", "p_page")},
        },
        "outcome": one.outcome,
    }


def summary(done: Check) -> str:
    """The summary for a pull request, in Markdown as GitHub reads it."""
    title = f"### ablate check {tables.markdown(done.plan)}: {done.outcome}"
    if done.results is None:
        return f"{title}\n\n{tables.markdown(done.ending())}\n"
    marks = {HOLDS: "holds", FAILS: "**does not hold**", UNDECIDED: "undecided"}
    rows = [
        (str(i), tables.markdown(one.expected), tables.markdown(one.seen), marks[one.outcome])
        for i, one in enumerate(done.checked, 1)
    ]
    parts = [
        title,
        tables.markdown(done.ending()),
        f"**{tables.markdown(tables.NOTE)}**" if done.results.invocation.stand_in else "",
        tables.markdown_table(("", "expected", "found", "outcome"), rows, "rlll"),
        "\n".join(f"- {tables.markdown(sentence)}" for sentence in _details(done)),
        tables.markdown(_about(done.results)),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _plan_of(plan: str | None, expected: Expectations | None) -> str:
    named = expected.plan if expected else None
    if plan is not None and named is not None and plan != named:
        raise AblateError(f"the expectations are of plan {named!r}, and {plan!r} is asked for")
    return plan or named or DEFAULT


def _check_name(name: str, known: list[Invocation]) -> None:
    """Raise AblateError for a plan that neither the suite nor the store has: plans made in Python are there alone."""
    names = dict.fromkeys([*(one.name for one in known), *catalog.plan_names()])
    if name not in names:
        raise AblateError(f"no plan {name!r}{did_you_mean(name, names)}")


def _selected(expected: Expectations | None) -> dict[str, str]:
    """Which invocations are meant, by profile and data, as far as the file says it."""
    asked = {} if expected is None else {"profile": expected.profile, "data": expected.data}
    return {name: value for name, value in asked.items() if value is not None}


def _newest(name: str, expected: Expectations | None, known: list[Invocation], say: Say) -> Invocation | None:
    """The newest invocation that is meant, and a sentence where the plan was asked in several ways."""
    selected = _selected(expected)
    questions = [
        one
        for one in rendering.newest(known[::-1]).values()
        if one.name == name
        and selected.get("profile") in (None, one.profile)
        and selected.get("data") in (None, one.data_name)
    ]
    if not questions:
        return None
    newest = max(questions, key=lambda one: (one.started, one.run_id))
    if len(questions) > 1:
        say(f"Plan {name!r} was asked in {len(questions)} ways; this is the newest.")
    return newest


def _compared(results: Findings, expected: Expectations) -> Check:
    plan = results.plan
    if not plan.claims:
        raise AblateError(f"plan {plan.name!r} claims nothing, so there is nothing to check")
    rows = results.verdicts.to_dict("records")
    checked = []
    for one in (expectations.placed(asked, plan) for asked in expected.expected):
        row = _turned(rows[one.number - 1]) if one.turned else rows[one.number - 1]
        found = _found(row, turned=one.turned)
        checked.append(Checked(one, row, found, expectations.judged(one.expectation, found)))
    outcome = expectations.together([one.outcome for one in checked])
    return Check(outcome, tuple(checked), results, plan.name)


def _turned(row: Row) -> dict[Any, Any]:
    """A row whose difference is the other way round."""
    sides = {f"{side}_{name}": f"{other}_{name}" for side, other in _SIDES for name in ("n", "ended", "diverged")}
    turned = {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
    return {**row, **turned, **{to: row[source] for to, source in sides.items()}}


_SIDES = (("treatment", "control"), ("control", "treatment"))


def _found(row: Row, *, turned: bool) -> Found:
    scale = _scale(row["metric"])
    low, high = scale * float(row["low"]), scale * float(row["high"])
    # A verdict says which way, also where it is how many runs diverged that decided.
    sign = {verdict.SUPPORTED: 1, verdict.REFUTED: -1}.get(row["verdict"], 0) * row["sign"] * (-1 if turned else 1)
    same = expectations.SAME if row["verdict"] == verdict.EQUIVALENT else expectations.OPEN
    way = expectations.HIGHER if sign > 0 else expectations.LOWER if sign < 0 else same
    return Found(row["verdict"], way, low, high, held_back=bool(row["reason"]))


def _scale(name: str) -> int:
    """What a bound is written in: a hundredth of a share, else the metric's own unit."""
    return 100 if metric(name).share else 1


def _bound(name: str, bound: float) -> str:
    return phrases.number(bound, 2).rstrip("0").rstrip(".") + phrases.unit(name)


def _about(results: Findings) -> str:
    """Which invocation it is of."""
    plan, invocation = results.plan, results.invocation
    planned = len(plan.arms) * len(plan.seeds)
    overrides = f", with {', '.join(invocation.overrides)}" if invocation.overrides else ""
    return (
        f"Plan {plan.name!r}, profile {invocation.profile}, {phrases.data_line(plan.data, plan.budget)}{overrides}, "
        f"invoked {invocation.started:%Y-%m-%d %H:%M:%S} UTC: {len(results.runs)} of {planned} runs have ended."
    )


def _details(done: Check) -> list[str]:
    """Of what does not hold or is undecided, why."""
    return [f"{i} {one.outcome}. {one.why()}" for i, one in enumerate(done.checked, 1) if one.outcome != HOLDS]


def _show(done: Check, say: Say) -> None:
    if done.results is None:
        return
    say(_about(done.results))
    if done.results.invocation.stand_in:
        say(tables.NOTE)
    styles = {HOLDS: "green", FAILS: "red", UNDECIDED: "yellow"}
    answer_table.show_rows(
        ("", "expected", "found", ""),
        [
            (str(i), one.expected, one.seen, Text(one.outcome, style=styles[one.outcome]))
            for i, one in enumerate(done.checked, 1)
        ],
    )
    for sentence in _details(done):
        say(sentence)


def _write(markdown: str, text: str) -> None:
    if markdown == STDOUT:
        print(text, end="", flush=True)
        return
    path = Path(os.path.expanduser(markdown))
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise AblateError(f"--markdown {path} cannot be written ({error.strerror or error})") from None
