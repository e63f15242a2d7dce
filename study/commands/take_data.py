"""Carries out `ablate data`, given its parsed arguments."""

from __future__ import annotations

from collections.abc import Callable

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.study.data import official_files
from cifar_ablations.study.data.dataset import OFFICIAL, expanded, load, load_official, opening
from cifar_ablations.study.store.home import Home


def take_in(home: Home, name: str, source: str | None, say: Callable[[str], None]) -> None:
    """Put official files into the cache, downloaded or from a path to them, and say what it holds.

    name: `cifar10` or `cifar100`. Raises AblateError for another name, and for a source that is not its official files.
    Hold the home's lock.
    """
    if name not in official_files.TITLES:
        raise AblateError(f"no data set {name!r}{did_you_mean(name, official_files.TITLES)}")
    if source is None:
        dataset = load_official(name, home.data, say=say)
        say(opening(dataset))
    else:
        dataset = load(official_files.located(name, expanded(source)), home.data, say=say)
    assert dataset.folder is not None
    use = "which every command takes without --data" if name == OFFICIAL else f"which --data {name} takes"
    say(f"It is in {home.shown(dataset.folder)}, {use}.")
