"""Networks as source: those that the engine trains, whatever their width."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Network
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plain.networks import NETWORKS, network
from cifar_ablations.ablations.techniques.activation import Activation
from cifar_ablations.study.training import model


def _made(asked: Network, classes: int, activation: str = "", precision: str = "fp32") -> nn.Module:
    """The network of a program."""
    names: dict[str, Any] = {"torch": torch, "nn": nn}
    exec("\n".join(network(asked, activation, None, "", precision)), names)
    made: nn.Module = names["Network"](classes)
    return made


def test_every_network_of_the_suite_has_its_source() -> None:
    assert list(NETWORKS) == list(model.NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
@given(width=st.floats(0.01, 0.2), classes=st.integers(2, 12))
@settings(max_examples=10, deadline=None)
def test_it_is_the_same_function_of_images(name: str, width: float, classes: int) -> None:
    asked = Network(name, width)
    ours, theirs = model.build(asked, classes).eval(), _made(asked, classes).eval()
    with torch.no_grad():
        for own, other in zip(theirs.parameters(), ours.parameters(), strict=True):
            own.copy_(other)
        images = torch.randn(3, 3, 32, 32)
        torch.testing.assert_close(theirs(images), ours(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("level", catalog.techniques()["activation"].levels)
def test_every_activation_is_replaced(name: str, level: str) -> None:
    technique, asked = Activation.at(level), Network(name, 0.02)
    expected = technique.activation() or nn.ReLU()
    sized = catalog.notebook_recipe().sized
    made = _made(asked, 10, "" if technique.is_off else technique.plain(sized).activation)
    found = [m for m in made.modules() if type(m).__module__ == "torch.nn.modules.activation"]
    assert {repr(module) for module in found} == {repr(expected)}
    reference = [m for m in model.build(asked, 10).modules() if isinstance(m, nn.ReLU)]
    assert len(found) == len(reference)


def test_in_bf16_it_computes_as_the_engine_does() -> None:
    asked, images = Network("notebook", 0.1), torch.randn(4, 3, 32, 32)
    exact, rounded = (_made(asked, 10, precision=precision) for precision in ("fp32", "bf16"))
    rounded.load_state_dict(exact.state_dict())
    with torch.no_grad():
        a, b = exact(images), rounded(images)
    assert b.dtype == torch.float32
    assert 1e-5 < (a - b).abs().max() < 0.1


def test_a_network_of_ones_own_is_refused_by_its_name() -> None:
    for name in ("my_networks:factory", "resnet8"):
        with pytest.raises(AblateError, match=f"^model.name={name} has no plain form: .*Known: notebook, .*resnet9"):
            network(Network(name), "", None, "", "fp32")
