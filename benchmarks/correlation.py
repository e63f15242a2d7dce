"""How alike shared seeds make two arms: what pairs would buy, measured in the runs of an output folder.

`python -m benchmarks.correlation OUT` adds a table to RESULTS.md: for each question of the store, the mean correlation
of two arms' test accuracies over seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.calibration import table
from benchmarks.results import RESULTS, described, facts, machine, record
from cifar_ablations.reports.inference import arms, statistics
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.reading.load import Invocation

LEAST_SEEDS = 5


def rows(uri: str) -> list[tuple[object, ...]]:
    """Plan, network, budget, arms, seeds, mean correlation and what pairs would be worth, of each question."""
    client, found = load.connect(uri), []
    for invocation in rendering.newest(load.invocations(uri, [])).values():
        plan = invocation.plan
        rho, pairs = arms.seed_correlation(plan, load.runs_of(client, plan))
        seeds = len(plan.seeds)
        if pairs and seeds >= LEAST_SEEDS:
            gained = statistics.seeds_worth(rho, seeds)
            found.append((_name(invocation), plan.model, plan.budget, pairs, seeds, f"{rho:.2f}", f"{gained:+.1f}"))
    return sorted(found, key=str)


def _name(invocation: Invocation) -> str:
    return f"{invocation.name}, {invocation.profile}"


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="an output folder of ablate")
    about = facts(torch.device("cpu"), 2)
    text = "\n".join(
        [
            f"{described(about)}.\n",
            "Correlation: mean over pairs of arms, of runs that converged. Pairs are worth: the seeds, more or fewer, "
            "that arms compared as independent would need for as short an interval.\n",
            table(
                "plan | network | budget | pairs of arms | seeds | correlation | pairs are worth, seeds",
                rows(f"sqlite:///{(parser.parse_args().folder / 'mlflow.db').resolve()}"),
            ),
        ]
    )
    record(RESULTS, f"How alike seeds make two arms: {machine(about)}", text)
    print(text)


if __name__ == "__main__":
    main()
