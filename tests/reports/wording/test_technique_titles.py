"""What reports call a technique, in records of today and in those that called it alike at every level."""

from __future__ import annotations

import sys
from dataclasses import replace
from subprocess import run
from typing import Any

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.record import DataRecord, PlanRecord
from cifar_ablations.reports.wording import phrases

OLD_TITLES = {"optimizer": "Adam", "initialisation": "Kaiming initialisation", "dropout": "dropout", "mixup": "mixup"}


def _record(*settings: str) -> PlanRecord:
    size = profile("quick")
    baseline = size.apply(catalog.notebook_recipe())
    for setting in settings:
        baseline = baseline.set(setting)
    return catalog.make_plan("techniques", baseline, size, (0, 1)).record(size, DataRecord("images", "d" * 16))


def _old(*settings: str) -> PlanRecord:
    """The record as 0.1.0 wrote it."""
    return replace(_record(*settings), titles=OLD_TITLES)


@pytest.mark.parametrize(
    ("settings", "technique", "title"),
    [
        ((), "optimizer", "Adam"),
        (("optimizer=rmsprop",), "optimizer", "RMSProp"),
        (("optimizer=rmsprop", "optimizer.rate=0.0021"), "optimizer", "RMSProp (rate 0.0021)"),
        (("optimizer.rate=0.0021",), "optimizer", "Adam (rate 0.0021)"),
        (("initialisation=orthogonal",), "initialisation", "orthogonal initialisation"),
        (("mixup=off",), "mixup", "mixup"),
        ((), "everything", "everything together"),
    ],
)
def test_what_was_trained_is_called_by_its_name(settings: tuple[str, ...], technique: str, title: str) -> None:
    assert phrases.technique_title(_record(*settings), technique) == title
    assert phrases.technique_title(_old(*settings), technique) == title


@pytest.mark.parametrize(
    "knobs", [{"optimizer.kind": "adagrad"}, {"optimizer.kind": "rmsprop", "optimizer.decay": 1.0}], ids=str
)
def test_what_is_not_known_any_more_keeps_its_recorded_title(knobs: dict[str, Any]) -> None:
    plan = _old("optimizer=rmsprop")
    first = replace(plan.arms[0], knobs=knobs)
    assert phrases.technique_title(replace(plan, arms=(first, *plan.arms[1:])), "optimizer") == "Adam"


@pytest.mark.exhaustive
def test_a_title_brings_no_torch() -> None:
    """Not for the notebook's recipe, nor for an optimizer; a report is to be written without it."""
    code = """
import sys
from cifar_ablations.ablations.record import ArmRecord, PlanRecord, DataRecord, ProfileRecord, RuleRecord
from cifar_ablations.reports.wording import phrases
arm = ArmRecord("full recipe", "", {"optimizer.kind": "rmsprop", "optimizer.rate": 0.001, "optimizer.second": 0.99},
                {"optimizer": "rmsprop"})
titles = {"optimizer": "Adam", "dropout": "dropout"}
plan = PlanRecord("p", "?", ProfileRecord("quick"), DataRecord("d", ""), titles=titles, arms=(arm,), seeds=(0,),
                  rule=RuleRecord(0.01))
print(phrases.technique_title(plan, "optimizer"), phrases.technique_title(plan, "dropout"), "torch" in sys.modules)
"""
    done = run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["RMSProp", "dropout", "False"]
