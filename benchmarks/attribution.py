"""Where the points of a tuned recipe come from: `python -m benchmarks.attribution`.

What a tuned recipe sets otherwise than the notebook's, in groups: a technique each, the optimizer together with its
learning rate. Every combination of groups is trained over the same seeds, at a share of a profile's budget. In a folder
of `results/`, `groups.csv` says what each group is worth: over all orders in which the groups could be adopted
(Shapley), which adds up to the whole gain, adopted first, and adopted last; `combinations.csv` has every accuracy,
and `groups.svg` shows the former.

With `--removed` only the tuned recipe with each group changed back is trained, beside itself and the notebook's: what
a larger share affords.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import tomlkit

import cifar_ablations as ca
from benchmarks.reference import (
    ABOUT,
    RESULTS,
    as_csv,
    as_svg,
    in_a_sentence,
    last_ended,
    machine_of,
    real_images,
    write,
)
from cifar_ablations.ablations import adopted, schema
from cifar_ablations.ablations.designs import MOST_FACTORS, by_roadmap
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.plans.tuned import NOTEBOOK, TUNED, notebook_beside
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.searches.multi_fidelity import at
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import factorial
from cifar_ablations.reports.inference.statistics import mean_interval

TOGETHER = {"learning_rate": "optimizer"}
"""A rate is one of an optimizer: adopted without it, it says nothing."""
TOTAL = "all together"
"""The row of the whole gain."""


def groups_of(tuned: Recipe, notebook: Recipe) -> dict[str, tuple[str, ...]]:
    """The techniques that the two set otherwise, by the name of their group, in the order of a ladder."""
    changed = [t.name for t in by_roadmap(t for t in tuned.techniques if t != notebook.technique(t.name))]
    groups: dict[str, tuple[str, ...]] = {}
    for name in changed:
        group = TOGETHER[name] if TOGETHER.get(name) in changed else name
        groups[group] = (*groups.get(group, ()), name)
    return groups


def mixed(tuned: Recipe, notebook: Recipe, techniques: Sequence[str]) -> Recipe:
    """The notebook's recipe with these techniques as the tuned one sets them."""
    for name in techniques:
        notebook = notebook.with_technique(tuned.technique(name))
    return notebook


def arms_of(
    tuned: Recipe, notebook: Recipe, groups: Mapping[str, tuple[str, ...]], removed: bool
) -> dict[frozenset[str], Recipe]:
    """The recipes to train, by the groups that they have adopted; the notebook's, which has none, first."""
    names, least = list(groups), len(groups) - 1
    sizes = (0, least, len(groups)) if removed else range(len(groups) + 1)
    chosen = [frozenset(used) for size in dict.fromkeys(sizes) for used in combinations(names, size)]
    return {used: mixed(tuned, notebook, [t for name in used for t in groups[name]]) for used in chosen}


def named(used: frozenset[str], groups: Mapping[str, tuple[str, ...]]) -> str:
    """What the arm is called that has adopted these groups."""
    if not used or len(used) == len(groups):
        return TUNED if used else NOTEBOOK
    return " + ".join(name for name in groups if name in used)


