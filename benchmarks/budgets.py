"""Which verdicts of a small budget carry to a larger one: `python -m benchmarks.budgets`.

A plan is carried out at several budgets in the output folder, with the same seeds, and what they say is put side by
side in a folder of `results/`: `effects.csv` has each claim's effect at each budget, with the page's interval and
verdict; `agreement.csv` what each budget says of the largest; `effects.svg` shows it. Budgets shrink as those of the
search `multi-fidelity` do: images and batch alike, the network's width by the root of that. The plan must ask of
techniques what each does to test accuracy, once in each place.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
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
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.designs import OVERALL
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.searches.multi_fidelity import at
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import contrast
from cifar_ablations.reports.inference.budgets import arms_in_pairs, by_halves, decision_accuracy
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.pages.result import Result
from cifar_ablations.reports.wording import phrases, small_budgets

OF_THE_PACKAGE = "budgets-techniques-full"
"""The folder of which `ablate plan` says what small budgets were worth."""
COLOURS = (theme.TREATMENT, theme.CONTROL)


@dataclass(frozen=True)
class Budget:
    """A share of a profile's, and what the plan found there."""

    share: Fraction
    recipe: Recipe
    result: Result

    @property
    def accuracies(self) -> pd.DataFrame:
        """Test accuracy by arm and seed, both in order of their names, NaN where a run diverged."""
        runs = self.result._findings.runs
        known = runs.pivot_table(index="arm", columns="seed", values=schema.TEST_ACCURACY)
        return known.reindex(index=sorted(runs["arm"].unique()), columns=sorted(runs["seed"].unique()))


def check(plan: str, of: str) -> None:
    """Raises AblateError where a plan's claims cannot be told by technique and place, and drawn so."""
    size = profile(of)
    claims = catalog.make_plan(plan, size.apply(ca.notebook_recipe()), size, (0,)).claims
    told = [(c.technique, contrast.where(c)) for c in claims if c.metric == schema.TEST_ACCURACY]
    told = [one for one in told if one[1] != OVERALL]
    if not told or len(told) > len(set(told)) or len({place for _, place in told}) > len(COLOURS):
        raise AblateError(
            f"plan {plan} does not ask of techniques what each does to test accuracy, once in each of "
            f"{len(COLOURS)} places at most; techniques and modern do"
        )


def settings_at(share: Fraction, of: str) -> tuple[Recipe, tuple[str, ...]]:
    """The notebook's recipe at a share of a profile, and the changes that make it so."""
    recipe = at(profile(of).apply(ca.notebook_recipe()), float(share))
    budget = recipe.budget
    named = {
        "model.width": recipe.model.width,
        "budget.train_images": budget.train_images,
        "budget.batch_size": budget.batch_size,
        "budget.validation_images": budget.validation_images,
    }
    return recipe, tuple(f"{name}={value}" for name, value in named.items())


def effects(budgets: Sequence[Budget]) -> pd.DataFrame:
    """A row per claim on test accuracy and budget, the smallest first."""
    tables = []
    for budget in budgets:
        verdicts = budget.result._findings.verdicts
        rows = verdicts.to_dict("records")
        said = verdicts.assign(
            share=str(budget.share),
            train_images=budget.recipe.budget.train_images,
            direction=[phrases.direction(row) for row in rows],
            title=[phrases.subject(budget.result._findings.plan, row) for row in rows],
        )
        tables.append(said[said["metric"] == schema.TEST_ACCURACY])
    columns = [
        "share",
        "train_images",
        "technique",
        "title",
        "where",
        "difference",
        "low",
        "high",
        "p_page",
        "direction",
        *(f"{side}_{of}" for side in ("treatment", "control") for of in ("n", "diverged")),
    ]
    return pd.concat(tables)[[*columns, "statement"]]


def agreement(budgets: Sequence[Budget], found: pd.DataFrame) -> pd.DataFrame:
    """A row per budget: how it orders the arms of the largest, and what became of its verdicts there.

    train_accuracy: of the plan's first arm. halves_alike: of half of its seeds and the other half of the largest's.
    """
    largest = budgets[-1]
    there, rows = largest.accuracies.to_numpy(), list[dict[str, Any]]()
    first = largest.result._findings.plan.arms[0].name
    end = found[found["share"] == str(largest.share)].set_index("statement")["direction"]
    for budget in budgets:
        here, runs = budget.accuracies.to_numpy(), budget.result._findings.runs
        alike = decision_accuracy(here, there)
        mine = found[found["share"] == str(budget.share)].set_index("statement")["direction"]
        decided = [name for name in mine.index if mine[name] in phrases.DECIDED]
        rows.append(
            {
                "share": str(budget.share),
                "train_images": budget.recipe.budget.train_images,
                "batch_size": budget.recipe.budget.batch_size,
                "width": budget.recipe.model.width,
                "steps": budget.recipe.budget.steps_per_epoch * budget.recipe.budget.epochs,
                "seconds": float(runs[schema.SECONDS].mean()),
                "train_accuracy": float(runs.loc[runs["arm"] == first, schema.TRAIN_ACCURACY].mean()),
                "seeds": here.shape[1],
                "arms": here.shape[0],
                "arms_in_pairs": arms_in_pairs(here, there),
                "diverged": int(np.isnan(here).sum()),
                "pairs_alike": alike.share,
                "pairs_alike_low": alike.low,
                "pairs_alike_high": alike.high,
                "halves_alike": by_halves(here, there),
                "decided": len(decided),
                "carried": sum(end[name] == mine[name] for name in decided),
                "turned": sum(end[name] in phrases.DECIDED and end[name] != mine[name] for name in decided),
                "open_at_the_largest": sum(end[name] not in phrases.DECIDED for name in decided),
            }
        )
    return pd.DataFrame(rows)


