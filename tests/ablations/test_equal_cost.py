"""The arms of `equal-cost/*` cost what they say, and differ in nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Network
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plan import Plan, PlanRequest
from cifar_ablations.ablations.plans import equal_cost
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.training.model import build


def _arithmetic(model: Network) -> int:
    """Floating-point operations of a forward pass of one image, as torch counts them."""
    network: nn.Module = build(model, 10).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    return int(counter.get_total_flops())


def _cost(recipe: Recipe) -> float:
    model, budget = recipe.sized
    return _arithmetic(model) * float(budget.epochs * budget.train_images)


def _plan(variant: str, *settings: str) -> Plan:
    profile = PROFILES["quick"]
    baseline = Recipe(profile.model, profile.budget, catalog.notebook_recipe().techniques)
    for setting in settings:
        baseline = baseline.set(setting)
    return equal_cost.plan(PlanRequest(baseline, profile, (0, 1), variant))


@pytest.mark.parametrize("network", ["notebook", "notebook-deeper", "resnet9", "convnext"])
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_the_root_of_two_on_the_width_doubles_the_arithmetic(network: str, width: float) -> None:
    wider = _arithmetic(Network(network, width * equal_cost.ROOT)) / _arithmetic(Network(network, width))
    assert wider == pytest.approx(2, rel=0.07)


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_the_deeper_network_has_twice_the_arithmetic(width: float) -> None:
    for name, other in equal_cost.DEPTHS.items():
        deeper = _arithmetic(Network(other, width)) / _arithmetic(Network(name, width))
        assert deeper == pytest.approx(2, rel=0.07)


@pytest.mark.parametrize(
    ("variant", "same"),
    [
        ("width", ["full recipe", "wider, half the training", "narrower, twice the training"]),
        ("depth", ["a deeper network", "twice the training"]),
        ("batch_size", ["full recipe", "half the batch size", "twice the batch size"]),
    ],
)
@pytest.mark.parametrize("settings", [(), ("training_length=×2", "capacity=×2", "budget.epochs=7")])
def test_arms_cost_the_same(variant: str, same: list[str], settings: tuple[str, ...]) -> None:
    plan = _plan(variant, *settings)
    first, *others = [_cost(plan.arm(name).recipe) for name in same]
    assert others == pytest.approx([first] * len(others), rel=0.08)
    compared = {name for claim in plan.claims for name in claim.arms}
    assert compared == {arm.name for arm in plan.arms}


@pytest.mark.parametrize(("optimizer", "power"), [("on", 0.5), ("muon", 0.5), ("momentum", 1.0), ("off", 1.0)])
def test_the_rate_goes_with_the_batch_size(optimizer: str, power: float) -> None:
    plan = _plan("batch_size", f"optimizer={optimizer}")
    for name, times in (("half the batch size", 0.5), ("twice the batch size", 2.0)):
        recipe = plan.arm(name).recipe
        assert recipe.sized.budget.batch_size == 32 * times
        assert recipe.knobs()["learning_rate.factor"] == pytest.approx(times**power, rel=1e-5)


def test_what_costs_two_gradients_is_compared_with_twice_the_steps() -> None:
    plan = _plan("optimization")
    claim = plan.claims[0]
    treatment, control, baseline = (plan.arm(name).recipe for name in (claim.treatment, claim.control, "full recipe"))
    assert treatment == baseline.set("sharpness_aware=on")
    assert control == baseline.set("training_length=×2")
    assert control.sized.budget.epochs == 2 * treatment.sized.budget.epochs


def test_what_the_baseline_has_already_is_not_compared() -> None:
    assert [claim.technique for claim in _plan("optimization", "optimizer=muon").claims] == [
        "sharpness_aware",
        "training_length",
    ]


def test_a_network_without_a_deeper_one_is_refused_by_name() -> None:
    with pytest.raises(AblateError, match=r"knows no deeper network than model\.name=resnet9; it does for notebook"):
        _plan("depth", "model.name=resnet9")
