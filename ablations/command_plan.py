"""A plan whose arms are commands of any program, as a TOML file.

    name = "dropout-on-digits"      # small letters, digits, - and _
    question = "Does dropout help?" # optional
    control = "with dropout"        # the arm that the others are compared with
    metric = "accuracy"             # which number of the program decides
    better = "higher"               # optional: higher or lower (default: by the metric's name)
    expect = "lower"                # optional: claim a direction of every arm (default: that it differs)
    margin = 0.01                   # optional: the smallest difference that matters, in the metric's unit
    paired = true                   # optional: compare within seeds (default: arms as independent)
    seeds = 6                       # how many, or a list of them
    timeout_seconds = 60            # optional: of each run (default: none)
    code = ["train.py"]             # optional: files whose content is part of what a run is known by

    [arms."with dropout"]
    command = "python train.py {seed} {metrics}"

    [arms."no dropout"]
    command = ["python", "train.py", "{seed}", "{metrics}", "without dropout"]
    expect = "lower"                # optional: of this arm alone

A command is run in the folder of the file, by no shell. It writes a JSON object of numbers to `{metrics}`.
"""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
import shlex
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import EXACT, check_range, did_you_mean, shown
from cifar_ablations.ablations.record import CommandArmRecord, CommandPlanRecord

SUFFIX = ".toml"
"""By which such a plan is told from the name of one of the suite's."""
SEED, METRICS, PYTHON = "seed", "metrics", "python"
"""What stands in braces in a command: the run's seed, the file to be written, and the Python that runs ablate."""
SEED_VARIABLE, METRICS_VARIABLE = "ABLATE_SEED", "ABLATE_METRICS"
"""The same in the program's environment."""
DIRECTIONS = ("higher", "lower")
INDEPENDENT, PAIRED = "welch t", "paired t"
"""The tests."""
KEYS = (
    *("name", "question", "control", "metric", "better", "expect", "margin", "paired", "seeds", "timeout_seconds"),
    *("code", "arms"),
)
ARM_KEYS = ("command", "expect")
MOST_ARMS, MOST_SEEDS, MOST_SIGNS = 100, 10_000, 100
MOST_METRICS_BYTES = 1_000_000
"""Of a program's file of metrics."""

Kind = TypeVar("Kind")


def read(path: Path, seeds: int | None = None, first_seed: int = 0) -> CommandPlanRecord:
    """The plan in a file, with the digests of its code as it is now.

    seeds: in place of the file's number of them, or the first of those that it lists; first_seed: the first, where it
    does not list them. Raises AblateError, in a sentence with what is near, for what is wrong with it.
    """
    content = _content(path)
    where = str(path)
    _known(where, content, KEYS)
    name = _needed(where, content, "name", str, "text")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,59}", name):
        near = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:60]
        such = f", such as {near}" if near else ""
        raise AblateError(f"{where}: name must be up to 60 small letters, digits, - and _{such}; not {shown(name)}")
    metric = _needed(where, content, "metric", str, "text")
    if why := unfit_name(metric):
        raise AblateError(f"{where}: metric {shown(metric)} {why}")
    if metric in ("arm", "seed"):
        raise AblateError(f"{where}: metric {shown(metric)} is what a run is known by; give the number another name")
    code = code_digests(path, _code(where, content))
    arms = _arms(where, content, code, path.resolve().parent)
    control = _needed(where, content, "control", str, "text")
    if control not in (names := [arm.name for arm in arms]):
        raise AblateError(f"{where}: control {shown(control)} is no arm{did_you_mean(control, names)}")
    expect = _direction(where, content, "expect")
    if any(arm.expect for arm in arms if arm.name == control):
        raise AblateError(f"{where}: arm {control!r} is the control, of which nothing can be expected")
    arms = tuple(arm if arm.expect or arm.name == control else replace(arm, expect=expect) for arm in arms)
    question = _given(where, content, "question", str, "text", f"Which arms differ from {control} in {metric}?").strip()
    if not question or not question.isprintable():
        raise AblateError(f"{where}: question must be text on one line, not {shown(content['question'])}")
    plan = CommandPlanRecord(
        name=name,
        question=question,
        metric=metric,
        control=control,
        arms=arms,
        seeds=_seeds(where, content, seeds, first_seed),
        better=_direction(where, content, "better"),
        margin=_positive(where, content, "margin"),
        test=PAIRED if _given(where, content, "paired", bool, "true or false", False) else INDEPENDENT,
        timeout_seconds=_positive(where, content, "timeout_seconds"),
        code=code,
        folder=str(path.resolve().parent),
    )
    return replace(plan, digest=_digest(_terms(plan)))


def words(arm: CommandArmRecord, values: Mapping[str, str]) -> list[str]:
    """The words of an arm's command with values in place of what stands in braces. A value is never looked at again."""
    return [re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), word) for word in arm.command]


