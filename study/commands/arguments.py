"""Turns the arguments of a command into an invocation. Every mistake is an AblateError in a sentence."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cifar_ablations.ablations import catalog, extensions, profiles, schema
from cifar_ablations.ablations.designs import BEST_RATES
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import EXACT, check_range, did_you_mean, shown
from cifar_ablations.ablations.plan import LOOKS, Plan, with_looks
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.study.commands.baseline import adopted_recipe, baseline_recipe, overrides_of, settings_named
from cifar_ablations.study.data.dataset import Dataset, load
from cifar_ablations.study.data.typed import option
from cifar_ablations.study.execution.backends import AUTO, check_name, choose_backend
from cifar_ablations.study.execution.invocation import EXECUTORS, LOCAL, RAY, Surroundings
from cifar_ablations.study.execution.runner import Invocation
from cifar_ablations.study.execution.shard import Shard
from cifar_ablations.study.execution.workers import THREADS, default_workers
from cifar_ablations.study.search.invocation import SearchInvocation, recipes_of
from cifar_ablations.study.search.optuna_study import check_names
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.weights import check_choice

SMOKE_TRIALS = 4
"""Trials of each study in the smoke profile, which asks no more than whether everything works."""
MOST_WORKERS, MOST_SEEDS, MOST_TRIALS = 1_024, 10_000, 100_000
"""What may be asked for; far more than anybody has waited for."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options that plans and searches share on the command line; None stands for the default."""

    profile: str | None = None
    baseline: str | None = None
    """An adopted recipe, by name or file."""
    settings: tuple[str, ...] = ()
    """Changes of the baseline, as `object.field=value`."""
    data: str | None = None
    device: str | None = None
    workers: int | None = None
    backend: str = AUTO
    executor: str = LOCAL
    address: str | None = None
    """Of the Ray cluster; None for one that is started here."""

    def place(self) -> tuple[torch.device, Profile, int]:
        """The device, the profile and the number of worker processes. Raises AblateError for impossible ones."""
        device = _device(self.device)
        profile = profiles.profile(self.profile or ("full" if device.type == "cuda" else "quick"))
        if self.workers is not None:
            check_range("--workers", self.workers, 1, MOST_WORKERS)
        check_name(self.backend)
        if self.executor not in EXECUTORS:
            raise AblateError(f"no executor {shown(self.executor)}{did_you_mean(self.executor, EXECUTORS)}")
        if self.executor == RAY:
            from cifar_ablations.study.execution.on_ray import connect

            return device, profile, connect(self.address, self.workers, device)
        if self.address is not None:
            raise AblateError("--address names a Ray cluster; give --executor ray with it")
        return device, profile, self.workers or default_workers(device)

    def where(self) -> str:
        """The options that say on which data and where it is trained, with a space before: no plan records them."""
        words = {"--device": self.device, "--workers": self.workers}
        words["--backend"] = None if self.backend == AUTO else self.backend
        words["--executor"] = None if self.executor == LOCAL else self.executor
        words["--address"] = self.address
        place = "".join(f" {name} {value}" for name, value in words.items() if value is not None)
        return f"{option(self.data)}{place}"

    def _ending(self) -> str:
        """The words of the command that give baseline, settings and the extensions that were named."""
        words = ["--baseline", self.baseline] if self.baseline is not None else []
        for setting in self.settings:
            words += ["--set", setting]
        for folder in extensions.named():
            words += ["--extensions", shlex.quote(_beside(folder))]
        return "".join(f" {word}" for word in words)


@dataclass(frozen=True)
class BestRates:
    """What the search `arms` found."""

    by_arm: Mapping[str, float]
    """The best learning rate of each arm of the plan `techniques`, as `designs.by_recipe` names them."""
    trials: int
    """Of each arm."""
    seeds: tuple[int, ...]
    """Those that chose the rates."""
    digest: str
    """The search's."""


