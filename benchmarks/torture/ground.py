"""The small plan and search that faults are injected into, and what must hold once they are over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.torture.command import LIMIT, Command, apart, counting, import_everything, replaced
from cifar_ablations.ablations import schema
from cifar_ablations.ablations.addresses import ARTIFACTS
from cifar_ablations.ablations.files import PARTIAL

CLASSES = ("cat", "dog", "ship")
TRAIN, TEST = 24, 10
"""Images of each class."""

SIZES = {
    "model.width": 0.0625, "budget.epochs": 4, "budget.batch_size": 24, "budget.train_images": 48,
    "budget.validation_images": 12, "budget.test_images": 30,
}  # fmt: skip
SMALL = ["--profile", "smoke", "--device", "cpu", "--backend", "torch"]
SMALL += [word for name, value in SIZES.items() for word in ("--set", f"{name}={value}")]
RUN = ["run", "levels/dropout", "--seeds", "2", "--workers", "2", *SMALL]
TUNE = ["tune", "regularization", "--trials", "4", "--sampler", "random", "--workers", "1", *SMALL]
ADOPT = ["adopt", "regularization", "--replace"]
REPORT, FOUNDATIONS = ["report"], ["foundations"]
MIX = (RUN, RUN, RUN, TUNE, TUNE, REPORT, FOUNDATIONS, ADOPT)
"""Commands, each as often as it is worth."""
CLOCKS = {schema.SECONDS, schema.IMAGES_PER_SECOND}
"""Metrics that no repetition can repeat."""

Result = tuple[tuple[Any, ...], ...]
"""Of a training or trial: its metrics by name and step, with every bit, and the digest of its arrays."""


@dataclass(frozen=True)
class Ground:
    """What is made once. Every case copies what it needs into a folder of its own."""

    folder: Path
    short: bool = False
    """Whether half a minute must do: `ablate run` alone, and one fault in each case."""

    calls: dict[str, dict[str, int]] = field(default_factory=dict)
    """By command, how often it called functions when it was undisturbed."""

    def pick(self, rng: Random) -> list[str]:
        """A command to put a fault into."""
        return RUN if self.short else rng.choice(MIX)

    def chain(self, rng: Random, most: int) -> int:
        """How many faults one after the other a case has."""
        return 1 if self.short else rng.randint(1, most)

    @property
    def images(self) -> Path:
        """A folder of images, as a person has them."""
        return self.folder / "images"

    @property
    def empty(self) -> Path:
        """An output folder with the images in its cache and a store without runs."""
        return self.folder / "empty"

    @property
    def full(self) -> Path:
        """An output folder in which everything was done once, undisturbed."""
        return self.folder / "full"

    @property
    def half(self) -> Path:
        """An output folder whose plan was killed halfway."""
        return self.folder / "half"

    def environment(self, home: Path, cache: Path | None = None) -> dict[str, str]:
        """What commands are told; home: their output folder; cache: where they keep what they compute once."""
        kept = str(cache or self.folder / "cache")
        return {"ABLATE_HOME": str(home), "ABLATE_DATA": str(self.images), "XDG_CACHE_HOME": kept}

    def call(
        self,
        words: list[str],
        folder: Path,
        arm: Callable[[], None] | None = None,
        limit: float = LIMIT,
        cache: Path | None = None,
    ) -> Command:
        """Start a command on the output folder in a case's folder."""
        environment = self.environment(folder / "out", cache)
        return Command(words, folder, environment, lambda: _armed(arm), limit)

    def copied(self, source: Path, folder: Path) -> Path:
        """A case's own output folder."""
        shutil.copytree(source, folder / "out", symlinks=True)
        return folder / "out"