def drawn(found: pd.DataFrame) -> bytes:
    """Each technique's effect over the number of training images, in percentage points, as SVG."""
    places = [place for place in dict.fromkeys(found["where"]) if place != OVERALL]
    techniques = list(dict.fromkeys(found.loc[found["where"].isin(places), "technique"]))
    with theme.styled(), mpl.rc_context({"svg.hashsalt": "budgets"}):
        figure = theme.new_figure(theme.WIDTH, 1.9 * -(-len(techniques) // 3))
        grid = figure.subplots(-(-len(techniques) // 3), 3, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, technique in zip(grid, techniques, strict=False):
            axes.axhline(0, color=theme.MUTED, lw=0.8)
            for place, colour in zip(places, COLOURS, strict=False):
                rows = found[(found["technique"] == technique) & (found["where"] == place)]
                images, shift = rows["train_images"], 1.04 if place == places[0] else 1 / 1.04
                axes.plot(images * shift, 100 * rows["difference"], "o-", color=colour, ms=4, lw=1.2, label=place)
                axes.vlines(images * shift, 100 * rows["low"], 100 * rows["high"], color=colour, lw=1)
                for lost in shift * images[rows["difference"].isna()]:  # at the edge, since it has no effect's height
                    axes.plot(lost, 0.03, "x", color=colour, ms=6, transform=axes.get_xaxis_transform())
                    axes.annotate(
                        "diverged",
                        (lost, 0.03),
                        (-6, 0),
                        xycoords=axes.get_xaxis_transform(),
                        textcoords="offset points",
                        ha="right",
                        va="center",
                        color=colour,
                        fontsize=7,
                    )
            title = found.loc[found["technique"] == technique, "title"].iloc[0]
            axes.set_title(phrases.sentence_case(title.removeprefix("the ")))
            axes.set_xscale("log")
            axes.set_xticks(sorted(set(found["train_images"])), [f"{n:,}" for n in sorted(set(found["train_images"]))])
            axes.minorticks_off()
            theme.upright(axes)
        for axes in grid[len(techniques) :]:
            axes.set_visible(False)
        figure.supxlabel("training images", fontsize=9)
        figure.supylabel("effect on test accuracy, percentage points", fontsize=9)
        grid[0].legend(fontsize=8)
        return as_svg(figure)


def main() -> None:
    """Carry the plan out at all budgets and write what they say of each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", default="techniques")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--shares", type=Fraction, nargs="+", default=[Fraction(1, 2**n) for n in (6, 5, 4, 3)])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--data", help="as for `ablate run` [default: ABLATE_DATA, cached or downloaded]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    with in_a_sentence():
        _carry_out(asked)


def _carry_out(asked: argparse.Namespace) -> None:
    check(asked.plan, asked.profile)
    data = real_images(asked.data)
    budgets = []
    for share in sorted(asked.shares):
        recipe, settings = settings_at(share, asked.profile)
        result = ca.run(asked.plan, profile=asked.profile, settings=settings, seeds=asked.seeds, data=asked.data)
        budgets.append(Budget(share, recipe, result))
    found = effects(budgets)
    agreed = agreement(budgets, found)
    print(agreed.to_string(index=False))
    about = {
        "kind": "budgets",
        "plan": asked.plan,
        "profile": asked.profile,
        "command": f"python -m benchmarks.budgets --plan {asked.plan} --profile {asked.profile} --shares "
        f"{' '.join(map(str, sorted(asked.shares)))} --seeds {asked.seeds}",
        "date": max(last_ended(budget.result._findings) for budget in budgets).date(),
        "network": budgets[-1].recipe.model.name,
        "budgets": [budget.result._findings.plan.budget for budget in budgets],
        "seeds": asked.seeds,
        "worker_minutes": round(float(sum(b.result._findings.runs[schema.SECONDS].sum() for b in budgets)) / 60, 1),
        "data": {"name": data.name, "digest": data.digest},
        **machine_of(budgets[-1].result._findings),
    }
    contents = {
        ABOUT: tomlkit.dumps(about).encode(),
        "effects.csv": as_csv(found),
        "agreement.csv": as_csv(agreed),
        "effects.svg": drawn(found),
    }
    folder = asked.results / f"budgets-{rendering.slug(asked.plan)}-{asked.profile}"
    write(folder, contents)
    if folder == RESULTS / OF_THE_PACKAGE:
        write_atomically(small_budgets.MEASURED, as_csv(found[list(small_budgets.Verdict._fields)]))


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
