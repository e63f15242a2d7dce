"""The luck of a search: `python -m benchmarks.luck`.

"Tuned is better" holds for one search; another one, which differs in its seed alone, finds another recipe. Here a
search is carried out several times with each of several samplers, all with as many trials, and every winner is trained
on fresh seeds beside the baseline. A folder of `results/` says what each promised on validation images and reached on
test images (`searches.csv`), what a sampler is worth over its searches (`samplers.csv`), and how the best so far grows
with the number of trials (`growth.csv`); `luck.svg` shows both. No search sees a test image.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import tomlkit
from scipy import stats

import cifar_ablations as ca
from benchmarks.reference import ABOUT, RESULTS, as_csv, as_svg, in_a_sentence, machine_of, real_images, write
from cifar_ablations.ablations import schema
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.reading import searches as reading

BASELINE = "notebook's recipe"


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student's interval of it; limits are NaN for fewer than two values."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, float("nan"), float("nan")
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(values, ddof=1) / sqrt(n))
    return mean, mean - reach, mean + reach


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


def table(promised: Mapping[str, float], samplers: Mapping[str, str], runs: pd.DataFrame) -> pd.DataFrame:
    """A row per search: what its winner promised, what it reached, and its gain over the baseline on the same seeds."""
    by_arm = runs.pivot_table(index="seed", columns="arm", values=schema.TEST_ACCURACY)
    rows = []
    for name, value in promised.items():
        gain, low, high = interval((by_arm[name] - by_arm[BASELINE]).to_numpy())
        reached = float(by_arm[name].mean())
        rows.append((samplers[name], name, value, reached, value - reached, gain, low, high, len(by_arm)))
    columns = ["sampler", "search", "validation", "test", "promised_too_much", "gain", "gain_low", "gain_high", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def of_samplers(found: pd.DataFrame) -> pd.DataFrame:
    """A row per sampler: its gain over searches, with an interval over these, and how much it depends on luck."""
    rows = []
    for sampler, mine in found.groupby("sampler", sort=False):
        gain, low, high = interval(mine["gain"].to_numpy())
        much, much_low, much_high = interval(mine["promised_too_much"].to_numpy())
        spread = float(mine["gain"].std(ddof=1))
        rows.append((sampler, len(mine), gain, low, high, spread, much, much_low, much_high))
    names = ["sampler", "searches", "gain", "gain_low", "gain_high", "gain_std_of_searches"]
    return pd.DataFrame(rows, columns=[*names, "promised_too_much", "promised_low", "promised_high"])


def drawn(curves: pd.DataFrame, searched: pd.DataFrame) -> bytes:
    """As SVG: how the best on validation images grows with the trials, and what each winner gains on test images."""
    colours = dict(zip(dict.fromkeys(searched["sampler"]), (theme.TREATMENT, theme.CONTROL, theme.MUTED), strict=False))
    with theme.styled(), mpl.rc_context({"svg.hashsalt": "luck"}):
        figure = theme.new_figure(theme.WIDTH, 3.2)
        left, right = figure.subplots(1, 2)
        for place, (sampler, colour) in enumerate(colours.items()):
            rows = curves[curves["sampler"] == sampler]
            left.plot(rows["trials"], 100 * rows["best"], color=colour, label=sampler)
            left.fill_between(
                rows["trials"], 100 * rows["lowest"], 100 * rows["highest"], color=colour, alpha=0.15, lw=0
            )
            mine = searched[searched["sampler"] == sampler]
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


def _carry_out(asked: argparse.Namespace) -> None:
    data = real_images(asked.data)
    recipes: dict[str, Recipe] = {}
    promised: dict[str, float] = {}
    by: dict[str, str] = {}
    curves = []
    for sampler in asked.samplers:
        trials: dict[str, pd.DataFrame] = {}
        for seed in range(asked.searches):
            name = f"{sampler}, search {seed}"
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
            assert found.recipe is not None
            best = reading.best_of(found.trials)
            assert best is not None
            recipes[name], promised[name], by[name], trials[name] = (
                found.recipe,
                float(best["value"]),
                sampler,
                found.trials,
            )
            print(f"{name}: {100 * promised[name]:.2f} % on validation images", flush=True)
        curves.append(growth(trials, sampler))
    size = profile(asked.profile)
    arms = {BASELINE: size.apply(ca.notebook_recipe())} | {name: size.apply(one) for name, one in recipes.items()}
    result = ca.compare(
        arms, seeds=asked.seeds, profile=asked.profile, data=asked.data, backend="torch", name="luck-of-the-search"
    )
    searched = table(promised, by, result._findings.runs)
    samplers = of_samplers(searched)
    print(samplers.to_string(index=False))
    about: dict[str, Any] = {
        "kind": "luck",
        "search": asked.search,
        "profile": asked.profile,
        "trials": asked.trials,
        "command": f"python -m benchmarks.luck --search {asked.search} --profile {asked.profile} --samplers "
        f"{' '.join(asked.samplers)} --searches {asked.searches} --trials {asked.trials} --seeds {asked.seeds}",
        "network": str(size.model),
        "budget": str(size.budget),
        "data": {"name": data.name, "digest": data.digest},
        **machine_of(result._findings),
    }
    contents = {
        ABOUT: tomlkit.dumps(about).encode(),
        "searches.csv": as_csv(searched),
        "samplers.csv": as_csv(samplers),
        "growth.csv": as_csv(pd.concat(curves)),
        "luck.svg": drawn(pd.concat(curves), searched),
    }
    write(asked.results / f"luck-{asked.search}-{asked.profile}", contents)


if __name__ == "__main__":
    main()
