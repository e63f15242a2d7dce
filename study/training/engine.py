"""The training loop: a fleet of members, epoch by epoch, on one device.

It knows techniques only through their hooks, and neither MLflow nor Optuna. Within an epoch nothing is read back from
the device; what is reported comes over in one transfer at the epoch's end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import overrides
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import checkpoint, diagnostics, evaluation
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import permutation
from cifar_ablations.study.training.step import Stepper, autocast, normalize, take, tune

CLEAN_TRAIN_IMAGES = 10_000
"""Training accuracy without augmentation is measured on at most this many of a run's own training images."""


@dataclass(frozen=True)
class Epoch:
    """The end of one member's epoch (counted from 1), with metrics by their names in the store."""

    member: Member
    epoch: int
    metrics: dict[str, float]
    past: bool = False
    """It was trained before the fleet was taken up from a checkpoint, and is only reported again."""


@dataclass(frozen=True)
class Outcome:
    """The end of a member's training: finished, stopped early or diverged.

    metrics by their names in the store; details: arrays as `schema.DETAILS_FILE` has them.
    """

    member: Member
    outcome: str
    epochs: int
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoints:
    """The folder that fleets are saved in, and the fewest seconds between two times."""

    folder: Path
    seconds: float


def same_shape(recipe: Recipe) -> Sized:
    """The network and budget of a recipe, which all members of a fleet must share."""
    return recipe.sized


