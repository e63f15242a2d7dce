"""`ablate merge`, by what it is given on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.commands.merge import merge
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(put_fresh_store(tmp_path / "all"))


def test_a_place_that_is_no_store_or_this_one_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home.folder)
    for place, why in (
        (tmp_path / "nowhere", "there is no store at"),
        (home.folder, "is the store that others are to be brought to"),
        (tmp_path / "link", "is the store that others are to be brought to"),
        (home.tracking_uri, "is the store that others are to be brought to"),
    ):
        with pytest.raises(AblateError, match=why):
            merge(home, [str(place)], lambda _: None)


def test_what_has_not_reached_the_other_store_is_said(home: Home, tmp_path: Path) -> None:
    other = put_fresh_store(tmp_path / "other")
    (other / "pending-own.jsonl").write_text("{}\n")
    said: list[str] = []
    merged = merge(home, [str(other)], said.append)
    assert vars(merged) == {"trainings": 0, "known": 0, "plans": []}
    assert any("ablate sync" in sentence for sentence in said)
    assert (other / "pending-own.jsonl").exists(), "it is only read"


def test_no_password_is_said(home: Home) -> None:
    said: list[str] = []
    with pytest.raises(AblateError) as refused:
        merge(home, ["http://somebody:secret@127.0.0.1:9/"], said.append)
    assert "secret" not in " ".join([*said, str(refused.value)])
    assert schema.MARK not in str(refused.value)
