"""Members in evaluation mode: their logits, losses and accuracies on images that no technique has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_ablations.ablations.purposes import SPLIT
from cifar_ablations.ablations.technique import Technique, overrides
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import diagnostics
from cifar_ablations.study.training.backend import Backend, autocast
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.randomness import permutation
from cifar_ablations.study.training.step import normalize, take

BATCH = {"cpu": 250, "cuda": 2_000}

KNOWN_IMAGES = 10_000
"""Training accuracy without augmentation is measured on at most this many of a run's own training images."""

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
    backend: Backend,
    rows: Sequence[int],
    images: Tensor,
    chosen: Mapping[int, Tensor],
    scales: Scales,
    tick: Callable[[], None],
    with_views: bool = False,
) -> list[Tensor]:
    """Logits, float32 [N, classes], of the members at these rows, on the images chosen for their splits.

    images: uint8 [M, 3, H, W]; chosen: int64 [N] of them by the seed of a split; scales: as `step.scales` has them;
    tick: called after every member's batch, as a sign of life; with_views: whether the logits are means over the views
    that a member's techniques have of an image.
    """
    fleet.train(False)
    members = [fleet.members[row] for row in rows]
    viewing = [tuple(t for t in m.recipe.techniques if with_views and overrides(t, "views_of")) for m in members]
    size = BATCH[images.device.type]
    total = len(next(iter(chosen.values())))
    found: list[list[Tensor]] = [[] for _ in rows]
    for start in range(0, total, size):
        batches: dict[tuple[int, int], Tensor] = {}
        views: dict[tuple[tuple[int, int], tuple[Technique, ...]], list[Tensor]] = {}
        for member in members:
            if (key := _inputs_of(member, scales)) not in batches:
                some = take(images, chosen[member.seed_of(SPLIT)][start : start + size].to(images.device))
                batches[key] = normalize(some, *scales[member])
        for index, (row, member) in enumerate(zip(rows, members, strict=True)):
            looked_at = _inputs_of(member, scales), viewing[index]
            if looked_at not in views:
                plain = batches[looked_at[0]]
                views[looked_at] = [plain, *(view for t in viewing[index] for view in t.views_of(plain))]
            logits = [backend.logits(row, view) for view in views[looked_at]]
            found[index].append(logits[0] if len(logits) == 1 else torch.stack(logits).mean(dim=0))
            tick()
    return [torch.cat(logits) for logits in found]


def scores(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Score]:
    """The losses and accuracies of logits [N, classes] on targets, int64 [N], brought to the host at once."""
    pairs = list(zip(logits, targets, strict=True))
    losses = torch.stack([F.cross_entropy(of_member, target) for of_member, target in pairs]).double().cpu().tolist()
    correct = torch.stack([of_member.argmax(dim=1) == target for of_member, target in pairs]).cpu().numpy()
    return [Score(loss, right) for loss, right in zip(losses, correct, strict=True)]


@dataclass
class Evaluator:
    """Looks at the members of a fleet, by row, on the images of their budget.

    data: on the fleet's device; splits: by seed, indices of training and validation images, as `lockstep.split` has
    them; scales: as `step.scales` has them; tick: as in `predict`.
    """

    fleet: Fleet
    backend: Backend
    data: Dataset
    splits: Mapping[int, tuple[Tensor, Tensor]]
    scales: Scales
    tick: Callable[[], None]

    def on_validation_images(self) -> list[Score]:
        """Of every member."""
        chosen = {seed: validation for seed, (_, validation) in self.splits.items()}
        images, labels = self.data.validation_images, self.data.validation_labels
        if images is None or labels is None:
            images, labels = self.data.train_images, self.data.train_labels
        return self._scores(range(len(self.fleet.members)), images, labels, chosen)

    def on_known_images(self, rows: Sequence[int]) -> list[Score]:
        """On training images, KNOWN_IMAGES of them at most, as test images are looked at."""
        chosen = {seed: train[:KNOWN_IMAGES] for seed, (train, _) in self.splits.items()}
        return self._scores(rows, self.data.train_images, self.data.train_labels, chosen, with_views=True)

    def known_batches(self, row: int) -> Iterator[Tensor]:
        """A member's first KNOWN_IMAGES training images, normalised, in batches [B, 3, H, W]."""
        member, images = self.fleet.members[row], self.data.train_images
        chosen = self.splits[member.seed_of(SPLIT)][0][:KNOWN_IMAGES].to(images.device)
        for some in chosen.split(BATCH[images.device.type]):
            yield normalize(take(images, some), *self.scales[member])
            self.tick()

    def _scores(
        self,
        rows: Sequence[int],
        images: Tensor,
        labels: Tensor,
        chosen: Mapping[int, Tensor],
        with_views: bool = False,
    ) -> list[Score]:
        """On chosen images of a set: uint8 [M, 3, H, W] and their labels, int64 [M]."""
        logits = predict(self.fleet, self.backend, rows, images, chosen, self.scales, self.tick, with_views)
        return scores(
            logits, [labels[chosen[self.fleet.members[row].seed_of(SPLIT)].to(labels.device)] for row in rows]
        )

    def on_test_images(self, rows: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Logits of the members, as `predict` has them, and the images' classes, int64 [N]."""
        labels, budget = self.data.test_labels, self.fleet.members[0].recipe.sized.budget
        drawn = permutation(len(labels), "test images")[: budget.test_images]
        test = drawn.sort().values.to(labels.device)
        chosen = dict.fromkeys(self.splits, test)
        images = self.data.test_images
        return predict(self.fleet, self.backend, rows, images, chosen, self.scales, self.tick, True), labels[test]

    def probe(self, row: int) -> dict[str, np.ndarray]:
        """`diagnostics.probe` of a member's network on the first of its training images."""
        member, network, labels = self.fleet.members[row], self.fleet.networks[row], self.data.train_labels
        network.train(False)
        chosen = self.splits[member.seed_of(SPLIT)][0][: diagnostics.PROBE_IMAGES].to(labels.device)
        images = normalize(take(self.data.train_images, chosen), *self.scales[member])
        with autocast(member.recipe.sized.budget.precision, labels.device):
            return diagnostics.probe(network, images, labels[chosen])


def _inputs_of(member: Member, scales: Scales) -> tuple[int, int]:
    return member.seed_of(SPLIT), id(scales[member])