@dataclass(frozen=True)
class PlanRequest(Request):
    """A plan as the command line asks for it."""

    plan: str
    seeds: str | None = None
    """A number, or one of LOOKS."""
    first_seed: int = 0
    lock: Path | None = None
    """A file: of `ablate plan` to be written, of `ablate run` to be kept to."""
    minutes: float | None = None
    """A time in place of a number of seeds, which `choose` turns into one."""
    retune: bool = False
    """Whether each arm is to be trained at its best learning rate too."""
    trials: int | None = None
    """Of each arm in the search for these rates; None for as many as the search says."""
    best: BestRates | None = None
    """The rates, once they are known."""
    keep_weights: str = schema.KEEP_NONE
    """One of `schema.KEEPS`."""
    shard: Shard | None = None
    """The share of its trainings that is asked for; None for all."""

    def where(self) -> str:
        keep = "" if self.keep_weights == schema.KEEP_NONE else f" --keep-weights {self.keep_weights}"
        return super().where() + keep + (f" --shard {self.shard}" if self.shard else "")

    def command(self, profile: str, seeds: str) -> str:
        """The command that asks for the same, with this profile and these seeds."""
        first = f" --first-seed {self.first_seed}" if self.first_seed else ""
        trials = self.best.trials if self.best else self.trials
        retune = " --retune" * self.retune + (f" --trials {trials}" if trials is not None else "")
        return f"ablate run {self.plan} --profile {profile} --seeds {seeds}{first}{retune}{self._ending()}"


@dataclass(frozen=True)
class SearchRequest(Request):
    """A search as the command line asks for it."""

    search: str
    trials: int | None = None
    """Of each study; None for as many as the search says."""
    sampler: str = "tpe"
    pruner: str = "halving"
    seed: int = 0
    seeds_per_trial: int = 1
    pareto: bool = False

    def command(self, profile: str, trials: int) -> str:
        """The command that asks for the same, with this profile and this many trials."""
        words = f"ablate tune {self.search} --profile {profile} --trials {trials}"
        words += f" --sampler {self.sampler} --pruner {self.pruner} --seed {self.seed}"
        words += f" --seeds-per-trial {self.seeds_per_trial}" if self.seeds_per_trial > 1 else ""
        return words + " --pareto" * self.pareto + self._ending()


def plan_invocation(
    home: Home, request: PlanRequest, say: Callable[[str], None], data: Dataset | None = None
) -> Invocation:
    """What is asked for, its data loaded. Raises AblateError, in a sentence, for what cannot be.

    data: those that are asked for, where they have been loaded before. Minutes must have become a number of seeds.
    """
    assert request.minutes is None, request
    if request.shard is not None and request.retune:
        raise AblateError("--shard: the search of --retune is one, and cannot be shared out; leave one of the two out")
    check_choice(request.keep_weights)
    catalog.plan_module(request.plan)
    device, profile, _ = request.place()
    count, looks = _seeds(request.seeds, profile.seeds)
    if request.shard is not None and looks is not None:
        raise AblateError(f"--shard shares out the seeds that a plan has, and --seeds {looks} looks how many it needs")
    check_range("--first-seed", request.first_seed, 0, EXACT)
    adopted = adopted_recipe(home, request.baseline)
    recipe = baseline_recipe(profile, adopted, request.settings, device, request.backend)
    seeds = tuple(range(request.first_seed, request.first_seed + count))
    best, retuned = request.best, adopted.record.retuned if adopted else {}
    plan = catalog.make_plan(request.plan, recipe, profile, seeds, retuned, best.by_arm if best else {})
    if looks is not None:
        plan = with_looks(plan, looks)
    if request.shard is not None:
        request.shard.of(plan.seeds)  # before anything is loaded or stored
    if adopted:
        _check_seeds(plan.seeds, f"the recipe {adopted.name!r}", adopted.seeds)
    if best:
        _check_seeds(plan.seeds, "each arm's best rate", best.seeds)
    overrides = (*overrides_of(adopted, request.settings), *([f"{BEST_RATES} ({best.digest[:6]})"] if best else []))
    command = request.command(profile.name, looks or str(count))
    keep = request.keep_weights
    return invocation_of(home, request, plan, say, data, overrides, command, keep_weights=keep, shard=request.shard)


def invocation_of(
    home: Home,
    request: Request,
    plan: Plan,
    say: Callable[[str], None],
    data: Dataset | None = None,
    overrides: tuple[str, ...] = (),
    command: str = "",
    profile: Profile | None = None,
    keep_weights: str = schema.KEEP_NONE,
    shard: Shard | None = None,
) -> Invocation:
    """A plan with where it is carried out, its data loaded. Raises AblateError, in a sentence, for what cannot be.

    data: those that are asked for, where they have been loaded before; overrides, command: as of `Surroundings`;
    profile: in place of that which is asked for; keep_weights: one of `schema.KEEPS`; shard: of `Invocation`.
    """
    device, asked, workers = request.place()
    invocation = Invocation(
        plan,
        keep_weights=keep_weights,
        shard=shard,
        profile=profile or asked,
        data=data or load(request.data, home.data, say=say),
        device=device,
        workers=workers,
        executor=request.executor,
        overrides=overrides,
        command=command,
    )
    with settings_named() if command else nullcontext():  # Python has no such options
        invocation.check()
    return replace(invocation, backend=_backend(request, [arm.recipe for arm in plan.arms], invocation, say))


