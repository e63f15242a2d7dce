"""A recipe as a plain program: one step of it is one of the engine's, and what it cannot say it refuses."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plain.networks import NETWORKS
from cifar_ablations.ablations.plain.program import WIDTH, program
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.seeding import Seeding
from cifar_ablations.ablations.technique import Plain, Technique, knob
from cifar_ablations.ablations.techniques.cutmix import Cutmix, paste
from cifar_ablations.ablations.techniques.early_stopping import EarlyStopping
from cifar_ablations.ablations.techniques.mixup import Mixup, blend
from cifar_ablations.ablations.techniques.schedule import Schedule
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training.backend import TorchBackend
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.optimizer import FleetOptimizer, learning_rates
from cifar_ablations.study.training.randomness import ImageVisits, StepDraws
from cifar_ablations.study.training.step import Preparation, image_key, normalize, scales
from tests.official_like import put_official

CPU = torch.device("cpu")
CLASSES = 10
MOST_LINES = 200
LEVELS = [(name, level) for name, cls in catalog.techniques().items() for level in cls.levels]
Program = dict[str, Any]
"""What a program defines, by name."""


def _executed(source: str) -> Program:
    names: Program = {"__name__": "train"}
    exec(compile(source, "train.py", "exec"), names)
    return names


def _undropped(model: nn.Module) -> nn.Module:
    """The network with dropout that drops nothing: its draws are torch's own."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


class Engine:
    """Steps of the engine with dropout off, on the first images of a data set: an epoch is two steps of equal size."""

    def __init__(self, recipe: Recipe, data: Dataset):
        self.recipe, self.data, self.budget = recipe, data, recipe.sized.budget
        assert (self.budget.steps_per_epoch, self.budget.train_images) == (2, 2 * self.budget.batch_size)
        self.member = Member(recipe.without("dropout"), 5)
        self.fleet = Fleet([self.member], CLASSES, CPU)
        self.fleet.train(True)
        self.backend = TorchBackend(self.fleet, CPU)
        self.optimizer = FleetOptimizer(self.fleet.weights, [recipe.update_rule()], learning_rates(recipe)[:, None])
        self.preparation = Preparation.of(recipe, scales([self.member], data, CPU)[self.member])

    def drawn(self, technique: Technique, step: int) -> StepDraws:
        """A technique's draws of a step."""
        return StepDraws.named(CPU, 5, technique.name, step)

    def visits(self, technique: Technique, step: int) -> ImageVisits:
        """A step's images and epoch for a technique."""
        size = self.budget.batch_size
        places = torch.arange(step % 2 * size, (step % 2 + 1) * size)
        return ImageVisits(image_key(5, technique, CPU), places, torch.tensor([step]), 2)

    def images(self, step: int) -> tuple[Tensor, Tensor]:
        """A step's images, uint8, and labels."""
        own = slice(step % 2 * self.budget.batch_size, (step % 2 + 1) * self.budget.batch_size)
        return self.data.train_images[own], self.data.train_labels[own]

    def augmented(self, step: int) -> Tensor:
        """A step's images augmented and normalised, before any mixing."""
        images, _ = self.images(step)
        for technique in self.preparation.augmenting:
            images = technique.augment(images, self.drawn(technique, step))
        return normalize(images, *self.preparation.scale)

    def take(self, step: int) -> list[Tensor]:
        """Take a step; returns the weights after it."""
        images, labels = self.images(step)
        batch = self.preparation.batch(
            images, torch.eye(CLASSES)[labels], lambda t: self.drawn(t, step), lambda t: self.visits(t, step)
        )
        self.backend.gradients(0, *batch)
        self.backend.step(self.optimizer, torch.tensor([step]))
        return self.weights()

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.fleet.networks[0].parameters()]


