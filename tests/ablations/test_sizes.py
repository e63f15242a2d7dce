"""How much room files take, and that a link never leads to what is freed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_ablations.ablations.sizes import readable, remove, size


def test_the_size_of_a_folder_is_that_of_its_files_and_not_of_what_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "a").write_bytes(b"x" * 1_000)
    (tmp_path / "folder" / "below" / "b").write_bytes(b"x" * 500)
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "large")
    assert 1_500 < size(tmp_path / "folder") < 2_500
    assert size(tmp_path / "folder" / "a") == 1_000
    assert size(tmp_path / "none") == size(None) == 0


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 kB"), (184_000_000, "184 MB"), (2_300_000_000, "2.3 GB")],
)
def test_bytes_as_a_person_reads_them(count: int, said: str) -> None:
    assert readable(count) == said


def test_of_a_link_the_link_alone_is_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("a person's")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    assert (tmp_path / "folder" / "file").read_text() == "a person's"
    assert not (tmp_path / "link").is_symlink()
    remove(tmp_path / "folder")
    remove(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
