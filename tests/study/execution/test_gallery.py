"""The gallery shows what the steps of a training get, and nothing else."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.plan import Arm
from cifar_ablations.study.execution import gallery
from cifar_ablations.study.training.engine import Training, split
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.step import scales

CPU = torch.device("cpu")


def at(recipe, **levels):
    for name, level in levels.items():
        recipe = recipe.with_technique(catalog.techniques()[name].at(level))
    return recipe


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))


@pytest.fixture
def inputs_seen():
    """Trains members and returns what their networks were given, [steps, B, 3, H, W] as a list, for the first one."""

    def train(member, data, epochs):
        training = Training([member], data, CPU)
        taken = []
        network = training.fleet.networks[0]
        network.register_forward_pre_hook(
            lambda module, inputs: taken.append(inputs[0].clone()) if module.training else None
        )
        for _ in range(epochs):
            training.run_epoch()
        return taken

    return train


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"augmentation": "off"},
        {"augmentation": "colour"},
        {"augmentation": "alternating_flip"},
        {"mixup": "strong"},
        {"cutmix": "on"},
        {"input_scaling": "pixels"},
        {"shuffling": "sorted"},
    ],
)
def test_gallery_shows_what_the_network_is_given(settings, inputs_seen, tiny_data, recipe):
    member = Member(at(recipe, **settings), 3)
    budget = member.recipe.sized.budget
    taken = inputs_seen(member, tiny_data, 2)
    mean, std = scales([member], tiny_data, CPU)[member]
    index = int(split(len(tiny_data.train_labels), member)[0][0])
    for epoch in range(2):
        shown = gallery.seen(member, tiny_data, index, epoch).float()
        of_epoch = taken[epoch * budget.steps_per_epoch : (epoch + 1) * budget.steps_per_epoch]
        given = torch.cat(of_epoch) * std + mean
        # Once an epoch the image is visited, and what is shown is one of the inputs, to the rounding of a pixel.
        assert len(given) == budget.train_images
        assert ((given * 255 - shown).abs().amax(dim=(1, 2, 3)) <= 0.51).sum() >= 1


def test_pipelines_are_told_apart_by_what_they_show(tiny_data, recipe):
    arms = [
        Arm("full", recipe),
        Arm("without dropout", at(recipe, dropout="off")),
        Arm("smoothed", at(recipe, label_smoothing="on")),
        Arm("bare", at(recipe, augmentation="off")),
    ]
    found = gallery.of_arms(arms, 0, tiny_data)
    shown = {picture.arms: picture.pipeline for picture in found.images}
    assert shown == {("full", "without dropout", "smoothed"): "augmentation", ("bare",): ""}
    assert {picture.subject for picture in found.images} == {0, 1, 2}, "smoothing labels is no pipeline of its own"
    as_is = [pixels(p.png) for p in found.images if p.arms == ("bare",) and p.subject == 0]
    assert len(as_is) > 2
    assert all(np.array_equal(image, as_is[0]) for image in as_is)
    changed = [pixels(p.png) for p in found.images if p.arms != ("bare",) and p.subject == 0]
    assert np.array_equal(changed[0], as_is[0])
    assert not any(np.array_equal(image, as_is[0]) for image in changed[1:3])
    index = split(len(tiny_data.train_labels), Member(arms[0].recipe, 0))[0][0]
    assert np.array_equal(as_is[0], tiny_data.train_images[index].permute(1, 2, 0).numpy())


def test_an_order_may_leave_an_image_out(tiny_data, recipe, monkeypatch):
    member = Member(recipe, 0)
    index = int(split(len(tiny_data.train_labels), member)[0][0])

    def without(member, images, labels, epoch):
        return images.where(images != index, images[1])

    assert gallery.seen(member, tiny_data, index, 0) is not None
    monkeypatch.setattr(gallery, "order", without)
    assert gallery.seen(member, tiny_data, index, 0) is None


def test_a_pipeline_names_what_is_changed(recipe):
    assert gallery.pipeline(recipe) == "augmentation"
    assert gallery.pipeline(recipe.set("augmentation.padding=2")) == "augmentation (padding 2)"
    assert gallery.pipeline(at(recipe, augmentation="off", mixup="on", label_smoothing="on")) == "mixup"
    assert gallery.pipeline(at(recipe, augmentation="off")) == ""
