"""How the learning rate should change over training, and how high it may start."""

from __future__ import annotations

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Rounds, Study, around, parameter
from cifar_ablations.ablations.techniques.schedule import Schedule

QUESTION = "Which schedule is best, each with a learning rate that suits it?"

DEFAULT_TRIALS = 32


def search(baseline: Recipe, trials: int) -> Rounds:
    """One study: the shape, the rate, and the other knobs of those shapes for which they mean something."""
    parameters = (
        parameter("schedule.shape"),
        around("optimizer.rate", baseline.update_rule().rate, 2.0),
        *(parameter(f"schedule.{knob}") for knob, about in Schedule.knobs().items() if about.search is not None),
    )
    own = Study("schedule", baseline, parameters, trials).own_values()
    yield [Study("schedule", baseline, parameters, trials, (own,) if own else ())]
