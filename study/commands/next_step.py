"""The one next command that is worth typing, after a plan or a search has ended, as it works where it is typed."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.study.data.typed import image_size, option, program, typed_source
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    import pandas as pd

    from cifar_ablations.reports.pages.findings import Findings

Say = Callable[[str], None]

MOST_SEEDS = 50
"""More are not advised: they take longer than most people wait."""
MOST_TIMES = 4
"""Nor more than so many times those that there are."""

VARIABLES = {
    "--profile": "PROFILE",
    "--seeds": "SEEDS",
    "--first-seed": "FIRST_SEED",
    "--trials": "TRIALS",
    "--device": "DEVICE",
    "--workers": "WORKERS",
    "--backend": "BACKEND",
    "--keep-weights": "KEEP_WEIGHTS",
    "--data": "DATA",
    "--image-size": "IMAGE_SIZE",
}
"""Of `make ablate`, by option of `ablate run`; SET takes the values of --set."""


def after_plan(results: Findings, ending: str = "") -> tuple[str, str]:
    """The next command after a plan, and why; empty for none.

    ending: the options of the last command that a plan does not record.

    Claims that are open for want of seeds ask for more of them, unless the plan looks at its claims by itself.
    """
    plan, verdicts = results.plan, results.verdicts
    if plan.name not in catalog.plan_names():  # made in Python
        return "", ""
    asked = plan.command or f"ablate run {plan.name}"
    if plan.data.stand_in:  # where nobody asked for it, the last line of the command says what to do
        return (f"{program()} data cifar10", "it downloads CIFAR-10") if "synthetic" in ending else ("", "")
    if not verdicts.empty and verdicts["reason"].isin(_missing()).any():
        return typed(asked + ending), "it goes on with what is missing"
    if plan.profile.name == "smoke":
        larger = re.sub(r" --(profile|seeds|trials) \S+", "", asked)
        return typed(larger + ending), "the same at a size that says something"
    if not plan.rule.looks and (more := _more_seeds(plan, verdicts)):
        seeds, why = more
        return typed(re.sub(r"--seeds \S+", f"--seeds {seeds}", asked) + ending), why
    baseline = re.search(r" --baseline (\S+|'[^']*')", asked)
    if plan.name != "techniques":
        return typed(f"ablate run techniques{baseline[0] if baseline else ''}{ending}"), "what each technique is worth"
    if baseline:
        return typed(f"ablate run tuned{baseline[0]}{ending}"), "what tuning was worth"
    data = _data_of(ending)
    made = f"make tune{f' DATA={shlex.quote(data)}' if data else ''}"
    made += f" IMAGE_SIZE={size}" if (size := image_size(data)) else ""
    by_hand = f"{program()} tune learning-rate{option(data)}"
    return made if by_make() else by_hand, "are better settings worth it?"


def after_search(name: str, ending: str = "") -> str:
    """The command that takes up what a search found."""
    plan = catalog.plan_of_search(name)
    return f"{program()} {f'run {plan} --retune' if plan else f'adopt {name}'}{ending}"


def typed(command: str) -> str:
    """A command `ablate …` as it works here: by make, where make called this one and can say the same."""
    return (_as_make(command) if by_make() else None) or command.replace("ablate", program(), 1)


def say_end(home: Home, page: Path, command: str, why: str, say: Say) -> None:
    """The last lines of a command: its page, and what to type next."""
    say(f"Report: {home.shown(page)}")
    if command:
        say(f"Next: {command}")
    if why:
        say(f"      {why}")


def known_ending(plan: PlanRecord) -> str | None:
    """The option that names a plan's data, as far as the store can tell; None where it cannot."""
    asked = os.environ.get("ABLATE_DATA", "")
    if plan.data.name == "cifar10" and not asked:
        return ""
    return option(asked or plan.data.name) if asked or plan.data.name in ("cifar100", "synthetic") else None


def by_make() -> bool:
    """Whether make called this command."""
    return "MAKELEVEL" in os.environ


def _as_make(command: str) -> str | None:
    """`make ablate` with variables; None where a word has no variable, or needs a quote that make would not pass on."""
    _, verb, plan, *words = shlex.split(command)
    said = [] if plan == "techniques" else [f"PLAN={plan}"]
    if "--retune" in words:  # the one option without a value
        words.remove("--retune")
        said.append("RETUNE=1")
    if verb != "run" or len(words) % 2:
        return None
    settings = []
    for name, value in zip(words[::2], words[1::2], strict=True):
        if not re.fullmatch(r"[\w.,:/=+@%-]+", value):
            return None
        if name == "--set":
            settings.append(value)
        elif name in VARIABLES:
            said.append(f"{VARIABLES[name]}={value}")
        else:
            return None
    said += [f'SET="{" ".join(settings)}"'] if settings else []
    return " ".join(["make ablate", *said])


def _data_of(ending: str) -> str | None:
    words = shlex.split(ending)
    given = dict(pairwise(words))
    return typed_source(given.get("--data"), int(given["--image-size"]) if "--image-size" in given else None)


def _missing() -> tuple[str, ...]:
    from cifar_ablations.reports.inference import verdict

    return verdict.UNFINISHED, verdict.NOT_REACHED


def _more_seeds(plan: PlanRecord, verdicts: pd.DataFrame) -> tuple[int, str] | None:
    """How many seeds to ask for, and why; None where nothing is open that seeds would settle."""
    from cifar_ablations.reports.inference import verdict
    from cifar_ablations.reports.wording import headlines, phrases
    from cifar_ablations.study.commands.show import enough_seeds

    if verdicts.empty:
        return None
    if (verdicts["reason"] == verdict.TOO_FEW).any():
        enough = enough_seeds(plan)
        return (enough, f"verdicts are given from {enough} seeds on") if enough else None
    still_open = (verdicts["verdict"] == verdict.INCONCLUSIVE) & (verdicts["reason"] == "")
    of_accuracy = still_open & (verdicts["metric"] == schema.TEST_ACCURACY)
    rows = verdicts[of_accuracy if of_accuracy.any() else still_open].to_dict("records")
    needed = [(seeds, row) for row in rows if (seeds := headlines.seeds_to_settle(row)) is not None]
    if not needed:
        return None
    seeds, closest = min(needed, key=lambda one: one[0])
    now = len(plan.seeds)
    most = max(now + 1, min(MOST_SEEDS, MOST_TIMES * now))
    if now >= MOST_SEEDS:
        return None
    where = f" {phrases.place(closest)}" if phrases.place(closest) else ""
    about = f"{phrases.subject(plan, closest)}{where}"
    if seeds > most:
        return most, f"narrower intervals; the closest open claim, {about}, needs about {seeds:,} seeds"
    return max(seeds, now + 1), f"about so many seeds settle {about}, if its effect is as large as it looks"
