"""What the checks of a store share: what they read once, and what they say that they found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_ablations.ablations import addresses, schema
from cifar_ablations.reports.reading.stored import Stored
from cifar_ablations.study.store.home import Home

Mend = Callable[[Any], str]
"""Takes the store (None where it cannot be opened), mends, and returns a sentence that says what was done."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and what to do about it, in a sentence or two."""

    part: str
    sentence: str
    must: bool = True
    """Whether it must be mended; else it is good to know."""
    mend: Mend | None = None
    """What mends it; None where only a person can."""
    run_id: str = ""
    path: Path | None = None


@dataclass
class Checked:
    """What was found, part by part: for a program in numbers, and a line of each for a person."""

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """What was mended, a sentence each."""

    def count(self, part: str, line: str, **facts: Any) -> None:
        """Add what was counted of a part."""
        self.parts.setdefault(part, {}).update(facts)
        self.lines.append((part, line))

    @property
    def code(self) -> int:
        """The exit code: 1 where something must be mended."""
        return int(any(one.must for one in self.findings))


@dataclass
class Seen:
    """What the checks read once: the store, where it can be read, and our runs in it."""

    home: Home
    held: bool
    """Whether another command may be at work in the output folder."""
    client: Any = None
    """Of the store; None where it cannot be read."""
    all: list[Stored] = field(default_factory=list)
    """Runs that were not deleted, with those that were set aside."""
    records: dict[str, Any] = field(default_factory=dict)
    """By run id, what the tags of those say that can be read."""

    @property
    def runs(self) -> list[Stored]:
        """Those that count."""
        return [run for run in self.all if schema.counts(run.tags)]

    def of_kind(self, kind: str) -> list[Stored]:
        """Those of a kind whose tags can be read."""
        return [run for run in self.runs if run.tags.get(schema.KIND) == kind and run.run_id in self.records]

    def path(self, run: Stored, name: str) -> Path | None:
        """Where a file of a run lies on this machine; None where there is no such file."""
        places = addresses.folders(run.artifacts, self.home.tracking_uri)
        return next((folder / name for folder in places if (folder / name).exists()), None)


def counted(count: int, what: str) -> str:
    """So many of something, in the singular or the plural."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
