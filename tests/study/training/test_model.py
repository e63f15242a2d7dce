"""The notebook's network: same function as the notebook writes it, at any width."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Network
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training.engine import Outcome, train
from cifar_ablations.study.training.fleet import Fleet, Member, initialised
from cifar_ablations.study.training.model import ChannelNorm, NotebookNetwork, build, check
from tests.own_extension import named, put_extension


def as_the_notebook_writes_it(width: float) -> nn.Sequential:
    """Convolution, ReLU, pooling, in the notebook's order."""
    a, b, c, d, hidden = (int(n * width) for n in (64, 128, 256, 256, 512))
    blocks: list[nn.Module] = []
    for before, after in ((3, a), (a, b), (b, c), (c, d)):
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2)]
    blocks += [nn.Flatten(), nn.Linear(d * 4, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, 10)]
    return nn.Sequential(*blocks)


def _with_the_same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    for target, source in zip(theirs.parameters(), ours.parameters(), strict=True):
        target.data.copy_(source.detach())


@pytest.mark.parametrize("width", [1.0, 0.25])
def test_pooling_first_is_the_same_function_with_the_same_gradients(width: float) -> None:
    torch.manual_seed(0)
    ours, theirs = NotebookNetwork(width, 10), as_the_notebook_writes_it(width)
    _with_the_same_weights(ours, theirs)
    theirs.eval()  # no dropout on either side
    images, labels = torch.randn(8, 3, 32, 32), torch.randint(0, 10, (8,))
    torch.testing.assert_close(ours(images), theirs(images))
    for network in (ours, theirs):
        nn.functional.cross_entropy(network(images), labels).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(1)
    network = NotebookNetwork(1 / 64, 3).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    names = [name for name, _ in network.named_parameters()]

    def logits(*parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), (images,))

    assert torch.autograd.gradcheck(logits, tuple(p.detach().requires_grad_() for p in network.parameters()))


def test_it_has_the_notebooks_number_of_parameters() -> None:
    assert sum(p.numel() for p in build(Network(), 10).parameters()) == sum(
        p.numel() for p in as_the_notebook_writes_it(1.0).parameters()
    )


def test_convnext_normalises_the_channels_of_each_place() -> None:
    norm, x = ChannelNorm(6), torch.randn(2, 6, 4, 5)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    expected = (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), expected * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1))


def test_convnext_has_the_parameters_of_its_paper_at_these_widths() -> None:
    def block(c: int) -> int:  # depthwise 7×7, norm, to four times and back, scale
        return (49 * c + c) + 2 * c + (4 * c * c + 4 * c) + (4 * c * c + c) + c

    a, b, c = 64, 128, 256
    patches, last = (12 * a + a) + 2 * a, 2 * c + (10 * c + 10)
    smaller = 2 * a + (4 * a * b + b) + 2 * b + (4 * b * c + c)
    expected = patches + 2 * (block(a) + block(b) + block(c)) + smaller + last
    assert sum(p.numel() for p in build(Network("convnext"), 10).parameters()) == expected


@pytest.mark.exhaustive
def test_convnext_learns(recipe: Recipe, tiny_data: Dataset) -> None:
    fast = recipe.set("model.name=convnext").set("optimizer.rate=0.01").without("dropout").without("augmentation")
    member = Member(replace(fast, budget=replace(fast.budget, epochs=12)), 0)
    ended: list[Outcome] = []
    train([member], tiny_data, torch.device("cpu"), lambda e: ended.append(e) if isinstance(e, Outcome) else None)
    assert ended[0].metrics["train/accuracy"] > 0.5, "ten classes"


def test_first_weights_follow_their_scheme() -> None:
    kaiming = initialised(Member(catalog.notebook_recipe(), 0), 10)
    default = initialised(Member(catalog.notebook_recipe().without("initialisation"), 0), 10)
    for (_, a), (_, b) in zip(_layers(kaiming), _layers(default), strict=True):
        fan_in = a.weight[0].numel()
        assert a.weight.abs().max() <= (6 / fan_in) ** 0.5
        assert a.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
        assert b.weight.abs().max() <= (1 / fan_in) ** 0.5
        assert not a.bias.any()
        assert b.bias.any()
        # One seed draws the same numbers under both schemes, scaled to each one's range.
        torch.testing.assert_close(a.weight / 6**0.5, b.weight)


