"""Turning a mistyped name into a sentence that helps."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from cifar_ablations.ablations.errors import AblateError

EXACT = 2**53
"""Up to here a whole number stays what it is in JSON, in a table and in a spreadsheet."""
SHOWN = 60
"""Signs of a value that a sentence shows."""


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Raise AblateError unless a whole number of that name lies between the two, which are allowed."""
    if value < low:
        raise AblateError(f"{name} must be at least {low}, not {shown(value)}")
    if value > high:
        raise AblateError(f"{name} must be at most {high}, not {shown(value)}")


def shown(value: object) -> str:
    """A value as a sentence shows it, text in quotes: its first signs where it is long.

    Examples:
        >>> shown("dropuot")
        "'dropuot'"
        >>> shown(10**20)
        '1.000e+20'
    """
    if isinstance(value, int) and abs(value) > EXACT:
        return f"{value:.3e}" if abs(value) < 10**300 else "a number of over 300 digits"
    return brief(repr(value))


def brief(text: str) -> str:
    """A text's first signs where it is long."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} signs)"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of an error message: the nearest known names first, then all of them.

    Examples:
        >>> did_you_mean("dropuot", ["dropout", "mixup"])
        '; did you mean dropout? Known: dropout, mixup.'
    """
    known = list(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"{hint} Known: {', '.join(known)}."
