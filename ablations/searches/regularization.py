"""How strongly to regularise: dropout, weight decay, augmentation, label smoothing and mixup, all at once."""

from __future__ import annotations

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Parameter, Rounds, Study, parameter

QUESTION = "How strong should dropout, weight decay, augmentation, label smoothing and mixup be together?"

DEFAULT_TRIALS = 40


def search(baseline: Recipe, trials: int) -> Rounds:
    """One study; what may be left out is first sampled to be in or out. The baseline itself is tried first."""
    parameters = (
        parameter("dropout.p"),
        Parameter("weight_decay", choices=("off", "on"), doc="whether weights decay"),
        parameter("weight_decay.strength", when=("weight_decay", ("on",))),
        parameter("augmentation.padding"),
        parameter("augmentation.flip"),
        Parameter("label_smoothing", choices=("off", "on"), doc="whether labels are smoothed"),
        parameter("label_smoothing.epsilon", when=("label_smoothing", ("on",))),
        Parameter("mixup", choices=("off", "on"), doc="whether images are mixed"),
        parameter("mixup.alpha", when=("mixup", ("on",))),
    )
    study = Study("regularization", baseline, parameters, trials)
    own = study.own_values()
    yield [Study("regularization", baseline, parameters, trials, (own,) if own else ())]
