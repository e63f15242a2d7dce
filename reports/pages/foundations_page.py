"""One self-contained HTML page for all demonstrations, a short illustrated course, from nothing but the store."""

from __future__ import annotations

import io
import math
import pkgutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.ablations import checksums, schema
from cifar_ablations.ablations.record import (
    CheckRecord,
    DemonstrationRecord,
    LinkRecord,
    ProvenanceRecord,
    RecordError,
    from_json,
    from_tags,
    to_tags,
)
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.reading import load, order, stored

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

STEM = "foundations"
PREFIX = "foundations_"
"""The names of the figures' modules begin with this; the rest is the demonstration's name."""


@dataclass(frozen=True)
class Chapter:
    """One demonstration as it was logged: what it says, and its frames by name."""

    run_id: str
    seconds: float
    record: DemonstrationRecord
    frames: dict[str, pd.DataFrame]

    @property
    def holding(self) -> int:
        """How many of its checks hold."""
        return sum(check.holds for check in self.record.checks)


@dataclass(frozen=True)
class Course:
    """A run of the demonstrations: its parent run, its chapters in order, and a sentence for each it cannot show."""

    parent: Run
    chapters: list[Chapter]
    unreadable: list[str]


def write_foundations_report(tracking_uri: str, folder: Path, *, ui_address: str | None = None) -> list[Path]:
    """Write the page of the newest finished run of the demonstrations, or of the newest with any; returns it.

    `ui_address` is where MLflow's UI answers (a tracking server is its own). The file appears whole or not at all. A
    store without demonstrations gets no page; of a demonstration that cannot be read, the page says so. Raises
    AblateError where the store does not exist, and for a `ui_address` that is not http or https.
    """
    address = rendering.address_of(tracking_uri, ui_address)
    client = load.connect(tracking_uri)
    course = _newest(client)
    if course is None:
        return []
    parent, chapters = course.parent, course.chapters
    checks = sum(len(chapter.record.checks) for chapter in chapters)
    environment = rendering.environment()
    words = (expected, spread_of_seeds, quantity, command)
    environment.globals |= {word.__name__: word for word in words}
    html = environment.get_template("foundations.html.j2").render(
        chapters=[_rendered(chapter) for chapter in chapters],
        unreadable=course.unreadable,
        clock=order.ahead([parent.info.start_time]),
        seed=parent.data.tags.get(schema.SEED, "0"),
        experiment=parent.info.experiment_id,
        run_id=parent.info.run_id,
        finished=parent.info.status == "FINISHED",
        when=rendering.when(parent.info.start_time),
        seconds=sum(chapter.seconds for chapter in chapters),
        checks=checks,
        holding=sum(chapter.holding for chapter in chapters),
        provenance=to_tags(from_tags(ProvenanceRecord, parent.data.tags, schema.PROVENANCE, parent.info.run_id), ""),
        address=address,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{STEM}.html"
    rendering.write_html(path, html)
    return [path]


def _newest(client: MlflowClient) -> Course | None:
    """The run of the demonstrations to show."""
    parents = load.search(client, f"tags.{schema.KIND} = '{schema.KIND_FOUNDATIONS}'")
    children: dict[str, list[Run]] = {}
    for run in load.search(client, f"tags.{schema.KIND} = '{schema.KIND_FOUNDATION}'"):
        children.setdefault(run.data.tags.get(schema.PARENT, ""), []).append(run)
    parents.sort(key=lambda run: (order.number(run.data.tags), run.info.start_time), reverse=True)
    for parent in sorted(parents, key=lambda run: run.info.status != "FINISHED"):
        course = _course(client, parent, children.get(parent.info.run_id, []))
        if course.chapters or course.unreadable:
            return course
    return None


def _course(client: MlflowClient, parent: Run, runs: list[Run]) -> Course:
    chapters, unreadable = [], []
    for run in sorted(runs, key=lambda run: run.info.start_time):
        try:
            chapter = _chapter(client, run)
        except RecordError as error:
            unreadable.append(str(error))
            continue
        chapters += [chapter] if chapter is not None else []
    return Course(parent, chapters, unreadable)


def _chapter(client: MlflowClient, run: Run) -> Chapter | None:
    """A demonstration's run as a chapter; None for one that was stopped before it was written.

    Raises RecordError for one that was written and cannot be read.
    """
    name = run.data.tags.get(schema.DEMONSTRATION, "?")
    where = f"{schema.DEMONSTRATION_FILE} of “{name}” (run {run.info.run_id})"

    def kept(file: str) -> bytes:
        content = stored.content(client, run.info.run_id, run.info.artifact_uri, file)
        if content is None:
            raise FileNotFoundError(file)
        named = where if file == schema.DEMONSTRATION_FILE else f"{file} of “{name}” (run {run.info.run_id})"
        return checksums.check(content, run.data.tags, file, named)

    try:
        record = from_json(DemonstrationRecord, kept(schema.DEMONSTRATION_FILE), where)
        files = {frame: f"{frame}.csv" for frame in record.frames}
        tables = {
            frame: _frame(kept(f"{schema.FRAMES_FOLDER}/{file}"), file, record.name) for frame, file in files.items()
        }
    except FileNotFoundError as error:
        if run.info.status != "FINISHED":
            return None
        raise RecordError(
            f"the files of “{name}” (run {run.info.run_id}) are missing ({error}); "
            "`ablate foundations` makes them again"
        ) from None
    return Chapter(run.info.run_id, run.data.metrics.get(schema.SECONDS, math.nan), record, tables)


def _frame(content: bytes, file: str, demonstration: str) -> pd.DataFrame:
    try:
        return pd.read_csv(io.BytesIO(content))
    except ValueError as error:  # what pandas raises for a file that is no table
        raise RecordError(f"{file} of “{demonstration}” is not a table ({error})") from error


def figure_modules() -> dict[str, ModuleType]:
    """The figures' modules by demonstration: PARTS (captions by name), data, draw and describe."""
    import cifar_ablations.reports.figures

    names = [
        info.name
        for info in pkgutil.iter_modules(cifar_ablations.reports.figures.__path__)
        if info.name.startswith(PREFIX)
    ]
    return {name.removeprefix(PREFIX): import_module(f"cifar_ablations.reports.figures.{name}") for name in names}


def _rendered(chapter: Chapter) -> dict[str, Any]:
    """A chapter as the template takes it: figures are drawn where this version has some for its demonstration."""
    figures = []
    name = chapter.record.name
    if module := figure_modules().get(name):
        for part, caption in module.PARTS.items():
            data = module.data(chapter.frames, part)
            drawn = rendering.drawn(f"{name}-{part}", module.draw(data, part), module.describe(data, part))
            figures.append(drawn | {"caption": caption})
    answers = chapter.frames.get("answers")
    return {
        "record": chapter.record,
        "run_id": chapter.run_id,
        "holding": chapter.holding,
        "seconds": chapter.seconds,
        "figures": figures,
        "answers": [] if answers is None else answers.to_dict("records"),
    }


def quantity(value: float | None) -> str:
    """A number in four significant digits, as a power of ten where it is very large or small."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        text = f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
        return text.replace("-", "−")
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} · 10{digits}".replace("-", "−")


def expected(check: CheckRecord) -> tuple[str, str]:
    """The number that a check expects and its tolerance, as text; a range alone where it is not about one number."""
    low, high, middle = check.low, check.high, check.expected
    if check.of_found:
        return quantity(middle), ""
    if low is None or high is None:
        return f"at most {quantity(high)}" if low is None else f"at least {quantity(low)}", ""
    if low == high:
        return quantity(middle), "exactly"
    half = (high - low) / 2
    if abs((low + high) / 2 - middle) <= 1e-6 * half:
        return quantity(middle), f"± {quantity(half)}"
    return f"{quantity(low)} to {quantity(high)}", ""


def spread_of_seeds(check: CheckRecord) -> str:
    """The prediction interval of what was found."""
    return f"95 % of seeds: {quantity(check.low)} to {quantity(check.high)}"


def command(link: LinkRecord) -> str:
    """The command that runs a link's plan."""
    return f"make ablate PLAN={link.plan}"
