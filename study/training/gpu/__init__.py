"""What a step on a GPU spends on everything but its matrix products, as Triton kernels.

Written out by torch's own operations, pooling, the update and the draws move most of a step's bytes and launch most of
its kernels. `gpu_backend` trains a fleet with these; `backend.TorchBackend` computes the same by torch alone.
"""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

# Products and sums in one rounding, which is Triton's default up to 3.9; from there on it warns until somebody decides.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

OLDEST = (8, 0)
"""Compute capability from which Triton knows bf16: Ampere."""


def obstacle(device: torch.device) -> str:
    """Why these kernels cannot be had on a GPU, in half a sentence; "" if they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton, which compiles the kernels, is not installed"
    if not os.environ.get("CC") and not any(map(shutil.which, ("gcc", "clang"))):
        return "Triton, which compiles the kernels, needs a C compiler, and there is neither gcc nor clang"
    if (capability := torch.cuda.get_device_capability(device)) < OLDEST:
        return "the kernels need compute capability {}.{}, and this GPU has {}.{}".format(*OLDEST, *capability)
    return ""
