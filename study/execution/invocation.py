"""The parts that invocations of plans and of searches share: profile, data, device, workers and command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import DataRecord, EnvironmentRecord
from cifar_ablations.ablations.technique import overrides
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.pool import PATIENCE, Patience, WorkerPool
from cifar_ablations.study.execution.workers import THREADS, local_pool
from cifar_ablations.study.store.provenance import environment
from cifar_ablations.study.training import checkpoint, model
from cifar_ablations.study.training.backend import TORCH
from cifar_ablations.study.training.engine import split
from cifar_ablations.study.training.fleet import Member

LOCAL, RAY = EXECUTORS = ("local", "ray")
"""Worker processes on this machine; tasks on the Ray cluster that this process is connected to."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """All of an invocation but its plan or search."""

    profile: Profile
    data: Dataset
    device: torch.device
    workers: int
    executor: str = LOCAL
    """Who its workers are: one of EXECUTORS."""
    backend: str = TORCH
    """What computes its trainings, one of `training.backend`'s."""
    overrides: tuple[str, ...] = ()
    """Changes of the notebook's recipe."""
    command: str = ""
    """The command as it was typed."""
    patience: Patience = PATIENCE
    save_every: float = 20.0
    """The fewest seconds between two checkpoints of a fleet."""

    def data_record(self) -> DataRecord:
        """The record of the data set that is logged."""
        data = self.data
        return DataRecord(data.name, data.digest, data.source, data.stand_in, tuple(data.classes))

    def environment(self) -> EnvironmentRecord:
        """Where and how its trainings are computed."""
        return environment(self.device, THREADS, self.backend)

    def pool(self) -> WorkerPool[Any]:
        """The workers that train for it."""
        folder, known = self.data.folder, extensions.known()
        assert folder is not None, "workers open the data set from its folder"
        if self.executor == RAY:
            from cifar_ablations.study.execution.on_ray import RayTasks

            tasks = RayTasks(
                folder, self.data.digest, self.device, self.workers, self.backend, known, self.environment()
            )
            return WorkerPool(tasks, self.workers, self.patience)
        return local_pool(folder, str(self.device), self.workers, self.patience, self.backend, known)

    def epochs_behind(self, folder: Path, members: Iterable[Member]) -> dict[Member, int]:
        """The members with a checkpoint in the folder that they can go on from, and after how many epochs it is."""
        saved = checkpoint.find(folder, self.data.digest, self.device, self.backend)
        places = ((member, saved.get(checkpoint.identity(member))) for member in members)
        return {member: place.epoch for member, place in places if place and place.suits(member)}

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise AblateError for anything that would stop every training of the recipe on the data."""
        for technique in recipe.techniques:
            if overrides(technique, "stop") and not technique.is_off and not recipe.sized.budget.validation_images:
                raise AblateError(
                    f"{technique.name} watches the loss on validation images, and budget.validation_images is 0 here; "
                    f"set {technique.name}=off, or choose a plan that holds some out"
                )
        for technique in recipe.techniques:
            if technique.mirrors and not self.data.mirror_safe:
                flip = f"{technique.name}.flip=0, or " if "flip" in technique.knobs() else ""
                raise AblateError(
                    f"{technique.name} mirrors images, and {self.data.name} declares that this changes their labels "
                    f"(mirror_safe = false); set {flip}{technique.name}=off"
                )
        model.check(recipe, len(self.data.classes))
        split(len(self.data.train_labels), Member(recipe, 0), self.data.own_validation)
