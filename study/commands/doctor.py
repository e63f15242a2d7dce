"""What `ablate doctor` does: looks at all that a run needs, and says what is odd and what to do about it.

It writes nothing to the output folder and opens the store only to read. Each part is looked at by itself, so that one
that is broken hides no other; the kernels are compiled where they have not been, as the first run would.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from cifar_ablations.ablations import addresses, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.study.execution.cores import cores
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    import torch

    from cifar_ablations.study.data.dataset import Dataset

Say = Callable[[str], None]

PACKAGE = "cifar-ablations"
PACKAGES = (PACKAGE, "torch", "torchvision", "mlflow", "optuna", "numpy", "pandas", "scipy")
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "neon", "asimd", "bf16")
"""Of a processor's, as /proc/cpuinfo names them, those that decide how fast it trains."""
GIGABYTE = 10**9
LEAST_DISK, ENOUGH_DISK = 0.3, 3.0
"""Gigabytes: below the first no run can be kept, below the second a long one may fill the disk."""
MEMORY, MEMORY_OF_A_WORKER = 1.2, 0.3
"""Gigabytes of a command that trains, and of each of its workers, which share the rest of theirs: measured on Linux at
the size of profile quick (1.16 and, with what is shared, 0.66)."""
BUSY = 0.3
"""Share of the cores that other programs keep busy, from which on it is said."""
SPEED_SECONDS = 3.0
"""Of steps in the speed trial; with what comes before them it stays below five."""
STEPS_AT_ONCE = 3
WIDTH = 12
"""Of the names beside what is found."""


@dataclass(frozen=True)
class Odd:
    """Something that is not as it should be, and what to do about it, in a sentence or two."""

    sentence: str
    must: bool = False
    """Whether it must be mended before `ablate run` works."""


@dataclass
class Examined:
    """What was found, part by part: for a program its facts, and a line of each for a person."""

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    odd: list[Odd] = field(default_factory=list)

    def found(self, part: str, line: str, **facts: Any) -> None:
        """Add what was found of a part."""
        self.parts.setdefault(part, {}).update(facts)
        self.lines.append((part, line))

    @property
    def code(self) -> int:
        """The exit code: 1 where something must be mended."""
        return int(any(one.must for one in self.odd))


def examine() -> Examined:
    """Look at everything, in this order; takes seconds, and once as long as the kernels take to compile."""
    found = Examined()
    load = _load()  # before this program makes its own
    for part, look in (
        ("versions", _versions),
        ("machine", lambda found: _machine(found, load)),
        ("device", _device),
        ("kernels", _kernels),
        ("folder", _folder),
        ("store", _store),
        ("data", _data),
        ("speed", _speed),
    ):
        with _by_itself(found, part):
            look(found)
    return found


def show(found: Examined, say: Say) -> None:
    """Print it for a person."""
    last = ""
    for part, line in found.lines:
        say(f"{part if part != last else '':<{WIDTH}}{line}")
        last = part
    for one in sorted(found.odd, key=lambda one: not one.must):
        say(f"{'To mend' if one.must else 'Odd'}: {one.sentence}")
    if not found.odd:
        say("Nothing is odd.")
    elif not found.code:
        say("Nothing keeps `ablate run` from working.")


def as_facts(found: Examined) -> dict[str, Any]:
    """It for a program."""
    return {**found.parts, "odd": found.odd, "exit_code": found.code}


@contextmanager
def _by_itself(found: Examined, part: str) -> Iterator[None]:
    """Within it, whatever goes wrong is one of the odd things, and the next part is looked at."""
    try:
        yield
    except AblateError as error:
        found.found(part, "see below", error=str(error))
        found.odd.append(Odd(str(error), must=True))
    except Exception as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        found.found(part, f"cannot be looked at ({said})", error=said)
        found.odd.append(Odd(f"The {part} could not be looked at ({said}).", must=isinstance(error, ImportError)))


def _versions(found: Examined) -> None:
    installed = {name: _version(name) for name in PACKAGES}
    listed = ", ".join(f"{name} {number or 'not installed'}" for name, number in installed.items())
    found.found("versions", f"{listed}; Python {platform.python_version()}", python=platform.python_version())
    found.parts["versions"]["packages"] = installed
    for sentence in _unmet():
        found.odd.append(Odd(sentence, must=True))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _unmet() -> Iterator[str]:
    """A sentence for each requirement of this package that what is installed does not meet."""
    try:
        from packaging.requirements import Requirement

        needed = [Requirement(text) for text in requires(PACKAGE) or []]
    except (ImportError, PackageNotFoundError):  # run from a folder of its own, without what pip installs
        return
    for one in needed:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        there = _version(one.name)
        if there is None or not one.specifier.contains(there, prereleases=True):
            has = "is not installed" if there is None else f"is at {there}"
            yield f'{one.name} {has}, and {one.name}{one.specifier} is needed: pip install "{one.name}{one.specifier}".'


