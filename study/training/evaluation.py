"""Members in evaluation mode: their logits, losses and accuracies on chosen images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.step import autocast, normalize, take

BATCH = {"cpu": 250, "cuda": 2_000}

Scales = Mapping[Member, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Score:
    """Mean cross entropy, and for each image whether its class was predicted, bool [images]."""

    loss: float
    correct: np.ndarray

    @property
    def accuracy(self) -> float:
        """The share of images whose class was predicted."""
        return float(self.correct.mean())


@torch.no_grad()
def predict(
    fleet: Fleet,
    rows: Sequence[int],
    images: Tensor,
    chosen: Mapping[int, Tensor],
    scales: Scales,
    tick: Callable[[], None],
) -> list[Tensor]:
    """Logits, float32 [N, classes], of the members at these rows, on the images chosen for their seeds.

    images: uint8 [M, 3, H, W]; chosen: int64 [N] of them by seed; scales: as `step.scales` has them; tick: called after
    every member's batch, as a sign of life.
    """
    fleet.train(False)
    members = [fleet.members[row] for row in rows]
    size = BATCH[images.device.type]
    total = len(next(iter(chosen.values())))
    found: list[list[Tensor]] = [[] for _ in rows]
    for start in range(0, total, size):
        batches: dict[tuple[int, int], Tensor] = {}
        for member in members:
            if (key := _inputs_of(member, scales)) not in batches:
                some = take(images, chosen[member.seed][start : start + size].to(images.device))
                batches[key] = normalize(some, *scales[member])
        for index, (row, member) in enumerate(zip(rows, members, strict=True)):
            with autocast(member.recipe.sized.budget.precision, images.device):
                found[index].append(fleet.networks[row](batches[_inputs_of(member, scales)]).float())
            tick()
    return [torch.cat(logits) for logits in found]


def scores(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Score]:
    """The losses and accuracies of logits [N, classes] on targets, int64 [N], brought to the host at once."""
    pairs = list(zip(logits, targets, strict=True))
    losses = torch.stack([F.cross_entropy(of_member, target) for of_member, target in pairs]).double().cpu().tolist()
    correct = torch.stack([of_member.argmax(dim=1) == target for of_member, target in pairs]).cpu().numpy()
    return [Score(loss, right) for loss, right in zip(losses, correct, strict=True)]


def _inputs_of(member: Member, scales: Scales) -> tuple[int, int]:
    return member.seed, id(scales[member])
