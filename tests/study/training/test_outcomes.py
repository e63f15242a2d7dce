"""Outcomes: which numbers and arrays there are, for each way in which a training ends."""

from __future__ import annotations

import numpy as np
import torch

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.study.training.engine import Outcome, train
from cifar_ablations.study.training.fleet import Member

CPU = torch.device("cpu")
LENGTH = {schema.SECONDS, schema.EPOCHS}


def test_what_was_looked_at_is_kept_with_the_outcome(recipe: Recipe, tiny_data) -> None:
    events: list = []
    train([Member(recipe, 0)], tiny_data, CPU, events.append)
    outcome = events[-1]
    assert isinstance(outcome, Outcome)
    details = outcome.details
    assert details["by_layer"].shape == (recipe.budget.epochs, 3, len(details["layers"]))
    assert details["confusion"].sum() == recipe.budget.test_images
    assert np.trace(details["confusion"]) == details["correct"].sum()
    assert len(details["initial/variance"]) == len(details["final/variance"]) == 5
    assert not any(values.dtype == object for values in details.values())
    assert outcome.metrics[schema.FIRST_EPOCH_LOSS] == events[0].metrics[schema.TRAIN_LOSS]


def test_all_metrics_of_an_ending_are_there(recipe: Recipe, tiny_data) -> None:
    """Names that the engine tells and names that are computed: together, what the store is said to hold."""
    assert set(_outcome(recipe, tiny_data).metrics) == {*schema.ENDINGS, *schema.STATES}


def test_one_that_is_not_tested_has_its_length_alone(recipe: Recipe, tiny_data) -> None:
    outcome = _outcome(recipe, tiny_data, evaluate_test=False)
    assert (outcome.outcome, set(outcome.metrics), outcome.details) == (schema.FINISHED, LENGTH, {})
    assert outcome.metrics[schema.EPOCHS] == outcome.epochs == recipe.budget.epochs


def test_one_that_diverged_has_its_length_and_its_first_state(recipe: Recipe, tiny_data) -> None:
    wild = recipe.with_technique(Optimizer(rate=100.0)).set("weight_decay.strength=1")
    outcome = _outcome(wild, tiny_data)
    first = {name for name in schema.STATES if name.startswith(schema.INITIAL)}
    assert (outcome.outcome, set(outcome.metrics)) == (schema.DIVERGED, LENGTH | first)
    assert "by_layer" in outcome.details
    assert "correct" not in outcome.details


def _outcome(recipe: Recipe, data, **how: bool) -> Outcome:
    events: list = []
    train([Member(recipe, 0)], data, CPU, events.append, **how)
    return events[-1]
