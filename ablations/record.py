"""The types of what is stored: written by `study`, read by `reports`, encoded and decoded here alone.

Records are plain frozen dataclasses; pydantic, which MLflow brings along, checks them on the way in. A field that is
added has a default, which is what older files mean; `format` is raised where that is not enough.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import parse_json

if TYPE_CHECKING:
    from pydantic import ValidationError

FORMAT = 1
"""Of everything that is encoded here; files of 0.1.0 have none, and count as 1."""

MOST = 2**63
"""Below it, and above its negative, lie the whole numbers that tables hold."""

TAG, JSON = "tag", "json"
"""Keys of a field's metadata: what its tag is called, where not as the field is, and that its tag is JSON."""


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
    """A statement that runs can support or refute: metric(treatment) - metric(control) has the given sign.

    sign: +1 or -1, as every claim of the suite's own plans has it. 0, of runs of other programs alone: the two differ,
    either way; found different it counts as supported, and nothing refutes it.
    """

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
class AskedRecord:
    """What the records of a plan and of a search have in common."""

    name: str
    question: str
    profile: ProfileRecord
    data: DataRecord
    _: KW_ONLY
    digest: str = ""
    """Of all that is fixed: what it is made of stands with the kinds below."""
    model: str = ""
    budget: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    """What techniques are called in the middle of a sentence."""
    reasons: Mapping[str, ReasonRecord] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    """What the command changed of the recipe, such as 'dropout.p=0.3'."""
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class PlanRecord(AskedRecord):
    """A plan as invoked, logged before its first training; its digest is of name, question, arms, seeds, rule, claims
    and layout."""

    arms: tuple[ArmRecord, ...]
    seeds: tuple[int, ...]
    rule: RuleRecord
    claims: tuple[ClaimRecord, ...] = ()
    references: tuple[ReferenceRecord, ...] = ()
    layout: str = "effects"
    """How a report answers: `effects` of techniques, or a `ledger` of statements."""
    factors: tuple[str, ...] = ()
    """The techniques whose combinations a factorial design trains."""
    note: str = ""
    """What a reader of the answer must know about the design."""
    lock: str = ""
    """The SHA-256 of the lock that the invocation was held to; "" for none."""
    locked: int = 0
    """When that lock was written by its own account, in milliseconds since 1970; 0 for none."""


Value = float | int | str
"""Of a knob, or a level's name."""


@dataclass(frozen=True)
class BaselineRecord:
    """The recipe that a search starts from: what it is called, its digest, and its knobs by `object.field`."""

    name: str
    digest: str
    knobs: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SearchRecord(AskedRecord):
    """A search as invoked, logged before its first trial."""

    digest: str
    """Of all that decides the trials."""
    epochs: int
    """How long a trial is trained that is not pruned."""
    baseline: BaselineRecord
    seeds: tuple[int, ...]
    """Those that every trial is trained with."""
    seed: int
    """Of what is sampled."""
    sampler: str
    pruner: str
    rungs: tuple[int, ...]
    """The epochs (or, for `wilcoxon`, the numbers of seeds) after which the pruner is asked."""
    trials: int
    """Of each study, before ranges are widened."""
    pareto: bool
    at_once: int
    """Trials asked for before the first of them is reported."""
    chance: float
    """The accuracy of guessing."""
    baseline_seeds: tuple[int, ...] | None = None
    """The seeds that chose the baseline, where searches did; None in records of 0.1.0, which do not say."""


@dataclass(frozen=True)
class ParameterRecord:
    """What a study searched: a range, in which `low` and `high` lie too, or choices."""

    name: str
    doc: str = ""
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Value, ...] | None = None


@dataclass(frozen=True)
class BestRecord:
    """The best finished trial of a study, its mean validation accuracy, and what it sampled."""

    trial: int
    value: float
    sampled: Mapping[str, Value]


@dataclass(frozen=True)
class FrontRecord:
    """A trial that no other of its study beats in both validation accuracy and seconds."""

    trial: int
    value: float
    seconds: float
    sampled: Mapping[str, Value]


