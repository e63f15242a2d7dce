"""What a search stores, as version 0.1.0 stored it, and what is said of a file that is not whole."""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cifar_ablations.ablations import adopted, record
from cifar_ablations.ablations.record import FrontRecord, RecordError, SearchOutcomeRecord, SearchRecord

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "store-0.1.0.tar.xz"


@pytest.fixture(scope="module")
def old() -> dict[str, bytes]:
    """The files of 0.1.0, by name."""
    names = ("search.json", "outcome.json", "found.toml")
    with tarfile.open(ARCHIVE) as tar:
        members = {Path(member.name).name: member for member in tar.getmembers() if Path(member.name).name in names}
        return {name: tar.extractfile(member).read() for name, member in members.items()}  # type: ignore[union-attr]


def _values(stored: record.Record) -> dict[str, Any]:
    """A record as JSON values but for the format."""
    return {name: value for name, value in record.to_json(stored).items() if name != "format"}


def test_an_old_search_is_read_and_would_be_written_alike(old: dict[str, bytes]) -> None:
    asked = record.from_json(SearchRecord, old["search.json"], "search.json")
    values = _values(asked)
    assert values.pop("baseline_seeds") is None, "0.1.0 did not say"
    expected = json.loads(old["search.json"])
    assert values == expected
    assert repr(values["baseline"]) == repr(expected["baseline"]), "whole and real numbers are told apart"


def test_an_old_outcome_is_read_and_would_be_written_alike(old: dict[str, bytes]) -> None:
    outcome = record.from_json(SearchOutcomeRecord, old["outcome.json"], "outcome.json")
    values = _values(outcome)
    assert [study.pop("diverged") for study in values["studies"]] == [0], "0.1.0 did not say"
    assert json.dumps(values, sort_keys=True) == json.dumps(json.loads(old["outcome.json"]), sort_keys=True)
    assert outcome.winner is not None
    (study,) = outcome.studies
    assert study.best is not None
    assert (outcome.winner.study, outcome.winner.trial) == (study.name, study.best.trial)


def test_what_the_old_outcome_lacks_comes_back_too(old: dict[str, bytes]) -> None:
    outcome = record.from_json(SearchOutcomeRecord, old["outcome.json"], "outcome.json")
    (study,) = outcome.studies
    front = (FrontRecord(3, 0.5, 1.25, {"augmentation.padding": 4, "mixup": "off"}),)
    without = replace(outcome, winner=None, retuned={"dropout": {"optimizer.rate": 0.004}})
    changed = replace(without, studies=(replace(study, best=None, edge=(), front=front),))
    assert record.from_json(SearchOutcomeRecord, json.dumps(record.to_json(changed)), "outcome.json") == changed


def test_an_old_recipe_is_read_and_written_alike(old: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "found.toml"
    path.write_bytes(old["found.toml"])
    found = adopted.read(path)
    assert found.as_toml().encode() == old["found.toml"]
    assert found.seeds == (100_000,)
    assert found.record.provenance.validation_accuracy == 0.225


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seeds", "100000", "search.json of run 7: the field seeds input should be a valid"),
        ("pareto", 0, "search.json of run 7: the field pareto input should be a valid boolean"),
        ("baseline", {"name": "mine"}, "search.json of run 7: the field baseline.digest is missing"),
    ],
)
def test_a_changed_file_is_named_with_its_field(old: dict[str, bytes], field: str, value: Any, said: str) -> None:
    changed = json.loads(old["search.json"]) | {field: value}
    with pytest.raises(RecordError, match=re.escape(said)):
        record.from_json(SearchRecord, json.dumps(changed), "search.json of run 7")


def test_a_date_in_a_recipe_is_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[techniques.dropout]\np = 0.5\n[provenance]\nadopted = 2026-11-26\n")
    assert adopted.read(path).record.provenance.adopted == "2026-11-26"
    path.write_text('[provenance]\nseeds = "100000"\n')
    with pytest.raises(RecordError, match=r"mine\.toml: the field provenance\.seeds input should be"):
        adopted.read(path)
