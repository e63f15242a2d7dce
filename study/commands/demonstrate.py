"""Carries out `ablate foundations`, given its parsed arguments."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd
import torch

from cifar_ablations.ablations.naming import EXACT, check_range
from cifar_ablations.reports.wording.tables import for_spreadsheets
from cifar_ablations.study.commands.sync import opened
from cifar_ablations.study.foundations.catalog import demonstrations
from cifar_ablations.study.store.foundations_log import FoundationsLog
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.provenance import provenance

Say = Callable[[str], None]


def run_foundations(
    home: Home, say: Say, seed: int = 0, write: Callable[[str, Path], Iterable[Path]] | None = None
) -> int:
    """Run every demonstration, log each as a run with its checks and frames, and have the page written.

    write: takes the store's address and the folder of reports, and returns the pages. Returns how many checks do not
    hold, which is a finding and no error. Raises AblateError for a negative seed. Hold the home's lock.
    """
    check_range("--seed", seed, 0, EXACT)
    store = opened(home, say)
    log = FoundationsLog(store)
    began, total, failing = time.perf_counter(), 0, 0
    threads = torch.get_num_threads()
    # Sums over several threads may differ in their last bit, and these are too small to gain from them.
    torch.set_num_threads(1)
    try:
        with store.delivering():
            experiment, parent = log.open(seed, provenance(torch.device("cpu"), 1))
            try:
                for name, module in demonstrations().items():
                    started = time.perf_counter()
                    found = module.run(seed)
                    seconds = time.perf_counter() - started
                    with tempfile.TemporaryDirectory() as folder:
                        _write_frames(Path(folder), found.frames)
                        log.demonstration(experiment, parent, seed, found.record(), Path(folder), seconds)
                    missed = [check for check in found.checks if not check.holds]
                    total, failing = total + len(found.checks), failing + len(missed)
                    holding = f"{len(found.checks) - len(missed)} of {len(found.checks)} checks hold"
                    say(f"{name}: {holding} ({seconds:.1f} s)")
                    for check in missed:
                        say(f"  does not hold: {check.statement} ({check.source})")
            except BaseException:
                store.interrupt(parent)
                raise
            store.close_invocation(parent, 0)
    finally:
        torch.set_num_threads(threads)
    say(f"{total - failing} of {total} checks hold, in {time.perf_counter() - began:.0f} s.")
    for page in write(store.uri, home.reports) if write else ():
        say(f"Report: {home.shown(page)}")
    return failing


def _write_frames(folder: Path, frames: Mapping[str, pd.DataFrame]) -> None:
    for name, frame in frames.items():
        # Every digit, since the page is drawn from them; else as a spreadsheet opens it.
        table = for_spreadsheets(frame)
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n", encoding="utf-8-sig")
