"""A lock comes back from its file, is the same file whoever writes it, and notices every edit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from cifar_ablations.ablations.lock import BrokenLockError, decoded, lock_of
from cifar_ablations.ablations.record import (
    ArmRecord,
    ClaimRecord,
    DataRecord,
    PlanRecord,
    ProfileRecord,
    ReasonRecord,
    RecordError,
    ReferenceRecord,
    RuleRecord,
)

PLAN = PlanRecord(
    name="techniques",
    question="Hilft »Dropout«?",
    arms=(ArmRecord("A", "a" * 16, {"dropout.p": 0.5}, {"dropout": "on"}), ArmRecord("B", "b" * 16, seed_offset=7)),
    seeds=(0, 1),
    rule=RuleRecord(margin=0.005, looks=(1, 2)),
    profile=ProfileRecord("smoke"),
    data=DataRecord("tiny", "dd11", "/home/someone/tiny", classes=("cat", "dog")),
    claims=(
        ClaimRecord("A exceeds B", "t", "test/accuracy", 1, "A", "B", "f", "s", beyond=("A", "B")),
        ClaimRecord("A, on average", "t", "test/accuracy", 1, "A", "B", "f", "s", over=(("A", 0.5), ("B", -0.5))),
    ),
    references=(ReferenceRecord("A", "test/accuracy", 0.78, "notebook"),),
    titles={"dropout": "dropout"},
    reasons={"dropout": ReasonRecord("because")},
    overrides=("dropout.p=0.3",),
    command="ablate run techniques",
)
AT = datetime(2026, 11, 26, 9, 30, 12, 345_678, UTC)
LOCK = lock_of(PLAN, AT)
VALUES = json.loads(LOCK.encoded())


def changed(**fields: object) -> bytes:
    """The file with fields of its plan changed, and the hash that it had."""
    return json.dumps(VALUES | {"plan": VALUES["plan"] | fields}).encode()


def rehashed(values: object) -> bytes:
    """A file whose hash is that of its content, whatever that is."""
    content = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    return json.dumps({**values, "sha256": hashlib.sha256(content.encode()).hexdigest()}).encode()  # type: ignore[dict-item]


def test_a_lock_comes_back_from_its_file() -> None:
    assert decoded(LOCK.encoded(), "lock") == LOCK
    assert LOCK.created == datetime(2026, 11, 26, 9, 30, 12, 345_000, UTC)
    assert datetime.fromtimestamp(LOCK.at // 1000, UTC) == LOCK.created.replace(microsecond=0)
    assert LOCK.at % 1000 == 345


def test_it_holds_what_bears_on_a_verdict_and_recipes_by_digest() -> None:
    plan = LOCK.plan
    kept = {f.name for f in fields(PlanRecord) if getattr(plan, f.name) == getattr(PLAN, f.name)}
    assert {f.name for f in fields(PlanRecord)} - kept == {"arms", "data", "titles", "reasons"}
    assert [(arm.name, arm.digest, arm.seed_offset) for arm in plan.arms] == [("A", "a" * 16, 0), ("B", "b" * 16, 7)]
    assert plan.data == replace(PLAN.data, source="")
    assert VALUES["plan"]["arms"] == [
        {"digest": "a" * 16, "name": "A", "seed_offset": 0},
        {"digest": "b" * 16, "name": "B", "seed_offset": 7},
    ]
    assert b"someone" not in LOCK.encoded()
    assert lock_of(replace(PLAN, lock="f" * 64, locked=1), AT) == LOCK, "a lock is of no lock"


def test_the_file_is_canonical_and_its_hash_can_be_computed_without_us() -> None:
    text = LOCK.encoded().decode("utf-8")
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    assert "»" in text
    assert text == json.dumps(VALUES, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    content = text.replace(f',"sha256":"{LOCK.sha256}"', "")
    assert hashlib.sha256(content.encode()).hexdigest() == VALUES["sha256"] == LOCK.sha256
    assert VALUES["created"] == "2026-11-26T09:30:12.345Z"


def test_the_same_plan_and_time_are_the_same_lock_wherever_the_clock_stands() -> None:
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert lock_of(PLAN, there).encoded() == LOCK.encoded()
    assert lock_of(PLAN, AT + timedelta(milliseconds=1)).sha256 != LOCK.sha256
    assert lock_of(replace(PLAN, seeds=(0, 1, 2)), AT).sha256 != LOCK.sha256


@pytest.mark.parametrize(
    "text",
    [
        changed(seeds=[0, 1, 2]),
        changed(rule=VALUES["plan"]["rule"] | {"margin": 0.01}),
        changed(claims=VALUES["plan"]["claims"][:1]),
        changed(a_field_that_nobody_knows=1),
        json.dumps(VALUES | {"created": "2020-01-01T00:00:00.000Z"}).encode(),
        json.dumps(VALUES | {"more": 1}).encode(),
        json.dumps({k: v for k, v in VALUES.items() if k != "sha256"}).encode(),
        json.dumps(VALUES | {"sha256": "0" * 64}).encode(),
    ],
)
def test_every_edit_is_noticed(text: bytes) -> None:
    with pytest.raises(
        BrokenLockError, match=r"^lock was edited: the SHA-256 of its content is [0-9a-f]{64}, and it says"
    ):
        decoded(text, "lock")


def test_what_a_mail_does_to_a_file_is_no_edit() -> None:
    indented = json.dumps(dict(reversed(VALUES.items())), indent=2).replace("\n", "\r\n")
    assert decoded(indented.encode(), "lock") == LOCK


def test_a_field_of_a_later_version_is_hashed_and_passed_over() -> None:
    later = json.loads(changed(later=1))
    del later["sha256"]
    found = decoded(rehashed(later), "lock")
    assert found.plan == LOCK.plan
    assert found.sha256 != LOCK.sha256


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LOCK.encoded()[:-20], "lock is not whole JSON"),
        (b"\xff\xfe{}", "lock is not whole JSON"),
        (LOCK.encoded().replace(b"0.005", b"NaN"), r"lock is not whole JSON \(NaN is no number of JSON\)"),
        (LOCK.encoded().replace(b"0.005", b"1e999"), "lock is not whole JSON"),
        (LOCK.encoded().replace(b"techniques", b"\\ud800"), "lock is not whole JSON"),
        (b"[1]", "lock is no lock of a plan: it lacks the fields 'created' and 'plan'"),
        (b'{"plan": {}}', "lock is no lock of a plan"),
        (rehashed({"created": "2026-11-26T09:30:12Z", "plan": {"name": "x"}}), "lock: the field .* is missing"),
        (rehashed({"created": "2026-11-26T09:30:12", "plan": VALUES["plan"]}), "the field created is no time with a"),
        (rehashed({"created": "yesterday", "plan": VALUES["plan"]}), "a time zone, but 'yesterday'"),
        (rehashed({"created": 7, "plan": VALUES["plan"]}), "a time zone, but 7"),
        (rehashed({"created": VALUES["created"], "plan": VALUES["plan"] | {"format": 99}}), "lock has format 99"),
    ],
)
def test_what_is_no_lock_is_said(text: bytes, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        decoded(text, "lock")
