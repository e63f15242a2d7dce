"""The training loop: a fleet of members, epoch by epoch, on one device.

It knows techniques only through their hooks, and neither MLflow nor Optuna. Within an epoch nothing is read back from
the device; what is reported comes over in one transfer at the epoch's end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ablations import schema
from ablations.recipe import Recipe
from ablations.technique import Technique, fills
from study.data import Dataset
from study.fleet import Fleet, Member
from study.model import DropoutSite
from study.randomness import StepDraws, permutation
from study.update import Updater

CLEAN_TRAIN_IMAGES = 10_000
"""Training accuracy without augmentation is measured on at most this many of a run's own training images."""

EVALUATION_BATCH = {"cpu": 250, "cuda": 2_000}


@dataclass(frozen=True)
class Epoch:
    """What one member did in one epoch (counted from 1): metrics by their names in the store."""

    member: Member
    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """What a training ended as: `outcome` is finished or diverged, test_correct a bool array [test images]."""

    member: Member
    outcome: str
    epochs: int
    metrics: dict[str, float] = field(default_factory=dict)
    test_correct: np.ndarray | None = None


def same_shape(recipe: Recipe) -> tuple:
    """What members must share to be trained in one fleet."""
    budget = recipe.budget
    return recipe.model, budget


def train(
    members: Sequence[Member], data: Dataset, device: torch.device, report: Callable[[Epoch | Outcome], None]
) -> None:
    """Train all members in lockstep; `report` gets each one's epochs as they end, and its outcome last.

    A member whose loss or weights are no longer finite at an epoch's end is reported as diverged and leaves.
    The results of a member do not depend on the others in the fleet (bitwise in fp32 on a CPU).
    """
    training = Training(members, data, device)
    while training.fleet.members and training.epoch < training.budget.epochs:
        for event in training.run_epoch():
            report(event)
    for outcome in training.outcomes():
        report(outcome)


