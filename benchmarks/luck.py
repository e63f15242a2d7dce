"""The luck of a search: `python -m benchmarks.luck`.

"Tuned is better" holds for one search; another one, which differs in its seed alone, finds another recipe. Here a
search of one study is carried out several times with each of several samplers, all with as many trials, and every
winner is trained on fresh seeds beside the baseline. A folder of `results/` says what each promised on validation
images and reached on test images (`searches.csv`), what a sampler is worth over its searches (`samplers.csv`), and how
the best so far grows with the number of trials (`growth.csv`); `luck.svg` shows both. No search sees a test image.

What a winner promised is its gain over the baseline in the search itself: both were trained there from one seed and
validated on the same images, so that a seed or images that suit every recipe count as no promise.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

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
from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference.statistics import mean_interval
from cifar_ablations.reports.reading import searches as reading

BASELINE = "notebook's recipe"
COLOURS = (theme.TREATMENT, theme.CONTROL, theme.MUTED, theme.INK)


def growth(trials: Mapping[str, pd.DataFrame], sampler: str) -> pd.DataFrame:
    """The best validation accuracy so far, by the number of trials begun: mean over the searches, and the extremes."""
    curves = []
    for frame in trials.values():
        counted = reading.counted(frame).sort_values("trial")
        done = counted["value"].where(counted["outcome"].isin(schema.CONVERGED))
        curves.append(done.cummax().ffill().to_numpy())
    shortest = min(map(len, curves))
    stacked = np.array([curve[:shortest] for curve in curves])
    return pd.DataFrame(
        {
            "sampler": sampler,
            "trials": np.arange(1, shortest + 1),
            "best": np.nanmean(stacked, 0),
            "lowest": np.nanmin(stacked, 0),
            "highest": np.nanmax(stacked, 0),
        }
    )


class Searched(NamedTuple):
    """A search's sampler, what its winner and the baseline reached in it on validation images, and the winner.

    Of a search that did not try the baseline, or in which it diverged, `baseline` is NaN.
    """

    sampler: str
    validation: float
    baseline: float
    recipe: Recipe


def table(searches: Mapping[str, Searched], runs: pd.DataFrame) -> pd.DataFrame:
    """A row per search: what its winner promised, what it reached, and its gain over the baseline on the same seeds.

    Of seeds on which the winner or the baseline diverged there is no gain; `seeds` are those that remain.
    """
    by_arm = runs.pivot_table(index="seed", columns="arm", values=schema.TEST_ACCURACY)
    by_arm = by_arm.reindex(columns=[BASELINE, *searches])
    rows = []
    for name, one in searches.items():
        paired = by_arm[[name, BASELINE]].dropna()
        gain = mean_interval((paired[name] - paired[BASELINE]).to_numpy())
        promised = one.validation - one.baseline
        rows.append(
            (
                one.sampler,
                name,
                one.validation,
                one.baseline,
                promised,
                float(paired[name].mean()),
                gain.mean,
                gain.low,
                gain.high,
                len(paired),
                promised - gain.mean,
            )
        )
    columns = ["sampler", "search", "validation", "baseline_validation", "promised", "test"]
    columns += ["gain", "gain_low", "gain_high", "seeds", "promised_too_much"]
    return pd.DataFrame(rows, columns=columns)


def of_samplers(found: pd.DataFrame) -> pd.DataFrame:
    """A row per sampler: its gain over searches, with an interval over these, and how much it depends on luck."""
    rows = []
    for sampler, mine in found.groupby("sampler", sort=False):
        gain, much = (mean_interval(mine[name].dropna().to_numpy()) for name in ("gain", "promised_too_much"))
        rows.append((sampler, gain.n, gain.mean, gain.low, gain.high, gain.std, much.mean, much.low, much.high))
    names = ["sampler", "searches", "gain", "gain_low", "gain_high", "gain_std_of_searches"]
    return pd.DataFrame(rows, columns=[*names, "promised_too_much", "promised_low", "promised_high"])


def drawn(curves: pd.DataFrame, by_search: pd.DataFrame) -> bytes:
    """As SVG: how the best on validation images grows with the trials, and what each winner gains on test images."""
    colours = dict(zip(dict.fromkeys(by_search["sampler"]), cycle(COLOURS), strict=False))
    with theme.styled(), mpl.rc_context({"svg.hashsalt": "luck"}):
        figure = theme.new_figure(theme.WIDTH, 3.2)
        left, right = figure.subplots(1, 2)
        for place, (sampler, colour) in enumerate(colours.items()):
            rows = curves[curves["sampler"] == sampler]
            left.plot(rows["trials"], 100 * rows["best"], color=colour, label=sampler)
            left.fill_between(
                rows["trials"], 100 * rows["lowest"], 100 * rows["highest"], color=colour, alpha=0.15, lw=0
            )
            mine = by_search[by_search["sampler"] == sampler]
            xs = place + np.linspace(-0.2, 0.2, len(mine))
            right.vlines(xs, 100 * mine["gain_low"], 100 * mine["gain_high"], color=colour, lw=1)
            right.plot(xs, 100 * mine["gain"], "o", color=colour, ms=4)
        left.set(xlabel="trials", ylabel="best so far on validation images, %")
        left.legend(fontsize=8, title="mean and extremes over searches", title_fontsize=8)
        right.axhline(0, color=theme.MUTED, lw=0.8)
        right.set_xticks(range(len(colours)), list(colours))
        right.set(xlim=(-0.5, len(colours) - 0.5), ylabel="gain of each winner, percentage points")
        for axes in (left, right):
            theme.upright(axes)
        return as_svg(figure)


def main() -> None:
    """Carry out the searches, test their winners, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", default="joint")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--samplers", nargs="+", default=["tpe", "random"])
    parser.add_argument("--searches", type=int, default=5, help="of each sampler")
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=5, help="fresh ones, on which the winners are tested")
    parser.add_argument("--data", help="as for `ablate run` [default: ABLATE_DATA, cached or downloaded]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    with in_a_sentence():
        _carry_out(asked)


def searched(asked: argparse.Namespace, sampler: str, seed: int) -> tuple[Searched, pd.DataFrame]:
    """A search with a sampler and a seed, and its trials. Raises AblateError where no trial came to its end, and for a
    search of several studies: their trials are at budgets of their own."""
    found = ca.tune(
        asked.search,
        profile=asked.profile,
        sampler=sampler,
        seed=seed,
        trials=asked.trials,
        data=asked.data,
        backend="torch",
        quiet=True,
    )
    if found.trials["study"].nunique() > 1:
        raise AblateError(f"search {asked.search} has several studies; what is repeated here has one, as joint has")
    best = reading.best_of(found.trials)
    if found.recipe is None or best is None:
        raise AblateError(f"no trial of search {asked.search} with sampler {sampler} and seed {seed} came to its end")
    size = profile(asked.profile)
    converged = found.trials[found.trials["outcome"].isin(schema.CONVERGED)]
    own = converged[converged["digest"] == size.apply(ca.notebook_recipe()).digest()]["value"].dropna()
    baseline = float(own.iloc[0]) if len(own) else float("nan")
    return Searched(sampler, float(best["value"]), baseline, size.apply(found.recipe)), found.trials


def _carry_out(asked: argparse.Namespace) -> None:
    data, size = real_images(asked.data), profile(asked.profile)
    searches: dict[str, Searched] = {}
    curves = []
    for sampler in dict.fromkeys(asked.samplers):
        trials: dict[str, pd.DataFrame] = {}
        for seed in range(asked.searches):
            name = f"{sampler}, search {seed}"
            searches[name], trials[name] = searched(asked, sampler, seed)
            print(f"{name}: {100 * searches[name].validation:.2f} % on validation images", flush=True)
        curves.append(growth(trials, sampler))
    arms = {BASELINE: size.apply(ca.notebook_recipe())} | {name: one.recipe for name, one in searches.items()}
    result = ca.compare(
        arms, seeds=asked.seeds, profile=asked.profile, data=asked.data, backend="torch", name="luck-of-the-search"
    )
    by_search = table(searches, result._findings.runs)
    samplers = of_samplers(by_search)
    print(samplers.to_string(index=False))
    about: dict[str, Any] = {
        "kind": "luck",
        "search": asked.search,
        "profile": asked.profile,
        "trials": asked.trials,
        "command": f"python -m benchmarks.luck --search {asked.search} --profile {asked.profile} --samplers "
        f"{' '.join(asked.samplers)} --searches {asked.searches} --trials {asked.trials} --seeds {asked.seeds}",
        "date": last_ended(result._findings).date(),
        "network": str(size.model),
        "budget": str(size.budget),
        "data": {"name": data.name, "digest": data.digest},
        **machine_of(result._findings),
    }
    contents = {
        ABOUT: tomlkit.dumps(about).encode(),
        "searches.csv": as_csv(by_search),
        "samplers.csv": as_csv(samplers),
        "growth.csv": as_csv(pd.concat(curves)),
        "luck.svg": drawn(pd.concat(curves), by_search),
    }
    write(asked.results / f"luck-{asked.search}-{asked.profile}", contents)


if __name__ == "__main__":
    main()
