"""Opens a store to write to it, with what earlier calls left settled; carries out `ablate sync`, which does no more."""

from __future__ import annotations

from collections.abc import Callable

from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import Store, open_store

Say = Callable[[str], None]


def opened(home: Home, say: Say) -> Store:
    """The store, with what waited for it delivered, and the runs ended that nobody trains any more.

    Raises StoreError, in a sentence, where it cannot be opened, or does not answer. Hold the folder's lock.
    """
    store = open_store(home, say)
    if ended := store.reconcile():
        say(f"Closed {ended} training{'s' * (ended > 1)} that an earlier call left unfinished.")
    return store


def sync(home: Home, say: Say) -> None:
    """Deliver what waits in the output folder for its store, and name what waits there for other ones."""
    if home.pending.exists():
        opened(home, say)
        say("All that waited is in the MLflow store; `ablate report` writes its pages.")
    else:
        say(f"Nothing waits in {home.shown(home.folder)} for this MLflow store.")
    for file in sorted(home.folder.glob(home.pending_of("*").name)):
        if file != home.pending:
            say(f"{home.shown(file)} waits for another store: name that one in MLFLOW_TRACKING_URI.")
