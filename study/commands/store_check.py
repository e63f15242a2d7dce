"""What `ablate doctor --store` does: goes through all that lies in a store and its output folder, and names what is
damaged, twice there or left over. It writes nothing; `repair` mends what can be mended, and deletes no person's data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.study.commands import folder_check, runs_check
from cifar_ablations.study.commands.store_findings import Checked, Finding, Seen
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    from cifar_ablations.study.store.tracking import Store

Say = Callable[[str], None]

WIDTH = 13
"""Of the names beside what was found."""
SHOWN = 10
"""Sentences of a part that a person is shown; a document has all."""


def check(home: Home, *, held: bool | None = None) -> Checked:
    """Look at everything, in this order; writes nothing.

    held: whether another command may be at work in the output folder; None: find out.
    """
    found, seen = Checked(), Seen(home, home.is_held if held is None else held)
    looks: tuple[tuple[str, Callable[[Checked, Seen], None], bool], ...] = (
        ("database", runs_check.check_database, False),
        ("runs", runs_check.check_runs, True),
        ("files", runs_check.check_files, True),
        ("doubles", runs_check.check_doubles, True),
        ("leftovers", runs_check.check_leftovers, True),
        ("orphans", folder_check.check_orphans, True),
        ("checkpoints", folder_check.check_checkpoints, False),
        ("data", folder_check.check_data, False),
        ("recipes", folder_check.check_recipes, False),
        ("journal", folder_check.check_journal, False),
        ("partial", folder_check.check_partial, False),
    )
    for part, look, needs_store in looks:
        if needs_store and seen.client is None:
            found.count(part, "not looked at: there is no store that can be read")
            continue
        with _by_itself(found, part):
            look(found, seen)
    return found


@contextmanager
def _by_itself(found: Checked, part: str) -> Iterator[None]:
    """Within it, whatever goes wrong is a finding, and the next part is looked at."""
    try:
        yield
    except AblateError as error:
        found.count(part, "see below")
        found.findings.append(Finding(part, str(error)))
    except Exception as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        found.count(part, f"cannot be looked at ({said})")
        found.findings.append(Finding(part, f"The {part} could not be looked at ({said})."))


def repair(home: Home, say: Say) -> Checked:
    """Mend what can be mended, then look again; returns what is left, with what was done.

    Raises AblateError where another command holds the folder.
    """
    with home.locked("repairing the store", say, wait=False):
        found, done = check(home, held=False), []
        store = _opened(home) if found.parts.get("database", {}).get("readable") else None
        for one in found.findings:
            if one.mend is not None:
                try:
                    done.append(one.mend(store))
                except (AblateError, OSError) as error:
                    done.append(f"Not mended ({error}): {one.sentence}")
        left = check(home, held=False)
    left.done = done
    return left


def _opened(home: Home) -> Store:
    from cifar_ablations.study.store.tracking import open_store

    return open_store(home)


def show(found: Checked, say: Say) -> None:
    """Print it for a person."""
    for part, line in found.lines:
        say(f"{part:<{WIDTH}}{line}")
    for sentence in found.done:
        say(f"Done: {sentence}")
    shown: Counter[tuple[str, bool]] = Counter()
    for one in sorted(found.findings, key=lambda one: not one.must):
        shown[one.part, one.must] += 1
        if shown[one.part, one.must] <= SHOWN:
            say(f"{'To mend' if one.must else 'Note'}: {one.sentence}")
    for (part, _), count in shown.items():
        if count > SHOWN:
            say(f"… and {count - SHOWN} more of the {part}; --json has them all.")
    if not found.code:
        say("Nothing must be mended.")
    elif any(one.must and one.mend for one in found.findings):
        say("`ablate doctor --repair` mends what can be mended, and deletes nothing of yours.")


def as_facts(home: Home, found: Checked) -> dict[str, Any]:
    """It for a program."""
    names = ("part", "sentence", "must", "run_id", "path")
    return {
        "folder": home.folder,
        "address": without_password(home.tracking_uri),
        "parts": found.parts,
        "findings": [
            {name: getattr(one, name) or None if name == "run_id" else getattr(one, name) for name in names}
            | {"can_be_mended": one.mend is not None}
            for one in found.findings
        ],
        "done": found.done,
        "exit_code": found.code,
    }