@dataclass(frozen=True)
class StudyRecord:
    """What became of one study of a search."""

    name: str
    storage_name: str
    """What Optuna's storage calls it."""
    fixed: Mapping[str, Value]
    """The knobs in which its recipe departs from the baseline."""
    parameters: tuple[ParameterRecord, ...]
    sampler: str
    widened: int
    """How often its ranges were."""
    edge: tuple[str, ...]
    """The parameters whose best value lies at the end of their range."""
    best: BestRecord | None
    """None where no trial came to an end without diverging."""
    front: tuple[FrontRecord, ...] = ()
    """Empty where accuracy alone was asked for."""
    diverged: int = 0
    """How many trials did."""


@dataclass(frozen=True)
class WinnerRecord:
    """The best recipe of all studies."""

    study: str
    trial: int
    value: float
    digest: str
    knobs: Mapping[str, Value]
    changes: tuple[tuple[str, Value, Value], ...]
    """The knobs that differ from the baseline's, with their values before and after."""


@dataclass(frozen=True)
class SearchOutcomeRecord:
    """What a search came to, logged when it has ended."""

    search_digest: str
    studies: tuple[StudyRecord, ...]
    winner: WinnerRecord | None
    """None where no trial came to an end, and where the search keeps its baseline."""
    retuned: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """By study, what its best trial sampled, where the search keeps its baseline."""


@dataclass(frozen=True)
class AdoptionRecord:
    """Where an adopted recipe comes from; all of it is empty for one that a person wrote."""

    search: str = ""
    search_digest: str = ""
    mlflow_run: str = ""
    commit: str = ""
    profile: str = ""
    budget: str = ""
    data: str = ""
    data_digest: str = ""
    seeds: tuple[int, ...] = ()
    """Those that chose it, and those that chose what its search started from."""
    adopted: str = ""
    """When."""
    command: str = ""
    study: str | None = None
    trial: int | None = None
    validation_accuracy: float | None = None
    """What it reached on the images that chose it; None where the search kept its baseline."""


