"""Every backend that can be had on this machine."""

from __future__ import annotations

import pytest

from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.kernels import build


@pytest.fixture(scope="module", params=[TORCH, KERNELS])
def backend(request: pytest.FixtureRequest) -> str:
    """What computes gradients and logits: all that holds of a training holds by each of them."""
    if request.param == KERNELS:
        try:
            build.library()
        except build.UnavailableError as reason:
            pytest.skip(str(reason))
    name: str = request.param
    return name