class Script:
    """A recipe's program that trains on the batches of an engine, from its first weights, with dropout off."""

    def __init__(self, recipe: Recipe, engine: Engine):
        self.names = _executed(program(recipe))
        self.model = self.names["Network"](CLASSES)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        with torch.no_grad():
            for own, first in zip(self.model.parameters(), engine.weights(), strict=True):
                own.copy_(first)
        made = self.names["make_optimizer"](self.model)
        self.made = made if isinstance(made, tuple) else (made,)
        self.engine = engine
        self.weights: list[list[Tensor]] = []
        """After every step."""
        self.rates: list[float] = []
        """Of every step."""

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step in (2 * epoch, 2 * epoch + 1):
            for technique in self.engine.preparation.mixing:
                # The engine's draws in place of torch's; what the program makes of its own is tested apart.
                for name in () if technique.is_off else technique.plain(self.engine.recipe.sized).mixing:
                    assert callable(self.names[name])
                    self.names[name] = lambda x, y, t=technique, step=step: t.mix(x, y, self.engine.drawn(t, step))
            self.rates.append(self.made[0].param_groups[0]["lr"])
            yield self.engine.augmented(step), self.engine.images(step)[1]
            self.weights.append([parameter.detach().clone() for parameter in self.model.parameters()])

    def train(self, epochs: int) -> None:
        for epoch in range(epochs):
            self.names["train_epoch"](self.model, self.batches(epoch), *self.made, CPU)


def _agree(recipe: Recipe, data: Dataset, after: tuple[int, ...] = (1, 3)) -> None:
    """Raise unless weights, and how far they have moved, agree after so many steps, at most three."""
    engine = Engine(recipe, data)
    script = Script(recipe, engine)
    first = torch.cat([w.flatten() for w in engine.weights()])
    script.train(2)
    expected = [engine.take(step) for step in range(3)]
    for steps in after:
        ours, theirs = (torch.cat([w.flatten() for w in of[steps - 1]]) for of in (expected, script.weights))
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
        assert torch.linalg.vector_norm(theirs - ours) <= 1e-4 * torch.linalg.vector_norm(ours - first)


@pytest.fixture(scope="module")
def small(recipe: Recipe) -> Recipe:
    """A recipe whose epochs are two steps, at a rate that does not multiply what sums are rounded by."""
    budget = replace(recipe.budget, epochs=6, batch_size=32, train_images=64)
    return replace(recipe, budget=budget).set("optimizer.rate=0.001")


def _in_two_steps(recipe: Recipe) -> Recipe:
    """The recipe on a batch size by which its techniques make an epoch of two steps."""
    for size in (32, 16, 8, 4, 2, 128):
        sized = replace(recipe, budget=replace(recipe.budget, batch_size=size))
        budget = sized.sized.budget
        if budget.train_images == 2 * budget.batch_size:
            return sized
    raise AssertionError(recipe)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_every_level_is_equal_or_refused(name: str, level: str, small: Recipe, tiny_data: Dataset) -> None:
    technique = catalog.techniques()[name].at(level)
    recipe = small.with_technique(technique)
    try:
        program(recipe)
    except AblateError as refusal:
        assert str(refusal).startswith(f"{name} ({level}) has no plain form: ")  # noqa: PT017
        assert (name, level) in REFUSED
        return
    assert (name, level) not in REFUSED
    if name == "augmentation":
        # Adam makes a whole step of a gradient that is nothing but rounding: on some processors the second and the
        # third differ by that, where momentum's agree to a millionth.
        _agree(_in_two_steps(recipe), tiny_data, after=(1,))
        recipe = recipe.set("optimizer=momentum").set("optimizer.rate=0.001")
    _agree(_in_two_steps(recipe), tiny_data)


REFUSED = {
    ("optimizer", "adam_uncorrected"),
    ("optimizer", "muon"),
    ("augmentation", "alternating_flip"),
    *(("weight_averaging", level) for level in ("ema", "swa", "lookahead")),
    *(("sharpness_aware", level) for level in ("on", "adaptive")),
}
"""What has no plain form among the named levels; anything else must have one."""


