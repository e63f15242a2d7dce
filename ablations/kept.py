"""Numbers that take seconds to compute and come out the same each time, kept on this machine for the next time."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path

from cifar_ablations.ablations.files import parse_json, write_atomically


def folder() -> Path | None:
    """Where they are kept: below `XDG_CACHE_HOME`, else `~/.cache`; None where there is no home."""
    with suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cifar-ablations"
    return None


def number(name: str, about: Hashable, compute: Callable[[], float]) -> float:
    """What `compute` gives, or gave when it was last asked for the same.

    about: all that the number depends on, the code that computes it included; its repr is what tells two apart. What
    cannot be read, or is no finite number, is computed again; what cannot be written is computed again the next time.
    """
    place = folder()
    if place is None:
        return compute()
    path = place / f"{name}-{hashlib.sha256(repr(about).encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = float(parse_json(path.read_bytes())["number"])
        if math.isfinite(known):
            return known
    found = compute()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, json.dumps({"number": found}).encode())
    return found
