"""From a plan to results in the store: what is missing is packed into fleets, trained and logged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plan import Plan
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import (
    DataRecord,
    EnvironmentRecord,
    GalleryRecord,
    PlanRecord,
    ProvenanceRecord,
)
from cifar_ablations.ablations.technique import overrides
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution import gallery
from cifar_ablations.study.execution.sizing import fleet_size
from cifar_ablations.study.execution.workers import (
    PATIENCE,
    Crew,
    Done,
    Failed,
    Patience,
    Stalled,
    Started,
    threads_each,
)
from cifar_ablations.study.store.provenance import environment
from cifar_ablations.study.store.tracking import Store
from cifar_ablations.study.training import checkpoint, model
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome, Training, same_shape, split
from cifar_ablations.study.training.fleet import Member


@dataclass(frozen=True)
class Invocation:
    """A plan with all that surrounds it: size, data, place, and how it was asked for."""

    plan: Plan
    profile: Profile
    data: Dataset
    device: torch.device
    workers: int
    overrides: tuple[str, ...] = ()
    command: str = ""

    def record(self) -> PlanRecord:
        """What is logged before the first training."""
        return self.plan.record(self.profile, data_record(self.data), self.overrides, self.command)

    def environment(self) -> EnvironmentRecord:
        """Where and how its trainings are computed."""
        return environment(self.device, threads_each(self.workers) or torch.get_num_threads())

    def members(self) -> dict[Member, str]:
        """Every training of the plan, seeds outermost, with its arm's name. Arms of one recipe are one training."""
        return self._members(len(self.plan.seeds))

    def _members(self, seeds: int) -> dict[Member, str]:
        members: dict[Member, str] = {}
        for seed in self.plan.seeds[:seeds]:
            for arm in self.plan.arms:
                members.setdefault(Member(arm.recipe, seed + arm.seed_offset), arm.name)
        return members

    def check(self) -> None:
        """Raise AblateError for anything that no training of the plan could get past."""
        for arm in self.plan.arms:
            check_recipe(arm.recipe, self.data)

    def fleet_size(self, members: Sequence[Member]) -> int:
        """How many members are trained in lockstep at most, tried out on the first one's network where it matters."""
        return fleet_size(members[0].recipe, self.data, self.device) if members else 1

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds after which it may be enough; the last is all of them."""
        return self.plan.rule.looks or (len(self.plan.seeds),)

    def missing(self, done: Iterable[tuple[str, int]], seeds: int | None = None) -> dict[Member, str]:
        """The trainings that have no result yet, of the first so many seeds where only those are asked for."""
        done = set(done)
        members = self._members(len(self.plan.seeds) if seeds is None else seeds)
        return {m: arm for m, arm in members.items() if (m.recipe.digest(), m.seed) not in done}


def data_record(data: Dataset) -> DataRecord:
    """What plans and searches log of their data."""
    return DataRecord(data.name, data.digest, data.source, data.stand_in, tuple(data.classes))


def check_recipe(recipe: Recipe, data: Dataset) -> None:
    """Raise AblateError for anything that no training of the recipe on the data could get past."""
    _check_validation(recipe)
    _check_mirroring(recipe, data)
    model.check(recipe, len(data.classes))
    split(len(data.train_labels), Member(recipe, 0))


def _check_validation(recipe: Recipe) -> None:
    for technique in recipe.techniques:
        if overrides(technique, "stop") and not technique.is_off and not recipe.sized.budget.validation_images:
            raise AblateError(
                f"{technique.name} watches the loss on validation images, and budget.validation_images is 0 here; "
                f"set {technique.name}=off, or choose a plan that holds some out"
            )


def _check_mirroring(recipe: Recipe, data: Dataset) -> None:
    for technique in recipe.techniques:
        if technique.mirrors and not data.mirror_safe:
            raise AblateError(
                f"{technique.name} mirrors images, and {data.name} declares that this changes their labels "
                f"(mirror_safe = false); set {technique.name}.flip=0, or {technique.name}=off"
            )


@dataclass
class Progress:
    """How far a run of a plan has come; handed to whoever shows it after every event."""

    epochs_total: int = 0
    epochs_done: int = 0
    trainings_total: int = 0
    finished: int = 0
    diverged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Names of the trainings that raised an error, or stood still twice, and why."""
    stalled: list[str] = field(default_factory=list)
    """A sentence for each fleet whose worker stood still and was ended: who goes on with another one, and why."""


