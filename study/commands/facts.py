"""What commands say to programs: one JSON document on the standard output, and what it holds.

`docs/automation.md` describes every schema. Numbers are not rounded; what is not a finite number is null; times are
ISO 8601 in UTC; digests are whole. A field that is added keeps the schema's number, one that goes or changes raises it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO

from typer.core import TyperGroup

from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.study.commands.streams import OBEYED, inert

if TYPE_CHECKING:
    from cifar_ablations.ablations.adopted import Adopted
    from cifar_ablations.ablations.lock import PlanLock
    from cifar_ablations.ablations.record import PlanRecord
    from cifar_ablations.reports.pages.compare_page import Comparison, Side
    from cifar_ablations.reports.pages.findings import Findings
    from cifar_ablations.reports.pages.preview import Pilot
    from cifar_ablations.reports.reading.searches import Search
    from cifar_ablations.study.execution.fleets import Progress
    from cifar_ablations.study.execution.runner import Invocation
    from cifar_ablations.study.store.merging import Merged

OPTION = "--json"
VERSION = 1


def schema(command: str) -> str:
    """What a command's document is called."""
    return f"cifar-ablations/{command}/{VERSION}"


class Document:
    """The one document of a command, written when it ends."""

    def __init__(self, command: str):
        self._command = command
        self._content: dict[str, Any] | None = None

    def write(self, content: Mapping[str, Any]) -> None:
        """Have it say this."""
        self._content = {"schema": schema(self._command), **content}

    def fail(self, sentence: str, exit_code: int) -> None:
        """Have it say why the command failed, and nothing else."""
        self.write({"error": {"message": sentence, "exit_code": exit_code}})

    def end(self, out: TextIO) -> None:
        """Print it, where there is something to say."""
        if self._content is not None:
            print(encoded(self._content), file=out, flush=True)


@contextmanager
def alone_on_stdout(command: str) -> Iterator[Document]:
    """A document to be written; within it whatever is printed goes to the standard error."""
    document, out = Document(command), sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield document
    finally:
        document.end(out)


class Group(TyperGroup):
    """The commands: a mistake in the words themselves is also told as a document, where one was asked for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[OPTION] = tuple(args)
        with self._telling(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with self._telling(ctx):
            return super().invoke(ctx)

    @contextmanager
    def _telling(self, ctx: Any) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if isinstance(getattr(error, "message", None), str):  # it quotes what was typed
                error.message = inert(without_password(error.message))  # type: ignore[attr-defined]
            words = ctx.meta[OPTION]
            if OPTION in words and hasattr(error, "format_message"):  # typer has no public name for all of these
                command = next((word for word in words if word in self.commands), "ablate")
                document = Document(command)
                document.fail(error.format_message(), getattr(error, "exit_code", 2))
                document.end(sys.stdout)
            raise


def encoded(content: Mapping[str, Any]) -> str:
    """A document as text, signs beyond ASCII as they are where the output has them."""
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    text = OBEYED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)  # of which JSON itself escapes the first 32
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeError:
        return json.dumps(plain(content), indent=2, allow_nan=False)
    return text


def plain(value: Any) -> Any:
    """A value as JSON has it, whatever it consists of."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, datetime):  # pandas' too; its missing one is not equal to itself
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value == value else None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Sequence | Set):
        return [plain(one) for one in value]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # of NumPy
        return plain(value.tolist())
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise TypeError(f"a {type(value).__name__} has no place in JSON")


