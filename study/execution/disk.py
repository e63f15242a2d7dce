"""How much disk trainings take, said and checked before they begin."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.sizes import readable
from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.execution.sizing import CPU_FLEET, LARGEST_FLEET
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training import model
from cifar_ablations.study.training.fleet import Member

BYTES_OF_A_VALUE = 273
"""A metric's value at an epoch in MLflow's SQLite, with its three indices: measured over 84 runs of 30 epochs."""
VALUES_OF_AN_EPOCH = 8
BYTES_OF_A_RUN = 60_000
"""Parameters, tags and the metrics at the end in the database, and files: measured in the same store."""
MATRICES = 4
"""Of a member on disk, each of the size of its weights: they, two moments, and the best state so far."""
OLD_AND_NEW = 2
"""A checkpoint is written beside the one that it replaces."""
PAGES = 5_000_000
SPARE = 100_000_000
"""Bytes that are left free: a disk that is full to the brim stops other programs too."""


def estimated_bytes(invocation: Surroundings, members: Sequence[Member], *, weights: bool = False) -> int:
    """About how many bytes these trainings write at most at a time, with their checkpoints and pages.

    weights: whether those of all of them may be kept.
    """
    if not members:
        return 0
    rows = sum(BYTES_OF_A_RUN + BYTES_OF_A_VALUE * VALUES_OF_AN_EPOCH * m.recipe.sized.budget.epochs for m in members)
    networks = {m.recipe.model: m.recipe for m in members}.values()
    classes = len(invocation.data.classes)
    largest = max(sum(p.nbytes for p in model.network_of(one, classes).parameters()) for one in networks)
    fleet = CPU_FLEET if invocation.device.type == "cpu" else LARGEST_FLEET
    at_once = min(len(members), invocation.workers * fleet)
    kept = len(members) * largest if weights else 0
    return rows + at_once * largest * MATRICES * OLD_AND_NEW + kept + PAGES


def free_bytes(home: Home) -> int:
    """What is free on the disk that the output folder is or will be on."""
    there = next(place for place in (home.folder, *home.folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def check_room(home: Home, needed: int) -> None:
    """Raise AblateError where the output folder's disk has less room than is needed, if any is."""
    free = free_bytes(home)
    if needed and free < needed + SPARE:
        raise AblateError(
            f"these trainings need about {readable(needed)} in {home.shown(home.folder)}, and {readable(free)} are "
            "free on its disk. Make room, or name another output folder: ABLATE_HOME=FOLDER."
        )