def train(
    members: Sequence[Member],
    data: Dataset,
    device: torch.device,
    report: Callable[[Epoch | Outcome], None],
    checkpoints: Checkpoints | None = None,
    until_epoch: int | None = None,
    evaluate_test: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Train all members, in lockstep; `report` gets each one's epochs as they end, and its outcome last.

    A member whose loss or weights are no longer finite at an epoch's end is reported as diverged and leaves; one that
    its recipe stops early leaves too. The results of a member do not depend on the others in the fleet (bitwise in
    fp32 on a CPU), nor on whether it was interrupted: with `checkpoints`, members that were saved there go on from
    their last epoch, their earlier ones are reported first, and all must have been saved at the same one.

    With `until_epoch`, members are saved after that epoch and left, and have no outcome yet. Without
    `evaluate_test` no test image is read: what is chosen on them is no longer measured by them.

    A fleet that does not fit into the GPU's memory is halved until it does, and its halves trained in turn.
    `tick` is called after every step and every batch that is evaluated, as a sign of life; it must cost nothing.
    """
    reported: dict[Member, int] = dict.fromkeys(members, 0)
    """The last epoch of members that have no outcome yet."""

    def report_once(event: Epoch | Outcome) -> None:
        if isinstance(event, Outcome):
            del reported[event.member]
        elif event.epoch <= reported[event.member]:
            return  # trained again after the fleet was halved
        else:
            reported[event.member] = event.epoch
        report(event)

    waiting = [list(members)]
    while waiting:
        fleet = [m for m in waiting.pop(0) if m in reported]
        work = partial(_train_together, fleet, data, device, report_once, checkpoints, until_epoch, evaluate_test, tick)
        if fleet and not _fits(work):
            if len(fleet) == 1:
                raise MemoryError(
                    f"one training of {fleet[0].recipe.sized.model} does not fit into the memory of {device}"
                )
            waiting = [fleet[: len(fleet) // 2], fleet[len(fleet) // 2 :], *waiting]


def _fits(work: Callable[[], None]) -> bool:
    try:
        work()
    except torch.OutOfMemoryError:
        fits = False
    else:
        return True
    # Only here has the exception let go of the frames that hold the fleet's memory.
    torch.cuda.empty_cache()
    return fits


def _train_together(
    members: Sequence[Member],
    data: Dataset,
    device: torch.device,
    report: Callable[[Epoch | Outcome], None],
    checkpoints: Checkpoints | None,
    until_epoch: int | None,
    evaluate_test: bool,
    tick: Callable[[], None],
) -> None:
    training = Training(members, data, device, evaluate_test, tick)
    path = None
    if checkpoints is not None:
        path = checkpoint.path_of(checkpoints.folder, members, data.digest)
        for past in training.go_on(checkpoint.find(checkpoints.folder, data.digest, device)):
            report(past)
    saved_at = time.perf_counter()
    last = training.budget.epochs if until_epoch is None else min(until_epoch, training.budget.epochs)
    while training.fleet.members and training.epoch < last:
        for event in training.run_epoch():
            report(event)
        if path is not None and checkpoints is not None and time.perf_counter() - saved_at >= checkpoints.seconds:
            training.save(path)
            saved_at = time.perf_counter()
    if last < training.budget.epochs:
        assert path is not None, "what is left in the middle must be saved"
        training.save(path)
        return
    for outcome in training.outcomes(range(len(training.fleet.members)), schema.FINISHED):
        report(outcome)


class Training:
    """A fleet in training: its images, its matrices, and the epochs and seconds it has behind it.

    Members share network and budget, at a precision that is decided. tick: as in `train`.
    """

    def __init__(
        self,
        members: Sequence[Member],
        data: Dataset,
        device: torch.device,
        evaluate_test: bool = True,
        tick: Callable[[], None] = lambda: None,
    ):
        assert members[0].recipe.sized.budget.precision != "auto", "decided before a plan is made"
        assert len({same_shape(m.recipe) for m in members}) == 1, "members of a fleet share network and budget"
        # Members whose rule is adaptive come first, as the optimizer wants them.
        members = sorted(members, key=lambda m: not m.recipe.update_rule().adaptive)
        self.budget = members[0].recipe.sized.budget
        tune(device)
        self.data, self.device, self._evaluate_test, self._tick = data.to(device), device, evaluate_test, tick
        self.epoch = 0
        self.seconds = 0.0
        self.fleet = Fleet(members, len(data.classes), device)
        rules = [m.recipe.update_rule() for m in members]
        rates = torch.stack([learning_rates(m.recipe) for m in members], dim=1)
        self.optimizer = FleetOptimizer(self.fleet.weights, rules, rates)
        self._stepper = Stepper(self.fleet, self.optimizer, self.data, device)
        self._splits = {m.seed: split(len(data.train_labels), m) for m in members}
        self._history: dict[Member, list[dict[str, float]]] = {m: [] for m in members}
        self._layers: dict[Member, list[list[list[float]]]] = {m: [] for m in members}
        self._initial = {member: self._probe(row) for row, member in enumerate(members)}
        # The state of the epoch with the lowest validation loss, of members that may stop early.
        self._best: dict[Member, dict[str, Tensor]] = {}

    def run_epoch(self) -> list[Epoch | Outcome]:
        """Train one epoch and validate: an Epoch per member, and an Outcome for those that diverged in it."""
        began = time.perf_counter()
        members = self.fleet.members
        steps = self.budget.steps_per_epoch
        self.fleet.train(True)
        self._stepper.begin(self.epoch, self._images())
        for step in range(steps):
            if step == steps - 1:
                before = self.fleet.weights.clone()
            self._stepper.run(step)
            self._tick()
        layers = diagnostics.by_layer(self.fleet, before)
        weight_norms = torch.linalg.vector_norm(self.fleet.weights, dim=1)
        update_ratios = torch.linalg.vector_norm(self.fleet.weights - before, dim=1) / weight_norms
        sums = [self._stepper.losses, self._stepper.norms, weight_norms.double(), update_ratios.double()]
        loss, norm, weight_norm, update_ratio = torch.stack(sums).cpu().tolist()
        took = time.perf_counter() - began
        validation = self._validate()
        self.epoch += 1
        self.seconds += (time.perf_counter() - began) / len(members)

        events: list[Epoch | Outcome] = []
        by_layer = layers.transpose(0, 1).cpu().tolist()
        for row, member in enumerate(members):
            metrics = {
                schema.TRAIN_LOSS: loss[row] / self.budget.train_images,
                schema.LEARNING_RATE: float(self.optimizer.rates[self.epoch * steps - 1, row]),
                schema.GRADIENT_NORM: norm[row] / steps,
                schema.WEIGHT_NORM: weight_norm[row],
                schema.UPDATE_RATIO: update_ratio[row],
                schema.IMAGES_PER_SECOND: len(members) * self.budget.train_images / took,
            }
            if validation:
                metrics[schema.VALIDATION_LOSS] = validation[row].loss
                metrics[schema.VALIDATION_ACCURACY] = validation[row].accuracy
            self._history[member].append(metrics)
            self._layers[member].append(by_layer[row])
            events.append(Epoch(member, self.epoch, metrics))
        diverged = [row for row in range(len(members)) if not (math.isfinite(loss[row] + weight_norm[row]))]
        stopped = [row for row in range(len(members)) if row not in diverged and self._stops(row)]
        events += [
            Outcome(
                members[row],
                schema.DIVERGED,
                self.epoch,
                {
                    schema.SECONDS: self.seconds,
                    schema.EPOCHS: float(self.epoch),
                    **diagnostics.of_probe(self._initial[members[row]], schema.INITIAL),
                },
                self._details(members[row]),
            )
            for row in diverged
        ]
        if self.epoch < self.budget.epochs:
            events += self.outcomes(stopped, schema.STOPPED)
            self._leave([*diverged, *stopped])
        else:
            self._leave(diverged)
        return events

    def _stops(self, row: int) -> bool:
        """Whether a member's recipe ends it now; its best state is put aside where that counts."""
        member = self.fleet.members[row]
        stopping = [t for t in member.recipe.techniques if overrides(t, "stop")]
        if not stopping or not self.budget.validation_images:
            return False
        losses = [metrics[schema.VALIDATION_LOSS] for metrics in self._history[member]]
        decisions = [t.stop(losses) for t in stopping]
        if any(decision is not None for decision in decisions) and losses.index(min(losses)) == len(losses) - 1:
            self._best[member] = {name: matrix[row].clone() for name, matrix in self.fleet.state().items()}
        return any(decisions)

    def _leave(self, leaving: Sequence[int]) -> None:
        if not leaving:
            return
        staying = [row for row in range(len(self.fleet.members)) if row not in leaving]
        self.fleet.keep(staying)
        if staying:
            self.optimizer.keep(staying)
            self._stepper = Stepper(self.fleet, self.optimizer, self.data, self.device)

    def outcomes(self, rows: Iterable[int], outcome: str) -> list[Outcome]:
        """The outcomes of members, by row, on the test images if they are tested: the one time that those are read."""
        rows = list(rows)
        if not rows:
            return []
        began = time.perf_counter()
        for row in rows:
            best = self._best.pop(self.fleet.members[row], {})
            for name, values in best.items():
                self.fleet.state()[name][row].copy_(values)
        if not self._evaluate_test:
            known_of_all = {schema.SECONDS: self.seconds, schema.EPOCHS: float(self.epoch)}
            return [Outcome(self.fleet.members[row], outcome, self.epoch, dict(known_of_all)) for row in rows]
        drawn = permutation(len(self.data.test_labels), "test images")[: self.budget.test_images]
        test = drawn.sort().values.to(self.device)
        members = [self.fleet.members[row] for row in rows]
        logits = evaluation.predict(
            self.fleet, rows, self.data.test_images, dict.fromkeys(self._splits, test), self._stepper.scales, self._tick
        )
        targets = self.data.test_labels[test]
        on_test = evaluation.scores(logits, [targets] * len(rows))
        known = {seed: train[:CLEAN_TRAIN_IMAGES] for seed, (train, _) in self._splits.items()}
        on_train = self._scores(rows, known)
        final = [self._probe(row) for row in rows]
        predictions = [diagnostics.of_predictions(of_member, targets) for of_member in logits]
        seconds = self.seconds + (time.perf_counter() - began) / len(rows)
        return [
            Outcome(
                member,
                outcome,
                self.epoch,
                {
                    schema.TEST_ACCURACY: tested.accuracy,
                    schema.TEST_LOSS: tested.loss,
                    schema.TRAIN_ACCURACY: trained.accuracy,
                    schema.GENERALISATION_GAP: trained.accuracy - tested.accuracy,
                    schema.SECONDS: seconds,
                    schema.EPOCHS: float(self.epoch),
                    schema.FIRST_EPOCH_LOSS: self._history[member][0][schema.TRAIN_LOSS],
                    **calibration,
                    **diagnostics.of_probe(self._initial[member], schema.INITIAL),
                    **diagnostics.of_probe(probed, schema.FINAL),
                },
                {
                    "correct": tested.correct,
                    "confusion": confusion,
                    **{schema.FINAL + name: values for name, values in probed.items()},
                    **self._details(member),
                },
            )
            for member, tested, trained, probed, (calibration, confusion) in zip(
                members, on_test, on_train, final, predictions, strict=True
            )
        ]

    def _probe(self, row: int) -> dict[str, np.ndarray]:
        """`diagnostics.probe` of a member's network, by row, on the first of its seed's training images."""
        member, network = self.fleet.members[row], self.fleet.networks[row]
        network.train(False)
        chosen = self._splits[member.seed][0][: diagnostics.PROBE_IMAGES].to(self.device)
        images = normalize(take(self.data.train_images, chosen), *self._stepper.scales[member])
        with autocast(self.budget.precision, self.device):
            return diagnostics.probe(network, images, self.data.train_labels[chosen])

    def _details(self, member: Member) -> dict[str, np.ndarray]:
        names = diagnostics.layer_names(self.fleet)
        return diagnostics.as_arrays(names, self._layers[member], self._initial[member])

    def save(self, path: Path) -> None:
        """Write the fleet as it stands at the end of an epoch."""
        if not self.fleet.members:
            return
        state = self.fleet.state() | self.optimizer.state()
        arrays = {name: matrix.cpu().numpy() for name, matrix in state.items()}
        for row, member in enumerate(self.fleet.members):
            for name, values in self._best.get(member, {}).items():
                arrays[f"own.{row}.best.{name}"] = values.cpu().numpy()
        about = [
            {"seconds": self.seconds, "history": self._history[m], "layers": self._layers[m]}
            for m in self.fleet.members
        ]
        meta = {"epoch": self.epoch, "data": self.data.digest, **checkpoint.place(self.device)}
        checkpoint.save(path, meta, arrays, self.fleet.members, about)

    def go_on(self, saved: Mapping[checkpoint.Identity, checkpoint.Saved]) -> list[Epoch]:
        """Take up the members where they were saved; returns the epochs that they have behind them.

        Starts them all anew, and returns nothing, unless all were saved at the same epoch.
        """
        members = self.fleet.members
        found = [saved.get(checkpoint.identity(m)) for m in members]
        known = [f for f in found if f is not None]
        if len(known) < len(members) or len({f.epoch for f in known}) > 1:
            return []
        try:
            files = {path: checkpoint.read(path) for path in {f.path for f in known}}
            rows = [f.take(files[f.path]) for f in known]
        except checkpoint.READ_ERRORS:
            return []
        state = self.fleet.state() | self.optimizer.state()
        if any(row[name].shape != matrix[0].shape for row in rows for name, matrix in state.items()):
            return []
        for index, (member, row, where) in enumerate(zip(members, rows, known, strict=True)):
            for name, matrix in state.items():
                matrix[index] = torch.from_numpy(row[name]).to(self.device)
            best = {name.removeprefix("best."): row[name] for name in row if name.startswith("best.")}
            if best:
                self._best[member] = {name: torch.from_numpy(v).to(self.device) for name, v in best.items()}
            self._history[member] = [dict(metrics) for metrics in where.about["history"]]
            self._layers[member] = list(where.about["layers"])
        self.epoch = known[0].epoch
        self.seconds = max(f.about["seconds"] for f in known)
        return [
            Epoch(member, number, metrics, past=True)
            for number in range(1, self.epoch + 1)
            for member in members
            for metrics in [self._history[member][number - 1]]
        ]

    def time_steps(self, count: int) -> float:
        """Seconds that one step of the whole fleet takes: the median of `count` after two to warm up. Trains on."""
        self.fleet.train(True)
        durations = []
        full = max(1, self.budget.train_images // self.budget.batch_size)
        for step in range(count + 2):
            if step % full == 0:
                self._stepper.begin(0, self._images())
            began = time.perf_counter()
            self._stepper.run(step % full)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            durations.append(time.perf_counter() - began)
        return float(np.median(durations[2:]))

    def _images(self) -> dict[int, Tensor]:
        return {seed: train for seed, (train, _) in self._splits.items()}

    def _validate(self) -> list[evaluation.Score] | None:
        if not self.budget.validation_images:
            return None
        held_out = {seed: validation for seed, (_, validation) in self._splits.items()}
        return self._scores(range(len(self.fleet.members)), held_out)

    def _scores(self, rows: Sequence[int], chosen: Mapping[int, Tensor]) -> list[evaluation.Score]:
        """Scores of members, by row, on the training images that are chosen for their seeds, int64 [N] on the CPU."""
        logits = evaluation.predict(self.fleet, rows, self.data.train_images, chosen, self._stepper.scales, self._tick)
        targets = [self.data.train_labels[chosen[self.fleet.members[row].seed].to(self.device)] for row in rows]
        return evaluation.scores(logits, targets)


def split(size: int, member: Member) -> tuple[Tensor, Tensor]:
    """Indices of a member's training and validation images, int64 on the CPU: the same for all arms of a seed.

    Both are taken from one permutation, training images from its front and validation images from its back, so that a
    smaller budget's images are a subset of a larger one's. Raises AblateError if the data set is too small for both.
    """
    budget = member.recipe.sized.budget
    if budget.train_images + budget.validation_images > size:
        raise AblateError(
            f"budget.train_images ({budget.train_images:,}) and budget.validation_images "
            f"({budget.validation_images:,}) together exceed the {size:,} training images of this data set; "
            "lower one of them."
        )
    order = permutation(size, member.seed, "split")
    return order[: budget.train_images], order[size - budget.validation_images :]


def learning_rates(recipe: Recipe) -> Tensor:
    """The learning rate at every step of a training, float64 [steps]."""
    budget = recipe.sized.budget
    rates = torch.full((budget.epochs * budget.steps_per_epoch,), recipe.update_rule().rate, dtype=torch.float64)
    for technique in recipe.techniques:
        factors = technique.schedule(budget.epochs, budget.steps_per_epoch)
        if factors is not None:
            rates *= factors
    return rates
