"""From a plan to results in the store: what is missing is trained in fleets and logged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import fmean

from cifar_ablations.ablations import metrics, schema, stores
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plan import Plan
from cifar_ablations.ablations.record import GalleryRecord, PlanRecord, ProvenanceRecord
from cifar_ablations.ablations.stores import StoreError
from cifar_ablations.study.execution import gallery
from cifar_ablations.study.execution.events import Done, Elsewhere, Failed, Stalled, Started
from cifar_ablations.study.execution.fleets import TRAININGS, Listener, Progress, Trainer
from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.execution.pool import QUIET_SECONDS
from cifar_ablations.study.execution.shard import Shard
from cifar_ablations.study.store import outbox
from cifar_ablations.study.store.claims import Claims, process_in_words
from cifar_ablations.study.store.tracking import Store, this_process
from cifar_ablations.study.store.weights import Keeper
from cifar_ablations.study.training import checkpoint
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member


@dataclass(frozen=True)
class Invocation(Surroundings):
    """A plan with the profile, data, device and workers that it is run with."""

    plan: Plan
    keep_weights: str = field(default=schema.KEEP_NONE, kw_only=True)
    """The weights of which trainings to keep, one of `schema.KEEPS`."""
    shard: Shard | None = field(default=None, kw_only=True)
    """The share of its trainings that is trained here; None for all of them."""

    def record(self) -> PlanRecord:
        """The record of the plan, which is logged before the first training."""
        return self.plan.record(self.profile, self.data_record(), self.overrides, self.command)

    @property
    def measured(self) -> frozenset[str]:
        """The metrics of extensions that its claims are about, which earlier runs of its recipes may not have."""
        known = {name for name, metric in metrics.known().items() if metric.logged} - metrics.METRICS.keys()
        return frozenset(known & {claim.metric for claim in self.plan.claims})

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the plan, or the shard's of them. Raises AblateError for a shard that has none."""
        return self.plan.seeds if self.shard is None else self.shard.of(self.plan.seeds)

    def members(self, seeds: int | None = None) -> dict[Member, str]:
        """Every training of the plan, seeds outermost, with its arm's name. Arms of one recipe are one training.

        seeds: only those of the first so many.
        """
        members: dict[Member, str] = {}
        for seed in self.seeds[:seeds]:
            for arm in self.plan.arms:
                members.setdefault(Member(arm.recipe, seed + arm.seed_offset), arm.name)
        return members

    def check(self) -> None:
        """Raise AblateError for anything that would stop every training of an arm."""
        for arm in self.plan.arms:
            if self.keep_weights == schema.KEEP_BEST and not arm.recipe.sized.budget.validation_images:
                raise AblateError(
                    "the best weights are chosen by accuracy on validation images, and budget.validation_images is 0 "
                    f"in the arm {arm.name!r}; keep all weights, or set some aside"
                )
            self.check_recipe(arm.recipe)

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds after which it may be enough; the last is all of them."""
        return self.plan.rule.looks or (len(self.plan.seeds),)

    def missing(self, done: Iterable[tuple[str, int]], seeds: int | None = None) -> dict[Member, str]:
        """The trainings that have no result yet, of the first so many seeds where only those are asked for."""
        done = set(done)
        return {m: arm for m, arm in self.members(seeds).items() if (m.recipe.digest(), m.seed) not in done}


def run(
    invocation: Invocation,
    store: Store,
    facts: ProvenanceRecord,
    show: Callable[[Progress], None],
    stopped: Callable[[], bool] = lambda: False,
    enough: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train what the plan still misses and log it; the plan itself is logged first.

    Trainings that an earlier call left unfinished go on from their checkpoints, under new runs that hold all their
    epochs. On an error in a fleet the others go on; so do the trainings of a worker that died, or stood still longer
    than the invocation's patience has it, once, as after an interruption. When `stopped` says so, the trainings in
    flight are marked interrupted, what has ended stays, and KeyboardInterrupt is raised.

    Where several coordinators write to one store, each trains what no other has in hand, and waits for the rest.

    Where the plan has looks, `enough` is asked after each whether the later ones are needed.
    """
    with ExitStack() as stack:
        url = store.home.claims
        claims = stack.enter_context(Claims(url, this_process())) if url else None
        try:
            return _Call(invocation, store, facts, show, stopped, enough, claims).run()
        except BaseException:
            if claims and not _delivered(store, outbox.AFTER_STOPPED):
                claims.let_run_out()
            raise


