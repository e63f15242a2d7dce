"""What every page is made with: templates, figures as SVG, names of files, and files that appear whole."""

from __future__ import annotations

import base64
import gc
import hashlib
import html
import math
import pickle
import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from cifar_ablations.ablations import addresses
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.schema import REHEARSAL, UI_PORT_FILE
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.reports.inference import registration
from cifar_ablations.reports.reading.load import Logged
from cifar_ablations.reports.wording import answer, phrases, tables

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parents[1] / "templates"
UI_ADDRESS = "http://127.0.0.1:{port}"
UI_PORT = 5000
"""Where MLflow's UI answers that has never been started."""

Asked = TypeVar("Asked", bound=Logged[Any])


def import_libraries() -> None:
    """Import what pages are drawn and written with, which takes a second, so that it is there when it is needed."""
    import seaborn  # noqa: F401


def address_of(tracking_uri: str, asked: str | None) -> str:
    """Where MLflow's UI answers: as asked for, or a tracking server itself, without the password that it may hold.

    A SQLite store is served on this machine: where `ablate ui` last did, or will. Pages are made to be passed on.
    Raises AblateError for what is not http or https.
    """
    address = (asked or (tracking_uri if tracking_uri.startswith("http") else _on_this_machine(tracking_uri))).rstrip(
        "/"
    )
    if not address.startswith(("http://", "https://")):
        raise AblateError(f"ui_address must begin with http:// or https://, not {asked!r}")
    return re.sub(r"(?<=//)[^/]*\*\*\*@", "", without_password(address))


def _on_this_machine(tracking_uri: str) -> str:
    file, port = addresses.sqlite_file(tracking_uri), UI_PORT
    if file is not None:
        with suppress(OSError, ValueError):  # no UI has been started, or the file was changed by hand
            port = int((file.parent / UI_PORT_FILE).read_text(encoding="ascii"))
    return UI_ADDRESS.format(port=port)


@cache
def environment() -> Environment:
    """The templates, compiled once, everything in them escaped, with the words that pages speak in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (
        phrases.points,
        phrases.percent,
        phrases.interval,
        phrases.mean_and_std,
        phrases.p_value,
        phrases.margin,
        phrases.size,
        phrases.verdict_label,
        phrases.outcome,
        phrases.technique_title,
        phrases.duration,
        phrases.sentence_case,
        phrases.listing,
        phrases.metric_title,
        phrases.number,
        phrases.amount,
        phrases.count,
        phrases.detectable,
        phrases.runs_compared,
        phrases.spread,
        phrases.difference,
        phrases.limits,
        phrases.looks_taken,
        phrases.epochs,
        phrases.share_interval,
        phrases.std_interval,
        phrases.data_line,
        answer.of_changes,
        sort_key,
    )
    templates.globals |= {word.__name__: word for word in words}
    templates.globals |= {"sort_script": sort_script(), "REHEARSAL": REHEARSAL}
    return templates


@dataclass(frozen=True)
class Script:
    """A script to stand in a page, and the source that a Content-Security-Policy must name for it to run."""

    text: Markup
    hash: str


def sort_script() -> Script:
    """The script that makes tables of class "sortable" sortable."""
    from markupsafe import Markup

    text = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), f"sha256-{digest}")


def sort_key(value: float | None) -> str:
    """A number as the sorting script reads it; empty, which sorts last, for NaN."""
    if value is None or math.isnan(value):
        return ""
    return f"{value:.9g}".replace("inf", "Infinity")


def drawn(name: str, figure: Figure, description: str) -> dict[str, Any]:
    """A figure as a page's template places it, with ids that begin with its name, and what it says in words."""
    from markupsafe import Markup

    from cifar_ablations.reports.figures import theme

    # matplotlib escapes the text it writes, so its SVG is safe to place as it is.
    return {"svg": Markup(theme.svg(figure, name)), "description": description}


def when(milliseconds: float) -> str:
    """A time of the store in words; nothing for NaN."""
    return "" if pd.isna(milliseconds) else f"{pd.Timestamp(milliseconds, unit='ms'):%Y-%m-%d %H:%M} UTC"


