"""Python's view of the library's structs."""

from __future__ import annotations

import ctypes

import pytest

from cifar_ablations.study.training.kernels import bindings, build


def test_the_network_has_the_same_fields_on_both_sides() -> None:
    """What the library makes of each field shows that it is where Python wrote it."""
    try:
        library = bindings.library()
    except build.UnavailableError as reason:
        pytest.skip(str(reason))

    def needed(**changes: int) -> tuple[int, int]:
        about = bindings.Network(**{"blocks": 1, "side": 32, "hidden": 5, "classes": 3, "function": 0} | changes)
        about.channels[0], about.channels[1], about.channels[2] = 3, 16, 16
        return library.packed_bytes(ctypes.byref(about)), library.workspace_bytes(ctypes.byref(about), 4)

    packed, workspace = needed()
    assert needed(blocks=2)[0] != packed
    assert needed(side=16)[1] < workspace
    assert needed(hidden=40)[0] > packed
    assert needed(classes=40)[0] > packed
    assert needed(function=4)[1] > workspace
    assert needed(function=4)[0] == packed
