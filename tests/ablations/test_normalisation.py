"""Normalisation against torch's own modules and a loop in plain PyTorch, alone, in fleets and from checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plain.program import program
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Study
from cifar_ablations.ablations.techniques.normalisation import Normalisation, groups_for
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.backends import choose_backend
from cifar_ablations.study.execution.sizing import pack
from cifar_ablations.study.search.invocation import SearchInvocation, recipes_of
from cifar_ablations.study.training import model
from cifar_ablations.study.training.backend import TORCH, TorchBackend
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Fleet, Member, initialised, same_shape
from cifar_ablations.study.training.kernels.kernel_backend import KernelBackend
from cifar_ablations.study.training.randomness import permutation
from cifar_ablations.study.training.step import normalize

CPU = torch.device("cpu")
KINDS = ("on", "group", "layer")
OTHERS = ("activation=gelu", "activation=tanh")


def _norm(kind: str, channels: int) -> nn.Module:
    return {
        "on": lambda: nn.BatchNorm2d(channels),
        "group": lambda: nn.GroupNorm(min(32, channels), channels),
        "layer": lambda: nn.GroupNorm(1, channels),
    }[kind]()


def _as_in_the_papers(kind: str, width: float, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Convolution without bias, normalisation, activation and pooling, in that order; no dropout."""
    channels = [3, *(int(n * width) for n in (64, 128, 256, 256))]
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), _norm(kind, after), activation()]
        layers += [nn.MaxPool2d(2)]
    hidden = int(512 * width)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(4 * channels[-1], hidden), activation(), nn.Linear(hidden, 10)
    )


def _alike(theirs: nn.Module, ours: nn.Module) -> None:
    """Copy all parameters and buffers, which stand in one order, and shake those that start at 1 and 0."""
    for (_, target), (_, source) in zip(theirs.state_dict().items(), ours.state_dict().items(), strict=True):
        target.copy_(source)


@pytest.mark.parametrize("other", ["", *OTHERS])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_gradients_and_statistics_are_those_of_torchs_modules(kind: str, other: str, recipe: Recipe) -> None:
    recipe = recipe.set(f"normalisation={kind}")
    recipe = recipe.set(other) if other else recipe
    activation = {"": nn.ReLU, "activation=gelu": nn.GELU, "activation=tanh": nn.Tanh}[other]
    ours, theirs = initialised(Member(recipe, 0), 10), _as_in_the_papers(kind, 0.0625, activation)
    generator = torch.Generator().manual_seed(3)
    for parameter in ours.parameters():  # negative scales too, which do not commute with pooling
        if parameter.ndim == 1:
            parameter.data += torch.randn(parameter.shape, generator=generator)
    _alike(theirs, ours)
    labels = torch.arange(12) % 10
    for _ in range(2):
        images = torch.randn(12, 3, 32, 32, generator=generator)
        for network in (ours, theirs):
            network.zero_grad()
            F.cross_entropy(network(images), labels).backward()
        for mine, other_one in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other_one.grad, rtol=1e-4, atol=1e-6)
    for mine, other_one in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, other_one)
    assert kind != "on" or [int(b) for b in ours.buffers() if not b.ndim] == [2] * 4
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_have_mean_0_and_variance_1_over_what_it_names(kind: str) -> None:
    """Against the papers' formulas, in double precision; running statistics are of the unbiased variance."""
    technique = Normalisation.at(kind)
    technique = replace(technique, groups=2, momentum=0.25, epsilon=0.01)
    module, x = technique.normalise(6), 3 * torch.randn(5, 6, 4, 4, dtype=torch.float64) + 2
    assert module is not None
    module.double()
    over = {"on": x.transpose(0, 1).reshape(6, -1), "group": x.reshape(10, -1), "layer": x.reshape(5, -1)}[kind]
    mean, variance = over.mean(dim=1, keepdim=True), over.var(dim=1, keepdim=True, correction=0)
    expected = (over - mean) / (variance + 0.01).sqrt()
    found = module(x)
    found = found.transpose(0, 1) if kind == "on" else found
    torch.testing.assert_close(found.reshape(over.shape), expected)
    if kind == "on":
        torch.testing.assert_close(module.running_mean, 0.25 * mean.squeeze())
        torch.testing.assert_close(module.running_var, 0.75 + 0.25 * over.var(dim=1))


