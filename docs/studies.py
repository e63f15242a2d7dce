"""What small budgets, repeated searches and parts of a recipe came to, as `results/` has it, in Markdown."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.attribution import WAYS, ways_of
from benchmarks.reference import ABOUT, RESULTS
from cifar_ablations.ablations import schema
from cifar_ablations.reports.wording import phrases
from docs.measured import source, table

TITLE = "Budgets, searches, parts of a recipe"


def page(results: Path = RESULTS) -> str:
    """A section per folder of results of one of KINDS."""
    lines = [
        f"# {TITLE}",
        "What the pages of techniques do not have: how far verdicts at a small budget carry, how much the outcome of a "
        "search is luck, and where the points of a recipe that was found come from. Every number comes from the folder "
        "`results/` of the repository; `about.toml` there says when, where and by what it was measured.",
    ]
    for about in sorted(results.glob(f"*/{ABOUT}")):
        said = tomllib.loads(about.read_text(encoding="utf-8"))
        if said["kind"] in KINDS:
            lines += KINDS[said["kind"]](about.parent, said)
            lines += [f"`{said['command']}`", source(said, about.parent.name)]
    return "\n\n".join(lines) + "\n"


def _budgets(folder: Path, about: Mapping[str, Any]) -> list[str]:
    found = pd.read_csv(folder / "agreement.csv").to_dict("records")
    largest = found[-1]
    end = f"{largest['train_images']:,}"
    head = ["images", "batch", "width", "steps", "seconds", "training accuracy", f"pairs as at {end}", "by halves"]
    head += ["verdicts", "the same", "reversed", "open there"]
    rows = [
        [
            f"{row['train_images']:,}",
            f"{row['batch_size']}",
            f"× {row['width']:.3g}",
            f"{row['steps']:,}",
            f"{row['seconds']:.0f}",
            f"{_percent(row['train_accuracy'])}",
            "–" if row is largest else _share(row, "pairs_alike"),
            _percent(row["halves_alike"]),
            f"{row['decided']}",
            *("–" if row is largest else f"{row[name]}" for name in ("carried", "turned", "open_at_the_largest")),
        ]
        for row in found
    ]
    return [
        f"## Plan {about['plan']} at {len(found)} budgets",
        f"{largest['arms']} arms over the same {largest['seeds']} seeds at each budget, of which "
        f"{largest['arms_in_pairs']} have runs at the largest; the training accuracy is the full recipe's. Width "
        "shrinks with the images, and so does the batch down to 8, below which there are fewer steps: nothing here is "
        "an effect of the number of images alone. Seconds are a training's share of its fleet.",
        f"*Pairs as at {end}*: of all pairs of arms, how many have the same better one as at {end} images, with a 95 % "
        "interval over seeds by the jackknife; *by halves*: the same of half of the seeds against the other half "
        f"at {end}. *Verdicts*, and what became of them at {end} images. Half of the largest budget's own seeds and "
        f"the other half agree in {_percent(largest['halves_alike'])} of pairs: a smaller budget that ordered the arms "
        "just as the largest does, with as much noise, would by halves agree in about as many.",
        table(head, rows),
        _cheapest(found),
        _figure(folder / "effects.svg", "Each technique's effect on test accuracy over the number of training images"),
        *_diverged(folder),
    ]


ENOUGH = 0.9
"""Of all pairs of arms: a budget that orders so many as the largest does is taken to predict it."""


def _cheapest(found: Sequence[Mapping[Any, Any]]) -> str:
    """Which of the smaller budgets predicts the largest at the least cost; found: rows of agreement, smallest first."""
    *small, largest = found
    enough = [row for row in small if row["pairs_alike"] >= ENOUGH]
    if not enough:
        return f"No smaller budget orders {_percent(ENOUGH)} of the pairs as the largest does."
    first = enough[0]
    return (
        f"The cheapest that orders {_percent(ENOUGH)} of the pairs as the largest does has {first['train_images']:,} "
        f"images: {first['seconds']:.0f} seconds a training against {largest['seconds']:.0f}."
    )


def _diverged(folder: Path) -> list[str]:
    """Which effects are of fewer runs, since some diverged, and which of none."""
    found = pd.read_csv(folder / "effects.csv").to_dict("records")
    said = [
        f"{row['title']} {row['where']} at {row['train_images']:,} images, {_lost(row, 'treatment')} with it and "
        f"{_lost(row, 'control')} without"
        for row in found
        if row["treatment_diverged"] or row["control_diverged"]
    ]
    return [f"Runs diverged, and effects are of the others: {'; '.join(said)}."] if said else []


def _lost(row: Mapping[Any, Any], side: str) -> str:
    """How many runs of a side diverged: '3 of 6'."""
    lost = row[f"{side}_diverged"]
    return f"{lost} of {lost + row[f'{side}_n']}"


def _luck(folder: Path, about: Mapping[str, Any]) -> list[str]:
    samplers = pd.read_csv(folder / "samplers.csv").to_dict("records")
    searched = pd.read_csv(folder / "searches.csv")
    head = ["sampler", "searches", "gain over the notebook's recipe", "from the worst to the best"]
    rows = [
        [
            row["sampler"],
            f"{row['searches']}",
            _points(row, "gain"),
            _range(searched.loc[searched["sampler"] == row["sampler"], "gain"]),
            _points(row, "promised_too_much", "promised"),
        ]
        for row in samplers
    ]
    return [
        f"## Search {about['search']}, repeated",
        f"Of each sampler, searches of {about['trials']} trials each that differ in their seed alone, at the profile "
        f"`{about['profile']}` ({about['network']}; {about['budget']}); every winner is trained on "
        f"{searched['seeds'].iloc[0]} fresh seeds beside the notebook's recipe, and tested. Intervals are over "
        "searches. The last column is the gain that the search saw on validation images, over the notebook's recipe in "
        "the same search, less the gain on test images. All trials of all searches are trained from one seed and "
        "validated on the same images, and the notebook's recipe is trained once in them: that chance, which all "
        "searches share, is in no interval.",
        table([*head, "gain on validation less gain on test images"], rows),
        _figure(
            folder / "luck.svg", "The best trial so far on validation images, and each winner's gain on test images"
        ),
    ]


def _attribution(folder: Path, about: Mapping[str, Any]) -> list[str]:
    found = pd.read_csv(folder / "groups.csv")
    ways = ways_of(found)
    rows = [[row["group"].replace("_", " "), *(_points(row, way) for way in ways)] for row in found.to_dict("records")]
    return [
        f"## Where the points of `results/{about['of']}` come from, at {about['share']} of the profile "
        f"{about['profile']}",
        f"{phrases.sentence_case(about['network'])}; {about['budget']}; {found['seeds'].iloc[0]} seeds. The optimizer "
        "includes its learning rate. Intervals are over seeds, each by itself.",
        table(["what was changed", *(WAYS[way] for way in ways)], rows),
        _figure(folder / "groups.svg", "What each group of changes is worth"),
    ]


KINDS: Mapping[str, Callable[[Path, Mapping[str, Any]], list[str]]] = {
    "budgets": _budgets,
    "luck": _luck,
    "attribution": _attribution,
}
"""What is made of a kind of results."""


def _points(row: Mapping[Any, Any], name: str, limits: str = "") -> str:
    low, high = (row[f"{limits or name}_{end}"] for end in ("low", "high"))
    return f"{phrases.difference(schema.TEST_ACCURACY, row[name])} {phrases.limits(schema.TEST_ACCURACY, low, high)}"


def _range(gains: pd.Series) -> str:
    return " to ".join(phrases.difference(schema.TEST_ACCURACY, gains.agg(end)) for end in ("min", "max"))


def _percent(share: float) -> str:
    return f"{phrases.percent(share, 0)} %"


def _share(row: Mapping[Any, Any], name: str) -> str:
    low, high = (phrases.percent(row[f"{name}_{end}"], 0) for end in ("low", "high"))
    return f"{_percent(row[name])} [{low}, {high}]"


def _figure(path: Path, words: str) -> str:
    image = base64.b64encode(path.read_bytes()).decode()
    return f'<img src="data:image/svg+xml;base64,{image}" alt="{words}">'
