"""A share of a plan's trainings, as a job of an array has it: on a machine and in an output folder of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import shown


@dataclass(frozen=True)
class Shard:
    """One of `count` shares, numbered from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, seeds: Sequence[int]) -> tuple[int, ...]:
        """Its share of a plan's seeds. A seed is trained whole: arms are compared within it.

        Raises AblateError where there are more shares than seeds.
        """
        count = len(seeds)
        if self.count > count:
            raise AblateError(
                f"shard {self}: the plan has {count} seed{'s' * (count > 1)}, and a shard needs one; ask for at most "
                f"{min(self.number, count)}/{count}, or for more seeds"
            )
        return tuple(seeds[self.number - 1 :: self.count])


def shard_of(text: str) -> Shard:
    """A shard as it was typed, such as 2/4. Raises AblateError for what is none."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise AblateError(f"a shard must be I/N, the I-th of N shares, such as 2/4, not {shown(text)}")
    return Shard(int(found[1]), int(found[2]))