@pytest.mark.parametrize("optimizer", catalog.techniques()["optimizer"].levels)
@pytest.mark.parametrize("form", ["coupled", "decoupled"])
def test_every_update_rule_is_equal_or_refused(optimizer: str, form: str, small: Recipe, tiny_data: Dataset) -> None:
    recipe = small.set(f"optimizer={optimizer}").set("weight_decay.strength=0.05").set(f"weight_decay.form={form}")
    recipe = recipe.set("gradient_clipping=on").set("schedule=warmup_cosine").set("learning_rate.factor=0.3")
    recipe = recipe.set("optimizer.momentum=0.8").set("optimizer.second=0.98")
    if ("optimizer", optimizer) in REFUSED:
        with pytest.raises(AblateError, match=rf"^optimizer \(kind={optimizer}, rate=[0-9.]+, momentum=0.8"):
            program(recipe)
        return
    _agree(recipe, tiny_data)


@pytest.mark.slow
@pytest.mark.parametrize("changes", ["label_smoothing=on mixup=on", "activation=gelu label_smoothing=on cutmix=on"])
@pytest.mark.parametrize("network", ["notebook-deeper", "resnet9", "convnext"])
def test_other_networks_are_equal(network: str, changes: str, small: Recipe, tiny_data: Dataset) -> None:
    recipe = small.set(f"model.name={network}").set("optimizer=momentum")
    for setting in changes.split():
        recipe = recipe.set(setting)
    _agree(recipe, tiny_data)


def _rates(recipe: Recipe) -> list[float]:
    """The learning rate at every step of a recipe's program, in epochs of as many batches as the budget has."""
    names = _executed(program(recipe))
    model = names["Network"](2)
    made = names["make_optimizer"](model)
    made = made if isinstance(made, tuple) else (made,)
    found = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(recipe.sized.budget.steps_per_epoch):
            found.append(made[0].param_groups[0]["lr"])
            yield torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64)

    for _ in range(recipe.sized.budget.epochs):
        names["train_epoch"](model, batches(), *made, CPU)
    return found


shares = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 1.0])
shapes = st.sampled_from(catalog.techniques()["schedule"].knobs()["shape"].choices or ())


@pytest.mark.slow
@given(shape=shapes, epochs=st.integers(1, 9), steps=st.integers(1, 4), at=st.tuples(shares, shares, shares, shares))
@settings(max_examples=40, deadline=None)
def test_every_schedule_has_the_engines_rate_at_every_step(
    shape: str, epochs: int, steps: int, at: tuple[float, ...], recipe: Recipe
) -> None:
    schedule = Schedule(shape=shape, first=at[0], second=at[1], every=at[2], warmup=min(at[3], 0.8), gamma=0.3)
    budget = replace(recipe.budget, epochs=epochs, batch_size=2, train_images=2 * steps)
    scheduled = replace(recipe, budget=budget).with_technique(schedule).set("model.width=0.01")
    try:
        found = _rates(scheduled)
    except AblateError as refusal:
        assert "OneCycleLR" in str(refusal)  # noqa: PT017
        assert shape == "one_cycle"
        assert schedule.warmup * epochs * steps <= 1
        return
    assert found == pytest.approx(learning_rates(scheduled).tolist(), rel=1e-6, abs=1e-12)


DRAWS = 1_000
FAR = 6
"""In standard errors: of a thousand such tests, chance fails none; and all are of fixed seeds."""


def _same_moments(ours: Tensor, theirs: Tensor) -> None:
    """Raise unless samples [draws, …] of two distributions have the same means and deviations."""
    for power in (1, 2):
        a, b = (sample.double() ** power for sample in (ours, theirs))
        error = ((a.var(dim=0) + b.var(dim=0)) / len(a)).sqrt()
        assert (a.mean(dim=0) - b.mean(dim=0)).abs().sub(FAR * error).max() <= 1e-6