def test_groups_divide_the_channels() -> None:
    assert [groups_for(c, 32) for c in (64, 256, 4, 48, 7)] == [32, 32, 4, 16, 1]
    assert groups_for(10, 4) == 2


def _trained(members: Sequence[Member], data: Dataset, folder: Path | None = None, until: int | None = None) -> dict:
    """By member, everything that was reported but times."""
    told: dict[Member, list[dict[str, float]]] = {member: [] for member in members}

    def report(event: Epoch | Outcome) -> None:
        timed = {schema.SECONDS, schema.IMAGES_PER_SECOND}
        told[event.member].append({k: v for k, v in event.metrics.items() if k not in timed})

    train(members, data, CPU, report, checkpoints=Checkpoints(folder, 0.0) if folder else None, until_epoch=until)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_beside_others_and_after_a_stop_a_member_trains_as_alone(
    kind: str, recipe: Recipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    recipe = recipe.set(f"normalisation={kind}").set("budget.epochs=4")
    first = Member(recipe, 0)
    leaving = Member(recipe.set("optimizer=off").set("optimizer.rate=100").set("learning_rate=×100"), 4)
    others = [leaving, Member(recipe.set("normalisation.epsilon=0.1"), 0), Member(recipe.set("optimizer=off"), 1)]
    alone = _trained([first], tiny_data)[first]
    together = _trained([*others, first], tiny_data)
    assert len(together[leaving]) < len(alone), "it leaves before the end"
    assert repr(together[first]) == repr(alone)
    assert repr(together[others[1]][-1]) != repr(alone[-1])
    _trained([*others, first], tiny_data, tmp_path, until=1)
    resumed = _trained([first], tiny_data, tmp_path)[first]
    assert repr(resumed) == repr(alone)


def test_group_and_layer_share_a_fleet_and_batch_does_not(recipe: Recipe, tiny_data: Dataset) -> None:
    members = [Member(recipe.set(f"normalisation={level}"), 0) for level in ("off", *KINDS)]
    assert pack(members, 1, 8) == [members[:1], members[1:2], members[2:]]
    fast = Member(members[1].recipe.set("normalisation.momentum=0.3"), 0)
    assert same_shape(fast.recipe) == same_shape(members[1].recipe) != same_shape(members[0].recipe)
    unset = Member(recipe.without("normalisation"), 0)
    assert same_shape(unset.recipe) == same_shape(members[0].recipe)
    together = _trained(members[2:], tiny_data)
    assert repr(together[members[3]]) == repr(_trained([members[3]], tiny_data)[members[3]])


def test_arms_of_a_seed_start_from_the_same_weights_and_see_the_same_images(
    recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [Member(recipe.set(f"normalisation={level}"), 7) for level in ("off", *KINDS)]
    starts = [dict(initialised(member, 10).named_parameters()) for member in members]
    shared = {name for name in starts[0] if name.startswith(("hidden", "classifier")) or name.endswith("weight")}
    assert len(shared) == 4 + 2 * 2
    for member, start in zip(members, starts, strict=True):
        assert all(torch.equal(start[name], starts[0][name]) for name in shared)
        own = set(start) - shared
        assert all(name.startswith("convolutions.") for name in own)
        if member is not members[0]:
            assert own == {f"convolutions.{i}.norm.{leaf}" for i in range(4) for leaf in ("weight", "bias")}
            assert all(start[name].eq(float(name.endswith("weight"))).all() for name in own)
    seen: list[Tensor] = []
    gradients = TorchBackend.gradients

    def look(self: TorchBackend, row: int, images: Tensor, targets: Tensor) -> Tensor:
        seen.append(images.clone())
        return gradients(self, row, images, targets)

    monkeypatch.setattr(TorchBackend, "gradients", look)
    for member in members:
        _trained([member], tiny_data)
    steps = len(seen) // len(members)
    assert all(torch.equal(seen[i], seen[i % steps]) for i in range(len(seen)))
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.slow
def test_training_is_a_plain_loop_and_evaluation_takes_the_running_statistics(
    recipe: Recipe, tiny_data: Dataset
) -> None:
    """Two epochs of plain SGD in torch's own terms, and the test loss at their end."""
    plain = replace(recipe, techniques=()).with_technique(Normalisation.at("on"))
    plain = plain.with_technique(catalog.techniques()["optimizer"].at("off"))
    plain = replace(plain, budget=replace(plain.budget, epochs=2)).set("optimizer.rate=0.05")
    member, budget = Member(plain, 3), plain.budget
    network = _as_in_the_papers("on", 0.0625)
    _alike(network, initialised(member, 10))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (tiny_data.mean, tiny_data.std))
    images, labels = normalize(tiny_data.train_images, mean, std), tiny_data.train_labels
    chosen = permutation(len(labels), 3, "split")[: budget.train_images]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for epoch in range(2):
        for batch in chosen[permutation(len(chosen), 3, "order", epoch)].split(budget.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    network.eval()
    test = permutation(len(tiny_data.test_labels), "test images")[: budget.test_images]
    logits = network(normalize(tiny_data.test_images, mean, std)[test])
    expected = F.cross_entropy(logits, tiny_data.test_labels[test]).item()
    told = _trained([member], tiny_data)[member]
    assert told[-1][schema.TEST_LOSS] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bf16_it_is_torchs_autocast_of_torchs_modules(kind: str, recipe: Recipe) -> None:
    plain = recipe.without("dropout").set(f"normalisation={kind}").set("budget.precision=bf16")
    fleet = Fleet([Member(plain, 0)], 10, CPU)
    fleet.train(True)
    theirs = _as_in_the_papers(kind, 0.0625)
    _alike(theirs, fleet.networks[0])
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    targets = torch.eye(10)[torch.arange(16) % 10]
    loss = TorchBackend(fleet, CPU).gradients(0, images, targets)
    with torch.autocast("cpu", torch.bfloat16):
        logits = theirs(images)
    expected = F.cross_entropy(logits.float(), targets)
    expected.backward()
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-3, atol=1e-3)
    ours, expected = (
        torch.cat([g.flatten() for g in of]) for of in (fleet.gradient_views[0], [p.grad for p in theirs.parameters()])
    )
    assert torch.linalg.vector_norm(ours - expected) <= 0.05 * torch.linalg.vector_norm(expected)
    assert fleet.weights.dtype == torch.float32
    assert not {torch.bfloat16, torch.float16} & set(fleet.buffers)
    for mine, buffer in zip(fleet.networks[0].buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, buffer, rtol=1e-2, atol=1e-2)


def test_one_normalised_arm_takes_all_to_torch(recipe: Recipe) -> None:
    normalised = recipe.set("normalisation=group")
    choice = choose_backend([recipe, normalised], CPU, 10, 1)
    said = "the kernels do not know the network notebook with group normalisation"
    assert (choice.name, choice.why) == (TORCH, said)
    with pytest.raises(ValueError, match="ask for the backend torch"):
        KernelBackend(Fleet([Member(normalised, 0)], 10, CPU))


@pytest.mark.parametrize(("name", "why"), [("resnet9", "BatchNorm2d"), ("convnext", "ChannelNorm, LayerNorm")])
def test_networks_with_their_own_are_refused(name: str, why: str, recipe: Recipe) -> None:
    other = recipe.set(f"model.name={name}")
    model.check(other.set("normalisation=off"), 10)
    with pytest.raises(AblateError) as refusal:
        model.check(other.set("normalisation=layer"), 10)
    assert str(refusal.value).startswith(f"model.name={name} has normalisation of its own (")
    assert why in str(refusal.value)
    assert str(refusal.value).endswith("so layer normalisation has no place in it; set normalisation=off")


def test_a_network_of_ones_own_is_normalised_behind_each_convolution(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def network(width: float, classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 900, classes))

    monkeypatch.setitem(model.NETWORKS, "own", network)
    own = replace(recipe, techniques=(Normalisation.at("on"),)).set("model.name=own")
    built = model.network_of(own, 10)
    assert [type(m) for m in built.modules()][1:3] == [nn.Conv2d, nn.BatchNorm2d]
    before = built[0].norm.running_mean.clone()
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(built[1](built[0](x)).flatten(), F.relu(_norm("on", 6)(_bare(built[0], x))).flatten())
    assert not torch.equal(built[0].norm.running_mean, before)
    monkeypatch.setitem(model.NETWORKS, "flat", lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))
    with pytest.raises(AblateError, match=r"model\.name=flat has no nn\.Conv2d, so batch normalisation has no place"):
        model.check(own.set("model.name=flat"), 10)