def run(
    invocation: Invocation,
    store: Store,
    facts: ProvenanceRecord,
    show: Callable[[Progress], None],
    stopped: Callable[[], bool] = lambda: False,
    save_every: float = 20.0,
    enough: Callable[[], bool] = lambda: False,
    patience: Patience = PATIENCE,
) -> Progress:
    """Train what the plan still misses and log it; the plan itself is logged first.

    Trainings that an earlier call left unfinished go on from their checkpoints, under new runs that hold all their
    epochs; fleets are saved at most every `save_every` seconds. On an error in a fleet the others go on; so do the
    trainings of a worker that stood still longer than `patience` has it, once, as after an interruption. When `stopped`
    says so, the trainings in flight are marked interrupted, what has ended stays, and KeyboardInterrupt is raised.

    Where the plan has looks, `enough` is asked after each whether the later ones are needed.
    """
    plan, here = invocation.record(), invocation.environment()
    progress = Progress()
    parent = experiment = ""
    assert invocation.data.folder is not None, "workers open the data set from its folder"
    crew = Crew(invocation.data.folder, str(invocation.device), invocation.workers, patience)
    try:
        for look in invocation.looks:
            done = store.results(invocation.data, here)
            checkpoint.clean(store.home.checkpoints, invocation.data.digest, done)
            missing = invocation.missing(done, look)
            if not parent and (missing or not store.invoked(plan.digest, invocation.data)):
                experiment = store.experiment(invocation.plan.name, invocation.data)
                parent = store.open_invocation(experiment, plan, facts, _gallery(invocation))
            if missing:
                place = Place(store, experiment, parent, plan, here)
                _train(invocation, missing, place, crew, progress, show, stopped, save_every)
            if progress.failed or (look < invocation.looks[-1] and enough()):
                break
    except BaseException:
        if parent:
            store.interrupt(parent)
        raise
    finally:
        crew.close()
    if parent:
        checkpoint.clean(store.home.checkpoints, invocation.data.digest, store.results(invocation.data, here))
        store.close_invocation(parent, len(progress.failed))
    return progress


