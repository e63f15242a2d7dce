"""The result of a demonstration: tidy frames, checked statements, and links to the results that they explain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import CheckRecord, DemonstrationRecord, LinkRecord

CLOSED_FORM = "closed form"
THEORY = "theory"


def prints(what: str) -> str:
    """The source of a number that the notebook prints."""
    return f"notebook prints {what}"


def says(what: str) -> str:
    """The source of a statement of the notebook's, in other words than its own."""
    return f"notebook says: {what}"


def near(statement: str, expected: Any, found: Any, tolerance: Any, source: str = CLOSED_FORM) -> CheckRecord:
    """A check that holds where found is within the tolerance of expected; never where it is not a number.

    Values may be of any type that float() takes, such as tensors of one element.
    """
    expected, tolerance = float(expected), float(tolerance)
    return between(statement, expected, found, expected - tolerance, expected + tolerance, source)


def between(
    statement: str, expected: Any, found: Any, low: Any | None, high: Any | None, source: str = THEORY
) -> CheckRecord:
    """A check that holds where found lies between the two; None leaves a side open."""
    expected, found = float(expected), float(found)
    low, high = (None if end is None else float(end) for end in (low, high))
    return CheckRecord(statement, expected, found, low, high, False, _inside(found, low, high), source)


def predicted(statement: str, expected: float, draws: Sequence[float] | np.ndarray, source: str) -> CheckRecord:
    """A check that holds where expected, a single draw of somebody else's, lies in the prediction interval of draws."""
    low, high = prediction_interval(draws)
    inside = _inside(float(expected), low, high)
    return CheckRecord(statement, float(expected), float(np.median(draws)), low, high, True, inside, source)


def farthest(values: Iterable[Any], middle: float = 1.0) -> float:
    """The value farthest from the middle."""
    return max((float(value) for value in values), key=lambda value: abs(value - middle))


def prediction_interval(draws: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Where the next draw lies with a probability of 95 % or a little more, whatever the distribution.

    Between the r-th smallest and the r-th largest of n draws lies the next one with probability (n + 1 - 2r) / (n + 1):
    95 % exactly for n = 39, 119, 199, …. Raises AblateError for fewer than 39 draws.
    """
    ordered = np.sort(np.asarray(draws, dtype=float))
    rank = math.floor(0.025 * (len(ordered) + 1))
    if rank < 1:
        raise AblateError(f"a 95 % prediction interval takes at least 39 draws, not {len(ordered)}")
    return float(ordered[rank - 1]), float(ordered[-rank])


def _inside(value: float, low: float | None, high: float | None) -> bool:
    return math.isfinite(value) and (low is None or low <= value) and (high is None or value <= high)


@dataclass(frozen=True)
class Demonstration:
    """One chapter of the course. idea: two to four sentences; frames: tidy, by name."""

    name: str
    title: str
    question: str
    idea: str
    frames: Mapping[str, pd.DataFrame]
    checks: tuple[CheckRecord, ...]
    links: tuple[LinkRecord, ...]

    def record(self) -> DemonstrationRecord:
        """All of it but the frames, of which only the names."""
        return DemonstrationRecord(
            self.name, self.title, self.question, self.idea, tuple(self.frames), self.checks, self.links
        )
