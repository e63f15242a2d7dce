"""Draws command lines, files and environments, good ones with something bad in them.

Commands and their options are those of `ablate` itself: what is added there is drawn here. Every draw depends on the
generator alone.
"""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import tomlkit
import typer

from cifar_ablations.ablations import catalog, metrics
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.study.commands.app import app

SECRET = "S3CRET-hunter2"
"""Planted as passwords and tokens; no output and no file may have it."""
LEFT_OUT = {"--help", "--install-completion", "--show-completion"}
"""They end at once, or write to a shell's own files, as asked."""
TO_BE_WRITTEN = {"lock", "output", "markdown"}
"""Parameters that name a file to be written."""

WHOLE = ["0", "1", "2", "-1", "7", "", " 5", "5\n", "1e3", "0x10", "１２", "1_0", "nan", "--", "3.5", "½"]
WHOLE += ["9" * 25, "9" * 5_000, "-" + "9" * 30]
NUMBERS = [*WHOLE, "0.5", "nan", "inf", "-inf", "1e308", "1e-320", "-0.0", ".", "1,5", "1e999", "0.1" * 50]
CONTROLS = ["\t", "\n", "a\nb", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "\r", "\x7f", "a\u202eb", "\ufeff"]
FOREIGN = ["é", "名前", "🙂", os.fsdecode(b"\xff\xfe"), "x" * 300, "x" * 10_000]
PATHS = ["../../x", "../x", "/", ".", "~", "~nobody-of-that-name", "-", "--", "a/b", "\\", "con", "%00", "\\x00"]
CODE = ["$HOME", "$(touch code-ran)", "`touch code-ran`", "; touch code-ran", "os:getcwd", "os:system", "canary:run"]
CODE += ["canary", "__import__('os')", "{{7*7}}", "{0}", "%s%n", "<script>alert(1)</script>", "=1+1", "@SUM(1)", "a$_$"]
OF_OTHER_TYPES = ["", " ", "None", "null", "true", "NaN", "'", '"', "#", "a:b", "a=b", "a.b", "a,b"]
NASTY = [*CONTROLS, *FOREIGN, *PATHS, *CODE, *OF_OTHER_TYPES]


MADE = "made:"
"""Begins a value that is a path to a new file of the kind that follows."""


@dataclass
class Drawn:
    """A command as it is typed, with the environment and the files that it comes with."""

    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    """What was put where, in words."""
    written: list[str] = field(default_factory=list)
    """Files that the command is asked to write."""


@cache
def commands() -> dict[str, list[Any]]:
    """Every command's parameters, as typer has them."""
    group: Any = typer.main.get_command(app)
    return {
        name: [one for one in command.params if not set(one.opts) & LEFT_OUT]
        for name, command in group.commands.items()
    }


def draw(rng: Random, here: Path, lock: Path) -> Drawn:
    """A command with some options, and bad values among them; here: the folder that it is called in, for its files."""
    known = commands()
    (name,) = rng.choices(list(known), [1 + len(one) for one in known.values()])
    drawn = Drawn([])
    if rng.random() < 0.1:
        drawn.words.append(rng.choice(["--quiet", "--verbose", "-q"]))
    drawn.words.append(name if rng.random() < 0.97 else mangled(name, rng))
    maker = _Maker(rng, here, lock, drawn)
    for parameter in commands()[name]:
        is_argument = not parameter.opts[0].startswith("-")
        likely = 0.85 if is_argument else 0.2
        for _ in range(2 if parameter.multiple and rng.random() < 0.5 else 1):
            if rng.random() > likely:
                continue
            option = parameter.opts[0] if rng.random() < 0.98 else mangled(parameter.opts[0], rng)
            if getattr(parameter, "is_flag", False):
                drawn.words.append(option)
                continue
            values = [maker.value(parameter.name, name) for _ in range(max(1, parameter.nargs))]
            words = values if is_argument else [option, *values]
            if not is_argument and len(values) == 1 and rng.random() < 0.3 and option.startswith("--"):
                words = [f"{option}={values[0]}"]
            drawn.words += words
    if rng.random() < 0.04:
        drawn.words.append(rng.choice(NASTY))
    for variable, values in variables().items():
        if rng.random() < 0.03:
            value = rng.choice(values)
            drawn.environment[variable] = maker.path(value.removeprefix(MADE)) if value.startswith(MADE) else value
    drawn.words = [word.replace("\0", "") for word in drawn.words]
    return drawn