class _Call:
    """One call of `run`."""

    def __init__(
        self,
        invocation: Invocation,
        store: Store,
        facts: ProvenanceRecord,
        show: Callable[[Progress], None],
        stopped: Callable[[], bool],
        enough: Callable[[], bool],
        claims: Claims | None,
    ):
        self._invocation, self._store, self._facts = invocation, store, facts
        self._stopped, self._enough, self._claims = stopped, enough, claims
        self._plan, self._folder = invocation.record(), store.home.checkpoints
        self._progress = Progress(TRAININGS)
        self._trainer = Trainer(invocation, self._folder, self._progress, show, stopped)
        self._log: _PlanLog | None = None
        self._done: set[tuple[str, int]] = set()
        """What the store had when it was last read."""
        self._read_seconds = 0.0

    def run(self) -> Progress:
        """All looks of the plan."""
        invocation, store = self._invocation, self._store
        try:
            for look in invocation.looks:
                self._read()
                checkpoint.clean(self._folder, invocation.data.digest, self._done)
                missing = invocation.missing(self._done, look)
                if not self._log and (missing or not store.invoked(self._plan.digest, invocation.data)):
                    self._log = _PlanLog(invocation, store, self._facts, self._progress, self._claims)
                if self._log and missing:
                    self._train(self._log, missing)
                if look < invocation.looks[-1]:  # what comes next is in the store
                    store.flush(outbox.AT_A_LOOK, self._stopped)
                if self._progress.failed or (look < invocation.looks[-1] and self._enough()):
                    break
        except BaseException:
            if self._log:
                self._log.interrupt()
            raise
        finally:
            self._trainer.close()
        if self._log:
            checkpoint.clean(self._folder, invocation.data.digest, self._done | self._log.ended)
            store.close_invocation(self._log.parent, len(self._progress.failed))
            if self._claims:
                store.flush()  # before they are given back
        return self._progress

    def _read(self) -> None:
        began = time.monotonic()
        measured = self._invocation.measured
        self._done = self._store.results(self._invocation.data, self._invocation.environment(), measured=measured)
        self._read_seconds = time.monotonic() - began

    def _train(self, log: _PlanLog, missing: Mapping[Member, str]) -> None:
        """Train these; what others have in hand is waited for, and trained where they give it up."""
        keep = self._invocation.keep_weights != schema.KEEP_NONE
        log.expect(missing)
        left = list(missing)
        while left:
            self._trainer.train(left, log, keep_weights=keep, claim=self._claim if self._claims else None)
            left = log.take_elsewhere()
            if left:
                left = self._wait(log, left)

    def _claim(self, members: tuple[Member, ...]) -> Collection[Member]:
        """Those of a fleet that nobody else has in hand, or has trained meanwhile."""
        assert self._claims is not None
        names = {self._name(member): member for member in members}
        ours = self._claims.take(names.keys())
        gone = {names[name]: who for name, who in self._claims.taken_over.items() if name in names}
        self._claims.taken_over.clear()
        news = self._claims.has_news()
        if gone or news:
            with _outages_passed(self._store):  # what is not known to be done is trained
                self._store.close_runs({(member.digest, member.seed): who for member, who in gone.items()})
                self._read()
        return [member for name, member in names.items() if name in ours and not self._is_done(member)]

    def _wait(self, log: _PlanLog, left: list[Member]) -> list[Member]:
        """Wait until others have given up some of these, which are returned, or have trained them all.

        Raises KeyboardInterrupt where the call is to stop.
        """
        assert self._claims is not None
        # Nothing is in hand here: what failed must not be waited for by one that is waited for.
        if _delivered(self._store, outbox.AT_A_LOOK, self._stopped):
            self._claims.release()
        names = {self._name(member): member for member in left}
        while True:
            held = self._claims.holders(names.keys())
            self._claims.has_news()
            known = False
            with _outages_passed(self._store):
                self._read()
                known = True
            ended = [name for name, member in names.items() if self._is_done(member)]
            log.trained_elsewhere([names.pop(name) for name in ended])
            free = [member for name, member in names.items() if name not in held] if known else []
            waiting = not free and names
            self._progress.waiting_for = sorted({process_in_words(one) for one in held.values()}) if waiting else []
            if not waiting:
                log.put_back([member for name, member in names.items() if name in held])
                return free
            until = time.monotonic() + max(LOOK_SECONDS, LOOKS_SHARE * self._read_seconds)
            while time.monotonic() < until:
                self._trainer.show()
                if self._stopped():
                    raise KeyboardInterrupt
                time.sleep(QUIET_SECONDS)

    def _is_done(self, member: Member) -> bool:
        return (member.digest, member.seed) in self._done

    def _name(self, member: Member) -> str:
        return claimed(self._invocation, self._store, member)