def in_words(arm: CommandArmRecord) -> str:
    """An arm's command as it could be typed, what stands in braces left as it is."""
    return " ".join(word if re.fullmatch(r"[\w@%+=:,./{}-]+", word) else shlex.quote(word) for word in arm.command)


def code_digests(path: Path, patterns: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of the files beside a plan that patterns name, by path from there.

    Raises AblateError for a pattern that names no file, and for one that cannot be read.
    """
    folder, found = path.resolve().parent, dict[str, str]()
    for pattern in patterns:
        try:
            files = sorted(file for file in folder.glob(pattern) if file.is_file())
        except (ValueError, NotImplementedError, IndexError):  # "", and an absolute path
            raise AblateError(f"{path}: code names files by their path from its folder, not {shown(pattern)}") from None
        if not files:
            beside = sorted(file.name for file in folder.glob("*") if file.is_file())
            near = did_you_mean(pattern, beside[:20]) if beside else ""
            raise AblateError(f"{path}: code names {shown(pattern)}, and there is no such file{near}")
        found |= {_from(folder, file): _file_digest(file) for file in files}
    return dict(sorted(found.items()))


def check_code(plan: CommandPlanRecord) -> None:
    """Raise AblateError where a file of the plan's code is another than when the plan was read."""
    for name, digest in plan.code.items():
        file = Path(plan.folder, name)
        if not file.is_file() or _file_digest(file) != digest:
            raise AblateError(
                f"{name} has changed since this call began, so that no run could say what it ran. What has ended is "
                "kept; the same command runs the new code, as other runs"
            )


def metrics_of(text: bytes, asked: str) -> dict[str, float]:
    """What a program wrote, a number by name; NaN for null and for what is not finite.

    asked: the metric that the plan is about. Raises AblateError, in a sentence, for what is no JSON object of numbers,
    for names that the store does not take, and where the metric is not there.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AblateError(f"the metrics file is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise AblateError(f'the metrics file holds no object such as {{"{asked}": 0.5}}')
    found = {}
    for name, value in values.items():
        if why := unfit_name(name):
            raise AblateError(f"the metrics file has {shown(name)}, which {why}")
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            nested = "; names within names are written flat, as test/accuracy" if isinstance(value, dict) else ""
            raise AblateError(f"the metrics file has {shown(value)} as {shown(name)}, which is no number{nested}")
        try:
            number = math.nan if value is None else float(value)
        except OverflowError:
            raise AblateError(f"the metrics file has {shown(value)} as {shown(name)}, which is too large") from None
        found[name] = number if math.isfinite(number) else math.nan
    if asked not in found:
        near = did_you_mean(asked, found) if found else ": it is empty"
        raise AblateError(f"the metrics file has no {shown(asked)}{near}".removesuffix("."))
    return found


def unfit_name(metric: str) -> str:
    """Why a store takes no metric of that name, after its name; empty where it does."""
    if not re.fullmatch(r"[\w.: /-]{1,250}", metric):
        return "is no name of a metric: letters, digits and _ - . : / may stand in it"
    if posixpath.normpath(metric) != metric or metric == "." or metric.startswith(("/", "..")):
        return "is no name of a metric: it reads like a path that leads elsewhere"
    return ""


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = path.parent if path.parent.is_dir() else Path()
        plans = sorted(str(file.relative_to(there)) for file in there.glob(f"*{SUFFIX}"))[:20]
        raise AblateError(f"there is no file {str(path)!r}{did_you_mean(path.name, plans) if plans else ''}") from None
    except OSError as error:
        raise AblateError(f"{path} cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise AblateError(f"{path} is not TOML ({error})") from None


def _arms(
    where: str, content: Mapping[str, Any], code: Mapping[str, str], folder: Path
) -> tuple[CommandArmRecord, ...]:
    tables = content.get("arms")
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise AblateError(f"{where}: each arm is a table [arms.NAME] with its command")
    if len(tables) < 2:
        raise AblateError(f"{where}: {len(tables)} arm{'' if tables else 's'} cannot be compared; two are the least")
    if len(tables) > MOST_ARMS:
        raise AblateError(f"{where} has {len(tables)} arms; at most {MOST_ARMS} are judged at once")
    # Without files that say what the program is, it is what lies in this place.
    program: Mapping[str, str] = code or {"folder": str(folder)}
    arms, named = [], dict[str, str]()
    for name, table in tables.items():
        of_arm = f"{where}, arm {shown(name)}"
        if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > MOST_SIGNS:
            raise AblateError(f"{of_arm}: a name is up to {MOST_SIGNS} printed signs, none of them a space at its ends")
        _known(of_arm, table, ARM_KEYS)
        command = _command(of_arm, table)
        digest = _digest([command, program])
        if digest in named:
            raise AblateError(f"{of_arm}: it has the command of arm {named[digest]!r}: there is nothing to compare")
        named[digest] = name
        arms.append(CommandArmRecord(name, tuple(command), digest, _direction(of_arm, table, "expect")))
    return tuple(arms)


def _command(where: str, table: Mapping[str, Any]) -> list[str]:
    given = table.get("command")
    if isinstance(given, str):
        try:
            command = shlex.split(given)
        except ValueError as error:
            raise AblateError(f"{where}: command {shown(given)} cannot be split into words ({error})") from None
    elif isinstance(given, list) and all(isinstance(word, str) for word in given):
        command = given
    else:
        what = "is missing" if given is None else f"is {shown(given)}"
        raise AblateError(f'{where}: command {what}; it is text, or a list of words as ["python", "train.py"]')
    if not command or not command[0] or any("\0" in word for word in command):
        raise AblateError(f"{where}: command {shown(given)} names no program")
    places = [name for word in command for name in re.findall(r"\{(\w+)\}", word)]
    for name in places:  # braces of other programs, as awk's {print}, stay as they are
        if name not in (SEED, METRICS, PYTHON) and get_close_matches(name.lower(), (SEED, METRICS, PYTHON), cutoff=0.7):
            raise AblateError(f"{where}: no {{{name}}}{did_you_mean(name, (SEED, METRICS, PYTHON))}")
    if SEED not in places:
        raise AblateError(
            f"{where}: its command has no {{{SEED}}}, so that every seed would run the same; a program that takes its "
            f'seed from a variable is run as ["env", "SEED={{{SEED}}}", "python", …]'
        )
    return command


def _seeds(where: str, content: Mapping[str, Any], count: int | None, first: int) -> tuple[int, ...]:
    given = content.get("seeds")
    if count is not None:
        check_range("the number of seeds", count, 1, MOST_SEEDS)
    check_range("the first seed", first, 0, EXACT)
    if isinstance(given, list) and all(type(seed) is int and 0 <= seed <= EXACT for seed in given):
        if not given or len(set(given)) < len(given) or len(given) > MOST_SEEDS:
            raise AblateError(f"{where}: seeds are listed once each, and at least one; not {shown(given)}")
        if first:
            raise AblateError(f"{where} lists its seeds; give a number of them there, or change the list")
        if count is not None and count > len(given):
            raise AblateError(f"{where} lists {len(given)} seeds, and {count} are asked for; add others there")
        return tuple(given[:count])
    if type(given) is int:
        check_range(f"{where}: seeds", given, 1, MOST_SEEDS)
        return tuple(range(first, first + (given if count is None else count)))
    what = "is missing" if given is None else f"is {shown(given)}"
    raise AblateError(f"{where}: seeds {what}; it is a number of seeds, or a list of whole numbers from 0 on")


def _code(where: str, content: Mapping[str, Any]) -> list[str]:
    given = content.get("code", [])
    if not isinstance(given, list) or not all(isinstance(pattern, str) for pattern in given):
        raise AblateError(f'{where}: code is a list of files, as ["train.py", "models/*.py"], not {shown(given)}')
    return given


def _known(where: str, given: Collection[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise AblateError(f"{where}: no key {shown(name)}{did_you_mean(name, known)}")


def _needed(where: str, content: Mapping[str, Any], name: str, kind: type[Kind], what: str) -> Kind:
    if name not in content:
        raise AblateError(f"{where}: {name} is missing; it is {what}")
    value = content[name]
    if not isinstance(value, kind):
        raise AblateError(f"{where}: {name} must be {what}, not {shown(value)}")
    return value


def _given(where: str, content: Mapping[str, Any], name: str, kind: type[Kind], what: str, default: Kind) -> Kind:
    return _needed(where, content, name, kind, what) if name in content else default


def _direction(where: str, content: Mapping[str, Any], name: str) -> str:
    """HIGHER or LOWER, "" where nothing is said."""
    value = content.get(name, "")
    if name in content and value not in DIRECTIONS:
        raise AblateError(f"{where}: {name} is {' or '.join(DIRECTIONS)}, not {shown(value)}")
    return str(value)


def _positive(where: str, content: Mapping[str, Any], name: str) -> float | None:
    value = content.get(name)
    if name not in content:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
        raise AblateError(f"{where}: {name} must be a number above 0, not {shown(value)}")
    return float(value)


def _terms(plan: CommandPlanRecord) -> dict[str, Any]:
    """What the plan's digest is of: all that bears on its answer."""
    values = asdict(plan)
    for name in ("command", "folder", "code", "timeout_seconds", "digest"):
        del values[name]
    return values


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _file_digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise AblateError(f"{file} cannot be read ({error.strerror or error})") from None


def _from(folder: Path, file: Path) -> str:
    """A file's path from a folder, also of one outside it."""
    return Path(file).relative_to(folder).as_posix() if file.is_relative_to(folder) else file.as_posix()