def _load() -> float | None:
    """How many cores other programs keep busy, over the last minute; None where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _machine(found: Examined, load: float | None) -> None:
    from cifar_ablations.study.store.provenance import processor
    from cifar_ablations.study.training import backend  # noqa: F401  # torch, by what trains

    memory, all_cores, usable = psutil.virtual_memory(), os.cpu_count() or 1, cores()
    flags = _flags()
    with_flags = f" with {', '.join(flags)}" if flags else ""
    found.found(
        "machine",
        f"{platform.platform()}, {processor()}{with_flags}",
        platform=platform.platform(),
        processor=processor(),
        instructions=flags,
    )
    busy = "" if load is None else f"; load {load:.1f}"
    found.found(
        "machine",
        f"{usable} of {all_cores} cores may be used{busy}; {memory.available / GIGABYTE:.1f} of "
        f"{memory.total / GIGABYTE:.1f} GB of memory are free",
        cores=usable,
        cores_of_machine=all_cores,
        load=load,
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
    )
    if load is not None and load > max(1.0, BUSY * all_cores):
        found.odd.append(
            Odd(
                f"Other programs are at work (load {load:.1f} on {all_cores} cores): trainings are slower, and their "
                "times mean little. Wait for them, or give fewer --workers."
            )
        )
    needed = (MEMORY + MEMORY_OF_A_WORKER * usable) * GIGABYTE
    if memory.available < needed:
        found.odd.append(
            Odd(
                f"{memory.available / GIGABYTE:.1f} GB of memory are free, and {usable} workers need about "
                f"{needed / GIGABYTE:.1f} GB: give fewer --workers, or end other programs."
            )
        )


def _flags() -> list[str]:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                known = set(line.split())
                return [name for name in FLAGS if name in known]
    return []


def _device(found: Examined) -> None:
    import torch

    from cifar_ablations.study.execution.workers import THREADS, default_workers
    from cifar_ablations.study.store.provenance import instructions

    device = _of_torch()
    workers = default_workers(device)
    facts: dict[str, Any] = {"kind": device.type, "workers": workers, "threads_of_a_worker": THREADS}
    each = f"{workers} worker{'s' * (workers > 1)} of {THREADS} thread{'s' * (THREADS > 1)}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        free, total = torch.cuda.mem_get_info(device)
        facts |= {"name": name, "cuda": torch.version.cuda, "memory_bytes": total, "memory_free_bytes": free}
        line = f"cuda, {name}, {instructions(device)}, {free / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GB free; {each}"
    else:
        line = f"cpu, torch computes with {instructions(device)}; {each}"
        if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
            found.odd.append(
                Odd(
                    f"There is an NVIDIA driver, and torch {torch.__version__} cannot use it: `make ablate TORCH=cuda` "
                    "installs the build for CUDA."
                    if torch.version.cuda is None
                    else "There is an NVIDIA driver, and torch finds no GPU to use: does `nvidia-smi` list one?"
                )
            )
    found.found("device", line, instructions=instructions(device), **facts)


def _of_torch() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _kernels(found: Examined) -> None:
    from cifar_ablations.study.training import gpu
    from cifar_ablations.study.training.kernels import build

    device = _of_torch()
    if device.type == "cuda":
        why = gpu.obstacle(device)
        line = why or f"compiled by Triton {_version('triton')} when they are first used"
        found.found("kernels", line, built=not why, obstacle=why or None, compiler="triton", library=None)
    else:
        began, why, library = time.perf_counter(), "", None
        try:
            library = build.library_path()
            build.library()
        except build.UnavailableError as reason:
            why = str(reason)
        took = time.perf_counter() - began
        compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, build.COMPILERS)), None)
        built = f"{library}, by {compiler or 'ziglang'}{f', compiled just now in {took:.0f} s' if took > 2 else ''}"
        found.found("kernels", why or built, built=not why, obstacle=why or None, compiler=compiler, library=library)
    if why:
        found.odd.append(Odd(f"Torch trains, which is slower: {why}."))


def _folder(found: Examined) -> None:
    home = Home()
    there = next(place for place in (home.folder, *home.folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    found.found(
        "folder",
        f"{home.folder}{'' if home.folder.exists() else ' (not made yet)'}, {free / GIGABYTE:.1f} GB free",
        path=home.folder,
        exists=home.folder.exists(),
        free_bytes=free,
    )
    if reason := _not_writable(home.folder, there):
        found.odd.append(Odd(f"{home.folder} cannot be written to ({reason}): set ABLATE_HOME=FOLDER.", must=True))
    if free < ENOUGH_DISK * GIGABYTE:
        left = f"{free / GIGABYTE:.1f} GB are free on the disk of {home.folder}"
        found.odd.append(Odd(f"{left}: make room, or set ABLATE_HOME=FOLDER.", must=free < LEAST_DISK * GIGABYTE))


def _not_writable(folder: Path, there: Path) -> str:
    """Why a folder cannot be written to, or made in the nearest one that is there; "" where it can."""
    if not there.is_dir():
        return f"{there} is a file"
    if there != folder:
        return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} is not to be written to"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _store(found: Examined) -> None:
    from cifar_ablations.reports.reading import load, stored

    home = Home()
    address, file = home.tracking_uri, addresses.sqlite_file(home.tracking_uri)
    shown = without_password(address)
    if not home.has_store:
        found.found("store", f"{shown}, not made yet", address=shown, readable=None, bytes=None, runs={})
        return
    size = None if file is None else sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))
    found.parts["store"] = {"address": shown, "readable": False, "bytes": size, "runs": {}}
    if size == 0:
        raise AblateError(f"{file} is empty, and no store: delete it, or put a copy in its place")
    began = time.perf_counter()
    trainings = stored.find(load.connect(address), {schema.KIND: schema.KIND_TRAINING})
    took = time.perf_counter() - began
    runs = dict(Counter(run.tags.get(schema.OUTCOME) or run.status.lower() for run in trainings))
    counted = ", ".join(f"{count} {status}" for status, count in sorted(runs.items())) or "no trainings"
    large = "" if size is None else f", {size / 10**6:.1f} MB"
    found.found("store", f"{shown}{large}: {counted}; read in {took:.1f} s", readable=True, runs=runs)
    if dead := _left_in_training(home, runs.get("running", 0)):
        found.odd.append(
            Odd(f"{dead} trainings are marked as running, and no command holds the folder: the next run closes them.")
        )


def _left_in_training(home: Home, running: int) -> int:
    """How many runs nobody trains any more: all that are marked as running where no command is at work here."""
    return 0 if home.is_held else running


def _data(found: Examined) -> None:
    from cifar_ablations.study.data import dataset, official_files

    home, asked = Home(), os.environ.get("ABLATE_DATA") or None
    entries: list[Dataset] = []
    for meta in sorted(home.data.glob(f"*/{dataset.META_FILE}")):
        try:
            entries.append(dataset.open_cached(meta.parent))
        except AblateError as error:
            found.odd.append(Odd(str(error)))
    facts = [
        {
            "name": one.name,
            "digest": one.digest,
            "training_images": len(one.train_labels),
            "test_images": len(one.test_labels),
            "stand_in": one.stand_in,
            "folder": one.folder,
        }
        for one in entries
    ]
    listed = [f"{one.name} ({one.digest}), {len(one.train_labels):,} training images" for one in entries]
    told = f"; ABLATE_DATA={asked}" if asked else ""
    found.found("data", f"{'; '.join(listed) or 'nothing kept yet'}{told}", asked=asked, kept=facts)
    if asked and asked not in (dataset.SYNTHETIC, *official_files.TITLES) and not dataset.expanded(asked).exists():
        found.odd.append(Odd(f"ABLATE_DATA={asked} does not exist: correct it, or unset it for CIFAR-10.", must=True))
    if not asked and not any(one.name == dataset.OFFICIAL for one in entries):
        found.odd.append(
            Odd(
                "CIFAR-10 is not here yet: the first run downloads it (170 MB), or rehearses on drawn images where it "
                "cannot. `ablate data cifar10 --from PATH` takes a copy that you have."
            )
        )


def _speed(found: Examined) -> None:
    """A few steps of the notebook's recipe at the size of the default profile, on images of noise."""
    import torch

    from cifar_ablations.ablations import catalog, profiles
    from cifar_ablations.study.execution.backends import choose_backend, with_precision
    from cifar_ablations.study.execution.workers import THREADS, default_workers
    from cifar_ablations.study.training.engine import Training
    from cifar_ablations.study.training.fleet import Member

    device = _of_torch()
    size = profiles.profile("full" if device.type == "cuda" else "quick")
    recipe = with_precision(size.apply(catalog.notebook_recipe()), device)
    choice = choose_backend([recipe], device, 10, THREADS)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        noise = _noise(recipe.budget.train_images + recipe.budget.validation_images)
        training = Training([Member(recipe, 0)], noise.to(device), device, backend=choice.name)
        end, seconds = time.perf_counter() + SPEED_SECONDS, list[float]()
        while not seconds or time.perf_counter() < end:
            seconds.append(training.time_steps(STEPS_AT_ONCE))
    finally:
        torch.set_num_threads(before)
    rate = recipe.budget.batch_size / sorted(seconds)[len(seconds) // 2]
    workers = default_workers(device)
    found.found(
        "speed",
        f"{rate:,.0f} images per second and worker, one training at a time, by "
        f"{'the kernels' if choice.name == 'kernels' else choice.name} at the size of profile {size.name}",
        images_per_second=rate,
        profile=size.name,
        backend=choice.name,
        precision=recipe.budget.precision,
        workers=workers,
    )


def _noise(images: int) -> Dataset:
    """So many training images of noise."""
    import torch

    from cifar_ablations.study.data.dataset import Dataset

    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=draws)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(images) % 10
    middle = (0.5, 0.5, 0.5)
    classes = tuple(f"class {i}" for i in range(10))
    few = slice(0, 10)
    return Dataset("noise", "", "", True, classes, middle, middle, pixels, labels, pixels[few], labels[few])
