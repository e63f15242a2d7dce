"""Files of arrays of anybody: what numpy reads of them, or a ValueError, and no more memory than they have."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from cifar_ablations.ablations import arrays

kinds = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_, np.dtype(">i4"), np.dtype("U3")])
shapes = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
made = kinds.flatmap(lambda kind: arrays_of.arrays(kind, shapes))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(made, st.sampled_from([np.savez, np.savez_compressed]), st.booleans())
def test_they_are_what_numpy_reads(values: np.ndarray, save: Callable[..., None], by_column: bool) -> None:
    file = io.BytesIO()
    save(file, a=np.asfortranarray(values) if by_column else values, b=np.arange(3))
    read = arrays.read(file)
    assert list(read) == ["a", "b"]
    assert read["a"].dtype == values.dtype
    np.testing.assert_array_equal(read["a"], values)
    assert list(arrays.read(file, ["b", "c"])) == ["b"]
    assert list(arrays.read(file, without=["b"])) == ["a"]


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code of a file was run",)


def _zip(content: bytes, kind: int = zipfile.ZIP_STORED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr("a.npy", content)
    return file


def _npy(shape: str, kind: str = "'|u1'", content: bytes = b"") -> bytes:
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def test_no_object_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    for content in (_npy("(1,)", "'|O'", pickle.dumps(Evil())), pickle.dumps(Evil())):
        with pytest.raises(ValueError, match="no whole file of arrays"):
            arrays.read(_zip(content))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content",
    [
        _npy("(1000000000000,)"),
        _npy("(10**9,)"),
        _npy("(-1,)", content=b"a"),
        _npy("(2,)", content=b"a"),
        _npy("(" * 500 + ")" * 500),
        b"\x93NUMPY\x09\x00",
        b"",
    ],
)
def test_a_shape_that_is_not_that_of_the_content_takes_no_memory(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="no whole file of arrays"):
            arrays.read(_zip(content))
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("lie", [False, True])
def test_a_bomb_is_not_unpacked(lie: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where it says that it is small."""
    monkeypatch.setattr(arrays, "MOST_UNPACKED", 1 << 20)
    size = 64 << 20
    bomb = _zip(_npy(f"({size},)", content=bytes(size)), zipfile.ZIP_DEFLATED).getvalue()
    if lie:
        whole = len(_npy(f"({size},)")) + size
        bomb = bomb.replace(whole.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="no whole file of arrays"):
            arrays.read(io.BytesIO(bomb))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header", [b"{'shape': (3,), (", b"(" * 120 + b")" * 120, b"{'descr': '<f4', 'shape': ("])
def test_a_damaged_header_is_one_kind_of_error(header: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n")
    with file.open("rb") as opened, pytest.raises(ValueError, match=r"[Hh]eader"):
        arrays.read(opened)
