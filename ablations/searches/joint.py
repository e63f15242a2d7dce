"""Every knob that names a range, at once: what an automatic search makes of the whole recipe."""

from __future__ import annotations

from dataclasses import replace

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Network
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Parameter, Rounds, Study, around, parameter
from cifar_ablations.ablations.technique import overrides
from cifar_ablations.ablations.techniques.optimizer import Optimizer

QUESTION = "How good does the recipe become if everything is tuned at once?"

DEFAULT_TRIALS = 64
RATE, DECADES = "optimizer.rate", 2.0


def search(baseline: Recipe, trials: int) -> Rounds:
    """One study of all `parameters`; the baseline is tried first."""
    searched = parameters(baseline)
    own = Study("joint", baseline, searched, trials).own_values()
    yield [Study("joint", baseline, searched, trials, (own,) if own else ())]


def parameters(baseline: Recipe) -> tuple[Parameter, ...]:
    """The optimizer's rate, the schedule's shape, and all techniques with a range, in or out.

    Beside the baseline's optimizer stands Muon, each with its own rate in the middle of as wide a range; where the
    baseline's is at none of its levels, that one stays.

    A knob is sampled where its technique is in, and with those kinds of it for which it means something; a technique
    that has kinds, or whose knobs all have ranges that reach to nothing, needs no switch. Of normalisation, which other
    networks may have of their own, only the notebook's network is asked.
    """
    found = _optimizers(baseline)
    for name, cls in catalog.techniques().items():
        searched = {knob: about for knob, about in cls.knobs().items() if about.search is not None}
        if name == "optimizer" or not searched:
            continue
        if overrides(cls.at("off"), "normalise") and baseline.model.name != Network.name:
            continue
        when = None
        kinds = dict.fromkeys(about.when[0] for about in searched.values() if about.when is not None)
        found += [parameter(f"{name}.{kind}") for kind in kinds]
        if not kinds and any(about.log for about in searched.values()):
            found.append(Parameter(name, choices=("off", "on"), doc=f"whether there is {cls.title}"))
            when = (name, ("on",))
        found += [parameter(f"{name}.{knob}", when=when) for knob in searched]
    return tuple(found)


def _optimizers(baseline: Recipe) -> list[Parameter]:
    own, rate = baseline.technique("optimizer").level, around(RATE, baseline.update_rule().rate, DECADES)
    if own == "muon" or own not in Optimizer.levels:
        return [rate]
    factor = around("learning_rate.factor", 1.0, DECADES)
    return [
        Parameter("optimizer", choices=(own, "muon"), doc="which optimizer"),
        replace(rate, when=("optimizer", (own,))),
        replace(factor, when=("optimizer", ("muon",))),
    ]
