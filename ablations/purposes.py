"""What a run draws random numbers for: names that trainings, recipes and reports share."""

from __future__ import annotations

from collections.abc import Mapping

SPLIT, ORDER, AUGMENTATION, WEIGHTS, MASKS = PURPOSES = ("split", "order", "augmentation", "weights", "masks")
"""Which images it is trained on, in which order it visits them, how they are changed and mixed, its first weights, and
what dropout masks."""

EVERYTHING = "everything"
SEEDING = "seeding"
"""The name of what makes draws for one purpose alone follow the seed, among an arm's levels."""

TITLES = {
    SPLIT: "the split",
    ORDER: "the order of visits",
    AUGMENTATION: "the changes to images",
    WEIGHTS: "the first weights",
    MASKS: "the dropout masks",
}
"""What is drawn, for the middle of a sentence."""


def varied(levels: Mapping[str, str]) -> str:
    """The one purpose that varies in an arm, from its levels; empty where everything does."""
    level = levels.get(SEEDING, "off")
    return "" if level == "off" else level
