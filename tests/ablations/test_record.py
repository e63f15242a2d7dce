"""Records: what is written comes back, and what cannot be read says in a sentence what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations.record import (
    ArmRecord,
    DataRecord,
    LockRecord,
    PlanRecord,
    ProfileRecord,
    RecordError,
    RuleRecord,
    from_json,
    from_values,
    to_json,
)

PLAN = PlanRecord(
    name="techniques",
    question="?",
    arms=(ArmRecord("full recipe", "0" * 16),),
    seeds=(0, 1),
    rule=RuleRecord(margin=0.005),
    profile=ProfileRecord("smoke"),
    data=DataRecord("tiny", "abc", classes=("cat", "dog")),
    overrides=("dropout.p=0.3",),
)


def test_a_record_comes_back_from_its_file() -> None:
    assert from_json(PlanRecord, json.dumps(to_json(PLAN)), "here") == PLAN


@given(st.builds(LockRecord, st.integers(), st.text(), st.text()))
def test_any_text_and_number_comes_back(lock: LockRecord) -> None:
    text = json.dumps(to_json(lock))
    assert from_json(LockRecord, text.encode(), "here") == lock
    assert {k: v for k, v in json.loads(text).items() if k != "format"} == asdict(lock)


def test_what_a_newer_version_added_is_ignored_and_what_an_older_one_lacks_has_its_default() -> None:
    values = to_json(PLAN) | {"added later": 1}
    del values["overrides"], values["claims"]
    assert from_values(PlanRecord, values, "here") == replace(PLAN, overrides=())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"pid": 7, "do', "lock.json is not whole JSON"),
        ("[1]", "lock.json holds list in place of a record"),
        ('{"pid": 7, "doing": "run", "since": "", "format": 99}', "lock.json has format 99, and this version knows"),
        ('{"pid": "7", "doing": "run", "since": ""}', "lock.json: the field pid"),
        ('{"pid": 7, "since": ""}', "lock.json: the field doing"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, said: str) -> None:
    with pytest.raises(RecordError) as refused:
        from_json(LockRecord, text, "lock.json")
    assert str(refused.value).startswith(said)
