"""`ablate check-extension`: an extension is put to the tests that the suite's techniques, plans and networks pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from cifar_ablations.ablations import catalog, extensions, metrics
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.extensions import Extension
from cifar_ablations.study.execution.workers import THREADS
from cifar_ablations.study.training import contracts, model


def check_extension(folder: Path, say: Callable[[str], None]) -> bool:
    """Say of each contract of each thing in a folder whether it is kept; returns whether all are.

    The folder is named an extension by that, beside those that are known. Raises AblateError where there is none.
    """
    extensions.name(*extensions.named(), folder)
    place = folder.resolve()
    (extension,) = (one for one in extensions.known() if one.folder.resolve() == place)
    torch.set_num_threads(THREADS)  # as in a worker
    kept = failed = 0
    with tempfile.TemporaryDirectory() as drawn:
        for check in checks_of(extension, Path(drawn)):
            why = check.failure()
            say(f"failed  {check.of}: {why}" if why else f"ok      {check.of}: {check.keeps}")
            kept, failed = kept + (not why), failed + bool(why)
    if not kept + failed:
        raise AblateError(f"{extension.origin} defines nothing yet; its files lie in {', '.join(extensions.KINDS)}")
    say(f"{kept} of {kept + failed} checks of {extension.name} are kept.")
    return not failed


def checks_of(extension: Extension, folder: Path) -> list[contracts.Check]:
    """All contracts of all that an extension defines; folder: where images are drawn for it."""
    metrics.known(), model.networks()
    plans = [name for name in catalog.plan_names() if catalog.origin(extensions.PLANS, name) == extension.origin]
    return contracts.checks_of(
        contracts.small_trainings(folder),
        {name: catalog.techniques()[name] for name in extension.files(extensions.TECHNIQUES)},
        plans,
        [name.replace("_", "-") for name in extension.files(extensions.SEARCHES)],
        list(extension.files(extensions.METRICS)),
        list(extension.files(extensions.NETWORKS)),
    )
