"""Durations as text, the same on the terminal and on the pages."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """A number of seconds in the unit a person would use; a dash for NaN.

    Examples:
        >>> [duration(seconds) for seconds in (8.2, 70, 150, 9000)]
        ['8.2 s', '70 s', '2.5 min', '2.5 h']
    """
    if math.isnan(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
