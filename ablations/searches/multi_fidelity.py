"""Everything that `joint` varies, at budgets that grow: many recipes are tried at a small one, and the best of them at
the next. Successive halving over budgets: Jamieson and Talwalkar 2016.

Within each budget the search's own pruner ends trials early, as in any search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import sqrt

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import Value
from cifar_ablations.ablations.search import LISTED, Rounds, Study
from cifar_ablations.ablations.searches import joint

QUESTION = "How good does the recipe become if everything is tuned at once, at small budgets first?"

DEFAULT_TRIALS = 64
SHARES = (1 / 16, 1 / 4)
"""Of the training images and of a batch, so that a training keeps its number of steps; the last budget is the whole."""
REDUCTION = 4
"""One in so many trials goes on to the next budget."""
SMALLEST_BATCH, FEWEST_IMAGES = 8, 32


def search(baseline: Recipe, trials: int) -> Rounds:
    """A study of so many trials at the smallest budget, and one of the best at each larger; the whole budget decides.

    The baseline, and the baseline with each choice of one technique changed alone, are tried first.
    """
    parameters = joint.parameters(baseline)
    study = Study(_name(SHARES[0]), at(baseline, SHARES[0]), parameters, trials, decides=False)
    study = replace(study, first=_one_by_one(study)[:trials])
    for share in (*SHARES[1:], 1.0):
        (best,) = yield [study]
        if best is None:
            return
        trials = max(1, trials // REDUCTION)
        first = best.ranked[:trials] or (best.sampled,)
        study = Study(
            _name(share), at(baseline, share), parameters, len(first), first, sampler=LISTED, decides=share == 1.0
        )
    yield [study]


def at(recipe: Recipe, share: float) -> Recipe:
    """The recipe at this share of its images and batch, with the root of it of the network's width.

    Of the images that choose, too, only the root is left out: with fewer, chance would choose.
    """
    budget, root = recipe.budget, sqrt(share)
    return replace(
        recipe,
        model=replace(recipe.model, width=recipe.model.width * root),
        budget=replace(
            budget,
            train_images=_least(budget.train_images, share, FEWEST_IMAGES),
            batch_size=_least(budget.batch_size, share, SMALLEST_BATCH),
            validation_images=_least(budget.validation_images, root, FEWEST_IMAGES),
        ),
    )


def _least(whole: int, share: float, least: int) -> int:
    return max(min(whole, least), round(whole * share))


def _name(share: float) -> str:
    return "whole budget" if share == 1.0 else f"1 in {round(1 / share)} images"


def _one_by_one(study: Study) -> tuple[Mapping[str, Value], ...]:
    """The study's own recipe, and that with one choice changed, its knobs at what the technique has by default."""
    own = study.own_values()
    if not own:
        return ()
    found = [own]
    for switch in (p for p in study.parameters if p.choices is not None):
        for choice in switch.choices or ():
            if choice == own.get(switch.name):
                continue
            values = own | {switch.name: choice}
            knobs = study.with_values({switch.name: choice}).knobs() | values
            sampled = {p.name: knobs[p.name] for p in study.parameters if p.wanted(values)}
            if all(p.holds(sampled[p.name]) for p in study.parameters if p.name in sampled):
                found.append(sampled)
    return tuple(found)