def check_shown(executor: str, storage: str | None, words: Sequence[str]) -> None:
    """Raise AblateError where a password in the words of the command would be shown to all users of a cluster."""
    if executor == RAY and storage and without_password(storage) != storage and any(storage in word for word in words):
        raise AblateError(
            "--storage: a Ray cluster shows the words of a command to all its users, and a password is among them; "
            "name the database in ABLATE_STORAGE instead"
        )


def search_invocation(
    home: Home, request: SearchRequest, say: Callable[[str], None], data: Dataset | None = None
) -> SearchInvocation:
    """What is asked for, its data loaded. Raises AblateError, in a sentence, for what cannot be.

    data: those that are asked for, where they have been loaded before.
    """
    device, profile, workers = request.place()
    module = catalog.search_module(request.search)
    check_names(request.sampler, request.pruner)
    if request.trials is not None:
        check_range("--trials", request.trials, 1, MOST_TRIALS)
    check_range("--seeds-per-trial", request.seeds_per_trial, 1, MOST_SEEDS)
    check_range("--seed", request.seed, -EXACT, EXACT)
    if request.pruner == "wilcoxon" and request.seeds_per_trial < 3 and not request.pareto:
        raise AblateError("--pruner wilcoxon compares seeds; it needs --seeds-per-trial of at least 3")
    adopted = adopted_recipe(home, request.baseline)
    recipe = baseline_recipe(profile, adopted, request.settings, device, request.backend)
    if not recipe.sized.budget.validation_images:
        raise AblateError("budget.validation_images is 0, and a search chooses on validation images; set some aside")
    trials = request.trials or (SMOKE_TRIALS if profile == profiles.PROFILES["smoke"] else module.DEFAULT_TRIALS)
    invocation = SearchInvocation(
        profile=profile,
        data=data or load(request.data, home.data, say=say),
        device=device,
        workers=workers,
        executor=request.executor,
        overrides=overrides_of(adopted, request.settings),
        command=request.command(profile.name, trials),
        name=request.search,
        baseline=recipe,
        trials=trials,
        sampler=request.sampler,
        pruner=request.pruner,
        seed=request.seed,
        seeds_per_trial=request.seeds_per_trial,
        pareto=request.pareto,
        baseline_name=f"the adopted recipe {adopted.name}" if adopted else "the notebook's recipe",
        baseline_seeds=adopted.seeds if adopted else (),
    )
    with settings_named():
        invocation.check_recipe(recipe)
    return replace(invocation, backend=_backend(request, recipes_of(invocation), invocation, say))


def _backend(request: Request, recipes: Sequence[Recipe], invocation: Surroundings, say: Callable[[str], None]) -> str:
    """What computes the trainings of these recipes; why it is not the kernels is said, where they would be faster."""
    classes = len(invocation.data.classes)
    choice = choose_backend(recipes, invocation.device, classes, THREADS, request.backend)
    if choice.why:
        say(f"Computed by torch, which is slower: {choice.why}.")
    return choice.name


def _check_seeds(seeds: Sequence[int], what: str, by: Sequence[int]) -> None:
    """Raise AblateError where a plan would test something on the seeds that chose it."""
    if shared := set(seeds) & set(by):
        raise AblateError(
            f"--first-seed: {what} was chosen with seed {min(shared)}, which says nothing about it any more; take "
            f"fresh ones, such as --first-seed {max(by) + 1}"
        )


def _seeds(asked: str | None, default: int) -> tuple[int, str | None]:
    """How many seeds, and the way of looking at them in between, if there is one."""
    if asked is None:
        return default, None
    if asked in LOOKS:
        return 1, asked
    try:
        count = int(asked)
    except ValueError:
        raise AblateError(
            f"--seeds must be a whole number or a way, not {shown(asked)}{did_you_mean(asked, LOOKS)}"
        ) from None
    check_range("--seeds", count, 1, MOST_SEEDS)
    return count, None


def _beside(folder: Path) -> str:
    """A folder as one would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] == "mps":
        raise AblateError(
            f"--device {shown(name)}: Apple's GPUs have no 64-bit numbers, in which sums are kept here; --device cpu "
            "trains on this machine's cores"
        )
    if not re.fullmatch(r"cpu(:0)?|cuda(:[0-9]{1,3})?", name):
        raise AblateError(f"no device {shown(name)}. Known: cpu, cuda.")
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise AblateError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices that torch can use."
        )
    return torch.device(name)
