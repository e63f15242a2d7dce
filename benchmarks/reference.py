"""The reference study: plans on real images, and what they found as small files in `results/`.

`python -m benchmarks.reference` trains what is missing of every study of STUDIES in the output folder, as `ablate run`
does, and writes a folder for each; studies may be named, as PLAN:PROFILE. `--stored FOLDER` takes the newest runs of an
output folder as they are, and trains nothing. The documentation's pages on techniques cite these files, and no others.

A folder holds `about.toml`, which says what was trained, where, when and by what; `verdicts.csv`, a row per claim;
`arms.csv` and `runs.csv`; of a factorial also `contributions.csv` and `interactions.csv`; `runs.parquet`, every metric
of every run; and `page.html`, the page as `ablate report` writes it, without links to a store. Accuracies, gaps and
their differences are fractions. Runs on drawn images are refused.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import tomlkit
import torch

import cifar_ablations as ca
from benchmarks.results import facts
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.reports.pages import downloads, findings, plan_page, rendering
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.reading import load as reading
from cifar_ablations.reports.wording import phrases
from cifar_ablations.study.data.dataset import Dataset, load
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parents[1] / "results"
ABOUT, VERDICTS, ARMS, RUNS = "about.toml", "verdicts.csv", "arms.csv", "runs.csv"
METRICS, PAGE = "runs.parquet", "page.html"
CONTRIBUTIONS, INTERACTIONS = "contributions.csv", "interactions.csv"
LEVELS = "levels/"
"""How the names of the plans begin that hold the levels of one technique against each other."""
PLAN = "plan"
"""The kind of a folder that a plan's runs are in; `benchmarks.step_cost` writes another one."""


class Study(NamedTuple):
    """A plan, and the size at which it is carried out."""

    plan: str
    profile: str


STUDIES = tuple(
    Study(plan, "quick")
    for plan in (
        "techniques",
        "claims",
        "modern",
        "optimizers",
        "learning-rate-sweep",
        "factorial",
        *(name for name in catalog.plan_names() if name.startswith(LEVELS)),
    )
)
"""Those that `make results` carries out."""
RETUNED = {"optimizers": 6}
"""Plans of which each arm is at a rate that was found for it, and by how many trials."""

VERDICT_COLUMNS = [
    "technique",
    "title",
    "where",
    "metric",
    "treatment",
    "control",
    "difference",
    "low",
    "high",
    "confidence",
    "p_page",
    "direction",
    "outcome",
    "verdict",
    "exploratory",
    "margin",
    "treatment_n",
    "treatment_diverged",
    "treatment_mean",
    "treatment_std",
    "control_n",
    "control_diverged",
    "control_mean",
    "control_std",
    "statement",
]
"""`direction`: helps, hurts, same or open; `outcome`: the same as a report words it; `verdict`: on the statement."""
ARM_COLUMNS = ["arm", "n", "diverged", "accuracy", "accuracy_std", "low", "high", "train_accuracy", "fit"]
RUN_COLUMNS = ["arm", "seed", "outcome", *schema.ENDINGS, "ended"]


def found(tracking_uri: str, study: Study) -> Findings:
    """What the newest invocation of a study in a store found. Raises AblateError where there is none on real images,
    and where runs are missing."""
    known = reading.invocations(tracking_uri)
    chosen = next((one for one in known if Study(one.name, one.profile) == study and not one.stand_in), None)
    if chosen is None:
        there = [f"{one.name} at {one.profile}{' on drawn images' if one.stand_in else ''}" for one in known]
        raise AblateError(
            f"no runs of plan {study.plan} at profile {study.profile} on real images; the store has: "
            f"{', '.join(dict.fromkeys(there)) or 'nothing'}"
        )
    results = findings.of_invocation(reading.connect(tracking_uri), chosen, known)
    planned = len(results.plan.arms) * len(results.plan.seeds)
    if len(results.runs) < planned:
        raise AblateError(f"{len(results.runs)} of {planned} runs of {study.plan} have ended; carry it out to its end")
    return results