def of_catalog() -> dict[str, Any]:
    """Techniques, plans, searches, networks, metrics and profiles; `origin` is null of the suite's own."""
    from cifar_ablations.ablations import catalog, extensions, metrics
    from cifar_ablations.ablations.profiles import PROFILES
    from cifar_ablations.study.training import model

    def entry(kind: str, name: str, **about: Any) -> dict[str, Any]:
        return {"name": name, **about, "origin": catalog.origin(kind, name) or None}

    return {
        "techniques": [
            entry(
                extensions.TECHNIQUES,
                name,
                title=cls.title,
                source=cls.source,
                reason=cls.reason,
                notebook=cls.notebook,
                levels={level: {knob: getattr(cls.at(level), knob) for knob in cls.knobs()} for level in cls.levels},
                knobs=[
                    {"name": knob, **{key: getattr(about, key) for key in ("doc", "low", "high", "choices")}}
                    for knob, about in cls.knobs().items()
                ],
            )
            for name, cls in catalog.techniques().items()
        ],
        "plans": [
            entry(extensions.PLANS, name, question=catalog.plan_module(name).QUESTION) for name in catalog.plan_names()
        ],
        "searches": [
            entry(extensions.SEARCHES, name, question=search.QUESTION, trials=search.DEFAULT_TRIALS)
            for name in catalog.search_names()
            for search in [catalog.search_module(name)]
        ],
        "networks": [entry(extensions.NETWORKS, name) for name in model.networks()],
        "metrics": [
            {
                **entry(extensions.METRICS, name.removeprefix(metrics.INITIAL).removeprefix(metrics.FINAL)),
                "name": name,
                **{key: getattr(known, key) for key in ("title", "share", "unit", "better")},
            }
            for name, known in metrics.known().items()
        ],
        "profiles": [
            {key: getattr(profile, key) for key in ("name", "summary", "seeds", "margin", "model", "budget")}
            for profile in PROFILES.values()
        ],
    }


def of_plan(
    invocation: Invocation,
    done: Set[tuple[str, int]],
    seconds: float,
    pilots: Mapping[str, Pilot],
    lock: PlanLock | None = None,
) -> dict[str, Any]:
    """A plan before it is run: what of it is done, what the rest takes, and what it could tell; as of `show_plan`.

    lock: that which it was written to, if any.
    """
    record = invocation.record()
    total, missing = len(invocation.members()), len(invocation.missing(done))
    arms = [
        {
            "name": arm.name,
            "digest": arm.digest,
            "levels": arm.levels,
            "seed_offset": arm.seed_offset,
            "done": sum((arm.digest, seed + arm.seed_offset) in done for seed in invocation.seeds),
        }
        for arm in record.arms
    ]
    written = {"sha256": lock.sha256, "created": lock.created} if lock else None
    return {
        "plan": {**_of_record(record), "lock": written},
        "device": str(invocation.device),
        "workers": invocation.workers,
        "backend": invocation.backend,
        "shard": None if invocation.shard is None else str(invocation.shard),
        "arms": arms,
        "claims": [
            {"number": i, **{name: getattr(claim, name) for name in CLAIM_FIELDS}}
            for i, claim in enumerate(record.claims, 1)
        ],
        "trainings": {"total": total, "done": total - missing, "missing": missing},
        "seconds": seconds if missing else 0.0,
        "verdicts": _told(record),
        "spreads": {statement: {"sd": pilot.spread, "possible": pilot.possible} for statement, pilot in pilots.items()},
    }


CLAIM_FIELDS = ("statement", "technique", "metric", "sign", "treatment", "control", "allowed", "source")


def _told(plan: PlanRecord) -> dict[str, Any]:
    """Whether a plan's seeds suffice for verdicts, and how likely an effect is found by its size in standard deviations
    of one arm's runs."""
    from cifar_ablations.reports.inference import decision, verdict
    from cifar_ablations.study.commands import show

    if not plan.claims or len(plan.seeds) < 2:
        return {"given": False, "error_rate": None, "seeds_needed": None, "chances": []}
    rate = verdict.error_rate(verdict.shape_of(plan))
    given = rate <= decision.ALPHA
    enough = len(plan.seeds) if given else show.enough_seeds(plan)
    rows = plan.rule.looks or (sorted({len(plan.seeds), *show.NUMBERS_OF_SEEDS}) if given else [])
    chances = [
        {"seeds": seeds, "effect_sd": size, "chance": chance}
        for seeds in rows
        for size, chance in show.chances(plan, seeds).items()
    ]
    return {"given": given, "error_rate": rate, "seeds_needed": enough, "chances": chances}


def of_findings(results: Findings, page: PurePath | None = None) -> dict[str, Any]:
    """What an invocation of a plan found; page: where its page lies."""
    from cifar_ablations.reports.wording.tables import VERDICT_COLUMNS

    claims = results.verdicts.reindex(columns=VERDICT_COLUMNS).to_dict("records")
    return {
        **of_asked(results),
        "error_rate": results.error_rate if claims else None,
        "claims": [{"number": i, **row} for i, row in enumerate(claims, 1)],
        "arms": results.arms.to_dict("records"),
        "page": page,
    }


