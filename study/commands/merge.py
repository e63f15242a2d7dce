"""Carries out `ablate merge`: trainings of other output folders and stores come into this one's."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cifar_ablations.ablations import addresses
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.study.commands.sync import opened
from cifar_ablations.study.store import merging
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.merging import Merged

Say = Callable[[str], None]


def merge(home: Home, places: Sequence[str], say: Say) -> Merged:
    """Bring what the stores of other output folders, or at addresses, have and this one lacks; says what it was.

    Raises AblateError, in a sentence, for the first that cannot be brought; what was brought before it stays. Hold the
    folder's lock.
    """
    for place in places:
        _check(home, place, say)
    store, total = opened(home, say), Merged()
    for place in places:
        with store.delivering():
            one = merging.merge(store, addresses.store_address(place), say)
        known = f", {one.known:,} were here already" if one.known else ""
        say(f"{without_password(place)}: {one.trainings:,} trainings brought{known}.")
        total.trainings += one.trainings
        total.known += one.known
        total.plans += [name for name in one.plans if name not in total.plans]
    return total


def _check(home: Home, place: str, say: Say) -> None:
    """Raise AblateError for a place that is this store itself, and say what has not reached that of another folder."""
    address = addresses.store_address(place)
    files = [file.resolve() for one in (address, home.tracking_uri) if (file := addresses.sqlite_file(one)) is not None]
    if address == home.tracking_uri or (len(files) == 2 and files[0] == files[1]):
        raise AblateError(f"{without_password(place)} is the store that others are to be brought to: name another")
    folder = Path(place).expanduser()
    if "://" not in place and any(folder.glob("pending-*.jsonl")):
        say(
            f"{place} has reports of trainings that are not in its store yet, and cannot be brought: "
            f"`ABLATE_HOME={os.path.relpath(folder)} ablate sync` writes them there."
        )
