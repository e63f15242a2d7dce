"""Bytes of a file in the output folder, or of what is kept beside it, are damaged between two commands."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.torture import ground
from benchmarks.torture.ground import ADOPT, FOUNDATIONS, REPORT, RUN, SMALL, TUNE, Attempt, Ground
from cifar_ablations.ablations import schema

KIND = "damage"
TITLE = "Bytes damaged in a file of the output folder"
CHECKED = (
    "a sentence, or it is redone; no traceback; every other result is still there, and what is trained on is what it "
    "should be, both in every bit"
)
MOST = 4
"""Files of different kinds that a case damages."""
STORE, LOCKS = "the store", "plan locks"
KINDS = {
    STORE: r"mlflow\.db$",
    "plan.json": r"plan\.json$",
    "gallery.json": r"gallery\.json$",
    "details.npz": r"details\.npz$",
    "search files": r"(search|outcome)\.json$",
    "demonstrations": r"(demonstration\.json|frames/.*\.csv)$",
    "checkpoints": r"checkpoints/.*\.npz$",
    "cached images": r"data/.*\.npy$",
    "cached meta": r"data/.*\.json$",
    "Optuna's journal": r"optuna\.journal$",
    "lock notes": r"ablate\.lock",
    "pending epochs": r"pending-.*$",
    "recipes": r"recipes/.*\.toml$",
    "pages": r"reports/.*\.html$",
    "tables": r"reports/.*\.(csv|parquet|json|zip)$",
    LOCKS: r"lock\.json$",
    "numbers kept": r"cache/cifar-ablations/.*\.json$",
}
"""Files by what they are."""


def truncated(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) or 1)]


def zeroed(data: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(data) or 1)
    end = min(len(data), start + rng.choice([1, 16, 512, 4_096, len(data)]))
    return data[:start] + bytes(end - start) + data[end:]


def flipped(data: bytes, rng: Random) -> bytes:
    spoiled = bytearray(data)
    for _ in range(rng.choice([1, 3, 30])):
        if spoiled:
            spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def repeated(data: bytes, rng: Random) -> bytes:
    return data + data[rng.randrange(len(data) or 1) :]


def emptied(data: bytes, rng: Random) -> bytes:
    return b""


def scrambled(data: bytes, rng: Random) -> bytes:
    return rng.randbytes(len(data))


WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (truncated, zeroed, flipped, repeated, emptied, scrambled)
ADOPTED = ["run", "levels/dropout", "--baseline", "regularization", "--seeds", "1", *SMALL]
AFTER_RUN = (
    RUN,
    RUN,
    REPORT,
    ["check", "levels/dropout"],
    ["plan", *RUN[1:]],
    ["export", "levels/dropout"],
    ["doctor"],
)
AFTER_ALL = (*AFTER_RUN, TUNE, ADOPT, ADOPTED, FOUNDATIONS)


def attempt(ground_: Ground, rng: Random, folder: Path) -> Attempt:
    """Damage a file or two, call commands, and look at what is there."""
    home = ground_.copied(ground_.full, folder)
    cache = folder / "cache"
    shutil.copytree(ground_.folder / "cache", cache)
    shutil.copy(ground_.folder / "lock.json", folder / "here.lock.json")
    if began := rng.random() < 0.5 and not ground_.short:  # with checkpoints, and epochs that wait
        shutil.rmtree(home)
        shutil.copytree(ground_.half, home)
    there = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {kind: [path for path in there if re.search(sign, str(path))] for kind, sign in KINDS.items()}
    known = [kind for kind, files in found.items() if files and not (ground_.short and kind == LOCKS)]
    kinds = rng.sample(known, ground_.chain(rng, MOST))
    kinds = [STORE] if STORE in kinds else kinds
    before = _results(home)
    done = Attempt("half done;" * began, len(kinds))
    for kind in kinds:
        file = rng.choice(found[kind])
        done.what += f" {kind} ({file.relative_to(folder)}) {damage(file, rng)};"
    words = rng.choice(AFTER_RUN if ground_.short else AFTER_ALL)
    if LOCKS in kinds:
        lock = str(folder / "here.lock.json")
        words = rng.choice([["verify", lock], [*RUN, "--lock", lock]])
    done.what += f" {' '.join(words[:2])}"
    ended = ground_.call(words, folder, cache=cache).end()
    done.note(ended.unseemly((0, 1, 2, 3)))
    if kinds == [STORE]:  # it says so, or has not met the damage; a store cannot be made whole again
        return done
    after = _results(home)
    for kind_of_run, earlier in before.items():
        kept = {key: one for key, one in after[kind_of_run].items() if key in earlier}
        done.note(ground.differences(kept, earlier, kind_of_run))
    ended = ground_.call(RUN, folder, cache=cache).end()
    done.note([f"then run: {sentence}" for sentence in ended.unseemly((0, 2))])
    if ended.code == 0:
        whole = _results(ground_.full)[schema.KIND_TRAINING]
        ours = {key: one for key, one in _results(home)[schema.KIND_TRAINING].items() if key in whole}
        done.note(ground.differences(ours, whole, "training"))
        done.note(ground.missing_pages(home, ground_.full, "levels-dropout"))
    return done


def damage(file: Path, rng: Random) -> str:
    """Damage a file; returns how, in words."""
    if rng.random() < 0.08:
        file.unlink()
        file.mkdir()
        return "a folder in its place"
    way = rng.choice(WAYS)
    file.write_bytes(way(file.read_bytes(), rng))
    return way.__name__


def _results(home: Path) -> dict[str, dict[tuple[str, str], list[ground.Result]]]:
    try:
        return {kind: ground.results(home, kind) for kind in (schema.KIND_TRAINING, schema.KIND_TRIAL)}
    except (sqlite3.Error, KeyError):
        return {schema.KIND_TRAINING: {}, schema.KIND_TRIAL: {}}
