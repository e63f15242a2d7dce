"""What every technique must satisfy; a new file in the folder is tested by being there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields

import pytest
import torch

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.metrics import METRICS
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import Technique
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.training.engine import Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.randomness import StepDraws

CPU = torch.device("cpu")
EVERY = pytest.mark.parametrize("cls", catalog.techniques().values(), ids=str)


@EVERY
def test_it_says_what_it_is(cls: type[Technique]) -> None:
    assert cls.title
    assert "notebook" in cls.source, "where the notebook speaks of it"
    assert "off" in cls.levels
    assert cls.notebook in cls.levels
    for name, about in cls.knobs().items():
        assert about.doc, name
    for expectation in cls.expectations:
        assert expectation.metric in (*schema.CURVES, *schema.ENDINGS)
        assert expectation.sign in (-1, 1)
        assert expectation.source


@EVERY
def test_it_is_frozen(cls: type[Technique]) -> None:
    technique = cls.at("off")
    name = fields(technique)[0].name  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        setattr(technique, name, None)
    assert hash(technique) == hash(cls.at("off"))


@EVERY
def test_levels_and_both_ends_of_every_search_range_construct(cls: type[Technique]) -> None:
    for level in cls.levels:
        assert cls.at(level).level == level
    for name, about in cls.knobs().items():
        for end in about.search or ():
            whole = isinstance(getattr(cls.at("off"), name), int)
            cls(**{name: int(end) if whole else end})


@EVERY
def test_what_shows_why_is_a_known_metric(cls: type[Technique]) -> None:
    assert set(cls.mechanism) <= set(METRICS)
    assert cls.mechanism, "what would a reader look at to see why it works?"


@EVERY
def test_hooks_do_not_change_their_inputs(cls: type[Technique]) -> None:
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    before = images.clone()
    rule = UpdateRule()
    for level in cls.levels:
        technique = cls.at(level)
        changed = technique.augment(images, StepDraws.named(CPU, 0, "test"))
        assert changed.shape == images.shape
        assert changed.dtype == torch.uint8
        technique.update(rule)
        inputs, targets = images.float(), torch.eye(10)[:8]
        mixed, labels = technique.mix(inputs, targets, StepDraws.named(CPU, 0, "test"))
        assert mixed.shape == inputs.shape
        assert labels.shape == targets.shape
        assert torch.equal(inputs, images.float())
        assert torch.equal(targets, torch.eye(10)[:8])
    assert torch.equal(images, before)
    assert rule == UpdateRule()


Trained = Callable[[Recipe], list[dict[str, float]]]


@pytest.fixture(scope="module")
def known(tiny_data) -> Trained:
    """What a recipe's training reported; each is trained once, and most techniques are off in most recipes."""
    return functools.cache(lambda recipe: _trained(recipe, tiny_data))


def _trained(recipe: Recipe, data) -> list[dict[str, float]]:
    reported: list[Epoch | Outcome] = []
    train([Member(recipe, 3)], data, CPU, reported.append)
    ignored = {schema.SECONDS, schema.IMAGES_PER_SECOND}
    return [{k: v for k, v in event.metrics.items() if k not in ignored} for event in reported]


@EVERY
def test_at_off_a_run_is_bitwise_the_run_without_it(
    cls: type[Technique], recipe: Recipe, known: Trained, tiny_data
) -> None:
    at_off = recipe.without(cls.name)
    absent = Recipe(recipe.model, recipe.budget, tuple(t for t in recipe.techniques if t.name != cls.name))
    assert at_off != absent
    assert known(at_off) == _trained(absent, tiny_data)


@EVERY
def test_every_level_trains_deterministically_and_does_something(
    cls: type[Technique], recipe: Recipe, known: Trained, tiny_data
) -> None:
    off = known(recipe.without(cls.name))
    for level in set(cls.levels) - {"off"}:
        first = known(recipe.with_technique(cls.at(level)))
        assert first == _trained(recipe.with_technique(cls.at(level)), tiny_data)
        assert first != off, f"{cls.name} at {level} changes nothing"