def _gallery(invocation: Invocation) -> GalleryRecord:
    """What the plan's networks will see, or why that could not be drawn: pictures must not keep a plan from its runs,
    and a technique that raises an error is reported by its own trainings, which leaves the others theirs.
    """
    seed = invocation.plan.seeds[0]
    try:
        return gallery.of_arms(invocation.plan.arms, seed, invocation.data)
    except Exception as error:
        return GalleryRecord(seed, error=f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Place:
    """Where an invocation's runs are logged, and what all of them say of themselves."""

    store: Store
    experiment: str
    parent: str
    plan: PlanRecord
    environment: EnvironmentRecord


def _train(
    invocation: Invocation,
    members: dict[Member, str],
    place: Place,
    crew: Crew,
    progress: Progress,
    show: Callable[[Progress], None],
    stopped: Callable[[], bool],
    save_every: float,
) -> None:
    """Train members and log what they do; adds to the progress."""
    store, folder = place.store, place.store.home.checkpoints
    behind = epochs_behind(invocation, folder, members)
    progress.epochs_total += sum(m.recipe.sized.budget.epochs - behind.get(m, 0) for m in members)
    progress.trainings_total += len(members)
    in_flight: dict[Member, str] = {}
    reached = dict(behind)
    """The epochs that each member has been counted with: a fleet that starts again tells them again."""
    fleets = pack(list(members), invocation.workers, invocation.fleet_size(list(members)), behind)
    events = crew.train(fleets, Checkpoints(folder, save_every))
    try:
        for event in events:
            if isinstance(event, Started):
                for member in event.members:
                    in_flight[member] = store.start(
                        place.experiment, place.parent, members[member], member, place.plan, invocation.data,
                        place.environment,
                    )  # fmt: skip
            elif isinstance(event, Epoch):
                store.epoch(in_flight[event.member], event)
                if event.epoch > reached.get(event.member, 0):
                    reached[event.member] = event.epoch
                    progress.epochs_done += 1
            elif isinstance(event, Outcome):
                store.end(in_flight.pop(event.member), event)
                progress.finished += 1
                progress.diverged += event.outcome == schema.DIVERGED
                progress.epochs_done += event.member.recipe.sized.budget.epochs - event.epochs
            elif isinstance(event, Done):
                checkpoint.forget(checkpoint.path_of(folder, event.members, invocation.data.digest))
            elif isinstance(event, Stalled):
                for member in event.members:
                    run_id = in_flight.pop(member)
                    store.stall(run_id, event.why)
                    store.interrupt(run_id)
                names = [_name(members, member) for member in event.members]
                progress.stalled.append(f"{enumerated(names)}: {event.why}, and another goes on")
            elif isinstance(event, Failed):
                for member in event.members:
                    if member in in_flight:
                        store.fail(in_flight.pop(member), event.why)
                        progress.failed[_name(members, member)] = event.why
            show(progress)
            if stopped():
                raise KeyboardInterrupt
    except BaseException:
        events.close()
        for run_id in in_flight.values():
            store.interrupt(run_id)
        raise


def _name(arms: Mapping[Member, str], member: Member) -> str:
    return f"{arms[member]}, seed {member.seed}"


def enumerated(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def epochs_behind(invocation: Invocation, folder: Path, members: Iterable[Member]) -> dict[Member, int]:
    """The members that an earlier call left in the middle, and after how many epochs they can go on."""
    saved = checkpoint.find(folder, invocation.data.digest, invocation.device)
    return {m: saved[checkpoint.identity(m)].epoch for m in members if checkpoint.identity(m) in saved}


def pack(
    members: Sequence[Member], workers: int, size: int, behind: Mapping[Member, int] | None = None
) -> list[list[Member]]:
    """Members in fleets of at most `size` that share network and budget, in order.

    Those that have epochs behind them share a fleet only with others that have as many.
    The number of fleets is a multiple of the workers where it can be, and fleets are about equal, so that no worker
    waits for another at the end.
    """
    by_shape: dict[tuple[Sized, int], list[Member]] = {}
    for member in members:
        by_shape.setdefault((same_shape(member.recipe), (behind or {}).get(member, 0)), []).append(member)
    fleets = []
    for group in by_shape.values():
        rounds = -(-len(group) // (workers * size))
        count = min(rounds * workers, len(group))
        bounds = [len(group) * i // count for i in range(count + 1)]
        fleets += [group[a:b] for a, b in pairwise(bounds)]
    return fleets


def estimated_seconds(invocation: Invocation, members: Sequence[Member], steps: int = 5) -> float:
    """About how long the trainings will take, from a few timed steps of the first fleet, run here and thrown away."""
    if not members:
        return 0.0
    fleet = pack(members, invocation.workers, invocation.fleet_size(members))[0]
    return _estimated(fleet, members, invocation.data, invocation.device, invocation.workers, steps)


def estimated_seconds_of(recipes: Sequence[Recipe], data: Dataset, device: torch.device, workers: int) -> float:
    """About how long one training of each recipe takes together, as `estimated_seconds` has it."""
    members = [Member(recipe, seed) for seed, recipe in enumerate(recipes)]
    fleet = pack(members, workers, fleet_size(recipes[0], data, device))[0]
    return _estimated(fleet, members, data, device, workers, steps=5)


def _estimated(
    fleet: Sequence[Member], members: Sequence[Member], data: Dataset, device: torch.device, workers: int, steps: int
) -> float:
    threads = torch.get_num_threads()
    if device.type == "cpu" and workers > 1:
        torch.set_num_threads(1)
    try:
        seconds = Training(fleet, data, device).time_steps(steps)
    finally:
        torch.set_num_threads(threads)
    per_image = seconds / (len(fleet) * fleet[0].recipe.sized.budget.batch_size)
    return sum(_images(m) for m in members) * per_image / workers


def _images(member: Member) -> float:
    """A training's work in training images: looking at one without learning from it is a third of that."""
    budget = member.recipe.sized.budget
    looked_at = budget.epochs * budget.validation_images + budget.test_images + min(budget.train_images, 10_000)
    return budget.epochs * budget.train_images + looked_at / 3