@dataclass(frozen=True)
class RecipeRecord:
    """An adopted recipe as its file has it: the knobs of each technique that is on."""

    techniques: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    retuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What to set where a technique is removed."""
    provenance: AdoptionRecord = field(default_factory=AdoptionRecord)


# Plans whose arms are commands of other programs.


@dataclass(frozen=True)
class CommandArmRecord:
    """An arm that is a command: its words, with `{seed}`, `{metrics}` and `{python}` where a run has its own."""

    name: str
    command: tuple[str, ...]
    digest: str
    """Of the words and of the program: the files of its code, or else the folder that it lies in."""
    expect: str = ""
    """The direction that is claimed of it against the control, higher or lower; "" for a difference in either."""


@dataclass(frozen=True, kw_only=True)
class CommandPlanRecord:
    """A plan of commands as invoked, logged before its first run; its digest is of all that bears on its answer."""

    name: str
    question: str
    metric: str
    """Which of the program's numbers decides."""
    control: str
    arms: tuple[CommandArmRecord, ...]
    seeds: tuple[int, ...]
    better: str = ""
    """higher or lower; "" as the metric's name says."""
    margin: float | None = None
    """In the unit of the program's numbers; None for that of the suite for shares, and for none of other metrics."""
    test: str = "welch t"
    correction: str = "weighted holm"
    alpha: float = 0.05
    timeout_seconds: float | None = None
    """Of a run; None for none."""
    code: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of the files of its code, by path from the folder."""
    folder: str = ""
    """Where it is run."""
    digest: str = ""
    command: str = ""
    """The command that asks the same."""


# Demonstrations, galleries, and what produced a run.


@dataclass(frozen=True)
class CheckRecord:
    """A statement, a number that it leads one to expect, and the number that was found.

    The interval [low, high], either end of which may be missing, is where the number found must lie; where `of_found`
    is set it is the spread of what was found, a 95 % prediction interval, and the number expected must lie in it.
    """

    statement: str
    expected: float
    found: float
    low: float | None
    high: float | None
    of_found: bool
    holds: bool
    source: str


@dataclass(frozen=True)
class LinkRecord:
    """What a demonstration explains: a plan, one of its arms where a single one is meant, and why."""

    plan: str
    why: str
    arm: str = ""


@dataclass(frozen=True)
class DemonstrationRecord:
    """One chapter of the course; its frames lie beside it as CSV files of these names."""

    name: str
    title: str
    question: str
    idea: str
    frames: tuple[str, ...]
    checks: tuple[CheckRecord, ...]
    links: tuple[LinkRecord, ...] = ()


@dataclass(frozen=True)
class PictureRecord:
    """A training image as the networks of some arms saw it."""

    pipeline: str
    """What was done to it; empty for nothing."""
    arms: tuple[str, ...]
    """Those that trained on the like."""
    subject: int
    """Which image it is of, from 0."""
    label: str
    epoch: int
    """From 1; 0 is the image as it is."""
    png: str
    """Base64 text of a PNG file."""


@dataclass(frozen=True)
class GalleryRecord:
    """Some training images of a plan's first seed; where there are none, `error` says why."""

    seed: int = 0
    images: tuple[PictureRecord, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class ProvenanceRecord:
    """What produced a run: code, libraries, machine. Nothing in it changes a result; "" is not known."""

    commit: str = ""
    dirty: str = ""
    """Whether the checkout had changes: true, false or unknown."""
    python: str = ""
    platform: str = ""
    processor: str = ""
    device: str = ""
    backend: str = ""
    workers: str = ""
    cores: str = ""
    cifar_ablations: str = field(default="", metadata={TAG: "cifar-ablations"})
    torch: str = ""
    torchvision: str = ""
    mlflow: str = ""
    numpy: str = ""


@dataclass(frozen=True)
class EnvironmentRecord:
    """What may change how a training comes out at the same recipe and seed, in the last bits of its sums at least."""

    engine: int
    """Raised when the engine trains otherwise than before."""
    instructions: str
    """The vector instructions of the processor, or the compute capability of the GPU."""
    threads: int
    """Over how many threads a sum may be shared out."""
    torch: str
    extension: str = ""
    """The extensions that define its network and its techniques, each with the digest of its code; "" for none."""
    backend: str = "torch"
    """What computes gradients and logits: torch, or the kernels."""
    kernels: str = ""
    """The build of the kernels that computed it, by their source, compiler and processor; "" for torch."""


@dataclass(frozen=True)
class LockRecord:
    """Who holds an output folder, and for what."""

    pid: int
    doing: str
    since: str


# Tags of runs, called as `schema` has them. A run without those that have no default does not count.


@dataclass(frozen=True, kw_only=True)
class ParentRecord:
    """What the parent run of an invocation says of itself. What was invoked stands whole in its file; by these tags it
    is found."""

    profile: str = ""
    data: str = ""
    data_digest: str = ""
    stand_in: bool = False
    note: str = field(default="", metadata={TAG: "mlflow.note.content"})
    """Markdown that MLflow's UI shows."""
    number: int = field(default=0, metadata={TAG: schema.NUMBER})
    """One more than the highest before it in the store; 0 from versions that had none."""


@dataclass(frozen=True, kw_only=True)
class PlanParentRecord(ParentRecord):
    """The tags of a plan's invocation."""

    plan: str = ""
    plan_digest: str = ""
    """"" until the plan has been logged whole."""


@dataclass(frozen=True, kw_only=True)
class SearchParentRecord(ParentRecord):
    """The tags of a search's invocation."""

    search: str = ""
    search_digest: str = ""


@dataclass(frozen=True)
class RunRecord:
    """What the run of a training says of itself; its environment, which runs of 0.1.0 lack, stands beside it."""

    digest: str
    """Of the recipe."""
    seed: int
    """What it was trained with: the plan's seed and the offset of the arm."""
    data_digest: str
    data: str = ""
    stand_in: bool = False
    plan: str = ""
    profile: str = ""
    arm: str = ""
    outcome: str = ""
    """As `schema` names outcomes; "" while it is being trained."""
    parent: str = field(default="", metadata={TAG: schema.PARENT})
    """The run id of the plan's invocation."""


@dataclass(frozen=True)
class WeightsRecord:
    """What the run of a training says of its weights, where they were asked for."""

    kept: str
    """schema.KEEP_ALL or KEEP_BEST, with which they were kept, or PASSED_OVER."""
    validation_accuracy: float = math.nan
    """With these weights; NaN where there are no validation images."""


@dataclass(frozen=True)
class CommandRunRecord:
    """What the run of a command says of itself."""

    plan: str
    arm: str
    seed: int
    digest: str
    """The arm's."""
    outcome: str = ""
    """As `schema` names outcomes; "" while it is running."""
    cause: str = ""
    """Why it has no result, in words; "" where it has one, or is running."""
    parent: str = field(default="", metadata={TAG: schema.PARENT})
    """The run id of the plan's invocation."""


@dataclass(frozen=True)
class TrialRecord:
    """What the run of a trial says of itself."""

    search_digest: str
    study: str
    trial: int
    """Its number in the study, from 0."""
    digest: str
    """Of the recipe."""
    data_digest: str
    data: str = ""
    stand_in: bool = False
    search: str = ""
    profile: str = ""
    sampled: Mapping[str, Value] = field(default_factory=dict, metadata={JSON: True})
    """By `technique.knob`."""
    origin: str = ""
    """Where its result comes from, if it was not trained for this store: `schema.FROM_OPTUNA`."""
    outcome: str = ""
    """As `schema` names outcomes; "" while it is being trained."""
    parent: str = field(default="", metadata={TAG: schema.PARENT})
    """The run id of the search's invocation."""


@dataclass(frozen=True)
class EffectRecord:
    """What the technique that an arm singles out does to test accuracy, stored as a run among the arm's trainings.

    In fractions, with the limits of the interval; `outcome` says what became of the claim, and `about` which it is.
    """

    arm: str
    effect: float
    low: float
    high: float
    outcome: str
    about: str


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
        values = parse_json(text)
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
        record: Record = _adapter(kind).validate_json(json.dumps(values, default=str), strict=True)  # TOML has dates
        return record
    except ValidationError as error:
        raise RecordError(f"{where}: the field {_first_of(error)}") from None


def _first_of(error: ValidationError, names: Mapping[str, str] | None = None) -> str:
    """What is wrong with the first field that is wrong; names: what fields are called where it is stored."""
    first = error.errors(include_url=False)[0]
    outer, *within = (str(part) for part in first["loc"])
    name = ".".join([(names or {}).get(outer, outer), *within])
    if first["type"] == "missing":
        return f"{name} is missing"
    return f"{name} {first['msg'][:1].lower()}{first['msg'][1:]}, not {str(first['input'])[:80]!r}"


def _tags_of(kind: type[Any], prefix: str) -> dict[str, str]:
    """The names of the tags that hold a kind of record, by field."""
    return {one.name: prefix + one.metadata.get(TAG, one.name) for one in fields(kind)}


def _encoded(kind: type[Any]) -> set[str]:
    """The fields whose tags are JSON of more than one value."""
    return {one.name for one in fields(kind) if JSON in one.metadata}


def to_tags(record: Any, prefix: str = "") -> dict[str, str]:
    """A record as a run's tags: text as it is, all else as JSON; a field that is "" has no tag."""
    values = {tag: getattr(record, name) for name, tag in _tags_of(type(record), prefix).items()}
    return {tag: _as_tag(value) for tag, value in values.items() if value != ""}


def _as_tag(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(dict(value) if isinstance(value, Mapping) else value)


def from_tags(kind: type[Record], tags: Mapping[str, str], prefix: str, where: str) -> Record:
    """A record from a run's tags; where: the run, for the message. Other tags are ignored.

    Raises RecordError for a tag that is missing or does not have its field's type, for a whole number beyond 64 bits,
    and for an outcome that there is not.
    """
    from pydantic import ValidationError

    names = _tags_of(kind, prefix)
    own: dict[str, Any] = {name: tags[tag] for name, tag in names.items() if tag in tags}
    for name in own.keys() & _encoded(kind):
        with suppress(ValueError):  # of text that is no JSON the check says so
            own[name] = parse_json(own[name])
    try:
        record: Record = _adapter(kind).validate_python(own)
    except ValidationError as error:
        raise RecordError(f"{where}: the tag {_first_of(error, names)}") from None
    for name, value in vars(record).items():
        if isinstance(value, int) and abs(value) >= MOST:
            raise RecordError(f"{where}: the tag {names[name]} is beyond 64 bits, {str(value)[:80]}")
        if name == "outcome" and value not in ("", *schema.OUTCOMES):
            known = ", ".join(schema.OUTCOMES)
            raise RecordError(f"{where}: the tag {names[name]} is {value[:80]!r}, and outcomes are {known}")
    return record


ADAPTERS: dict[type[Any], Any] = {}
"""What checks a kind of record, made when it is first needed."""


def _adapter(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter

    if kind not in ADAPTERS:
        ADAPTERS[kind] = TypeAdapter(kind)
    return ADAPTERS[kind]