def left_out(unreadable: Sequence[str]) -> str:
    """The end of a message: which records of a store could not be read, as `load.invocations` words them."""
    return "".join(f"; left out: {sentence}" for sentence in unreadable)


def slug(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-") or "unnamed"


LONGEST = 120
"""Signs of a page's name; beside it lie files that have more."""


def newest(logged: Sequence[Asked]) -> dict[str, Asked]:
    """The newest invocation of each question by file stem, newest first.

    logged: newest first. A stem is that of the question's first invocation, and of two questions with one stem the one
    that was asked first keeps it, so that a link leads to the same data for good.
    """
    last: dict[Hashable, Asked] = {}
    first: dict[Hashable, Asked] = {}
    for invocation in logged:
        last.setdefault(registration.question(invocation), invocation)
    for invocation in reversed(logged):
        first.setdefault(registration.question(invocation), invocation)
    stems: dict[str, Hashable] = {}
    for question, invocation in first.items():
        stem = slug(f"{invocation.name}-{invocation.data_name}-{invocation.profile}")
        if invocation.overrides:
            stem += "-" + _hashed("\n".join(sorted(invocation.overrides)))
        if len(stem) > LONGEST:
            stem = f"{stem[:LONGEST]}-{_hashed(stem)}"
        for more in ("", slug(invocation.data_digest)[:8], _hashed(repr(question))):
            stem += f"-{more}" if more else ""
            if stem not in stems:
                break
        stems[stem] = question
    named = {question: stem for stem, question in stems.items()}
    return {named[question]: invocation for question, invocation in last.items()}


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def csv(frame: pd.DataFrame) -> bytes:
    """A frame as a CSV file that a spreadsheet opens as it is: UTF-8 by its first bytes, no text a formula."""
    text = tables.for_spreadsheets(frame).to_csv(
        index=False, lineterminator="\n", float_format="%.8g", date_format="%Y-%m-%dT%H:%M:%SZ"
    )
    return text.encode("utf-8-sig")


def write_html(path: Path, text: str, made_of: str = "") -> Path:
    """Write a rendered page; returns its path. made_of: of `fingerprint`, to be looked for by `is_made_of`."""
    note = MADE_OF.format(made_of) if made_of else ""
    write_atomically(path, (text.strip() + note + "\n").encode())
    return path


MADE_OF = "\n<!-- made of {} -->"
LIBRARIES = ("jinja2", "matplotlib", "numpy", "pandas", "scipy", "seaborn")


def fingerprint(*of: object) -> str:
    """What stands for all that a page is made of: the given objects, this package's code, and the libraries.

    Equal ones are of equal pages; equal pages may have others, as equal objects may be pickled in several ways.
    """
    digest = hashlib.sha256()
    for file in sorted(file for room in ROOMS for file in room.rglob("*") if file.suffix in SOURCES):
        digest.update(file.read_bytes())
    digest.update(repr([version(library) for library in LIBRARIES]).encode())
    pickle.Pickler(_Hashed(digest), protocol=5).dump(of)
    return digest.hexdigest()


ROOMS = (Path(__file__).parents[1], Path(__file__).parents[2] / "ablations")
"""The folders of all code that makes a page."""
SOURCES = {".py", ".j2", ".css", ".js"}


@dataclass(frozen=True)
class _Hashed:
    """A file that keeps nothing but the hash of what is written to it."""

    digest: Any

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return memoryview(content).nbytes


def is_made_of(page: Path, made_of: str) -> bool:
    """Whether a page is there that was made of this, with all files that it links to."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    links = (html.unescape(link) for link in re.findall(r'href="([^":#]+)["#]', text))
    return text.endswith(MADE_OF.format(made_of) + "\n") and all((page.parent / link).is_file() for link in links)


@contextmanager
def kept_apart(what: str, failed: list[str]) -> Iterator[None]:
    """What goes wrong with one page does not stop the others: a sentence that names it is appended to `failed`.

    Of what a person may have changed in a store not all can be foreseen.
    """
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
        failed.append(f"no page can be made of {what} as it is stored ({reason})")


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector of cycles: what a page is made of lives until it is written, and walking it again and again
    takes as long as all the rest."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
