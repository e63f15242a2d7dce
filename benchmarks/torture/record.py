"""What was injected and what became of it, as a section of RELIABILITY.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from benchmarks import results
from cifar_ablations.ablations.files import write_atomically

RELIABILITY = Path(__file__).parents[1] / "RELIABILITY.md"
HEAD = """# Reliability

Written by `make torture` and `make torture ONLY=memory`, a section per machine and seed; a repetition replaces its
section.
What is done, and how to run one case again, stands in [README](README.md).
"""
MOST_SHOWN = 20


@dataclass(frozen=True)
class Case:
    """One case, as a process that ran it tells of it."""

    kind: str
    number: int
    what: str
    faults: int
    problems: tuple[str, ...]
    seconds: float

    def again(self, seed: int, short: bool = False) -> str:
        """The command that runs this case again."""
        part = " --short" if short else ""
        return f"python -m benchmarks.torture --seed {seed}{part} --only {self.kind} --case {self.number}"


def write(path: Path, title: str, text: str) -> None:
    """Put a section into the file; of several machines each has its own."""
    facts = results.facts(torch.device("cpu"), 2)
    if not path.exists():
        write_atomically(path, HEAD.encode())
    results.record(path, f"{title}, {results.machine(facts)}", f"{text}\n\n{_machine(facts)}")


def _machine(facts: results.Facts) -> str:
    able = facts.instructions.lower()
    vectors = "with AVX-512" if "avx512" in able else "without AVX-512"
    bf16 = "with bf16" if "bf16" in able else "without bf16"
    return f"{results.described(facts)}, MLflow {facts.mlflow}; {vectors}, {bf16} instructions."


def section(kinds: Sequence[ModuleType], cases: Sequence[Case], seed: int, minutes: float) -> str:
    """The table of all kinds, and below it what did not hold, each with the command that shows it again."""
    rows = ["| what was done | injected | recovered | checked by |", "|---|---|---|---|"]
    for kind in kinds:
        own = [case for case in cases if case.kind == kind.KIND]
        if own:
            faults, fine = sum(case.faults for case in own), sum(case.faults for case in own if not case.problems)
            noun = "bad inputs" if kind.KIND == "inputs" else "faults"
            rows.append(f"| {kind.TITLE} | {faults:,} {noun} in {len(own):,} cases | {fine:,} | {kind.CHECKED} |")
    counts = totals(cases)
    said = f"{counts['faults']:,} faults and {counts['inputs']:,} bad inputs in {minutes:.1f} minutes, seed {seed}."
    bad = [case for case in cases if case.problems]
    if not bad:
        return "\n".join(
            [said, "Nothing was lost, doubled or false; no traceback, no secret out, no code in.", "", *rows]
        )
    lines = [f"- {'; '.join(dict.fromkeys(case.problems))[:400]} — `{case.again(seed)}`" for case in bad[:MOST_SHOWN]]
    return "\n".join([said, "", *rows, "", f"Not held, in {len(bad)} cases:", "", *lines])


def totals(cases: Sequence[Case]) -> Mapping[str, int]:
    """How many faults and how many inputs there were."""
    found = Counter[str]()
    for case in cases:
        found["inputs" if case.kind == "inputs" else "faults"] += case.faults
    return found
