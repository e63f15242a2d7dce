"""The matrices of a fleet hold its networks' parameters: what changes one changes the other."""

from __future__ import annotations

import pytest
import torch

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.training.fleet import ALIGNMENT, Fleet, Member, initialised

CPU = torch.device("cpu")


@pytest.fixture(params=["notebook", "notebook-deeper", "resnet9", "convnext"])
def members(request: pytest.FixtureRequest, recipe: Recipe) -> list[Member]:
    """Of networks without buffers and of one with running statistics."""
    return [Member(recipe.set(f"model.name={request.param}"), seed) for seed in (3, 4, 5)]


def test_every_member_starts_as_it_would_alone(members: list[Member]) -> None:
    fleet = Fleet(members, 10, CPU)
    for member, network in zip(members, fleet.networks, strict=True):
        alone = initialised(member, 10).state_dict()
        assert all(torch.equal(value, alone[name]) for name, value in network.state_dict().items())


def test_a_row_is_a_networks_parameters_and_the_rest_of_it_padding(members: list[Member]) -> None:
    fleet = Fleet(members, 10, CPU)
    sizes = [parameter.numel() for parameter in fleet.networks[0].parameters()]
    assert fleet.weights.shape == (3, sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes))
    fleet.weights.fill_(2.0)
    for network in fleet.networks:
        assert all(bool((parameter == 2.0).all()) for parameter in network.parameters())
        for parameter in network.parameters():
            parameter.data.zero_()
    assert int((fleet.weights == 0).sum()) == 3 * sum(sizes)


def test_a_part_is_one_parameter_of_every_member(members: list[Member]) -> None:
    fleet = Fleet(members, 10, CPU)
    for name, parameter in fleet.networks[1].named_parameters():
        part = fleet.part(fleet.weights, name)
        assert part.shape == (3, parameter.numel())
        assert torch.equal(part[1].sort().values, parameter.detach().flatten().sort().values)


def test_those_that_go_on_keep_their_weights_in_the_order_asked_for(members: list[Member]) -> None:
    fleet = Fleet(members, 10, CPU)
    before = [{k: v.clone() for k, v in network.state_dict().items()} for network in fleet.networks]
    fleet.keep([2, 0])
    assert fleet.members == [members[2], members[0]]
    for network, row in zip(fleet.networks, (2, 0), strict=True):
        assert all(torch.equal(value, before[row][name]) for name, value in network.state_dict().items())
    fleet.weights.zero_()
    assert all(not parameter.any() for network in fleet.networks for parameter in network.parameters())
