"""What `ablate script` does: a recipe as one plain PyTorch program, to standard output."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import typer

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import EXACT, check_range
from cifar_ablations.ablations.plain.program import program
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.commands.baseline import adopted_recipe, baseline_recipe
from cifar_ablations.study.store.home import Home


@dataclass(frozen=True)
class ScriptRequest:
    """A recipe as the command line asks for it; None stands for the default."""

    profile: str | None = None
    baseline: str | None = None
    settings: Sequence[str] = ()
    without: Sequence[str] = ()
    seed: int = 0

    @property
    def called(self) -> str:
        """What the recipe is, in the middle of a sentence."""
        recipe = "the notebook's recipe" if self.baseline is None else f"the adopted recipe {self.baseline}"
        without = [f"without {name}" for name in self.without]
        return ", ".join([f"{recipe} with {' '.join(self.settings)}" if self.settings else recipe, *without])

    @property
    def command(self) -> str:
        """What was typed."""
        words = ["ablate", "script"]
        for option, values in (
            ("--profile", [self.profile]),
            ("--baseline", [self.baseline]),
            ("--set", self.settings),
            ("--without", self.without),
            ("--seed", [self.seed or None]),
        ):
            words += [word for value in values if value is not None for word in (option, str(value))]
        return shlex.join(words)


def write_script(home: Home, request: ScriptRequest) -> None:
    """Print the program. Raises AblateError for a recipe that cannot be, or that has no plain form."""
    check_range("--seed", request.seed, 0, EXACT)
    written = program(recipe_of(home, request), request.seed, request.called, request.command)
    # As bytes, since the encoding is a Python file's and not the terminal's.
    typer.echo(written.encode(), nl=False)


def recipe_of(home: Home, request: ScriptRequest) -> Recipe:
    """The recipe that `ablate run` would train here for the same options. Raises AblateError for one that cannot be."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = profile(request.profile or ("full" if device.type == "cuda" else "quick"))
    recipe = baseline_recipe(size, adopted_recipe(home, request.baseline), request.settings, device)
    for name in request.without:
        try:
            recipe = recipe.without(name)
        except AblateError as error:
            raise AblateError(f"--without {name}: {error}") from None
    return recipe
