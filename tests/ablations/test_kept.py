"""A number is computed once for all that it depends on, and again whatever becomes of the file that keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_ablations.ablations import kept


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cifar-ablations"


class Counted:
    """Computes 0.1 + 0.2, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> float:
        self.times += 1
        return 0.1 + 0.2


def test_the_same_is_computed_once_and_comes_back_to_the_last_bit(place: Path) -> None:
    compute = Counted()
    found = [kept.number("rate", about, compute) for about in ((1, "a"), (1, "a"), (2, "a"), (1, "b"), (1, "a"))]
    assert found == [0.1 + 0.2] * 5
    assert compute.times == 3
    assert len(list(place.iterdir())) == 3
    assert kept.number("another", (1, "a"), compute) == 0.1 + 0.2
    assert compute.times == 4


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"number": null}', b'{"number": NaN}', b'{"numb', b"\xff"])
def test_what_cannot_be_read_is_computed_again(place: Path, content: bytes) -> None:
    compute = Counted()
    kept.number("rate", "a", compute)
    (path,) = place.iterdir()
    path.write_bytes(content)
    assert kept.number("rate", "a", compute) == 0.1 + 0.2
    assert compute.times == 2
    kept.number("rate", "a", compute)
    assert compute.times == 2


def test_where_nothing_can_be_written_it_is_computed_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compute = Counted()
    assert [kept.number("rate", "a", compute) for _ in range(2)] == [0.1 + 0.2] * 2
    assert compute.times == 2