def of_asked(results: Findings | Side) -> dict[str, Any]:
    """Which invocation it is, and how many of its runs there are."""
    invocation, plan = results.invocation, results.plan
    return {
        "plan": _of_record(plan),
        "invocation": {
            "run_id": invocation.run_id,
            "experiment_id": invocation.experiment_id,
            "started": invocation.started,
            "running": invocation.running,
            "provenance": invocation.provenance,
        },
        "runs": {
            "planned": len(plan.arms) * len(plan.seeds),
            "ended": len(results.runs),
            "diverged": int((~results.runs["converged"]).sum()),
        },
    }


COMPARED_FIELDS = ("verdict", "reason", "difference", "low", "high", "confidence", "treatment_n", "control_n")
"""What is said of a claim on either side of a comparison."""


def of_comparison(compared: Comparison) -> dict[str, Any]:
    """Two invocations joined by what their arms and claims are: what both have, and what only one has."""
    from cifar_ablations.reports.pages import compare_page
    from cifar_ablations.reports.wording.tables import VERDICT_COLUMNS

    found, names = compared.found, ("first", "second")

    def said(row: Mapping[Any, Any], place: int, columns: Sequence[str]) -> dict[str, Any]:
        return {"number": place + 1, "statement": row["statement"], **{name: row.get(name) for name in columns}}

    only = compare_page.only(compared)
    return {
        "answer": compared.sentences,
        **{name: {"asked": side.asked, **of_asked(side)} for name, side in zip(names, compared.sides, strict=True)},
        "claims": [
            entry["joined"]
            | {
                name: said(row, entry["joined"][name], COMPARED_FIELDS)
                for name, row in zip(names, entry["rows"], strict=True)
            }
            for entry in compare_page.claims(compared)
        ],
        "arms": found.arms.to_dict("records"),
        "same_name": [{"arm": name, "knobs": knobs} for name, knobs in found.namesakes.items()],
        "sizes": found.sizes,
        "only": {
            name: {
                "arms": of_side["arms"],
                "claims": [
                    said(row, place, VERDICT_COLUMNS) for row, place in zip(of_side["claims"], places, strict=True)
                ],
            }
            for name, of_side, places in zip(names, only, found.only_claims, strict=True)
        },
    }


def _of_record(plan: PlanRecord) -> dict[str, Any]:
    names = ("name", "question", "digest", "model", "budget", "seeds", "overrides", "command", "rule")
    data = {name: getattr(plan.data, name) for name in ("name", "digest", "source", "stand_in")}
    lock = {"sha256": plan.lock, "created": datetime.fromtimestamp(plan.locked / 1000, UTC)} if plan.lock else None
    return {**{name: getattr(plan, name) for name in names}, "profile": plan.profile.name, "data": data, "lock": lock}


def of_merge(merged: Merged) -> dict[str, Any]:
    """What `ablate merge` brought."""
    return {"trainings": merged.trainings, "known": merged.known, "plans": merged.plans}


def of_run(progress: Progress, results: Findings, page: PurePath | None) -> dict[str, Any]:
    """What a plan that was carried out found, and what this call trained for it."""
    trained = {
        "asked": progress.total,
        "done": progress.done,
        "diverged": progress.diverged,
        "failed": progress.failed,
        "stalled": progress.stalled,
    }
    return {"trainings": trained, **of_findings(results, page)}


def of_search(search: Search, page: PurePath | None) -> dict[str, Any]:
    """A search, and what it came to; its outcome is null until it has ended."""
    asked = search.plan
    names = ("name", "question", "digest", "model", "budget", "seeds", "trials", "sampler", "pruner", "command")
    return {
        "search": {**{name: getattr(asked, name) for name in names}, "profile": asked.profile.name},
        "started": search.started,
        "outcome": search.outcome,
        "page": page,
    }


def of_adopted(adopted: Adopted, file: PurePath) -> dict[str, Any]:
    """A recipe as it was adopted."""
    return {"name": adopted.name, "file": file, "recipe": adopted.record}
