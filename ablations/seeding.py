"""Seeding: which of a run's draws follow its seed, so that the variance between runs can be split by what is drawn.

An instrument of the plan `variance`, not a technique that may help: it stands outside the folder of techniques, so that
no other plan holds it, and no other digest or lock changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cifar_ablations.ablations.purposes import AUGMENTATION, EVERYTHING, MASKS, PURPOSES, SEEDING
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import Technique, knob, overrides

HELD = 0
"""The seed of the draws that do not follow the run's."""

NEEDED_BY = {AUGMENTATION: ("augment", "augment_by_epoch", "mix"), MASKS: ("mask",)}
"""The hooks for which a purpose draws; every training draws for the others."""


@dataclass(frozen=True)
class Seeding(Technique):
    """Draws for one purpose follow the run's seed; those for all others are the same in every run."""

    varies: str = knob(EVERYTHING, doc="what follows the run's seed", choices=(EVERYTHING, *PURPOSES))

    name: ClassVar[str] = SEEDING
    title: ClassVar[str] = "one purpose varied"
    source: ClassVar[str] = "Bouthillier et al. 2021, 'Accounting for Variance in Machine Learning Benchmarks'"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        **{purpose: {"varies": purpose} for purpose in PURPOSES},
    }

    def seed_for(self, purpose: str, seed: int) -> int:
        return seed if self.varies in (EVERYTHING, purpose) else HELD


def drawn_for(recipe: Recipe) -> list[str]:
    """Those of PURPOSES that a recipe draws for."""
    used = [t for t in recipe.techniques if not t.is_off]
    return [
        purpose
        for purpose in PURPOSES
        if purpose not in NEEDED_BY or any(overrides(t, hook) for t in used for hook in NEEDED_BY[purpose])
    ]
