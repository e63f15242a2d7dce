"""A lock: all that bears on a plan's verdicts, as a file with its own hash, to be given away before the first run.

The file is one line of canonical JSON (sorted keys, no spaces, UTF-8) and a newline. Its field `sha256` is the hash of
the same line, newline included, without that field. Whoever edits the file can compute the hash anew, and whoever was
given the hash before, by a commit or a mail, sees that.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NoReturn

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import parse_json
from cifar_ablations.ablations.record import PlanRecord, RecordError, from_values, to_json

HASH, CREATED, PLAN = "sha256", "created", "plan"
"""The fields of the file."""


class BrokenLockError(AblateError):
    """A lock was edited, or what is to be run is not what it locks; the message says in what."""


@dataclass(frozen=True)
class PlanLock:
    """A plan as locked."""

    plan: PlanRecord
    """Its recipes by digest alone, its data by digest and without the place they came from."""
    created: datetime
    """In UTC, whole milliseconds; by the lock's own account."""
    sha256: str
    """64 hexadecimal digits: of all that the file holds beside them."""

    @property
    def at(self) -> int:
        """When it was created, in milliseconds since 1970, as runs have their times."""
        return round(1000 * self.created.timestamp())

    def encoded(self) -> bytes:
        """The file's content."""
        return _canonical({**_content(self.plan, self.created), HASH: self.sha256})


def lock_of(plan: PlanRecord, created: datetime) -> PlanLock:
    """A lock of a plan as it would be logged; what bears on no verdict is left out of it.

    created: with a time zone.
    """
    arms = tuple(replace(arm, knobs={}, levels={}) for arm in plan.arms)
    fixed = replace(plan, arms=arms, data=replace(plan.data, source=""), titles={}, reasons={}, lock="", locked=0)
    when = created.astimezone(UTC).replace(microsecond=created.microsecond // 1000 * 1000)
    return PlanLock(fixed, when, _hash(_content(fixed, when)))


def decoded(text: bytes, where: str) -> PlanLock:
    """The lock from a file's content; where: the file, for the message.

    Raises RecordError for what is no lock or was written by a newer version, and BrokenLockError where the hash is not
    that of the content. Spaces and the order of fields do not matter.
    """
    try:
        values = parse_json(text, parse_constant=_no_number)
        claimed = values.pop(HASH, None) if isinstance(values, dict) else None
        found = _hash(values)  # of no number beyond all bounds, and no half of a character
    except ValueError as error:
        raise RecordError(f"{where} is not whole JSON ({error}); it was cut short or changed by hand") from None
    if not isinstance(values, dict) or not {CREATED, PLAN} <= values.keys():
        raise RecordError(f"{where} is no lock of a plan: it lacks the fields {CREATED!r} and {PLAN!r}")
    if claimed != found:
        raise BrokenLockError(f"{where} was edited: the SHA-256 of its content is {found}, and it says {claimed}")
    plan = from_values(PlanRecord, values[PLAN], where)
    try:
        created = datetime.fromisoformat(values[CREATED])
    except (TypeError, ValueError):
        created = datetime.min  # which has no time zone
    if created.tzinfo is None:
        raise RecordError(f"{where}: the field {CREATED} is no time with a time zone, but {values[CREATED]!r}")
    return PlanLock(plan, created.astimezone(UTC), found)


def _content(plan: PlanRecord, created: datetime) -> dict[str, Any]:
    """What the hash is taken of."""
    values = to_json(plan)
    del values["titles"], values["reasons"], values["data"]["source"], values["lock"], values["locked"]
    for arm in values["arms"]:
        del arm["knobs"], arm["levels"]
    return {CREATED: created.isoformat(timespec="milliseconds").replace("+00:00", "Z"), PLAN: values}


def _canonical(values: Any) -> bytes:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _hash(values: Any) -> str:
    return hashlib.sha256(_canonical(values)).hexdigest()


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
