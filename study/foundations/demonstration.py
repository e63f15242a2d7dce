"""What a demonstration returns: tidy frames, statements that were checked, and what they explain elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations.errors import AblateError

CLOSED_FORM = "closed form"
THEORY = "theory"


def prints(what: str) -> str:
    """The source of a number that the notebook prints."""
    return f"notebook prints {what}"


def says(what: str) -> str:
    """The source of a statement of the notebook's, in other words than its own."""
    return f"notebook says: {what}"


@dataclass(frozen=True)
class Check:
    """A statement, a number that it leads one to expect, and the number that was found.

    The interval [low, high], either end of which may be missing, is where the number found must lie; where `of_found`
    is set it is the spread of what was found, a 95 % prediction interval, and the number expected must lie in it.
    """

    statement: str
    expected: float
    found: float
    low: float | None
    high: float | None
    of_found: bool
    holds: bool
    source: str


def near(statement: str, expected: Any, found: Any, tolerance: Any, source: str = CLOSED_FORM) -> Check:
    """A check that holds where found is within the tolerance of expected; never where it is not a number.

    Values may be of any type that float() takes, such as tensors of one element.
    """
    expected, tolerance = float(expected), float(tolerance)
    return between(statement, expected, found, expected - tolerance, expected + tolerance, source)


def between(
    statement: str, expected: Any, found: Any, low: Any | None, high: Any | None, source: str = THEORY
) -> Check:
    """A check that holds where found lies between the two; None leaves a side open."""
    expected, found = float(expected), float(found)
    low, high = (None if end is None else float(end) for end in (low, high))
    return Check(statement, expected, found, low, high, False, _inside(found, low, high), source)


def predicted(statement: str, expected: float, draws: Sequence[float] | np.ndarray, source: str) -> Check:
    """A check that holds where expected, a single draw of somebody else's, lies in the prediction interval of draws."""
    low, high = prediction_interval(draws)
    inside = _inside(float(expected), low, high)
    return Check(statement, float(expected), float(np.median(draws)), low, high, True, inside, source)


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
class Link:
    """What a demonstration explains: a plan, one of its arms where a single one is meant, and why."""

    plan: str
    why: str
    arm: str = ""


@dataclass(frozen=True)
class Demonstration:
    """One chapter of the course. idea: two to four sentences; frames: tidy, by name."""

    name: str
    title: str
    question: str
    idea: str
    frames: Mapping[str, pd.DataFrame]
    checks: tuple[Check, ...]
    links: tuple[Link, ...]

    def described(self) -> dict[str, Any]:
        """All but the frames, of which only the names, for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "question": self.question,
            "idea": self.idea,
            "frames": list(self.frames),
            "checks": [asdict(check) for check in self.checks],
            "links": [asdict(link) for link in self.links],
        }
