"""Recipes on disk: what a search found, as a small TOML file that any plan takes as its baseline.

    [techniques.optimizer]
    kind = "adam"
    rate = 0.0021

    [retuned.dropout]            # of the plan `tuned`: what to set where that technique is removed
    "optimizer.rate" = 0.0025

    [provenance]
    search = "regularization"

Techniques that are not named are off. Network and budget are not part of it: they come from the profile.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import tomlkit

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import parse_toml, read_named
from cifar_ablations.ablations.naming import did_you_mean, shown
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import AdoptionRecord, RecipeRecord, Value, from_values

SUFFIX = ".toml"

MARK = "# as written: "
"""Begins the line that `marked` adds."""


def marked(text: str) -> str:
    """A recipe's text with a last line by which it is seen whether a person has edited the file since."""
    return f"{text}{MARK}{_digest(text)}\n"


def is_as_marked(text: str) -> bool | None:
    """Whether a text is as it was when it was marked; None where it never was, as before this version."""
    *_, last = text.splitlines(keepends=True) or [""]
    if MARK not in text:
        return None
    return last == f"{MARK}{_digest(text.removesuffix(last))}\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Adopted:
    """A recipe on disk, called as its file is."""

    name: str
    record: RecipeRecord

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that chose it."""
        return self.record.provenance.seeds

    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe with its techniques replaced by these. Raises AblateError for a name that is not known."""
        known = catalog.techniques()
        for technique in recipe.techniques:
            recipe = recipe.with_technique(technique.at("off"))
        for name, knobs in self.record.techniques.items():
            if name not in known:
                raise AblateError(f"{self.name}: no technique {name!r}{did_you_mean(name, known)}")
            for knob in knobs:
                if knob not in known[name].knobs():
                    raise AblateError(
                        f"{self.name}: {name} has no knob {knob!r}{did_you_mean(knob, known[name].knobs())}"
                    )
            recipe = recipe.with_technique(known[name](**knobs))
        for removed, changes in self.record.retuned.items():
            for setting in changes:
                of, _, changed = setting.partition(".")
                if of not in known or changed not in known[of].knobs():  # a network could be a function of any package
                    raise AblateError(
                        f"{self.name}: [retuned.{removed}] may set knobs of techniques, and not {shown(setting)}"
                        f"{did_you_mean(of, known)}"
                    )
        return recipe

    def as_toml(self) -> str:
        """The file's text."""
        content = {section: values for section, values in asdict(self.record).items() if values}
        content["provenance"] = {name: value for name, value in content["provenance"].items() if value is not None}
        return f"# {self.name}: adopted from a search; see [provenance].\n\n{tomlkit.dumps(content)}"


def adopted_from(
    name: str, recipe: Recipe, retuned: Mapping[str, Mapping[str, Value]], provenance: AdoptionRecord
) -> Adopted:
    """A recipe as a record: its techniques, each with the knobs that depart from the level `off`."""
    techniques = {
        t.name: {k: getattr(t, k) for k in t.knobs() if getattr(t, k) != getattr(t.at("off"), k)}
        for t in recipe.techniques
        if not t.is_off
    }
    return Adopted(name, RecipeRecord(techniques, retuned, provenance))


def read(path: Path) -> Adopted:
    """A recipe from its file. Raises AblateError, in a sentence, for a file that is missing or is not one."""
    try:
        content = parse_toml(read_named(path))
    except FileNotFoundError:
        raise AblateError(f"there is no recipe at {path}") from None
    except OSError as error:
        raise AblateError(f"{path} cannot be read as a recipe ({error.strerror or error})") from None
    except ValueError as error:
        raise AblateError(f"{path} cannot be read as a recipe ({error})") from None
    known = [section.name for section in fields(RecipeRecord)]
    for section in content:
        if section not in (*known, "format"):
            raise AblateError(f"{path}: no section {section!r}{did_you_mean(section, known)}")
    return Adopted(path.stem, from_values(RecipeRecord, content, str(path)))


def find(name: str, folder: Path) -> Path:
    """The file that a person means: a path, or the name of a recipe in the folder.

    Raises AblateError if there is none.
    """
    path = Path(os.path.expanduser(name))
    if path.suffix == SUFFIX or os.path.exists(path):  # where a name is too long to be a file's, there is none
        return path
    known = sorted(p.stem for p in folder.glob(f"*{SUFFIX}"))
    if name in known:
        return folder / f"{name}{SUFFIX}"
    if not known:
        raise AblateError(
            f"no recipe {shown(name)}, and none has been adopted yet: run `ablate tune`, then `ablate adopt`"
        )
    raise AblateError(f"no recipe {shown(name)}{did_you_mean(name, known)}")