class Training:
    """A fleet in training: its images, its matrices, and how far it has come."""

    def __init__(self, members: Sequence[Member], data: Dataset, device: torch.device):
        assert len({same_shape(m.recipe) for m in members}) == 1, "members of a fleet share network and budget"
        # Members whose rule is adaptive come first, as the updater wants them.
        members = sorted(members, key=lambda m: not m.recipe.update_rule().adaptive)
        self.budget = members[0].recipe.budget
        self.data, self.device = data.to(device), device
        self.epoch = 0
        self.seconds = 0.0
        self.fleet = Fleet(members, len(data.classes), device)
        rules = [m.recipe.update_rule() for m in members]
        rates = torch.stack([learning_rates(m.recipe) for m in members], dim=1)
        self.updater = Updater(self.fleet.weights, rules, rates)
        self._mean = torch.tensor(data.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(data.std, device=device).view(3, 1, 1)
        self._one_hot = torch.eye(len(data.classes), device=device)
        self._splits = {m.seed: split(len(data.train_labels), m) for m in members}
        self._digests = {m: m.recipe.digest() for m in members}

    def run_epoch(self) -> list[Epoch | Outcome]:
        """Train one epoch and validate: an Epoch per member, and an Outcome for those that diverged in it."""
        began = time.perf_counter()
        members = self.fleet.members
        steps = self.budget.steps_per_epoch
        orders = self._orders()
        self.fleet.train(True)
        losses = torch.zeros(len(members), dtype=torch.float64, device=self.device)
        norms = torch.zeros(len(members), device=self.device)
        for step in range(steps):
            batch_losses, batch_size = self._step(self.epoch * steps + step, step, orders)
            losses += batch_losses * batch_size
            norms += torch.linalg.vector_norm(self.fleet.gradients, dim=1)
            self.updater.step(self.epoch * steps + step, self.fleet.weights, self.fleet.gradients)
        weight_norms = torch.linalg.vector_norm(self.fleet.weights, dim=1)
        loss, norm, weight_norm = torch.stack([losses, norms.double(), weight_norms.double()]).cpu().tolist()
        took = time.perf_counter() - began
        validation = self._validate()
        self.epoch += 1
        self.seconds += (time.perf_counter() - began) / len(members)

        events: list[Epoch | Outcome] = []
        for row, member in enumerate(members):
            metrics = {
                schema.TRAIN_LOSS: loss[row] / self.budget.train_images,
                schema.LEARNING_RATE: float(self.updater.rates[self.epoch * steps - 1, row]),
                schema.GRADIENT_NORM: norm[row] / steps,
                schema.WEIGHT_NORM: weight_norm[row],
                schema.IMAGES_PER_SECOND: len(members) * self.budget.train_images / took,
            }
            if validation:
                metrics[schema.VALIDATION_LOSS] = validation[row].loss
                metrics[schema.VALIDATION_ACCURACY] = validation[row].accuracy
            events.append(Epoch(member, self.epoch, metrics))
        healthy = [row for row in range(len(members)) if math.isfinite(loss[row]) and math.isfinite(weight_norm[row])]
        if len(healthy) < len(members):
            events += [
                Outcome(member, schema.DIVERGED, self.epoch, {schema.SECONDS: self.seconds})
                for row, member in enumerate(members)
                if row not in healthy
            ]
            self.fleet.keep(healthy)
            if healthy:
                self.updater.keep(healthy)
        return events

    def outcomes(self) -> list[Outcome]:
        """The endings of the members that are left: the one reading of the test set."""
        if not self.fleet.members:
            return []
        began = time.perf_counter()
        test = (
            permutation(len(self.data.test_labels), "test images")
            .to(self.device)[: self.budget.test_images]
            .sort()
            .values
        )
        on_test = self._evaluate(self.data.test_images, self.data.test_labels, dict.fromkeys(self._seeds(), test))
        own = {seed: train[:CLEAN_TRAIN_IMAGES] for seed, (train, _) in self._splits.items()}
        on_train = self._evaluate(self.data.train_images, self.data.train_labels, own)
        seconds = self.seconds + (time.perf_counter() - began) / len(self.fleet.members)
        return [
            Outcome(
                member,
                schema.FINISHED,
                self.epoch,
                {
                    schema.TEST_ACCURACY: tested.accuracy,
                    schema.TEST_LOSS: tested.loss,
                    schema.TRAIN_ACCURACY: trained.accuracy,
                    schema.GENERALISATION_GAP: trained.accuracy - tested.accuracy,
                    schema.SECONDS: seconds,
                },
                tested.correct,
            )
            for member, tested, trained in zip(self.fleet.members, on_test, on_train, strict=True)
        ]

    def time_steps(self, count: int) -> float:
        """Seconds that one step of the whole fleet takes: the median of `count` after two to warm up. Trains on."""
        orders = self._orders()
        self.fleet.train(True)
        durations = []
        for step in range(count + 2):
            began = time.perf_counter()
            self._step(step, step % max(1, self.budget.train_images // self.budget.batch_size), orders)
            self.updater.step(0, self.fleet.weights, self.fleet.gradients)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            durations.append(time.perf_counter() - began)
        return float(np.median(durations[2:]))

    def _seeds(self) -> list[int]:
        return list(dict.fromkeys(m.seed for m in self.fleet.members))

    def _orders(self) -> dict[int, Tensor]:
        """The order in which each seed's training images are visited in this epoch, on the device."""
        orders = {}
        for seed in self._seeds():
            train, _ = self._splits[seed]
            orders[seed] = train[permutation(len(train), seed, "order", self.epoch)].to(self.device)
        return orders

    def _step(self, number: int, within: int, orders: dict[int, Tensor]) -> tuple[Tensor, int]:
        """Gradients of every member at one step; returns the losses, float64 [K], and the batch's size."""
        size = self.budget.batch_size
        batches: dict[tuple, tuple[Tensor, Tensor]] = {}
        self.fleet.gradients.zero_()
        losses = []
        for member, network in zip(self.fleet.members, self.fleet.networks, strict=True):
            augmenting = _augmenting(member.recipe)
            shared = (member.seed, augmenting)
            if shared not in batches:
                chosen = orders[member.seed][within * size : (within + 1) * size]
                batches[shared] = self._batch(chosen, member.seed, number, augmenting)
            images, targets = batches[shared]
            self._set_masks(member, network, number, len(images))
            with self._autocast():
                logits = network(images)
            loss = F.cross_entropy(logits.float(), targets)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).double(), len(targets)

    def _batch(
        self, chosen: Tensor, seed: int, number: int, augmenting: tuple[Technique, ...]
    ) -> tuple[Tensor, Tensor]:
        """Normalised images [B, 3, H, W] and class probabilities [B, classes] for a batch of training examples."""
        images = _take(self.data.train_images, chosen)
        for technique in augmenting:
            images = technique.augment(images, StepDraws(self.device, seed, technique.name, number))
        return normalise(images, self._mean, self._std), self._one_hot[self.data.train_labels[chosen]]

    def _set_masks(self, member: Member, network: torch.nn.Module, number: int, batch_size: int) -> None:
        masking = [t for t in member.recipe.techniques if fills(t, "mask")]
        if not masking:
            return
        for name, site in network.named_modules():
            if not isinstance(site, DropoutSite):
                continue
            site.mask = None
            for technique in masking:
                # The digest is part of the name, so that members are masked independently of each other.
                draws = StepDraws(self.device, member.seed, self._digests[member], technique.name, name, number)
                mask = technique.mask((batch_size, *site.shape), draws)
                if mask is not None:
                    site.mask = mask if site.mask is None else site.mask * mask

    def _autocast(self):
        if self.budget.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _validate(self) -> list[_Score] | None:
        if not self.budget.validation_images:
            return None
        held_out = {seed: validation for seed, (_, validation) in self._splits.items()}
        return self._evaluate(self.data.train_images, self.data.train_labels, held_out)

    @torch.no_grad()
    def _evaluate(self, images: Tensor, labels: Tensor, chosen: dict[int, Tensor]) -> list[_Score]:
        """Every member in evaluation mode on the images chosen for its seed."""
        self.fleet.train(False)
        size = EVALUATION_BATCH[self.device.type]
        seeds = self._seeds()
        total = len(chosen[seeds[0]])
        logits: list[list[Tensor]] = [[] for _ in self.fleet.members]
        for start in range(0, total, size):
            batches = {
                seed: normalise(
                    _take(images, chosen[seed][start : start + size].to(self.device)), self._mean, self._std
                )
                for seed in seeds
            }
            for row, (member, network) in enumerate(zip(self.fleet.members, self.fleet.networks, strict=True)):
                with self._autocast():
                    logits[row].append(network(batches[member.seed]).float())
        scores = []
        for row, member in enumerate(self.fleet.members):
            targets = labels[chosen[member.seed].to(self.device)]
            answers = torch.cat(logits[row])
            correct = answers.argmax(dim=1) == targets
            scores.append((F.cross_entropy(answers, targets), correct))
        losses = torch.stack([loss for loss, _ in scores]).double().cpu().tolist()
        corrects = torch.stack([correct for _, correct in scores]).cpu().numpy()
        return [_Score(loss, correct) for loss, correct in zip(losses, corrects, strict=True)]


@dataclass(frozen=True)
class _Score:
    loss: float
    correct: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


def split(size: int, member: Member) -> tuple[Tensor, Tensor]:
    """Indices of a member's training and validation images, int64 on the CPU: the same for all arms of a seed.

    Both are taken from one permutation, training images from its front and validation images from its back, so that a
    smaller budget's images are a subset of a larger one's. Raises ValueError if the data set is too small for both.
    """
    budget = member.recipe.budget
    if budget.train_images + budget.validation_images > size:
        raise ValueError(
            f"budget.train_images ({budget.train_images:,}) and budget.validation_images "
            f"({budget.validation_images:,}) together exceed the {size:,} training images of this data set; "
            "lower one of them with --set."
        )
    order = permutation(size, member.seed, "split")
    return order[: budget.train_images], order[size - budget.validation_images :]


def learning_rates(recipe: Recipe) -> Tensor:
    """The learning rate at every step of a training, float64 [steps]."""
    budget = recipe.budget
    rates = torch.full((budget.epochs * budget.steps_per_epoch,), recipe.update_rule().rate, dtype=torch.float64)
    for technique in recipe.techniques:
        factors = technique.schedule(budget.epochs, budget.steps_per_epoch)
        if factors is not None:
            rates *= factors
    return rates


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images [B, 3, H, W] as float32, in units of the data set's spread: torchvision's ToTensor and Normalize.

    Operation by operation the same, hence bitwise equal; mean and std are [3, 1, 1].
    """
    return images.float().div_(255).sub_(mean).div_(std)


def _augmenting(recipe: Recipe) -> tuple[Technique, ...]:
    return tuple(t for t in recipe.techniques if fills(t, "augment"))


def _take(images: Tensor, chosen: Tensor) -> Tensor:
    """Images [B, C, H, W] by index, channels last (indexing the permuted view would lose the layout)."""
    return images.permute(0, 2, 3, 1)[chosen].permute(0, 3, 1, 2)