LOOK_SECONDS, LOOKS_SHARE = 2.0, 10.0
"""Between two looks at what others have trained: so long at least, and so many times what the last one took."""


def claimed(invocation: Invocation, store: Store, member: Member) -> str:
    """What a training is claimed by: all that makes it the same training, for the same store."""
    return f"{store.identity}/{invocation.data.digest}/{member.digest}/{member.seed}"


def _delivered(store: Store, patience: float, stopped: Callable[[], bool] = lambda: False) -> bool:
    """Whether all that was written is in the store, at the latest after so many seconds."""
    try:
        store.flush(patience, stopped)
    except (StoreError, KeyboardInterrupt):
        return False
    return True


@contextmanager
def _outages_passed(store: Store) -> Iterator[None]:
    """Within it, a store that does not answer for a while is left for the next time."""
    try:
        yield
    except Exception as error:
        if not stores.may_pass(error, served=not store.local):
            raise


def _gallery(invocation: Invocation) -> GalleryRecord:
    """Pictures of the networks' input, or why they could not be drawn: pictures must not keep a plan from its runs,
    and a technique that raises an error is reported by its own trainings, which leaves the others theirs.
    """
    seed = invocation.plan.seeds[0]
    try:
        return gallery.of_arms(invocation.plan.arms, seed, invocation.data)
    except Exception as error:
        return GalleryRecord(seed, error=f"{type(error).__name__}: {error}")


class _PlanLog(Listener):
    """The runs of one call in the store: the plan's own, which is opened here, and one for each training."""

    def __init__(
        self,
        invocation: Invocation,
        store: Store,
        facts: ProvenanceRecord,
        progress: Progress,
        claims: Claims | None = None,
    ):
        self._invocation, self._store, self._progress, self._claims = invocation, store, progress, claims
        self._plan, self._environment = invocation.record(), invocation.environment()
        self._experiment = store.experiment(invocation.plan.name, invocation.data)
        self.parent = store.open_invocation(self._experiment, self._plan, facts, _gallery(invocation))
        self._arms: dict[Member, str] = {}
        self._in_flight: dict[Member, str] = {}
        """The ids of the runs of trainings that have not ended."""
        self._reached: dict[Member, int] = {}
        """The epochs that each member has been counted with: a fleet that starts again tells them again."""
        self._standing = _Standing(invocation)
        self._keeper = Keeper(store, invocation.data, invocation.keep_weights)
        self._elsewhere: list[Member] = []
        self.ended: set[tuple[str, int]] = set()
        """(recipe digest, seed) of every training that has ended with a result in this call."""

    def expect(self, members: Mapping[Member, str]) -> None:
        """Add trainings, with their arms' names, to those that the progress counts."""
        self._arms.update(members)
        self._standing.expect(members.keys())
        behind = self._invocation.epochs_behind(self._store.home.checkpoints, members)
        self._reached.update(behind)
        self._progress.total += len(members)
        self._progress.epochs_total += sum(m.recipe.sized.budget.epochs - behind.get(m, 0) for m in members)

    def started(self, event: Started) -> None:
        for member in event.members:
            self._in_flight[member] = self._store.start(
                self._experiment,
                self.parent,
                self._arms[member],
                member,
                self._plan,
                self._environment,
            )

    def epoch(self, event: Epoch) -> None:
        self._store.epoch(self._in_flight[event.member], event)
        if event.epoch > self._reached.get(event.member, 0):
            self._reached[event.member] = event.epoch
            self._progress.epochs_done += 1

    def outcome(self, event: Outcome) -> None:
        run_id = self._in_flight.pop(event.member)
        if self._claims and not self._claims.holds(claimed(self._invocation, self._store, event.member)):
            # The database did not answer for so long that another coordinator has it now: it would count twice.
            self._store.interrupt(run_id)
            self._elsewhere.append(event.member)
            return
        self._keeper.keep(run_id, event)
        self._store.end(run_id, event)
        self._keeper.tidy()
        if event.outcome in schema.RESULTS:
            self._standing.add(event)
            self._progress.seeds_done = self._standing.seeds_done
            self._progress.leading = self._standing.leading
            self.ended.add((event.member.recipe.digest(), event.member.seed))
        self._progress.done += 1
        self._progress.diverged += event.outcome == schema.DIVERGED
        self._progress.epochs_done += event.member.recipe.sized.budget.epochs - event.epochs

    def done(self, event: Done) -> None:
        folder = self._store.home.checkpoints
        data, backend = self._invocation.data.digest, self._invocation.backend
        checkpoint.forget(checkpoint.path_of(folder, event.members, data, backend))

    def stalled(self, event: Stalled) -> None:
        for member in event.members:
            run_id = self._in_flight.pop(member)
            self._store.stall(run_id, event.why)
            self._store.interrupt(run_id)
        self._progress.add_stalled([self._name(member) for member in event.members], event.why)

    def failed(self, event: Failed) -> None:
        for member in event.members:
            if member in self._in_flight:
                self._store.fail(self._in_flight.pop(member), event.why)
                self._progress.failed[self._name(member)] = event.why

    def elsewhere(self, event: Elsewhere) -> None:
        self._elsewhere += event.members

    def take_elsewhere(self) -> list[Member]:
        """The members that were not trained here, since this was last asked."""
        taken, self._elsewhere = self._elsewhere, []
        return taken

    def put_back(self, members: Sequence[Member]) -> None:
        """Members that others still have in hand."""
        self._elsewhere += members

    def trained_elsewhere(self, members: Sequence[Member]) -> None:
        """Count members that others have trained as done."""
        for member in members:
            self._progress.done += 1
            self._progress.elsewhere += 1
            epochs = member.recipe.sized.budget.epochs - self._reached.get(member, 0)
            self._progress.epochs_done += epochs
            self._progress.epochs_elsewhere += epochs
            self._standing.leave_out(member)
        self._progress.seeds_done = self._standing.seeds_done

    def interrupt(self) -> None:
        """Mark every run that has not ended as interrupted."""
        for run_id in (*self._in_flight.values(), self.parent):
            self._store.interrupt(run_id)

    def _name(self, member: Member) -> str:
        return f"{self._arms[member]}, seed {member.seed}"