def _with_piece(piece: str) -> list[tuple[str, str]]:
    """The levels whose plain form has such a piece."""
    sized, known = catalog.notebook_recipe().sized, catalog.techniques()
    return [
        (name, level)
        for name, level in LEVELS
        if level != "off" and (name, level) not in REFUSED and getattr(known[name].at(level).plain(sized), piece)
    ]


def _alone(name: str, level: str, recipe: Recipe) -> tuple[Technique, Plain, Program]:
    """A technique at a level, its pieces, and what the program of a recipe that has no other defines."""
    technique = catalog.techniques()[name].at(level)
    only = replace(recipe, techniques=(technique,))
    return technique, technique.plain(only.sized), _executed(program(only))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "level"), _with_piece("transforms"))
def test_images_are_changed_as_the_engine_changes_them(
    name: str, level: str, recipe: Recipe, tiny_data: Dataset
) -> None:
    technique, plain, names = _alone(name, level, recipe)
    image = tiny_data.train_images[3].contiguous()
    transforms = [eval(text, names) for text in plain.transforms]
    torch.manual_seed(0)
    theirs = []
    for _ in range(DRAWS):
        changed = image.clone()
        for transform in transforms:
            changed = transform(changed)
        theirs.append(changed)
    draws = StepDraws.named(CPU, 0, name, 0)
    _same_moments(technique.augment(image.expand(DRAWS, -1, -1, -1), draws), torch.stack(theirs))


def test_crops_and_flips_are_those_of_the_engine(recipe: Recipe, tiny_data: Dataset) -> None:
    """All of the 162 pictures that four pixels and a mirror can make of one, and no other."""
    technique, plain, names = _alone("augmentation", "on", recipe)
    crop, flip = (eval(text, names) for text in plain.transforms)
    image = tiny_data.train_images[0].contiguous()
    torch.manual_seed(0)
    theirs = {flip(crop(image)).numpy().tobytes() for _ in range(3_000)}
    ours = technique.augment(image.expand(3_000, -1, -1, -1), StepDraws.named(CPU, 0, "augmentation", 0))
    assert theirs == {one.contiguous().numpy().tobytes() for one in ours}
    assert len(theirs) == 2 * 9**2


@pytest.mark.parametrize(("name", "level"), _with_piece("mixing"))
def test_batches_are_mixed_as_the_engine_mixes_them(name: str, level: str, recipe: Recipe) -> None:
    technique, plain, names = _alone(name, level, recipe)
    (mixing,) = plain.mixing
    # Of every two neighbours, the first is dark and the second is bright on its left.
    images = torch.zeros(2 * DRAWS, 1, 8, 8)
    images[1::2, :, :, :4] = 1
    targets = torch.eye(2).repeat(DRAWS, 1)
    torch.manual_seed(0)
    ours = technique.mix(images, targets, StepDraws.named(CPU, 0, name, 0))
    theirs = names[mixing](images, targets)
    for a, b in zip(ours, theirs, strict=True):
        for of_two in (0, 1):
            _same_moments(a[of_two::2], b[of_two::2])


@contextmanager
def _drawn(share: Tensor, *middles: Tensor) -> Iterator[None]:
    """Within it, torch draws these shares, and these whole numbers one after another."""
    left = list(middles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributions.Beta, "sample", lambda self, shape: share.view(shape))
        patch.setattr(torch, "randint", lambda size, shape: left.pop(0).view(shape))
        yield


