"""Trains a fleet epoch by epoch, all members in lockstep, on one device.

It knows techniques only through their hooks. Within an epoch nothing is read back from the device; what is reported
comes over in one transfer at the epoch's end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.purposes import SPLIT
from cifar_ablations.ablations.technique import overrides
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import averaging, checkpoint, diagnostics, outcomes
from cifar_ablations.study.training.backend import TORCH, backend_of
from cifar_ablations.study.training.checkpoint import FleetRecord, MemberRecord
from cifar_ablations.study.training.evaluation import Evaluator
from cifar_ablations.study.training.events import Epoch, Outcome, Weights
from cifar_ablations.study.training.fleet import Fleet, Member, same_shape
from cifar_ablations.study.training.optimizer import FleetOptimizer, learning_rates
from cifar_ablations.study.training.randomness import permutation
from cifar_ablations.study.training.step import Stepper, tune


class Training:
    """A fleet in training: its images, its matrices, and the epochs and seconds it has behind it.

    Members are of one shape (`fleet.same_shape`), at a precision that is decided. The other arguments: as in `train`.
    """

    def __init__(
        self,
        members: Sequence[Member],
        data: Dataset,
        device: torch.device,
        evaluate_test: bool = True,
        tick: Callable[[], None] = lambda: None,
        backend: str = TORCH,
        keep_weights: bool = False,
    ):
        assert members[0].recipe.sized.budget.precision != "auto", "decided before a plan is made"
        assert len({same_shape(m.recipe) for m in members}) == 1, (
            "members of a fleet share network, budget and normalisation"
        )
        members = sorted(members, key=averaging.place)
        self.budget = members[0].recipe.sized.budget
        tune(device)
        self.data, self.device, self._evaluate_test, self._tick = data.to(device), device, evaluate_test, tick
        self._keep_weights = keep_weights
        self.epoch = 0
        self.seconds = 0.0
        self.fleet = Fleet(members, len(data.classes), device)
        rules = [m.recipe.update_rule() for m in members]
        rates = torch.stack([learning_rates(m.recipe) for m in members], dim=1)
        half = self.budget.precision == "bf16"
        self.optimizer = FleetOptimizer(self.fleet.weights, rules, rates, self.fleet.matrices, half)
        self.average = averaging.FleetAverage(self.fleet)
        self._backend_name = backend
        self._stepper = self._new_stepper()
        self._splits = {m.seed_of(SPLIT): split(len(data.train_labels), m, data.own_validation) for m in members}
        stepper = self._stepper
        self.evaluator = Evaluator(self.fleet, stepper.backend, self.data, self._splits, stepper.scales, tick)
        self._progress = {m: outcomes.Progress(self.evaluator.probe(row)) for row, m in enumerate(members)}

    def _new_stepper(self) -> Stepper:
        backend = backend_of(self._backend_name, self.fleet, self.device)
        return Stepper(self.fleet, backend, self.optimizer, self.average, self.data, self.device)

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
        events: list[Epoch | Outcome] = []
        with self._measured() if self.budget.validation_images else nullcontext():
            validation = self.evaluator.on_validation_images() if self.budget.validation_images else None
            self.epoch += 1
            self.seconds += (time.perf_counter() - began) / len(members)
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
                self._progress[member].history.append(metrics)
                self._progress[member].layers.append(by_layer[row])
                events.append(Epoch(member, self.epoch, metrics))
            diverged = [row for row in range(len(members)) if not (math.isfinite(loss[row] + weight_norm[row]))]
            stopped = [row for row in range(len(members)) if row not in diverged and self._stops(row)]
        names = diagnostics.layer_names(self.fleet)
        for row in diverged:
            events.append(outcomes.diverged(members[row], self._progress[members[row]], names, self.seconds))
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
        losses = [metrics[schema.VALIDATION_LOSS] for metrics in self._progress[member].history]
        decisions = [t.stop(losses) for t in stopping]
        if any(decision is not None for decision in decisions) and losses.index(min(losses)) == len(losses) - 1:
            state = self.fleet.state()
            self._progress[member].best = {name: matrix[row].clone() for name, matrix in state.items()}
        return any(decisions)

    def _leave(self, leaving: Sequence[int]) -> None:
        if not leaving:
            return
        staying = [row for row in range(len(self.fleet.members)) if row not in leaving]
        self.fleet.keep(staying)
        if staying:
            self.optimizer.keep(staying)
            self.average.keep(staying)
            self._stepper = self._new_stepper()
            self.evaluator.backend = self._stepper.backend

    def outcomes(self, rows: Iterable[int], outcome: str) -> list[Outcome]:
        """The outcomes of members, by row, on the test images if they are tested: the one time that those are read."""
        rows = list(rows)
        if not rows:
            return []
        with self._measured():
            for row in rows:
                for name, values in self._progress[self.fleet.members[row]].best.items():
                    self.fleet.state()[name][row].copy_(values)
            if self._evaluate_test:
                ended = outcomes.tested(self.evaluator, rows, self._progress, outcome, self.seconds)
            else:
                members = [self.fleet.members[row] for row in rows]
                ended = [outcomes.untested(m, self._progress[m], outcome, self.seconds) for m in members]
            if not self._keep_weights:
                return ended
            return [replace(one, weights=self._weights(row)) for row, one in zip(rows, ended, strict=True)]

    def _measured(self) -> AbstractContextManager[None]:
        """Within it, networks are as they are measured: with the averages of those members that have one."""
        return self.average.measured(self.evaluator.known_batches)

    def _weights(self, row: int) -> Weights:
        """Those that the outcome of a member is measured with."""
        member = self.fleet.members[row]
        progress, (mean, std) = self._progress[member], self.evaluator.scales[member]
        losses = [metrics.get(schema.VALIDATION_LOSS, math.nan) for metrics in progress.history]
        epoch = losses.index(min(losses)) if progress.best else -1
        state = self.fleet.networks[row].state_dict()
        return Weights(
            {name: values.cpu().contiguous().numpy().copy() for name, values in state.items()},
            mean.squeeze().tolist(),
            std.squeeze().tolist(),
            progress.history[epoch].get(schema.VALIDATION_ACCURACY, math.nan),
        )

    def copied(self) -> tuple[FleetRecord, dict[str, np.ndarray]]:
        """The fleet as it stands at the end of an epoch, for a file: copies, which training on does not change."""
        state = self.fleet.state() | self.optimizer.state()
        arrays = {name: matrix.to("cpu", copy=True).numpy() for name, matrix in state.items()}
        records = []
        for row, member in enumerate(self.fleet.members):
            progress = self._progress[member]
            if (average := self.average.of(row)) is not None:
                arrays[f"own.{row}.average"] = average.to("cpu", copy=True).numpy()
            for name, values in progress.best.items():
                arrays[f"own.{row}.best.{name}"] = values.to("cpu", copy=True).numpy()
            identity, history, layers = checkpoint.identity(member), list(progress.history), list(progress.layers)
            records.append(MemberRecord(identity, self.seconds, history, layers, member.extension))
        place = checkpoint.place(self.device, self._backend_name)
        return FleetRecord(epoch=self.epoch, data=self.data.digest, members=tuple(records), **place), arrays

    def go_on(self, saved: Mapping[checkpoint.Identity, checkpoint.Saved]) -> list[Epoch]:
        """Take up the members where they were saved; returns the epochs that they have behind them.

        Starts them all anew, and returns nothing, unless all were saved at the same epoch.
        """
        members = self.fleet.members
        state = self.fleet.state() | self.optimizer.state()
        taken = checkpoint.take(members, saved, {name: tuple(matrix.shape[1:]) for name, matrix in state.items()})
        if not taken or not all(self._has_average(row, arrays) for row, (_, arrays) in enumerate(taken)):
            return []
        for row, (member, (record, arrays)) in enumerate(zip(members, taken, strict=True)):
            for name, matrix in state.items():
                matrix[row] = torch.from_numpy(arrays[name]).to(self.device)
            if (average := self.average.of(row)) is not None:
                average.copy_(torch.from_numpy(arrays["average"]))
            best = {name.removeprefix("best."): values for name, values in arrays.items() if name.startswith("best.")}
            progress = self._progress[member]
            progress.history, progress.layers = list(record.history), list(record.layers)
            progress.best = {name: torch.from_numpy(values).to(self.device) for name, values in best.items()}
        self.epoch = len(self._progress[members[0]].history)
        self.seconds = max(record.seconds for record, _ in taken)
        return [
            Epoch(member, number, self._progress[member].history[number - 1], past=True)
            for number in range(1, self.epoch + 1)
            for member in members
        ]

    def _has_average(self, row: int, arrays: Mapping[str, np.ndarray]) -> bool:
        """Whether there is the average that a member needs among the arrays that were saved of it."""
        average = self.average.of(row)
        return average is None or ("average" in arrays and arrays["average"].shape == tuple(average.shape))

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


def split(size: int, member: Member, own: int = 0) -> tuple[Tensor, Tensor]:
    """Indices of a member's training and validation images, int64 on the CPU: the same for all arms of a seed.

    size: of the training set; own: how many validation images the data set brings, of which the same are looked at
    whatever the seed, at most as many as the budget has. Where it brings none, both are taken from one permutation,
    training images from its front and validation images from its back, so that a smaller budget's images are a subset
    of a larger one's. Raises AblateError if the data set is too small.
    """
    budget = member.recipe.sized.budget
    if own:
        if budget.train_images > size:
            raise AblateError(
                f"budget.train_images ({budget.train_images:,}) exceeds the {size:,} training images of this data set; "
                "lower it."
            )
        looked_at = permutation(own, "validation images")[: budget.validation_images].sort().values
        return permutation(size, member.seed_of(SPLIT), "split")[: budget.train_images], looked_at
    if budget.train_images + budget.validation_images > size:
        raise AblateError(
            f"budget.train_images ({budget.train_images:,}) and budget.validation_images "
            f"({budget.validation_images:,}) together exceed the {size:,} training images of this data set; "
            "lower one of them."
        )
    order = permutation(size, member.seed_of(SPLIT), "split")
    return order[: budget.train_images], order[size - budget.validation_images :]