def test_first_weights_differ_between_seeds_and_layers() -> None:
    one, two = (initialised(Member(catalog.notebook_recipe(), seed), 10) for seed in (0, 1))
    for (_, a), (_, b) in zip(_layers(one), _layers(two), strict=True):
        assert not torch.equal(a.weight, b.weight)


def _layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def test_members_are_rows_of_the_matrices(recipe: Recipe) -> None:
    fleet = Fleet([Member(recipe, 0), Member(recipe, 1)], 10, torch.device("cpu"))
    fleet.weights[1].fill_(0.5)
    for parameter in fleet.networks[1].parameters():
        assert parameter.eq(0.5).all()
    before = fleet.weights[0].clone()
    for parameter, gradient in zip(fleet.networks[0].parameters(), fleet.gradient_views[0], strict=True):
        gradient.copy_(parameter.detach())
    assert torch.equal(fleet.gradients[0], before)
    assert not fleet.gradients[1].any()
    fleet.keep([1])
    for parameter in fleet.networks[0].parameters():
        assert parameter.eq(0.5).all()


def test_an_unknown_network_gets_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"model\.name cannot be 'notbook'; did you mean notebook"):
        build(Network(name="notbook"), 10)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    folder = put_extension(tmp_path / f"networks_of_{abs(hash(tmp_path))}")
    with named(folder):
        yield folder


def test_a_network_of_an_extension_has_its_files_name(lab: Path, recipe: Recipe) -> None:
    (lab / "networks" / "broken.py").write_text("def network(width, classes):\n    return width\n")
    (lab / "networks" / "odd.py").write_text("def network(width):\n    return width\n")
    own = recipe.set("model.name=patches")
    check(own, 7)
    named_whole = build(Network(name=f"{lab.name}.networks.patches:network", width=0.5), 7)
    assert [p.shape for p in named_whole.parameters()] == [
        p.shape for p in build(Network("patches", 0.5), 7).parameters()
    ]
    with pytest.raises(AblateError, match=r"model\.name=broken returned float, not a torch\.nn\.Module"):
        build(Network("broken"), 10)
    with pytest.raises(
        AblateError, match=r"model\.name=odd cannot be made with \(width, classes\) = \(1, 10\): TypeError"
    ):
        build(Network("odd"), 10)
    with pytest.raises(AblateError, match=r"'patchs'; did you mean patches\?.*ABLATE_EXTENSIONS"):
        build(Network("patchs"), 10)


@pytest.mark.parametrize("where", ["here", "beside the script"])
def test_nothing_is_imported_from_a_folder_that_nobody_named(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "imported"
    (tmp_path / "unnamed.py").write_text(f"open({str(marker)!r}, 'w').close()\nfactory = None\n")
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    if where == "here":
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.setattr(sys, "argv", [str(tmp_path / "script.py")])
    with pytest.raises(AblateError, match=r"no package 'unnamed' is installed.*ABLATE_EXTENSIONS"):
        build(Network("unnamed:factory"), 10)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os:getcwd", "model.name=os:getcwd"),
        ("shutil:rmtree", "no package 'shutil' is installed"),  # of Python's library nothing is called
        ("typer:nothing", "model.name=typer:nothing: module 'typer' has no attribute 'nothing'"),
        ("typer:__name__", "model.name=typer:__name__ is not callable"),
        ("nowhere:factory", "no package 'nowhere' is installed"),
        ("typer.nowhere:factory", "ModuleNotFoundError: No module named 'typer.nowhere'"),
        (":", "model.name=:"),
    ],
)
def test_a_name_that_leads_nowhere_is_said(name: str, said: str) -> None:
    with pytest.raises(AblateError, match=re.escape(said)):
        build(Network(name), 10)