def mangled(text: str, rng: Random) -> str:
    """A text with a sign too many, too few, or another one."""
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(["", "x", "\x1b[1m", "é", " ", "-"]) + text[at + rng.randrange(2) :]


def setting(rng: Random) -> str:
    """A word behind --set."""
    fields = ["model.name", "model.width", *(f"budget.{name}" for name in vars(PROFILES["smoke"].budget))]
    for technique, cls in catalog.techniques().items():
        fields += [technique, *(f"{technique}.{knob}" for knob in cls.knobs())]
    name = rng.choice(fields) if rng.random() < 0.9 else mangled(rng.choice(fields), rng)
    good = ["off", "on", "adam", "0.3", "notebook"]
    value = rng.choice([rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice(NASTY), rng.choice(good)])
    if rng.random() < 0.95:
        return f"{name}={value}"
    return rng.choice([name, f"={value}", f"{name}=={value}", f"{name}={value}={value}"])


def good_setting(rng: Random) -> str:
    """A word behind --set that is good."""
    name, technique = rng.choice(sorted(catalog.techniques().items()))
    return f"{name}={rng.choice(sorted(technique.levels))}"


def variables() -> Mapping[str, list[str]]:
    """Values of the variables that the suite, or a library of its, reads."""
    odd = [one for one in NASTY if one not in ("/", "~", ".")]
    at = f"{SECRET}@127.0.0.1:9"
    secret = [f"https://user:{at}/", f"postgresql://u:{at}/x?password={SECRET}", f"sqlite:///x.db?token={SECRET}"]
    places = ["a b", "a?b", "a%20b", "a#b", "file", "none/deeper", "é", os.fsdecode(b"\xff"), "x" * 300, "loop"]
    stores = ["sqlite:///file", "sqlite:///", "sqlite://", "sqlite:////dev/full", "file:///x", "http://", "databricks"]
    return {
        "ABLATE_HOME": [*places, "~nobody-of-that-name"],
        "ABLATE_DATA": [*odd, f"{MADE}data", "synthetic", "cifar10", "cifar100"],
        "ABLATE_STORAGE": [*odd, *secret, "sqlite:///s.db", "sqlite:///file", "redis://x"],
        "ABLATE_EXTENSIONS": [*odd, f"{MADE}extension"],
        "MLFLOW_TRACKING_URI": [*odd, *secret, *stores, "ftp://x"],
        "MLFLOW_TRACKING_PASSWORD": [SECRET],
        "MLFLOW_TRACKING_TOKEN": [SECRET],
        "XDG_CACHE_HOME": ["file", "none/deeper", "loop", "é"],
        "COLUMNS": [*odd, "1", "0", "-5", "99999999"],
        "TERM": [*odd, "dumb"],
        "CXX": odd,
        "CC": odd,
        "HOME": ["none", ""],
        "MAKELEVEL": ["1"],
        "CI": ["1"],
        "NO_COLOR": ["1"],
        "PYTHONPATH": ["."],
    }


