"""A time limit for measurements, which have to end by themselves on a borrowed machine."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


class OutOfTimeError(Exception):
    """Time ran out in the middle of a measurement, which is dropped."""


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock, in seconds; by default it never comes."""

    at: float = math.inf

    @classmethod
    def after(cls, minutes: float | None) -> Deadline:
        """So many minutes from now, or never for None."""
        return cls() if minutes is None else cls(time.monotonic() + 60 * minutes)

    @property
    def left(self) -> float:
        """Seconds that are left; negative once it is past."""
        return self.at - time.monotonic()

    def check(self) -> None:
        """Raise OutOfTimeError once it is past."""
        if self.left <= 0:
            raise OutOfTimeError