def make(folder: Path, short: bool = False, places: Iterable[str] = ()) -> Ground:
    """Import everything, make the images, and do everything once, undisturbed. Raises RuntimeError where that fails.

    places: functions whose calls are counted meanwhile.
    """
    import_everything()
    ground = Ground(folder, short)
    draw(ground.images)
    lock = ["plan", *RUN[1:], "--lock", str(folder / "lock.json")]
    if short:
        (folder / "lock.json").write_text("{}")
    for words in (RUN,) if short else (RUN, lock, TUNE, ADOPT, FOUNDATIONS, REPORT):
        told = folder / f"{words[0]}.calls"
        ended = ground.call(words, folder / "first", partial(counting, places, told)).end()
        ground.calls.setdefault(words[0], json.loads(told.read_bytes()))
        if ended.code != 0 or ended.unseemly():
            raise RuntimeError(f"undisturbed, {' '.join(words)} ended with {ended.code}:\n{ended.out}\n{ended.err}")
    shutil.copytree(folder / "first" / "out" / "data", ground.empty / "data")
    apart(lambda: _make_store(ground.empty))
    if not short:
        _kill_halfway(ground)
    (folder / "first" / "out").rename(ground.full)
    return ground


def _kill_halfway(ground: Ground) -> None:
    """Make the output folder that a kill leaves behind: some trainings have ended, others have a checkpoint."""
    for number in range(20):
        folder = ground.folder / f"killed-{number}"
        home = ground.copied(ground.empty, folder)
        command = ground.call(RUN, folder)
        while command.alive() and not (results(home) and any((home / "checkpoints").glob("*.npz"))):
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        command.end()
        if any((home / "checkpoints").glob("*.npz")) and len(results(home)) < 10:
            home.rename(ground.half)
            return
    raise RuntimeError("no kill came halfway")


def _make_store(home: Path) -> None:
    import logging

    from cifar_ablations.ablations import addresses
    from cifar_ablations.study.store.store_tables import make_tables

    logging.disable()
    make_tables(addresses.sqlite_address(home / "mlflow.db"), home / ARTIFACTS)