class _Maker:
    """Makes values, and the files that some of them name."""

    def __init__(self, rng: Random, here: Path, lock: Path, drawn: Drawn):
        self._rng, self._here, self._lock, self._drawn = rng, here, lock, drawn
        self._rate = rng.choice([0.05, 0.15, 0.4])

    def value(self, name: str, command: str) -> str:
        """A value of a parameter, bad as often as it is drawn for the whole command."""
        rng = self._rng
        bad = rng.random() < self._rate
        if name == "settings":
            return setting(rng) if bad else good_setting(rng)
        if name in TO_BE_WRITTEN and command != "run":
            odd = ["none/deeper/written", "folder", "/dev/full", "loop", "x" * 300, "é", "file/x"]
            self._drawn.written.append(rng.choice(odd) if bad else "written")
            return self._drawn.written[-1]
        good = self._good(name)
        if good is not None and not bad:
            return rng.choice(good)
        if bad and rng.random() < 0.4:
            return rng.choice(NASTY)
        if good is not None:
            return rng.choice(NUMBERS) if good[0].isdigit() else mangled(rng.choice(good), rng)
        kinds = FILES.get((command, name)) or FILES.get(name) or ("",)
        return self.path(rng.choice(kinds)) or rng.choice(NASTY)

    def _good(self, name: str) -> list[str] | None:
        """Good values of a parameter, where they can be told; addresses have a secret in them."""
        at = f"{SECRET}@127.0.0.1:9"
        return {
            "seeds": ["1", "2", "adaptive", "open"],
            "first_seed": ["0", "7"],
            "seed": ["0", "1", "seed"],
            "seeds_per_trial": ["1", "2"],
            "trials": ["1", "2"],
            "workers": ["1", "2"],
            "port": ["5001"],
            "image_size": ["32"],
            "minutes": ["1", "0.5"],
            "width": ["3.3", "6.9"],
            "every": ["1", "20"],
            "margin": ["0.01"],
            "plan": [*catalog.plan_names()],
            "search": [*catalog.search_names()],
            "profile": ["smoke"],
            "device": ["cpu", "cuda", "cpu:0", "cpu:", "mps", "meta"],
            "backend": ["auto", "torch", "kernels"],
            "sampler": ["tpe", "gp", "cmaes", "qmc", "random", "grid"],
            "pruner": ["halving", "median", "hyperband", "wilcoxon", "none"],
            "to": ["latex", "markdown", "csv", "pdf", "svg"],
            "style": ["rows", "matrix", "statements"],
            "spread": ["std", "interval"],
            "better": ["higher", "lower"],
            "arm": ["arm", "seed", "note"],
            "metric": ["accuracy", "loss", *list(metrics.known())[:2]],
            "control": ["baseline", "a"],
            "without": [*catalog.techniques()],
            "experiment": ["Default", "none"],
            "storage": ["sqlite:///optuna.db", f"postgresql://u:{at}/x", f"mysql://u:{at}/x?passwd={SECRET}"],
            "tracking_uri": ["sqlite:///none.db", f"http://u:{at}", f"https://h.invalid/?token={SECRET}"],
            "compare": ["levels/dropout", "nowhere#levels/dropout", "levels/dropout#", f"https://u:{at}#x"],
        }.get(name)

    def path(self, kind: str) -> str:
        """A path to something that is, or nearly is, of a kind; "" for a kind that is not known."""
        rng = self._rng
        odd = rng.choice([*ODD, *ODD, ""])
        if odd and rng.random() < self._rate:
            return odd
        make = MAKERS.get(kind)
        if make is None:
            return ""
        name = f"drawn-{len(self._drawn.files)}{make[0]}"
        content = make[1](rng, self._lock)
        self._drawn.files.append(f"{name}: {kind}")
        place = self._here / name
        if isinstance(content, dict):
            for inner, data in content.items():
                (place / inner).parent.mkdir(parents=True, exist_ok=True)
                (place / inner).write_bytes(data)
        else:
            place.write_bytes(spoiled(content, rng))
        return name


ODD = ("file", "folder", "fifo", "loop", "none", "/dev/zero", "/dev/null", "/proc/self/mem", "bytes", "big", "dangling")
"""What `furnish` has put into the folder, and what every system has."""


def furnish(here: Path, random: Random) -> None:
    """Put into a folder what a path may lead to, and modules that tell when they are imported."""
    (here / "file").write_text("a,b\n1,2\n")
    (here / "folder").mkdir()
    os.mkfifo(here / "fifo")
    (here / "loop").symlink_to("loop")
    (here / "dangling").symlink_to("none")
    (here / "bytes").write_bytes(random.randbytes(3_000))
    with (here / "big").open("wb") as file:
        file.truncate(3 << 30)
    ran = "import os\nopen(os.environ['CANARY'], 'w').close()\ndef run(*a, **k):\n    raise SystemExit(99)\n"
    for name in ("canary", "pickle", "mlflow", "torch"):
        (here / f"{name}.py").write_text(ran)


