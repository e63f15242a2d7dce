"""What is looked at in a network, against closed forms and torch's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.nn import functional as F

from cifar_ablations.ablations import metrics, schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.training import diagnostics
from cifar_ablations.study.training.engine import Training
from cifar_ablations.study.training.fleet import Member

CPU = torch.device("cpu")


def _deep(scale: float, activation: type[nn.Module], width: int = 400, depth: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for before in (3 * 32 * 32, *[width] * (depth - 1)):
        linear = nn.Linear(before, width, bias=False)
        nn.init.normal_(linear.weight, std=scale * (1 / before) ** 0.5)
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10, bias=False))


@pytest.mark.parametrize(("scale", "per_layer"), [(2**0.5, 1.0), (1.0, 0.5), (2.0, 2.0)])
def test_variance_goes_with_depth_as_he_et_al_derive(scale: float, per_layer: float) -> None:
    # Under ReLU each layer multiplies the second moment by half the fan-in times the weights' variance.
    probed = diagnostics.probe(_deep(scale, nn.ReLU), torch.randn(64, 3, 32, 32), torch.zeros(64, dtype=torch.int64))
    assert len(probed["variance"]) == 6
    numbers = metrics.of_network(probed, schema.INITIAL)
    assert numbers[schema.INITIAL + schema.VARIANCE_RATIO] == pytest.approx(5 * math.log10(per_layer), abs=0.35)
    assert numbers[schema.INITIAL + schema.VARIANCE_DRIFT] == abs(numbers[schema.INITIAL + schema.VARIANCE_RATIO])


def test_gradients_vanish_under_sigmoid_and_are_those_of_backward() -> None:
    images, targets = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    network = _deep(1.0, nn.Sigmoid)
    probed = diagnostics.probe(network, images, targets)
    F.cross_entropy(network(images), targets).backward()
    expected = [float(p.grad.square().mean().sqrt()) for p in network.parameters() if p.grad is not None]
    np.testing.assert_allclose(probed["gradient"], expected, rtol=1e-5)
    ratio = metrics.of_network(probed, schema.INITIAL)[schema.INITIAL + schema.GRADIENT_RATIO]
    assert ratio == pytest.approx(math.log10(expected[0] / expected[-1]))
    assert ratio < -2


def test_dead_units_are_counted() -> None:
    linear = nn.Linear(3 * 32 * 32, 8, bias=True)
    nn.init.zeros_(linear.weight)
    with torch.no_grad():
        linear.bias.copy_(torch.tensor([-1.0, -2, -3, 1, 1, 1, 1, 1]))
    network = nn.Sequential(nn.Flatten(), linear, nn.ReLU(), nn.Linear(8, 10))
    probed = diagnostics.probe(network, torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64))
    assert metrics.of_network(probed, schema.FINAL)[schema.FINAL + schema.DEAD_UNITS] == pytest.approx(3 / 8)


def test_a_network_without_activation_modules_has_no_such_metrics() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    probed = diagnostics.probe(network, torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64))
    assert set(metrics.of_network(probed, schema.FINAL)) == {schema.FINAL + schema.GRADIENT_RATIO}


def test_confusion_is_sklearns() -> None:
    log_probabilities, targets = F.log_softmax(3 * torch.randn(500, 7), dim=1), torch.randint(0, 7, (500,))
    confusion = diagnostics.confusion(log_probabilities, targets)
    assert np.array_equal(confusion, confusion_matrix(targets, log_probabilities.argmax(dim=1), labels=range(7)))


def test_norms_by_layer_add_up_to_the_whole(recipe: Recipe, tiny_data) -> None:
    training = Training([Member(recipe, 0), Member(recipe.without("optimizer"), 0)], tiny_data, CPU)
    before = training.fleet.weights.clone()
    training._stepper.begin(0, training._images())
    training.fleet.train(True)
    training._stepper.run(0)
    by_layer = diagnostics.by_layer(training.fleet, before)
    names = diagnostics.layer_names(training.fleet)
    assert by_layer.shape == (3, 2, len(names))
    for row, network in enumerate(training.fleet.networks):
        for layer, name in enumerate(names):
            weight = network.get_parameter(name)
            torch.testing.assert_close(by_layer[1, row, layer], weight.detach().norm())
    squares = by_layer[0].square().sum(dim=1)
    assert (squares <= training._stepper.norms.float().square() * 1.0001).all()
    assert (squares >= training._stepper.norms.float().square() * 0.9).all(), "biases are a small part"