def draw(folder: Path) -> None:
    """Classes that can be told apart: each has a tint of its own under noise."""
    rng = np.random.default_rng(0)
    for tint, name in zip(rng.integers(60, 196, (len(CLASSES), 3)), CLASSES, strict=True):
        for split, count in (("train", TRAIN), ("test", TEST)):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(tint + rng.normal(0, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{i:03}.png")


def _armed(arm: Callable[[], None] | None) -> None:
    """Save every epoch, demonstrate what takes a moment, and put a fault in place."""
    from cifar_ablations.study.foundations.catalog import demonstrations
    from cifar_ablations.study.training.engine import Checkpoints

    few = {name: module for name, module in demonstrations().items() if name in QUICK}
    replaced(
        "cifar_ablations.study.execution.fleets:Checkpoints", lambda real: lambda place, _: Checkpoints(place, 0.0)
    )
    replaced("cifar_ablations.study.commands.demonstrate:demonstrations", lambda real: lambda: few)
    if arm is not None:
        arm()


QUICK = ("schedules",)
"""Demonstrations that take a moment."""


def results(home: Path, kind: str = schema.KIND_TRAINING) -> dict[tuple[str, str], list[Result]]:
    """The results in a store by recipe and seed, of a trial by recipe and study, as often as each is there.

    It is read as a file, without MLflow. Raises sqlite3.Error for one that is damaged.
    """
    second = schema.SEED if kind == schema.KIND_TRAINING else schema.STUDY
    with closing(sqlite3.connect(f"{(home / 'mlflow.db').as_uri()}?mode=ro", uri=True)) as store:
        found: dict[tuple[str, str], list[Result]] = {}
        for run in _of_kind(store, kind):
            tags = dict(store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", [run]))
            outcome = tags.get(schema.OUTCOME)
            if outcome not in (*schema.RESULTS, schema.PRUNED):
                continue
            metrics = store.execute("SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ?", [run]).fetchall()
            kept = sorted((key, step, value.hex(), nan) for key, step, value, nan in metrics if key not in CLOCKS)
            found.setdefault((tags[schema.DIGEST], tags[second]), []).append(((outcome,), *kept))
        return found


def _of_kind(store: sqlite3.Connection, kind: str) -> list[str]:
    asked = "SELECT r.run_uuid FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = ? AND t.value = ?"
    return [run for (run,) in store.execute(f"{asked} WHERE r.lifecycle_stage = 'active'", [schema.KIND, kind])]


def wrong(home: Path, whole: Path, words: list[str]) -> list[str]:
    """What is lost, doubled, different or left over in an output folder once a command has gone through.

    whole: the folder in which the same was done undisturbed.
    """
    found = []
    with closing(sqlite3.connect(f"{(home / 'mlflow.db').as_uri()}?mode=ro", uri=True)) as store:
        said = store.execute("PRAGMA integrity_check").fetchone()[0]
        running = store.execute("SELECT COUNT(*) FROM runs WHERE status = 'RUNNING'").fetchone()[0]
    found += [f"the store is damaged: {said}"] if said != "ok" else []
    found += [f"{running} runs are still marked RUNNING"] if running else []
    kinds = {"run": [schema.KIND_TRAINING], "tune": [schema.KIND_TRIAL]}.get(words[0], [])
    for kind in kinds or [schema.KIND_TRAINING, schema.KIND_TRIAL]:
        found += differences(results(home, kind), results(whole, kind), kind)
    found += [f"{name} is left over" for name in leftovers(home)]
    return found + missing_pages(home, whole, {"run": "levels-dropout", "tune": "search-"}.get(words[0], ""))


def differences(
    found: Mapping[tuple[str, str], list[Result]], expected: Mapping[tuple[str, str], list[Result]], kind: str
) -> list[str]:
    """What differs between two stores' results: each must be there once, and be the same in every bit."""
    said = []
    lost = len(expected.keys() - found.keys())
    said += [f"{lost} results of {kind}s are lost"] if lost else []
    said += [f"{more} results of {kind}s too many"] if (more := len(found.keys() - expected.keys())) else []
    doubled = sum(len(found[key]) > len(expected[key]) for key in expected.keys() & found.keys())
    said += [f"{doubled} {kind}s are there more than once"] if doubled else []
    for key in sorted(expected.keys() & found.keys()):
        if not set(found[key]) <= set(expected[key]):
            one, other = set(found[key][0]), set(expected[key][0])
            said.append(f"a {kind} has another result: {sorted(one ^ other, key=repr)[:4]}")
            break
    return said


def age(home: Path) -> None:
    """Make what was begun to be written look a week old, so that it is removed."""
    for path in home.rglob(f"{PARTIAL}*"):
        os.utime(path, (path.stat().st_mtime - 7 * 86_400,) * 2)


def leftovers(home: Path) -> list[str]:
    """Files that nobody needs once a command has gone through, by their places in the output folder."""
    begun = list(home.rglob(f"{PARTIAL}*"))
    waiting = [*home.glob("pending-*"), *home.glob("*.lock.json"), *(home / "checkpoints").glob("*")]
    return [str(path.relative_to(home)) for path in (*begun, *waiting, *(home / "errors").glob("*"))]


def missing_pages(home: Path, whole: Path, beginning: str) -> list[str]:
    """Pages of the undisturbed folder that this one lacks, or has half of."""
    names = [page.name for page in (whole / "reports").glob(f"{beginning}*.html")]
    found = []
    for name in names:
        page = home / "reports" / name
        if not page.exists():
            found.append(f"the page {name} is not there")
        elif "</html>" not in page.read_text("utf-8")[-400:]:
            found.append(f"the page {name} is not whole")
    return found


def moment(rng: Random, seconds: float) -> float:
    """Some moment of a command that takes so long, the early ones as often as the late ones."""
    return rng.uniform(0.01, max(0.05, seconds))


@dataclass
class Attempt:
    """What a case did and found."""

    what: str
    """What was done to which command, for a reader."""
    faults: int = 0
    """Those that did happen: a kill of what had ended already is none."""
    problems: list[str] | None = None

    def note(self, problems: Collection[str]) -> None:
        """Add to what was found."""
        self.problems = [*(self.problems or []), *problems]
