"""A small plan, frames of planted runs, and a real store holding them, written as `study` writes it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import event

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import (
    ArmRecord,
    ClaimRecord,
    DataRecord,
    EnvironmentRecord,
    GalleryRecord,
    PlanRecord,
    ProfileRecord,
    ProvenanceRecord,
    ReferenceRecord,
    RuleRecord,
)
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store

HOSTILE = "<script>alert('arm')</script>"
EFFECT = 0.06  # planted on test accuracy by "dropout" within the full recipe
EPOCHS = 3
ENVIRONMENT = EnvironmentRecord(engine=1, instructions="AVX2", threads=1, torch="2.8.0")


def _claim(technique, metric, sign, treatment, control, where):
    title = {schema.TEST_ACCURACY: "test accuracy", schema.GENERALISATION_GAP: "the generalisation gap"}[metric]
    return ClaimRecord(
        statement=f"{technique} moves {title} {where}",
        technique=technique,
        metric=metric,
        sign=sign,
        treatment=treatment,
        control=control,
        family=f"{title} {where}",
        source="Author & Author 2014",
    )


def small_plan():
    arms = ["full recipe", "without dropout", f"without {HOSTILE}", "bare recipe", "only dropout"]
    accuracy, gap = schema.TEST_ACCURACY, schema.GENERALISATION_GAP
    return PlanRecord(
        name="techniques",
        question="What is each technique worth, & is 1 < 2?",
        arms=tuple(ArmRecord(name, f"{i:016x}") for i, name in enumerate(arms, start=1)),
        seeds=(0, 1, 2, 3, 4, 5),
        rule=RuleRecord(margin=0.005, test="welch t", correction="weighted holm"),
        claims=(
            _claim("dropout", accuracy, 1, "full recipe", "without dropout", "in the full recipe"),
            _claim("dropout", gap, -1, "full recipe", "without dropout", "in the full recipe"),
            _claim("hostile", accuracy, 1, "full recipe", f"without {HOSTILE}", "in the full recipe"),
            _claim("dropout", accuracy, 1, "only dropout", "bare recipe", "on its own"),
        ),
        references=(ReferenceRecord("full recipe", accuracy, 0.71, "a <b>book</b>"),),
        digest="feedfacefeedface",
        profile=ProfileRecord("quick", "a laptop's answer"),
        budget="5,000 training images, batch 64, 3 epochs",
        model="notebook × 0.25",
        data=DataRecord("cifar10", "aa11bb22cc33dd44", "an archive", classes=tuple(f"class {i}" for i in range(10))),
        titles={"dropout": "dropout", "hostile": HOSTILE},
        command="ablate run techniques --profile quick",
    )


def planted_runs(plan):
    """The frame of `load.runs_of` that the store of `written` must give back."""
    rows = []
    for seed in plan.seeds:
        shared = np.random.default_rng(seed).normal(0, 0.02)
        for k, arm in enumerate(plan.arms):
            if (arm.name, seed) == ("only dropout", 5):  # has not been trained
                continue
            noise = np.random.default_rng([seed, k]).normal(0, 0.006)
            accuracy = round(0.7 + shared + noise - EFFECT * (k == 1) - 0.2 * (k >= 3), 4)
            gap = 0.05 + noise / 2
            diverged = (arm.name, seed) == ("bare recipe", 2)
            rows.append(
                {
                    "arm": arm.name,
                    "seed": seed,
                    "digest": arm.digest,
                    "outcome": schema.DIVERGED if diverged else schema.FINISHED,
                    "converged": not diverged,
                    schema.TEST_ACCURACY: np.nan if diverged else accuracy,
                    schema.TEST_LOSS: np.nan if diverged else 1.0,
                    schema.TRAIN_ACCURACY: np.nan if diverged else accuracy + gap,
                    schema.GENERALISATION_GAP: np.nan if diverged else gap,
                    schema.SECONDS: np.nan if diverged else 8.0,
                    schema.EPOCHS: np.nan if diverged else float(EPOCHS),
                    schema.ENTROPY: np.nan if diverged else 0.9,
                    schema.CALIBRATION_ERROR: np.nan if diverged else 0.05,
                    schema.FIRST_EPOCH_LOSS: np.nan if diverged else 2.0,
                }
            )
    frame = pd.DataFrame(rows)
    order = {arm.name: i for i, arm in enumerate(plan.arms)}
    return frame.sort_values(["arm", "seed"], key=lambda c: c.map(order) if c.name == "arm" else c, ignore_index=True)


def validation_accuracy(accuracy, epoch):
    return accuracy * epoch / EPOCHS


@pytest.fixture
def plan():
    return small_plan()


@pytest.fixture
def runs():
    frame = planted_runs(small_plan())
    return frame.assign(run_id=frame["arm"] + " " + frame["seed"].astype(str))


@dataclass(frozen=True)
class Unmade:
    """In place of a recipe: nothing of it matters but its digest."""

    name: str

    def digest(self):
        return self.name

    def knobs(self):
        return {}


CLOCK = "cifar_ablations.study.store.tracking._now"
"""What says when a run begins and ends."""


class Writer:
    """A store of its own, written as `study` writes it, with runs that began and ended when a test says so."""

    def __init__(self, folder: Path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mlflow's own, on import
            from cifar_ablations.study.store.tracking import Store

        self.folder = put_fresh_store(folder)
        self.store = Store(Home(folder))
        self.uri, self.client = self.store.uri, self.store.client
        self.store.next_number = lambda: 0  # none, as of earlier versions: what counts is when a test says so
        # A store that need not outlive a crash is written in half the time.
        engine = self.client._tracking_client.store.engine
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        engine.dispose()

    def experiment(self, name):
        return self.store.experiment(name, small_plan().data)

    def invoke(self, experiment, plan, started=1_000, gallery=None, **provenance):
        with patch(CLOCK, return_value=started):
            facts = ProvenanceRecord(**provenance)
            run = self.store.open_invocation(experiment, plan, facts, gallery or GalleryRecord())
        self.store.close_invocation(run, failures=0)
        return run

    def train(self, experiment, parent, plan, row, ended=2_000, backend="torch", threads=1):
        from cifar_ablations.study.training.engine import Epoch, Outcome
        from cifar_ablations.study.training.fleet import Member

        outcome, member = row["outcome"], Member(Unmade(row["digest"]), row["seed"])
        here = replace(ENVIRONMENT, backend=backend, threads=threads)
        run = self.store.start(experiment, parent, row["arm"], member, plan, here)
        for epoch in range(1, 2 if outcome == schema.DIVERGED else EPOCHS + 1):
            reached = 0.1 if outcome == schema.DIVERGED else row[schema.TEST_ACCURACY]
            accuracy = validation_accuracy(reached, epoch)
            self.store.epoch(run, Epoch(member, epoch, {schema.VALIDATION_ACCURACY: accuracy}))
        metrics = {name: row[name] for name in schema.ENDINGS} if outcome == schema.FINISHED else {}
        with patch(CLOCK, return_value=ended):
            if outcome == schema.FAILED:
                self.store.fail(run, "ValueError")
            elif outcome == schema.INTERRUPTED:
                self.store.interrupt(run)
            elif outcome:
                self.store.end(run, Outcome(member, outcome, EPOCHS, metrics))
        return run


@dataclass(frozen=True)
class Written:
    uri: str
    folder: Path
    plan: PlanRecord
    runs: pd.DataFrame
    run_ids: dict


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A store with the planted runs in two experiments, and with much that must not be counted."""
    folder = tmp_path_factory.mktemp("store")
    writer, plan = Writer(folder), small_plan()
    frame = planted_runs(plan)
    first, second = writer.experiment("first"), writer.experiment("second")

    # An older invocation asked the same question of fewer seeds, and trained the full recipe.
    older = replace(plan, digest="0123012301230123", seeds=(0, 1, 2))
    old_parent = writer.invoke(first, older, started=1_000, commit="1111111", device="cpu")
    parent = writer.invoke(second, plan, started=5_000, commit="2222222", device="cpu", processor="a & b")
    run_ids = {}
    for row in frame.to_dict("records"):
        old = row["arm"] == "full recipe" and row["seed"] < 3
        home = (first, old_parent) if old else (second, parent)
        place = {"backend": "torch", "threads": 2} if old else {"backend": "kernels"}
        run_ids[row["arm"], row["seed"]] = writer.train(*home, plan, row, ended=2_000, **place)

    # A later repetition, another data set, another seed, a failure and a run in training: none is a result here.
    wrong = frame.iloc[0].to_dict() | {schema.TEST_ACCURACY: 0.99}
    writer.train(second, parent, plan, wrong, ended=9_000)
    writer.train(second, parent, replace(plan, data=replace(plan.data, digest="ffff")), wrong, ended=1)
    writer.train(second, parent, plan, wrong | {"seed": 77}, ended=1)
    missing = wrong | {"arm": "only dropout", "digest": plan.arms[4].digest, "seed": 5}
    writer.train(second, parent, plan, missing | {"outcome": schema.FAILED}, ended=3_000)
    writer.train(second, parent, plan, missing | {"outcome": ""})

    drawn = replace(plan.data, name="../drawn <shapes>", digest="5555", stand_in=True)
    stand_in = replace(
        plan, name="notebook", claims=(), arms=plan.arms[:1], seeds=(0, 1, 2), data=drawn, overrides=("dropout.p=0.3",)
    )
    stand_parent = writer.invoke(first, stand_in, started=3_000)
    for row in frame[(frame["arm"] == "full recipe") & (frame["seed"] < 3)].to_dict("records"):
        writer.train(first, stand_parent, stand_in, row)
    frame["run_id"] = [run_ids[key] for key in zip(frame["arm"], frame["seed"], strict=True)]
    return Written(writer.uri, folder, plan, frame, run_ids)
