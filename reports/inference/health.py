"""Whether the networks have learned their training images: until they have, every effect is one on how fast they learn.

Read off training accuracy, on images without augmentation and in evaluation mode, of the runs that converged. Training
loss only says whether more was to come: augmentation, label smoothing and mixup keep it high for reasons of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import contrast
from cifar_ablations.reports.reading import load

LEARNED = 0.75
"""Mean training accuracy from which an arm has learned its images. The same for any number of classes: with a quarter
of them wrong there is still much to fit, and what slows fitting down looks like harm."""
NEARLY_ALL = 0.95
"""Mean training accuracy from which it has learned not most of them but all that matters."""
QUARTER = 0.25
"""The last part of the epochs, over which the change of training loss is taken."""
FALLING = 0.05
"""Share of the training loss that is lost in that part, above which it is still falling. Epochs of one run vary by one
or two per cent; a loss that has come to rest changes by no more."""
DECAYED = 0.1
"""Last learning rate over the highest, below which a loss is level because steps are small, not because there is
nothing left to learn."""
GUESSING = (0.5, 0.05)
"""Above chance by less than this share of it, or this much where that is less, is guessing: 15 % of 10 classes, 1.5 %
of 100, 55 % of two. No interval over seeds: one run's accuracy is that of thousands of images, and seeds that differ
are no sign of guessing."""
SOFT_LABELS = {"label_smoothing", "mixup", "cutmix"}
"""Techniques under which training loss has a floor above zero: near it, it is level long before learning ends."""

FALLS, LEVEL, RISES = "falling", "level", "rising"
FIT, UNFIT, NO_BETTER = "learned", "not learned", "no better than guessing"
CURVES = (schema.TRAIN_LOSS, schema.LEARNING_RATE)
NO_RUNS = pd.MultiIndex.from_product([[], []])


@dataclass(frozen=True)
class Health:
    """How an arm's training ended. Accuracies are fractions; NaN for what is not known.

    n: runs with a result; diverged, stopped, guessing: how many of them diverged, were stopped early, and converged
    without getting above chance. accuracy, std: of training accuracy over converged runs. fall: the share of training
    loss lost in the last `QUARTER` of the epochs, mean over converged runs. rate_left: the last learning rate over the
    highest, likewise. soft: whether labels were softened or mixed.
    """

    arm: str
    n: int
    diverged: int
    stopped: int
    guessing: int
    accuracy: float
    std: float
    chance: float
    fall: float
    rate_left: float
    soft: bool

    @property
    def converged(self) -> int:
        """How many runs did not diverge."""
        return self.n - self.diverged

    @property
    def fit(self) -> str:
        """FIT, UNFIT or NO_BETTER; empty where no run tells. An arm whose runs all diverged is no better."""
        if math.isnan(self.accuracy):
            return NO_BETTER if self.n and not self.converged else ""
        if guesses(self.accuracy, self.chance):
            return NO_BETTER
        return FIT if self.accuracy >= LEARNED else UNFIT

    @property
    def trend(self) -> str:
        """How training loss moved at the end: FALLS, LEVEL or RISES, by `fall` and FALLING.

        Empty where that is not known: after a single epoch, and for a level loss with soft labels.
        """
        if math.isnan(self.fall):
            return ""
        if abs(self.fall) <= FALLING:
            return "" if self.soft else LEVEL
        return FALLS if self.fall > 0 else RISES


def guesses(accuracy: float, chance: float) -> bool:
    """Whether an accuracy is that of guessing, by `GUESSING`."""
    share, most = GUESSING
    return accuracy < chance + min(share * chance, most)


def of_plan(plan: PlanRecord, runs: pd.DataFrame, curves: pd.DataFrame | None = None) -> list[Health]:
    """One entry per arm of the plan, in its order.

    runs: of `load.runs_of`; curves: of `load.curves_of` with the metrics CURVES; without them trends are not known.
    """
    chance, entries = load.chance(plan), []
    ends = _ends(curves) if curves is not None else pd.DataFrame(columns=["fall", "rate_left"], index=NO_RUNS)
    columns = ["outcome", "converged", schema.TRAIN_ACCURACY, *ends.columns]
    runs = runs.join(ends.astype(float), on=["arm", "seed"])
    for arm, of_arm in zip(plan.arms, contrast.by_arm(runs, (arm.name for arm in plan.arms), columns), strict=True):
        converged = of_arm[of_arm["converged"].astype(bool)]
        accuracy = converged[schema.TRAIN_ACCURACY].dropna() if schema.TRAIN_ACCURACY in converged else pd.Series()
        entries.append(
            Health(
                arm=arm.name,
                n=len(of_arm),
                diverged=len(of_arm) - len(converged),
                stopped=int((converged["outcome"] == schema.STOPPED).sum()),
                guessing=sum(guesses(value, chance) for value in accuracy),
                accuracy=float(accuracy.mean()),
                std=float(accuracy.std()),
                chance=chance,
                fall=float(converged["fall"].mean()),
                rate_left=float(converged["rate_left"].mean()),
                soft=any(arm.levels.get(name, "off") != "off" for name in SOFT_LABELS),
            )
        )
    return entries


def _ends(curves: pd.DataFrame) -> pd.DataFrame:
    """Per arm and seed (the index) the `fall` and `rate_left` of its run.

    `fall` is the share of the training loss that it lost in the last quarter; NaN after one epoch.
    """
    run, known = ["arm", "seed"], curves.dropna(subset=["value"]).sort_values("epoch", kind="stable")
    loss, rate = (known[known["metric"] == name] for name in CURVES)
    last_epoch = loss.groupby(run, sort=False)["epoch"].transform("last")
    earlier = loss["epoch"] <= last_epoch - np.maximum(1, np.rint(QUARTER * last_epoch))
    before = loss[earlier].groupby(run, sort=False)["value"].last()
    last, rates = loss.groupby(run, sort=False)["value"].last(), rate.groupby(run, sort=False)["value"]
    return pd.DataFrame({"fall": 1 - last / before.where(before > 0), "rate_left": rates.last() / rates.max()})
