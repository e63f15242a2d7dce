"""How what is wrong with a source is said."""

from __future__ import annotations

import os

import pytest

from cifar_ablations.study.data.images import DataError, FaultError, is_junk, reason, refuse, shown


def test_one_fault_is_a_sentence_of_its_own() -> None:
    refuse("images", [])
    with pytest.raises(DataError, match=r"^train/cat/0\.png in images is cut; replace it\.$"):
        refuse("images", [("train/cat/0.png", FaultError("is cut", "replace it"))])


def test_of_many_faults_ten_are_named_with_the_number_of_the_others_and_all_advice() -> None:
    faults = [(f"{i:02}.png", FaultError("is cut" if i % 2 else "is grey", f"do {i % 2}")) for i in range(1234)]
    with pytest.raises(DataError) as caught:
        refuse("images", faults)
    said = str(caught.value)
    assert said.startswith("1,234 files or folders in images cannot be used: 00.png is grey; 01.png is cut; ")
    assert said.endswith("09.png is cut; and 1,224 more. For each: do 0; do 1.")
    assert said.count(".png") == 10
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cat", "cat"),
        ("été 猫", "été 猫"),
        ("cat ", "'cat '"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("two\nlines\x1b[31m", r"two\nlines\x1b[31m"),
    ],
)
def test_a_name_is_shown_so_that_it_can_be_found_and_does_no_harm(name: str, said: str) -> None:
    assert shown(name) == said


def test_junk_is_known_by_any_part_of_a_path() -> None:
    assert is_junk(("__MACOSX", "train", "cat", "0.png"))
    assert is_junk(("train", "@eaDir"))
    assert is_junk(("train", "cat", "._0.png"))
    assert not is_junk(("..", "train"))


@pytest.mark.parametrize(
    "name",
    [
        *("Thumbs.db", "thumbs.db", "THUMBS.DB", "Desktop.ini", "ehthumbs_vista.db", "0.png:Zone.Identifier", "Icon\r"),
        *("System Volume Information", "lost+found", "#recycle", ".ipynb_checkpoints", ".DS_Store", ".@__thumb"),
    ],
)
def test_what_systems_leave_behind_is_junk_in_any_case_of_the_letters(name: str) -> None:
    assert is_junk(("train", "cat", name))
    assert is_junk(("train", name, "0.png"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory"),
        (ValueError("two\n  lines."), "two lines"),
        (EOFError(), "EOFError"),
    ],
)
def test_a_reason_is_one_line_without_a_full_stop(error: Exception, said: str) -> None:
    assert reason(error) == said
