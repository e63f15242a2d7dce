"""First weights follow the distributions that their schemes name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.techniques.initialisation import SCHEMES, Initialisation

FAN_IN, FAN_OUT = 600, 900

SPREAD = {
    "normal_1": 1.0,
    "normal_0.01": 0.01,
    "xavier_uniform": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "xavier_normal": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "kaiming_uniform": math.sqrt(2 / FAN_IN),
    "kaiming_normal": math.sqrt(2 / FAN_IN),
    "orthogonal": math.sqrt(1 / FAN_OUT),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_spread_is_the_papers(scheme: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(FAN_IN, FAN_OUT)
    Initialisation(scheme=scheme).initialise(layer)
    assert layer.weight.std().item() == pytest.approx(SPREAD[scheme], rel=0.01)
    assert layer.weight.mean().item() == pytest.approx(0, abs=5 * SPREAD[scheme] / math.sqrt(FAN_IN * FAN_OUT))
    assert not layer.bias.any()
    if scheme == "orthogonal":
        torch.testing.assert_close(layer.weight.T @ layer.weight, torch.eye(FAN_IN), atol=1e-4, rtol=0)
    if scheme.endswith("uniform"):
        assert layer.weight.abs().max().item() == pytest.approx(math.sqrt(3) * SPREAD[scheme], rel=0.01)


def test_convolutions_count_their_kernel_as_fan_in() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(50, 80, 3)
    Initialisation(scheme="kaiming_normal").initialise(layer)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 450), rel=0.02)


def test_default_leaves_torchs_own() -> None:
    layer = nn.Linear(4, 4)
    before = layer.weight.clone()
    Initialisation().initialise(layer)
    assert torch.equal(layer.weight, before)
    assert set(SPREAD) == set(SCHEMES)
    assert {"off", "on"} < set(catalog.techniques()["initialisation"].levels)