def test_mixup_and_cutmix_equal_the_engines_for_the_same_draws(recipe: Recipe) -> None:
    names = _executed(program(replace(recipe, techniques=(Mixup(alpha=0.4), Cutmix(alpha=1.0)))))
    generator = torch.Generator().manual_seed(0)
    images, share = torch.rand(16, 3, 32, 32, generator=generator), torch.rand(16, generator=generator)
    targets = torch.eye(10)[torch.randint(10, (16,), generator=generator)]
    row, column = torch.randint(32, (2, 16), generator=generator)
    with _drawn(share):
        torch.testing.assert_close(names["mixup"](images, targets), blend(images, targets, share))
    with _drawn(share, row, column):
        found = names["cutmix"](images, targets)
    torch.testing.assert_close(found, paste(images, targets, share, row, column))


def test_the_network_that_is_tested_is_mirrored_as_the_engines(recipe: Recipe) -> None:
    mirrored = recipe.set("mirrored_testing=on").set("early_stopping=on")
    names, images = _executed(program(mirrored)), torch.rand(4, 3, 32, 32)
    network = names["Network"](10).eval()
    expected = (network(images) + network(tv.horizontal_flip(images))) / 2
    torch.testing.assert_close(names["Mirrored"](network)(images), expected)
    # What early stopping goes back to comes before, and the test after.
    _, after = program(mirrored).split("    model.load_state_dict(best)\n    model = Mirrored(model)\n")
    assert "evaluate(model, test, device)" in after


@pytest.mark.parametrize(("name", "level"), _with_piece("initialise"))
def test_first_weights_are_drawn_alike(name: str, level: str, recipe: Recipe) -> None:
    technique, plain, names = _alone(name, level, recipe)
    for layer in (nn.Conv2d(3, 8, 3), nn.Linear(6, 5), nn.Conv2d(3, 8, 3, bias=False)):
        found = []
        for initialise in (names[plain.initialise], technique.initialise):
            torch.manual_seed(0)
            initialise(layer)
            found.append([parameter.detach().clone() for parameter in layer.parameters()])
        for theirs, ours in zip(*found, strict=True):
            assert torch.equal(theirs, ours)


def test_dropout_stands_before_the_last_layer(recipe: Recipe) -> None:
    for network in NETWORKS:
        names = _executed(program(recipe.set(f"model.name={network}").set("dropout.p=0.3")))
        *_, last = names["Network"](10).features
        assert isinstance(last, nn.Dropout)
        assert last.p == 0.3


def _loaded(recipe: Recipe, folder: Path | None) -> tuple[Any, ...]:
    """The loaders of a program, without worker processes: these would be forked beside threads."""
    names = _executed(program(recipe))
    loader = names["DataLoader"]
    names["DataLoader"] = lambda data, **options: loader(
        data, **{**options, "num_workers": 0, "persistent_workers": False}
    )
    torch.manual_seed(0)
    found: tuple[Any, ...] = names["load"](folder)
    return found


@pytest.mark.parametrize("scaling", catalog.techniques()["input_scaling"].levels)
def test_images_of_a_folder_are_scaled_as_the_engine_scales_them(
    scaling: str, recipe: Recipe, tiny_data: Dataset, tiny_folder: Path
) -> None:
    scaled = recipe.set(f"input_scaling={scaling}").set("budget.test_images=10000")
    train, validation, test, classes = _loaded(scaled, tiny_folder)
    assert (len(train.dataset), len(validation.dataset), len(test.dataset), classes) == (80, 40, 80, 10)
    member = Member(scaled, 0)
    expected = normalize(tiny_data.test_images, *scales([member], tiny_data, CPU)[member])
    images, labels = (torch.cat(parts) for parts in zip(*test, strict=True))
    # A folder goes class by class, and the suite's test images in turn.
    order = tiny_data.test_labels.sort(stable=True).indices
    assert torch.equal(labels, tiny_data.test_labels[order])
    torch.testing.assert_close(images, expected[order], rtol=1e-5, atol=1e-5)