def table(accuracies: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """A row per group: its Shapley value, where all combinations are there, and its worth first and last, each with
    Student's interval over seeds; in the last row the gain, to which Shapley values add up.

    accuracies: by the groups that an arm has adopted and by seed. A seed of which a run diverged is left out; raises
    AblateError where none remains.
    """
    whole = accuracies.dropna(axis=1)
    if whole.empty:
        raise AblateError("of every seed a run diverged: nothing can be said of where the points come from")
    used, everything, nothing = list(whole.index), frozenset(groups), frozenset[str]()
    by_group = {}
    for group in groups:
        ways = {"last": (everything, everything - {group}), "first": (frozenset({group}), nothing)}
        worth = {
            way: whole.loc[[more]].to_numpy()[0] - whole.loc[[less]].to_numpy()[0]
            for way, (more, less) in ways.items()
            if more in used and less in used
        }
        if len(used) == 2 ** len(groups):
            worth["shapley"] = factorial.shapley(group, groups, used) @ whole.to_numpy()
        by_group[group] = worth
    gain = whole.loc[[everything]].to_numpy()[0] - whole.loc[[nothing]].to_numpy()[0]
    by_group[TOTAL] = dict.fromkeys(["first", "last", *(["shapley"] if len(used) == 2 ** len(groups) else [])], gain)
    rows = []
    for group, worth in by_group.items():
        row: dict[str, str | float] = {"group": group, "seeds": whole.shape[1]}
        for way in ("shapley", "first", "last"):
            found = mean_interval(worth.get(way, ()))
            row |= {way: found.mean, f"{way}_low": found.low, f"{way}_high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


WAYS = {
    "shapley": "over all orders",
    "first": "changed in the notebook's recipe",
    "last": "changed back in the tuned recipe",
}
"""Ways to say what a group is worth, in words."""


def ways_of(found: pd.DataFrame) -> list[str]:
    """Those of WAYS in which groups were tried; the whole gain alone is known in all."""
    groups = found[found["group"] != TOTAL]
    return [way for way in WAYS if groups[way].notna().any()]


def drawn(found: pd.DataFrame) -> bytes:
    """What each group is worth, in percentage points with intervals, as SVG; of the ways those that are known."""
    groups, ways = found[found["group"] != TOTAL].reset_index(drop=True), ways_of(found)
    colours = dict(zip(WAYS, (theme.INK, theme.CONTROL, theme.TREATMENT), strict=True))
    with theme.styled(), mpl.rc_context({"svg.hashsalt": "attribution"}):
        figure = theme.new_figure(theme.WIDTH, 0.9 + 0.45 * len(groups))
        axes = figure.add_subplot()
        axes.axvline(0, color=theme.MUTED, lw=0.8)
        for place, way in enumerate(ways):
            ys = groups.index + 0.22 * (place - (len(ways) - 1) / 2)
            axes.hlines(ys, 100 * groups[f"{way}_low"], 100 * groups[f"{way}_high"], color=colours[way], lw=1.2)
            axes.plot(100 * groups[way], ys, "o", color=colours[way], ms=5, label=WAYS[way])
        theme.listed(axes, [name.replace("_", " ") for name in groups["group"]])
        axes.set_xlabel("worth in test accuracy, percentage points")
        figure.legend(loc="outside upper center", ncols=len(ways), fontsize=8, frameon=False)
        return as_svg(figure)


def main() -> None:
    """Train every combination, and write what each group is worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", default="gain-full", help="a folder of results/ that has a recipe.toml")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--share", type=Fraction, default=Fraction(1, 8), help="of the profile's images and batch")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--removed", action="store_true", help="only the tuned recipe with each group changed back")
    parser.add_argument("--data", help="as for `ablate run` [default: ABLATE_DATA, cached or downloaded]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    with in_a_sentence():
        _carry_out(asked)


def _carry_out(asked: argparse.Namespace) -> None:
    data = real_images(asked.data)
    tuned = at(
        profile(asked.profile).apply(adopted.read(RESULTS / asked.of / "recipe.toml").applied(ca.notebook_recipe())),
        float(asked.share),
    )
    notebook = notebook_beside(tuned)
    groups = groups_of(tuned, notebook)
    if not groups:
        raise AblateError(f"the recipe of results/{asked.of} changes no technique of the notebook's")
    if len(groups) > MOST_FACTORS and not asked.removed:
        raise AblateError(f"all combinations of {len(groups)} groups are {2 ** len(groups):,} arms; ask for --removed")
    arms = {
        named(used, groups): (used, recipe) for used, recipe in arms_of(tuned, notebook, groups, asked.removed).items()
    }
    name = "removed" if asked.removed else "attribution"
    result = ca.compare(
        {arm: recipe for arm, (_, recipe) in arms.items()},
        seeds=asked.seeds,
        profile=None,
        data=asked.data,
        name=f"{name}-{asked.of}",
    )
    runs = result._findings.runs
    accuracies = runs.pivot_table(index="arm", columns="seed", values=schema.TEST_ACCURACY).reindex(list(arms))
    size = f"{asked.profile}-{str(asked.share).replace('/', '-')}"
    folder = asked.results / f"{name}-{asked.of}-at-{size}"
    write_atomically(folder / "combinations.csv", as_csv(accuracies.reset_index()))  # also where nothing can be said
    found = table(accuracies.set_axis([used for used, _ in arms.values()]), list(groups))
    print(found.to_string(index=False))
    about = {
        "kind": "attribution",
        "of": asked.of,
        "profile": asked.profile,
        "share": str(asked.share),
        "command": f"python -m benchmarks.attribution --of {asked.of} --profile {asked.profile} --share {asked.share} "
        f"--seeds {asked.seeds}{' --removed' * asked.removed}",
        "date": last_ended(result._findings).date(),
        "network": str(tuned.model),
        "budget": result._findings.plan.budget,
        "groups": {group: list(names) for group, names in groups.items()},
        "worker_minutes": round(float(runs[schema.SECONDS].sum()) / 60, 1),
        "data": {"name": data.name, "digest": data.digest},
        **machine_of(result._findings),
    }
    contents = {
        ABOUT: tomlkit.dumps(about).encode(),
        "groups.csv": as_csv(found),
        "groups.svg": drawn(found),
    }
    write(folder, contents)


if __name__ == "__main__":
    main()
