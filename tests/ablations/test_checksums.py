"""A file of a run is known by its checksum, where it has one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations import checksums
from cifar_ablations.ablations.record import RecordError


def test_a_folder_has_a_tag_for_each_file_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "plan.json").write_bytes(b"{}")
    (tmp_path / "frames" / "x.csv").write_bytes(b"")
    assert checksums.of_folder(tmp_path) == {
        "sha256.frames/x.csv": hashlib.sha256(b"").hexdigest(),
        "sha256.plan.json": hashlib.sha256(b"{}").hexdigest(),
    }


@given(content=st.binary(max_size=40), changed=st.binary(max_size=40))
def test_what_was_changed_is_named_and_what_was_not_is_returned(content: bytes, changed: bytes) -> None:
    tags = {"sha256.plan.json": checksums.of(content), "plan": "techniques"}
    assert checksums.check(content, tags, "plan.json", "") == content
    assert checksums.check(changed, {"plan": "techniques"}, "plan.json", "") == changed, "earlier versions had none"
    if changed != content:
        with pytest.raises(RecordError, match=r"^plan\.json of run 7 was changed or damaged since it was logged$"):
            checksums.check(changed, tags, "plan.json", "plan.json of run 7")


def test_those_among_other_tags() -> None:
    assert checksums.among({"sha256.a": "1", "seed": "0"}) == {"sha256.a": "1"}
