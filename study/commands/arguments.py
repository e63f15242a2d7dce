"""From the command line's words to what is to be done. Every mistake is an AblateError in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from cifar_ablations.ablations import catalog, profiles
from cifar_ablations.ablations.adopted import Adopted
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.plan import LOOKS, with_looks
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.study.commands.baseline import adopted_recipe, baseline_recipe, overrides_of, settings_named
from cifar_ablations.study.data.dataset import load
from cifar_ablations.study.execution.runner import Invocation
from cifar_ablations.study.execution.workers import default_workers
from cifar_ablations.study.store.home import Home


@dataclass(frozen=True)
class Asked:
    """A plan as the command line asks for it; None for what is left to the defaults."""

    plan: str
    profile: str | None = None
    seeds: str | None = None
    """A number, or one of LOOKS."""
    first_seed: int = 0
    baseline: str | None = None
    """An adopted recipe, by name or file."""
    settings: tuple[str, ...] = ()
    """Changes of the baseline, as `object.field=value`."""
    data: str | None = None
    device: str | None = None
    workers: int | None = None

    def command(self, profile: str, seeds: str) -> str:
        """The command that asks for the same, with this profile and these seeds."""
        words = ["ablate", "run", self.plan, "--profile", profile, "--seeds", seeds]
        words += ["--first-seed", str(self.first_seed)] if self.first_seed else []
        words += ["--baseline", self.baseline] if self.baseline is not None else []
        for setting in self.settings:
            words += ["--set", setting]
        return " ".join(words)


def invocation_of(home: Home, asked: Asked, say: Callable[[str], None]) -> Invocation:
    """What is asked for, its data loaded. Raises AblateError, in a sentence, for what cannot be."""
    catalog.plan_module(asked.plan)
    place, size, crew = place_of(asked.device, asked.profile, asked.workers)
    count, looks = _seeds(asked.seeds, size.seeds)
    if asked.first_seed < 0:
        raise AblateError(f"--first-seed must be at least 0, not {asked.first_seed}")
    adopted = adopted_recipe(home, asked.baseline)
    recipe = baseline_recipe(size, adopted, asked.settings, place)
    seeds = tuple(range(asked.first_seed, asked.first_seed + count))
    made = catalog.make_plan(asked.plan, recipe, size, seeds, adopted.record.retuned if adopted else {})
    if looks is not None:
        made = with_looks(made, looks)
    _check_seeds(made.seeds, adopted)
    loaded = load(asked.data, home.data, say=say)
    overrides, command = overrides_of(adopted, asked.settings), asked.command(size.name, looks or str(count))
    invocation = Invocation(made, size, loaded, place, crew, overrides, command)
    with settings_named():
        invocation.check()
    return invocation


def _check_seeds(seeds: Sequence[int], adopted: Adopted | None) -> None:
    """Raise AblateError where a plan would test a recipe on the seeds that chose it."""
    if adopted and (shared := set(seeds) & set(adopted.seeds)):
        raise AblateError(
            f"--first-seed: the recipe {adopted.name!r} was chosen with seed {min(shared)}, which says nothing about "
            f"it any more; take fresh ones, such as --first-seed {max(adopted.seeds) + 1}"
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
            f"--seeds must be a whole number or a way, not {asked!r}{did_you_mean(asked, LOOKS)}"
        ) from None
    if count < 1:
        raise AblateError(f"--seeds must be at least 1, not {count}")
    return count, None


def place_of(device: str | None, profile: str | None, workers: int | None) -> tuple[torch.device, Profile, int]:
    """Where to train, at which size, in how many processes."""
    place = _device(device)
    size = profiles.profile(profile or ("full" if place.type == "cuda" else "quick"))
    crew = default_workers(place) if workers is None else workers
    if crew < 1:
        raise AblateError(f"--workers must be at least 1, not {crew}")
    return place, size, crew


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise AblateError(f"no device {name!r}. Known: cpu, cuda.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise AblateError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices that torch can use."
        )
    return torch.device(name)