def test_without_a_folder_it_reads_cifar10_below_data(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_official("cifar10", tmp_path / "data", monkeypatch)
    monkeypatch.chdir(tmp_path)
    few = recipe.set("budget.train_images=7").set("budget.validation_images=3").set("budget.test_images=10000")
    train, validation, test, classes = _loaded(few, None)
    assert (len(train.dataset), len(validation.dataset), len(test.dataset), classes) == (7, 3, 2, 2)
    everything = _loaded(
        few.without("augmentation").set("budget.train_images=10").set("budget.validation_images=0"), None
    )
    (images,) = [images for images, _ in everything[0]]
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    assert (images.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["every_epoch", "once", "sorted"])
def test_visits_are_in_the_order_that_is_asked_for(kind: str, recipe: Recipe, tiny_folder: Path) -> None:
    train, validation, test, _ = _loaded(recipe.set(f"shuffling.kind={kind}").without("augmentation"), tiny_folder)
    first, second = (torch.cat([labels for _, labels in train]).tolist() for _ in range(2))
    assert (first == sorted(first)) == (kind == "sorted")
    assert (first == second) == (kind != "every_epoch")
    assert not set(train.dataset.indices) & set(validation.dataset.indices)
    assert len(test.dataset) == recipe.budget.test_images < 80


def test_too_few_images_are_not_trained_on(recipe: Recipe, tiny_folder: Path) -> None:
    with pytest.raises(SystemExit, match="200 training images are too few"):
        _loaded(recipe.set("budget.train_images=161"), tiny_folder)


losses = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0]), min_size=8, max_size=8)


