"""The library's functions as Python calls them: addresses of tensors in, nothing allocated behind their back."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_double, c_float, c_int, c_int64, c_uint32, c_void_p

from cifar_ablations.study.training.kernels import build

MOST_BLOCKS = 8
"""As network.h has it."""


class Network(ctypes.Structure):
    """`struct Network` of network.h, field by field."""

    _fields_ = (
        ("blocks", c_int),
        ("side", c_int),
        ("hidden", c_int),
        ("classes", c_int),
        ("function", c_int),
        ("parameter", c_float),
        ("channels", c_int * (MOST_BLOCKS + 1)),
        ("weights", c_int64 * (MOST_BLOCKS + 2)),
        ("biases", c_int64 * (MOST_BLOCKS + 2)),
    )


class Rule(ctypes.Structure):
    """`struct Rule` of update.h, field by field."""

    _fields_ = (
        *((name, c_float) for name in ("max_norm", "coupled_decay", "first_decay", "first_gain")),
        *((name, c_float) for name in ("second_decay", "second_gain", "epsilon")),
        ("adaptive", c_int),
        ("nesterov", c_int),
    )


SIGNATURES = {
    "lanes": (c_int, ()),
    "workspace_bytes": (c_int64, (POINTER(Network), c_int)),
    "packed_bytes": (c_int64, (POINTER(Network),)),
    "pack_weights": (None, (POINTER(Network), c_void_p, c_void_p)),
    "learn": (
        c_double,
        (
            *(POINTER(Network), c_void_p, c_void_p, c_void_p, c_int),
            *(c_void_p, c_void_p, c_void_p, c_int, c_int, c_void_p),
        ),
    ),
    "predict": (None, (POINTER(Network), c_void_p, c_void_p, c_void_p, c_int, c_void_p, c_int, c_void_p)),
    "block_forward": (
        c_int64,
        (
            *(POINTER(Network), c_int, c_void_p, c_void_p, c_void_p, c_int),
            *(c_void_p, c_int, c_int, c_void_p, c_void_p, c_void_p),
        ),
    ),
    "update_fleet": (None, (c_int, c_int64, POINTER(Rule), *[c_void_p] * 8)),
    "uniform": (None, (c_uint32, c_uint32, c_int64, c_void_p)),
    "add_border": (None, (c_void_p, c_int, c_int, c_void_p)),
}


def library() -> ctypes.CDLL:
    """The kernels, with the types of their functions. Raises build.UnavailableError."""
    found = build.library()
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found
