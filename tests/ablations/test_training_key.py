"""What makes two trainings the same, and how flat records become tags and come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cifar_ablations.ablations.record import (
    EnvironmentRecord,
    ProvenanceRecord,
    RecordError,
    from_tags,
    to_tags,
)
from cifar_ablations.ablations.training_key import TrainingKey, same_training

HERE = EnvironmentRecord(engine=1, instructions="AVX2", threads=1, torch="2.9.0")
ASKED = TrainingKey("00ff", 3, "aa11", HERE)


@pytest.mark.parametrize(
    "environment", [None, HERE, replace(HERE, torch="2.8.0"), replace(HERE, engine=2, extension="beef")]
)
def test_the_environment_does_not_decide(environment: EnvironmentRecord | None) -> None:
    assert same_training(replace(ASKED, environment=environment), ASKED)


@pytest.mark.parametrize(
    ("done", "asked", "same"),
    [
        ("lab 11", "lab 11", True),
        ("lab 11", "lab 12", False),
        ("", "lab 12", True),
        ("lab 11", "", True),
        ("lab 11", "lab 11, other 22", True),
        ("lab 11, other 23", "lab 11, other 22", False),
    ],
)
def test_the_code_of_extensions_decides_where_both_are_known(done: str, asked: str, same: bool) -> None:
    one, other = (replace(ASKED, environment=replace(HERE, extension=code)) for code in (done, asked))
    assert same_training(one, other) is same


@pytest.mark.parametrize("other", [{"recipe": "00fe"}, {"seed": 4}, {"data": "aa12"}])
def test_recipe_seed_and_data_decide(other: dict) -> None:
    assert not same_training(replace(ASKED, **other), ASKED)


def test_flat_records_become_tags_and_come_back() -> None:
    facts = ProvenanceRecord(commit="abc", workers="2", cifar_ablations="0.1.0", torch="2.9.0")
    tags = to_tags(facts, "provenance.")
    assert tags == {
        "provenance.commit": "abc",
        "provenance.workers": "2",
        "provenance.cifar-ablations": "0.1.0",
        "provenance.torch": "2.9.0",
    }
    more = {**tags, "provenance.added-later": "x", "kind": "plan", "commit": "of another kind"}
    assert from_tags(ProvenanceRecord, more, "provenance.", "run 1") == facts
    assert from_tags(EnvironmentRecord, to_tags(HERE, "environment."), "environment.", "run 1") == HERE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"environment.threads": "many"}, "run 1: the tag environment.threads input should be a valid integer"),
        ({"environment.torch": None}, "run 1: the tag environment.torch is missing"),
    ],
)
def test_tags_that_are_not_of_the_record_are_said(changes: dict, said: str) -> None:
    tags = {k: v for k, v in {**to_tags(HERE, "environment."), **changes}.items() if v is not None}
    with pytest.raises(RecordError, match=said):
        from_tags(EnvironmentRecord, tags, "environment.", "run 1")