def files(results: Findings) -> dict[str, bytes]:
    """The contents of a study's folder, by name."""
    plan, verdicts = results.plan, results.verdicts
    rows = verdicts.to_dict("records")
    said = verdicts.assign(
        title=[phrases.subject(plan, row) for row in rows],
        direction=[phrases.direction(row) for row in rows],
        outcome=[phrases.outcome(row) for row in rows],
        verdict=[phrases.LABELS[row["verdict"]] for row in rows],
    )
    ended = pd.to_datetime(results.runs["ended"], unit="ms", utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    crossed = {}
    if plan.factors:
        crossed[CONTRIBUTIONS] = as_csv(pd.concat(results.contributions, names=["metric"]).reset_index("metric"))
        crossed[INTERACTIONS] = as_csv(results.interactions)
    return {
        ABOUT: tomlkit.dumps(_about(results)).encode(),
        VERDICTS: as_csv(said.reindex(columns=VERDICT_COLUMNS)),  # a plan may claim nothing
        ARMS: as_csv(results.arms[ARM_COLUMNS]),
        RUNS: as_csv(results.runs.assign(ended=ended)[RUN_COLUMNS]),
        METRICS: downloads.files(results, {})[METRICS],
        PAGE: plan_page.html_of(results).encode(),
        **crossed,
    }


def as_csv(frame: pd.DataFrame) -> bytes:
    """A table as a file of results has it: numbers with six significant digits."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def as_svg(figure: Figure) -> bytes:
    """A figure as a file of results has it: on white, since it is also looked at apart from any page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
    return buffer.getvalue()


def _about(results: Findings) -> dict[str, Any]:
    """What was trained, where, when and by what."""
    plan, runs, ended = results.plan, results.runs, last_ended(results)
    about = {
        "kind": PLAN,
        "plan": plan.name,
        "profile": plan.profile.name,
        "question": plan.question,
        "layout": plan.layout,
        "command": plan.command,
        "date": ended.date(),
        "network": plan.model,
        "budget": plan.budget,
        "overrides": list(plan.overrides),
        "seeds": list(plan.seeds),
        "trainings": len(runs),
        "worker_minutes": round(float(runs[schema.SECONDS].sum()) / 60, 1),
        "data": {"name": plan.data.name, "digest": plan.data.digest},
        "rule": {
            "test": plan.rule.test,
            "correction": plan.rule.correction,
            "alpha": plan.rule.alpha,
            "margin": plan.rule.margin,
            "error_rate": round(results.error_rate, 4),
        },
        **machine_of(results),
    }
    if set(runs["parent_run_id"]) == {results.invocation.run_id}:  # else it was carried out in several calls
        about["minutes"] = round((ended - results.invocation.started).total_seconds() / 60, 1)
    return about


def last_ended(results: Findings) -> datetime:
    """When the last of its runs ended."""
    return datetime.fromtimestamp(float(results.runs["ended"].max()) / 1000, UTC)


def machine_of(results: Findings) -> dict[str, Any]:
    """The tables `machine` and `versions` of what ran last, as its runs say it."""
    runs, made = results.runs, results.invocation.provenance
    machine = {name: getattr(made, name) for name in ("processor", "cores", "device", "workers")}
    machine |= {name: sorted(set(runs[name])) for name in ("instructions", "backend")}
    return {"machine": machine, "versions": _versions(vars(made))}


def _versions(made: Mapping[str, str]) -> dict[str, str]:
    names = ("commit", "dirty", "python", "platform", "cifar_ablations", "torch", "torchvision", "mlflow", "numpy")
    return {name: made[name] for name in names}


def machine_here(device: torch.device, backend: list[str]) -> dict[str, Any]:
    """The tables `machine` and `versions` of a benchmark that runs now, on one worker."""
    here = vars(facts(device, 1))
    machine = {name: here[name] for name in ("processor", "instructions", "cores", "device", "workers")}
    machine |= {"instructions": [here["instructions"]], "backend": backend}
    return {"machine": machine, "versions": _versions(here)}


def write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder of results; `about.toml`, by which it is found, comes last."""
    for name in sorted(contents, key=lambda name: name == ABOUT):
        write_atomically(folder / name, contents[name])
    print(f"Written to {os.path.relpath(folder)}")


def real_images(source: str | None) -> Dataset:
    """The data set that `ablate run` would take. Raises AblateError where that is drawn images."""
    data = load(source or os.environ.get("ABLATE_DATA"), Home().data)
    if data.stand_in:
        raise AblateError("results are of real images, and there are none here; name some with --data PATH")
    return data


def folder_of(study: Study) -> str:
    """What a study's folder is called."""
    return f"{rendering.slug(study.plan)}-{study.profile}"


def _carried_out(studies: tuple[Study, ...], data: str | None) -> str:
    """Train what is missing of the studies in the output folder; the address of its store."""
    real_images(data)
    for study in studies:
        if study.plan in RETUNED:
            words = [study.plan, "--profile", study.profile, "--retune", "--trials", str(RETUNED[study.plan])]
            words += ["--data", data] if data else []
            ended = subprocess.run([sys.executable, "-m", "cifar_ablations", "run", *words], check=False).returncode
            if ended:
                raise AblateError(f"`ablate run {' '.join(words)}` ended with {ended}; the same command goes on")
        else:
            ca.run(study.plan, profile=study.profile, data=data)
    return Home().tracking_uri


def _study(text: str) -> Study:
    plan, _, profile = text.rpartition(":")
    return Study(plan, profile)


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """What cannot be is said without a traceback, and the program ends with 2."""
    try:
        yield
    except AblateError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def main() -> None:
    """Carry out the studies and write their files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [f"{study.plan}:{study.profile}" for study in STUDIES]
    parser.add_argument("studies", nargs="*", help=f"PLAN:PROFILE of each study [default: {' '.join(names)}]")
    parser.add_argument("--stored", type=Path, help="an output folder whose runs are taken [default: train here]")
    parser.add_argument("--data", help="as for `ablate run` [default: ABLATE_DATA, cached or downloaded]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write [default: results/]")
    asked = parser.parse_args()
    studies = tuple(_study(text) for text in asked.studies or names)
    with in_a_sentence():
        for text, study in zip(asked.studies, studies, strict=False):
            if not study.plan:
                raise AblateError(f"{text!r} is not of the form PLAN:PROFILE{did_you_mean(text, names)}")
        store = Home(asked.stored).tracking_uri if asked.stored else _carried_out(studies, asked.data)
        for study in studies:
            write(asked.results / folder_of(study), files(found(store, study)))


if __name__ == "__main__":
    main()
