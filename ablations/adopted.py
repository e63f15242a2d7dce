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

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.recipe import Recipe

SUFFIX = ".toml"


@dataclass(frozen=True)
class Adopted:
    """Techniques at their knobs, what was found for the recipe without one of them, and where all of it comes from."""

    name: str
    techniques: Mapping[str, Mapping[str, Any]]
    retuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that chose it."""
        return tuple(self.provenance.get("seeds", ()))

    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe with its techniques replaced by these. Raises AblateError for a name that is not known."""
        known = catalog.techniques()
        for technique in recipe.techniques:
            recipe = recipe.with_technique(technique.at("off"))
        for name, knobs in self.techniques.items():
            if name not in known:
                raise AblateError(f"{self.name}: no technique {name!r}{did_you_mean(name, known)}")
            for knob in knobs:
                if knob not in known[name].knobs():
                    raise AblateError(
                        f"{self.name}: {name} has no knob {knob!r}{did_you_mean(knob, known[name].knobs())}"
                    )
            recipe = recipe.with_technique(known[name](**knobs))
        return recipe

    def as_toml(self) -> str:
        """The file's text."""
        lines = [f"# {self.name}: adopted from a search; see [provenance]."]
        sections: dict[str, Mapping[str, Any]] = {f"techniques.{n}": knobs for n, knobs in self.techniques.items()}
        sections |= {f"retuned.{n}": knobs for n, knobs in self.retuned.items()}
        sections |= {"provenance": self.provenance}
        for title, values in sections.items():
            lines += ["", f"[{title}]", *(f"{_key(name)} = {_value(value)}" for name, value in values.items())]
        return "\n".join(lines) + "\n"


def adopted_from(name: str, recipe: Recipe, retuned: Mapping[str, Mapping[str, Any]], provenance: Mapping[str, Any]):
    """What a recipe's techniques are, each with its knobs that depart from `off`'s."""
    techniques = {
        t.name: {k: getattr(t, k) for k in t.knobs() if getattr(t, k) != getattr(t.at("off"), k)}
        for t in recipe.techniques
        if not t.is_off
    }
    return Adopted(name, techniques, retuned, provenance)


def read(path: Path) -> Adopted:
    """A recipe from its file. Raises AblateError, in a sentence, for a file that is missing or is not one."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AblateError(f"there is no recipe at {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AblateError(f"{path} cannot be read as a recipe ({error})") from None
    known = ("techniques", "retuned", "provenance")
    for section in content:
        if section not in known:
            raise AblateError(f"{path}: no section {section!r}{did_you_mean(section, known)}")
    if not all(isinstance(v, dict) for section in content.values() for v in _tables(section, content)):
        raise AblateError(f"{path}: techniques and retuned hold a table per technique, such as [techniques.dropout]")
    return Adopted(path.stem, content.get("techniques", {}), content.get("retuned", {}), content.get("provenance", {}))


def find(name: str, folder: Path) -> Path:
    """The file that a person means: a path, or the name of a recipe in the folder.

    Raises AblateError if there is none.
    """
    path = Path(name)
    if path.suffix == SUFFIX or path.exists():
        return path
    known = sorted(p.stem for p in folder.glob(f"*{SUFFIX}"))
    if name in known:
        return folder / f"{name}{SUFFIX}"
    if not known:
        raise AblateError(f"no recipe {name!r}, and none has been adopted yet: run `ablate tune`, then `ablate adopt`")
    raise AblateError(f"no recipe {name!r}{did_you_mean(name, known)}")


def _tables(section: Any, content: Mapping[str, Any]) -> list[Any]:
    if section is content.get("provenance"):
        return []
    return list(section.values()) if isinstance(section, dict) else [None]


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(str(value), ensure_ascii=False)