def _bare(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, convolution.weight)


def test_the_search_of_everything_draws_it_behind_a_switch_where_it_has_a_place() -> None:
    baseline = PROFILES["quick"].apply(catalog.notebook_recipe())

    def study(of: Recipe) -> Study:
        (found,) = next(catalog.search_module("joint").search(of, 4))
        return found

    drawn = {p.name: p for p in study(baseline).parameters}
    assert drawn["normalisation"].choices == ("off", "on")
    for knob in ("momentum", "epsilon"):
        assert drawn[f"normalisation.{knob}"].wanted({"normalisation": "on"})
        assert not drawn[f"normalisation.{knob}"].wanted({"normalisation": "off"})
    others = {p.name for p in study(baseline.set("model.name=resnet9")).parameters}
    assert not [name for name in others if name.startswith("normalisation")]


@pytest.mark.parametrize("kind", KINDS)
def test_kept_weights_are_those_of_the_plain_program(kind: str, recipe: Recipe, tiny_data: Dataset) -> None:
    """Its layers are named otherwise, and stand in the same order: it takes them, and gives the same logits."""
    member = Member(recipe.set(f"normalisation={kind}"), 0)
    ended: list[Outcome] = []
    train([member], tiny_data, CPU, lambda e: ended.append(e) if isinstance(e, Outcome) else None, keep_weights=True)
    weights = ended[0].weights
    assert weights is not None
    names: dict = {"__name__": "train"}
    exec(compile(program(member.recipe), "train.py", "exec"), names)
    theirs = names["Network"](10).eval()
    arrays = [torch.from_numpy(values) for values in weights.arrays.values()]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), arrays, strict=True)))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (weights.mean, weights.std))
    test = permutation(len(tiny_data.test_labels), "test images")[: member.recipe.budget.test_images]
    with torch.no_grad():
        logits = theirs(normalize(tiny_data.test_images[test], mean, std))
    loss = F.cross_entropy(logits, tiny_data.test_labels[test]).item()
    assert ended[0].metrics[schema.TEST_LOSS] == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_what_is_watched_of_layers_and_activations_has_a_number_for_each(recipe: Recipe, tiny_data: Dataset) -> None:
    """Normalisation's own weights are no layers, and its inputs no activations."""
    for level in ("off", *KINDS):
        ended: list[Outcome] = []
        member = Member(recipe.set(f"normalisation={level}"), 0)
        train([member], tiny_data, CPU, lambda e, to=ended: to.append(e) if isinstance(e, Outcome) else None)
        details = ended[0].details
        layers = [*(f"convolutions.{i}.weight" for i in range(4)), "hidden.weight", "classifier.weight"]
        assert details["layers"].tolist() == layers
        assert details["by_layer"].shape == (2, 3, 6)
        for when in ("initial", "final"):
            assert [len(details[f"{when}/{name}"]) for name in ("variance", "mean", "dead", "gradient")] == [5, 5, 5, 6]
            assert all(np.isfinite(details[f"{when}/{name}"]).all() for name in ("variance", "dead", "gradient"))
        assert details["confusion"].sum() == recipe.budget.test_images


def test_one_engine_trains_all_trials_of_a_search_that_may_draw_it() -> None:
    baseline = PROFILES["quick"].apply(catalog.notebook_recipe())
    drawn = {
        name: recipes_of(cast("SearchInvocation", SimpleNamespace(name=name, baseline=baseline, trials=4)))
        for name in ("joint", "schedule")
    }
    assert any(model.normalises(t) for recipe in drawn["joint"] for t in recipe.techniques)
    assert not any(model.normalises(t) for recipe in drawn["schedule"] for t in recipe.techniques)
    assert all(recipes[0] == baseline for recipes in drawn.values())