@given(losses=losses, patience=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_it_stops_early_where_the_engine_does(losses: list[float], patience: int, recipe: Recipe) -> None:
    stopping = EarlyStopping(patience=patience)
    names = _executed(program(recipe.with_technique(stopping).set("budget.epochs=8")))
    epochs: list[int] = []
    tested: list[float] = []

    def train_epoch(model: Any, *_: object) -> float:
        epochs.append(len(epochs) + 1)
        nn.init.constant_(model.classifier.bias, len(epochs))
        return 1.0

    def evaluate(model: Any, batches: str, device: torch.device) -> tuple[float, float]:
        if batches == "test":
            tested.append(model.classifier.bias[0].item())
        return losses[len(epochs) - 1], 0.5

    names |= {"train_epoch": train_epoch, "evaluate": evaluate, "print": lambda *_, **__: None}
    names["load"] = lambda folder: ("train", "validation", "test", 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py"])
        names["main"]()
    ended = next((n for n in range(1, 9) if stopping.stop(losses[:n])), 8)
    assert len(epochs) == ended
    assert tested == [1 + losses[:ended].index(min(losses[:ended]))]


def test_a_loss_that_is_no_number_is_a_divergence_and_no_result(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = _executed(program(recipe))
    names |= {"load": lambda folder: ("train", "validation", "test", 10), "train_epoch": lambda *_: float("nan")}
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit, match="diverged in epoch 1"):
        names["main"]()
    assert capsys.readouterr().out == ""


def _recipes() -> dict[str, Recipe]:
    """What every plan starts from at every size; the notebook's recipe at each level of a technique on each network."""
    found, notebook = {}, catalog.notebook_recipe()
    for profile, plan in product(PROFILES.values(), catalog.plan_names()):
        # The plans `tuned` and `gain` need another recipe than the notebook's.
        baseline = (
            profile.apply(notebook)
            .set("budget.precision=fp32")
            .set(f"dropout.p={0.3 if plan in ('tuned', 'gain') else 0.5}")
        )
        found[f"{plan} {profile.name}"] = catalog.make_plan(plan, baseline, profile, (0, 1)).arms[0].recipe
    for network, (name, level) in product(NETWORKS, LEVELS):
        refused = (name, level) in REFUSED or (network != "notebook" and name == "normalisation" and level != "off")
        if not refused:
            recipe = notebook.set(f"model.name={network}").with_technique(catalog.techniques()[name].at(level))
            found[f"{network} {name} {level}"] = recipe
    for field, value in (("precision", "bf16"), ("validation_images", "0"), ("test_images", "100")):
        found[field] = notebook.set(f"budget.{field}={value}")
    return found


@pytest.fixture(scope="module")
def written() -> list[tuple[Recipe, str]]:
    """All different ones of these recipes, with their programs."""
    return [(recipe, program(recipe)) for recipe in {r.digest(): r for r in _recipes().values()}.values()]


@pytest.mark.exhaustive
def test_every_plans_baseline_is_a_short_program_of_torch_alone(written: list[tuple[Recipe, str]]) -> None:
    assert len(written) > len(LEVELS)
    for recipe, source in written:
        tree = ast.parse(source)
        assert source.count("\n") <= MOST_LINES
        assert max(map(len, source.splitlines())) <= WIDTH
        documentation = " ".join((ast.get_docstring(tree) or "").split())
        assert recipe.digest() in documentation
        for technique in recipe.techniques:
            assert technique.is_off or technique.setting_title in documentation
        imported = {
            (node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert imported - sys.stdlib_module_names == {"torch", "torchvision"}


@pytest.mark.slow
@pytest.mark.parametrize("width", [WIDTH, 120])
def test_every_program_is_laid_out_as_ruff_does(width: int, written: list[tuple[Recipe, str]], tmp_path: Path) -> None:
    for recipe, source in written:
        (tmp_path / f"{recipe.digest()}.py").write_text(source, encoding="utf-8")
    options = ["--isolated", "--no-cache", f"--config=line-length={width}", str(tmp_path)]
    for command in (["format", "--check"], ["check", "--select=E,F,W,I,B,UP,SIM,PT,N,C4"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_that_is_off_is_in_the_program(recipe: Recipe) -> None:
    bare = recipe
    for technique in recipe.techniques:
        bare = bare.without(technique.name)
    source = program(bare)
    for word in ("Dropout", "nn.init", "scheduler", "decay", "Random", "augment", "clip", "smoothing", "momentum"):
        assert word not in source
    assert "torch.optim.SGD(model.parameters(), lr=0.1)" in source
    assert "On: nothing." in source


@dataclass(frozen=True)
class Silent(Technique):
    """A technique that does not say its plain form."""

    amount: float = knob(0.0, doc="of it")

    name: ClassVar[str] = "silent"
    title: ClassVar[str] = "silence"
    source: ClassVar[str] = "nowhere"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"amount": 1.0}}


BLUR = '''
def blur(image):
    """A blurred image."""
    return functional.gaussian_blur(image, 3, {amount})
'''


@dataclass(frozen=True)
class Blurring(Silent):
    """One that says it, with a function and an import of its own."""

    name: ClassVar[str] = "blurring"

    def plain(self, sized: Sized) -> Plain:
        return Plain(
            imports=("from torchvision.transforms.v2 import functional",),
            definitions=(BLUR.format(amount=self.amount),),
            transforms=("blur",),
        )


@dataclass(frozen=True)
class Other(Silent):
    """One that wants the place before the last layer."""

    name: ClassVar[str] = "other"

    def plain(self, sized: Sized) -> Plain:
        return Plain(dropout="nn.AlphaDropout(0.1)")


def test_a_technique_that_says_nothing_is_refused_and_only_where_it_is_on(recipe: Recipe) -> None:
    for technique, setting in ((Silent(1.0), "silent (on)"), (Silent(0.5), "silent (amount=0.5)")):
        with pytest.raises(AblateError) as refusal:
            program(recipe.with_technique(technique))
        assert str(refusal.value) == f"{setting} has no plain form: its file does not say one."
    with pytest.raises(AblateError, match=r"^seeding \(masks\) has no plain form"):
        program(recipe.with_technique(Seeding("masks")))
    assert program(recipe.with_technique(Silent())) == program(recipe)


def test_a_technique_of_ones_own_says_its_plain_form_in_its_own_file(recipe: Recipe) -> None:
    source = program(recipe.with_technique(Blurring(amount=0.7)))
    assert _executed(source)["blur"](torch.zeros(3, 32, 32)).shape == (3, 32, 32)
    (line,) = [line for line in source.splitlines() if line.startswith("    augment = ")]
    assert line.endswith(", blur]")


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ("", "nn.BatchNorm2d(256)"),
        ("momentum=0.12345678901234567 epsilon=1.2345678901234568e-05", "nn.BatchNorm2d(256, 1.2345678901234568e-05, "),
        ("kind=group groups=24", "nn.GroupNorm(8, 256)"),
        ("kind=layer epsilon=0.001", "nn.GroupNorm(1, 256, 0.001)"),
    ],
)
def test_convolutions_are_normalised_in_the_network_that_does_not_do_so(
    settings: str, written: str, recipe: Recipe
) -> None:
    recipe = recipe.set("normalisation=on").set("model.width=1")
    for setting in settings.split():
        recipe = recipe.set(f"normalisation.{setting}")
    source = program(recipe)
    before, after = source.split(written)[0].rsplit("\n", 2)[-2:]
    assert before.strip() == "nn.Conv2d(128, 256, kernel_size=3, padding=1, bias=False),"
    assert not after.strip()
    assert max(map(len, source.splitlines())) <= WIDTH
    with pytest.raises(AblateError, match="has no plain form: the network resnet9 has normalisation of its own"):
        program(recipe.set("model.name=resnet9"))


def test_two_techniques_cannot_have_one_place(recipe: Recipe) -> None:
    expected = r"^other \(on\) has no plain form: dropout \(on\) has another dropout already\.$"
    with pytest.raises(AblateError, match=expected):
        program(recipe.with_technique(Other(amount=1.0)))


def test_an_update_rule_that_torch_has_not_is_refused_by_the_names_of_what_made_it(recipe: Recipe) -> None:
    @dataclass(frozen=True)
    class Both(Silent):
        """Weights that decay in both ways."""

        name: ClassVar[str] = "both"

        def update(self, rule: UpdateRule) -> UpdateRule:
            return replace(rule, decoupled_decay=self.amount)

        def plain(self, sized: Sized) -> Plain:
            return Plain()

    with pytest.raises(AblateError, match=r"^both \(on\), optimizer \(on\) and weight_decay \(on\) have no plain form"):
        program(recipe.with_technique(Both(amount=1.0)))


def test_what_it_was_asked_for_may_be_called_anything(recipe: Recipe) -> None:
    name = 'it\'s """a""" \\name\x07\udcff.toml'
    tree = ast.parse(program(recipe, 7, f"the adopted recipe {name}", f"ablate script --baseline {name}").encode())
    assert "the adopted recipe it's '''a''' \\name\\x07\\udcff.toml" in (ast.get_docstring(tree) or "")


@pytest.mark.exhaustive
def test_a_program_trains_on_a_folder_of_images(recipe: Recipe, tiny_folder: Path, tmp_path: Path) -> None:
    longer = recipe.set("budget.epochs=6").set("budget.train_images=160").without("dropout")
    file = tmp_path / "train.py"
    file.write_text(program(longer, 4), encoding="utf-8")
    command = [sys.executable, str(file), "--data", str(tiny_folder)]
    runs = [
        subprocess.run([*command, *more], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
        for more in ([], [], ["--seed", "5"])
    ]
    assert runs[0] == runs[1] != runs[2]
    *epochs, last = runs[0].splitlines()
    assert [line.partition(":")[0] for line in epochs] == [f"epoch {n}/6" for n in range(1, 7)]
    result = json.loads(last)
    assert (result["recipe"], result["seed"]) == (longer.digest(), 4)
    assert result["test/accuracy"] > 0.2  # chance is 0.1
    assert list(tmp_path.iterdir()) == [file]