class _Standing:
    """How the arms of a plan stand, over the seeds that a call completes."""

    def __init__(self, invocation: Invocation):
        self.seeds_done = 0
        self.leading: tuple[str, float, int] | None = None
        """As in Progress: the arm with the highest mean, over the seeds of which this call has trained every arm."""
        self._seeds = [
            {arm.name: Member(arm.recipe, seed + arm.seed_offset) for arm in invocation.plan.arms}
            for seed in invocation.plan.seeds
        ]
        self._left: dict[int, int] = {}
        """By the place of a seed, how many of its trainings have not ended."""
        self._places: dict[Member, list[int]] = {}
        """The seeds that wait for a training."""
        self._whole: set[int] = set()
        """The seeds of which no training had a result before."""
        self._accuracies: dict[Member, float] = {}
        self._means: dict[str, list[float]] = {}

    def expect(self, members: Collection[Member]) -> None:
        """Add trainings that the call is to do."""
        asked = set(members)
        for place, seed in enumerate(self._seeds):
            own = set(seed.values())
            if missing := own & asked:
                self._left[place] = len(missing)
                for member in missing:
                    self._places.setdefault(member, []).append(place)
                self._whole |= {place} if missing == own else set()

    def add(self, event: Outcome) -> None:
        """Note the end of a training with a result."""
        self._accuracies[event.member] = event.metrics.get(schema.TEST_ACCURACY, math.nan)
        for place in self._places.pop(event.member, ()):
            self._left[place] -= 1
            if not self._left[place]:
                self._complete(place)

    def leave_out(self, member: Member) -> None:
        """Note that a training has ended elsewhere: its seeds are complete with it, and not this call's own."""
        for place in self._places.pop(member, ()):
            self._whole.discard(place)
            self._left[place] -= 1
            if not self._left[place]:
                self._complete(place)

    def _complete(self, place: int) -> None:
        self.seeds_done += 1
        if place not in self._whole:
            return
        for arm, member in self._seeds[place].items():
            self._means.setdefault(arm, []).append(self._accuracies[member])
        means = {arm: fmean(values) for arm, values in self._means.items()}
        known = {arm: mean for arm, mean in means.items() if not math.isnan(mean)}
        if len(known) > 1:
            best = max(known, key=lambda arm: known[arm])
            self.leading = best, known[best], len(self._means[best])
