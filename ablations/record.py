"""The types of what is stored: written by `study`, read by `reports`, encoded and decoded here alone.

Records are plain frozen dataclasses; pydantic, which MLflow brings along, checks them on the way in. A field that is
added has a default, which is what older files mean; `format` is raised where that is not enough.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from cifar_ablations.ablations.errors import AblateError

FORMAT = 1
"""Of everything that is encoded here; files of 0.1.0 have none, and count as 1."""


class RecordError(AblateError):
    """A stored record that cannot be read: the message names file or run, field and value."""


@dataclass(frozen=True)
class ArmRecord:
    """An arm as it was trained: its recipe's digest, knobs by `object.field`, and levels by technique."""

    name: str
    digest: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    levels: Mapping[str, str] = field(default_factory=dict)
    seed_offset: int = 0
    """What was added to each of the plan's seeds."""


@dataclass(frozen=True)
class ClaimRecord:
    """A statement that runs can support or refute: metric(treatment) - metric(control) has the given sign."""

    statement: str
    technique: str
    metric: str
    sign: int
    treatment: str
    control: str
    family: str
    source: str
    notebook: str = ""
    """Where in the notebook the statement stands."""
    mechanism: tuple[str, ...] = ()
    """Metrics that show why, to be placed beside the verdict."""
    beyond: tuple[str, str] | None = None
    """Another treatment and control: the claim is then about how much larger the first difference is than theirs."""
    allowed: bool = False
    """Whether a loss within the rule's margin is still what the claim says: 'costs no accuracy'."""
    over: tuple[tuple[str, float], ...] = ()
    """Arms with weights, in place of one treatment and one control, which are then only words: the claim is about the
    weighted sum, such as the mean of all arms that have a technique less the mean of all that have not."""

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms that it compares."""
        if self.over:
            return tuple(name for name, _ in self.over)
        return (self.treatment, self.control, *(self.beyond or ()))


@dataclass(frozen=True)
class ReferenceRecord:
    """A published value of a metric, to be placed among the runs of an arm."""

    arm: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class RuleRecord:
    """How verdicts are reached. The margin is in the metric's own unit: 0.005 is 0.5 percentage points."""

    margin: float
    alpha: float = 0.05
    test: str = "paired t"
    correction: str = "holm"
    confirmatory_seeds: int = 10
    target: float = 0.4
    """Validation accuracy that `epochs_to_target` waits for."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds after which the verdicts are looked at; training stops at the first that decides every claim.
    Empty: once, after all seeds."""


@dataclass(frozen=True)
class ProfileRecord:
    """The size of an experiment, by name."""

    name: str
    summary: str = ""


@dataclass(frozen=True)
class DataRecord:
    """What was trained on; `stand_in` for images that a program drew."""

    name: str
    digest: str
    source: str = ""
    stand_in: bool = False
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReasonRecord:
    """Why a technique should do what it is said to do, and who says so."""

    text: str
    source: str = ""


@dataclass(frozen=True)
class PlanRecord:
    """A plan as invoked, logged before its first training."""

    name: str
    question: str
    arms: tuple[ArmRecord, ...]
    seeds: tuple[int, ...]
    rule: RuleRecord
    profile: ProfileRecord
    data: DataRecord
    claims: tuple[ClaimRecord, ...] = ()
    references: tuple[ReferenceRecord, ...] = ()
    layout: str = "effects"
    """How a report answers: `effects` of techniques, or a `ledger` of statements."""
    factors: tuple[str, ...] = ()
    """The techniques whose combinations a factorial design trains."""
    note: str = ""
    """What a reader of the answer must know about the design."""
    digest: str = ""
    """Of all that the plan fixes: name, question, arms, seeds, rule, claims and layout."""
    model: str = ""
    budget: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    """What techniques are called in the middle of a sentence."""
    reasons: Mapping[str, ReasonRecord] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    """What the command changed of the recipe, such as 'dropout.p=0.3'."""
    command: str = ""


Record = TypeVar("Record")


def to_json(record: Any) -> dict[str, Any]:
    """A record as JSON values, with the format that it is written in."""
    return {**json.loads(json.dumps(asdict(record), allow_nan=True)), "format": FORMAT}


def from_json(kind: type[Record], text: str | bytes, where: str) -> Record:
    """A record from a file's text; where: the file or run, for the message.

    Raises RecordError, in a sentence, for text that is no JSON, a field that is missing or of another type, and a
    format that a newer version wrote. Fields that are not known are ignored: a newer version may have added them.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{where} is not whole JSON ({error}); it was cut short or changed by hand") from None
    return from_values(kind, values, where)


def from_values(kind: type[Record], values: Any, where: str) -> Record:
    """A record from JSON values; raises as `from_json` does."""
    from pydantic import ValidationError

    if not isinstance(values, dict):
        raise RecordError(f"{where} holds {type(values).__name__} in place of a record; it was changed by hand")
    written = values.get("format", FORMAT)
    if not isinstance(written, int) or written > FORMAT:
        raise RecordError(f"{where} has format {written!r}, and this version knows {FORMAT}: a newer version wrote it")
    try:
        return _adapter(kind).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f", not {str(first['input'])[:80]!r}"
        what = "is missing" if first["type"] == "missing" else first["msg"][:1].lower() + first["msg"][1:]
        raise RecordError(f"{where}: the field {name} {what}{found}") from None


ADAPTERS: dict[type[Any], Any] = {}
"""What checks a kind of record, made when it is first needed."""


def _adapter(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter

    if kind not in ADAPTERS:
        ADAPTERS[kind] = TypeAdapter(kind)
    return ADAPTERS[kind]