def spoiled(data: bytes, rng: Random) -> bytes:
    """A file's bytes, a third of the time with something wrong in them."""
    if rng.random() < 0.67 or not data:
        return data
    at = rng.randrange(len(data))
    junk = rng.choice(
        [b"", b"\0", b"\xff\xfe", b"\x1b[31m", b"[" * 100_000, b"\n\n", b"\x80", "\u202e".encode(), b"{" * 5_000]
    )
    return rng.choice([data[:at], data[:at] + junk + data[at:], data[:at] + junk + data[at + 20 :], data * 2])


def leaf(rng: Random) -> Any:
    """Some value, in a place where another one is expected."""
    return rng.choice(
        [
            None,
            True,
            -1,
            0,
            10**30,
            1e308,
            "",
            rng.choice(NASTY),
            [],
            {},
            [1, [2, [3]]],
            {"a": {"b": 1}},
            "x" * 5_000,
            0.5,
            "0.5",
        ]
    )


def mutated(value: Any, rng: Random) -> Any:
    """A document with one part of another type, another name, twice, or gone."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        way = rng.random()
        if way < 0.6:
            return {**value, key: mutated(value[key], rng)}
        if way < 0.75:
            return {k: v for k, v in value.items() if k != key}
        if way < 0.9:
            return {**{k: v for k, v in value.items() if k != key}, mangled(str(key), rng): value[key]}
        return {**value, rng.choice(NASTY): leaf(rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [*value[:at], mutated(value[at], rng), *value[at + rng.randrange(2) :]]
    return leaf(rng)


def as_toml(value: Any) -> bytes:
    """A document as TOML, as far as TOML has it."""
    try:
        return tomlkit.dumps(_without_none(value)).encode("utf-8", "replace")
    except (TypeError, ValueError, AttributeError):
        return str(value).encode("utf-8", "replace")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return value


def _recipe(rng: Random, lock: Path) -> bytes:
    if rng.random() < 0.05:
        return b"a = " + b"[" * 20_000
    knob, value = rng.choice(["optimizer.rate", "model.name"]), rng.choice([0.0025, "canary:run", "os:getcwd"])
    good = {
        "techniques": {"optimizer": {"kind": "adam", "rate": 0.002}, "dropout": {"p": 0.4}},
        "retuned": {"dropout": {knob: value}},
        "provenance": {"search": "regularization", "seeds": [0]},
    }
    return as_toml(mutated(good, rng) if rng.random() < 0.8 else good)


def _expectations(rng: Random, lock: Path) -> bytes:
    good = {
        "plan": "levels/dropout",
        "profile": "smoke",
        "expect": [{"claim": 1, "verdict": "supported"}, {"arm": "no dropout", "effect": "lower", "at_least": -3.0}],
    }
    found = mutated(good, rng) if rng.random() < 0.8 else good
    return as_toml(found if isinstance(found, dict) else {"x": found})


def _lock(rng: Random, lock: Path) -> bytes:
    good = json.loads(lock.read_bytes())
    return json.dumps(mutated(good, rng) if rng.random() < 0.8 else good).encode()


def _csv(rng: Random, lock: Path) -> bytes:
    arms = ["baseline", "a", rng.choice(NASTY), "=1+1"]
    numbers = ["0.5", "0.6", "nan", "", "inf", "-1e308", "1e400", "x", "0,5", "0.61", "0.7"]
    few = rng.randrange(1, 60)
    rows = [
        [rng.choice(arms), str(rng.randrange(6)), rng.choice(numbers[: rng.choice([2, 6, 11])]), rng.choice(numbers)]
        for _ in range(few)
    ]
    mark = rng.choice([",", ",", ",", ";", "\t"])
    head = ["arm", "seed", "accuracy", rng.choice(["loss", "note", "arm", "", "\x1b[1m"])]
    return "\n".join(mark.join(row) for row in [head, *rows]).encode("utf-8", "replace")


def _pixels(rng: Random, side: int = 32) -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.frombytes("RGB", (side, side), rng.randbytes(side * side * 3)).save(file, "PNG")
    return file.getvalue()


def _images(rng: Random, lock: Path) -> dict[str, bytes]:
    names = ["cat", rng.choice(["dog", "a$_$", "<b>", "é", "x" * 200, "=1+1", "\x1b[31m"])]
    files = {f"{split}/{name}/{i}.png": _pixels(rng) for split in ("train", "test") for name in names for i in range(3)}
    victim = rng.choice(list(files))
    files[victim] = rng.choice([files[victim], b"", files[victim][:60], _pixels(rng, 31), rng.randbytes(200), _bomb()])
    files["dataset.toml"] = spoiled(
        rng.choice(
            [b"mirror_safe = false\n", b"mirror_safe = 'x'\n", b"[[", b"a = 1\n", b"mirror_safe = " + b"[" * 9_000]
        ),
        rng,
    )
    return {name.replace("\0", ""): data for name, data in files.items() if rng.random() < 0.97}


def _bomb() -> bytes:
    """A PNG whose header declares four thousand million pixels."""
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 65_535, 65_535, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0" * 30
    )


MODES: tuple[Any, ...] = ("w", "w:gz", "w:xz")


def _archive(rng: Random, lock: Path) -> bytes:
    file, files = BytesIO(), _images(rng, lock)
    odd = rng.choice(
        ["../../escaped.png", "/tmp/escaped.png", "train/cat/../../../x.png", "", "train/cat/" + "d/" * 400 + "x.png"]
    )
    if odd and rng.random() < 0.4:
        files[odd] = _pixels(rng)
    if rng.random() < 0.5:
        with zipfile.ZipFile(file, "w") as packed:
            for name, data in files.items():
                packed.writestr(name, data)
        return file.getvalue()
    with tarfile.open(None, rng.choice(MODES), file) as tar:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            if rng.random() < 0.03:
                about.type, about.linkname = (
                    rng.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
                    "/etc/passwd",
                )
            tar.addfile(about, BytesIO(data) if about.isfile() else None)
    return file.getvalue()


def _pickled(rng: Random, lock: Path) -> bytes:
    """A batch of CIFAR-10 that would do something when it is unpickled."""
    run = b"cos\nsystem\n(S'touch \"$CANARY\"'\ntR."
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in (
            "data_batch_1",
            "data_batch_2",
            "data_batch_3",
            "data_batch_4",
            "data_batch_5",
            "test_batch",
            "batches.meta",
        ):
            about = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            about.size = len(run)
            tar.addfile(about, BytesIO(run))
    return file.getvalue()


MAKERS: dict[str, tuple[str, Callable[[Random, Path], Any]]] = {
    "recipe": (".toml", _recipe),
    "expectations": (".toml", _expectations),
    "lock": (".json", _lock),
    "table": (".csv", _csv),
    "parquet": (".parquet", lambda rng, lock: rng.randbytes(300)),
    "data": ("", _images),
    "archive": (".tar", _archive),
    "zip": (".zip", _archive),
    "pickles": (".tar.gz", _pickled),
    "extension": ("", lambda rng, lock: {"techniques/own.py": spoiled(b"x = 1\n", rng), "README": b""}),
}
"""By kind of file: how its name ends, and what it holds."""

FILES: dict[Any, tuple[str, ...]] = {
    "baseline": ("recipe",),
    "data": ("data", "archive", "zip", "pickles"),
    "source": ("pickles", "archive"),
    "extensions": ("extension",),
    ("run", "lock"): ("lock",),
    ("verify", "file"): ("lock",),
    ("judge", "file"): ("table", "table", "table", "parquet"),
    ("check", "expect"): ("expectations",),
    ("check-extension", "folder"): ("extension",),
}
"""By parameter, where it matters with its command: the kinds of file."""
