"""A small plan, frames of planted runs, and a real store holding them, written as `study` writes it."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from tests.fresh_store import put_fresh_store

HOSTILE = "<script>alert('arm')</script>"
EFFECT = 0.06  # planted on test accuracy by "dropout" within the full recipe
EPOCHS = 3


def _claim(technique, metric, sign, treatment, control, where):
    title = {schema.TEST_ACCURACY: "test accuracy", schema.GENERALISATION_GAP: "the generalisation gap"}[metric]
    return {
        "statement": f"{technique} moves {title} {where}", "technique": technique, "metric": metric, "sign": sign,
        "treatment": treatment, "control": control, "family": f"{title} {where}", "source": "Author & Author 2014",
    }  # fmt: skip


def small_plan():
    arms = ["full recipe", "without dropout", f"without {HOSTILE}", "bare recipe", "only dropout"]
    accuracy, gap = schema.TEST_ACCURACY, schema.GENERALISATION_GAP
    return {
        "name": "techniques",
        "question": "What is each technique worth, & is 1 < 2?",
        "arms": [
            {"name": name, "digest": f"{i:016x}", "knobs": {}, "levels": {}} for i, name in enumerate(arms, start=1)
        ],
        "seeds": [0, 1, 2, 3, 4, 5],
        "rule": {"margin": 0.005, "alpha": 0.05, "test": "paired t", "correction": "holm", "confirmatory_seeds": 10},
        "claims": [
            _claim("dropout", accuracy, 1, "full recipe", "without dropout", "in the full recipe"),
            _claim("dropout", gap, -1, "full recipe", "without dropout", "in the full recipe"),
            _claim("hostile", accuracy, 1, "full recipe", f"without {HOSTILE}", "in the full recipe"),
            _claim("dropout", accuracy, 1, "only dropout", "bare recipe", "on its own"),
        ],
        "references": [{"arm": "full recipe", "metric": accuracy, "value": 0.71, "source": "a <b>book</b>"}],
        "digest": "feedfacefeedface",
        "profile": {"name": "quick", "summary": "a laptop's answer"},
        "budget": "5,000 training images, batch 64, 3 epochs",
        "model": "notebook × 0.25",
        "data": {"name": "cifar10", "digest": "aa11bb22cc33dd44", "source": "an archive", "stand_in": False,
                 "classes": [f"class {i}" for i in range(10)]},
        "titles": {"dropout": "dropout", "hostile": HOSTILE},
        "overrides": [],
        "command": "ablate run techniques --profile quick",
    }  # fmt: skip


def planted_runs(plan):
    """The frame of `load.runs_of` that the store of `written` must give back."""
    rows = []
    for seed in plan["seeds"]:
        shared = np.random.default_rng(seed).normal(0, 0.02)
        for k, arm in enumerate(plan["arms"]):
            if (arm["name"], seed) == ("only dropout", 5):  # has not been trained
                continue
            noise = np.random.default_rng([seed, k]).normal(0, 0.006)
            accuracy = round(0.7 + shared + noise - EFFECT * (k == 1) - 0.2 * (k >= 3), 4)
            gap = 0.05 + noise / 2
            diverged = (arm["name"], seed) == ("bare recipe", 2)
            rows.append(
                {
                    "arm": arm["name"],
                    "seed": seed,
                    "digest": arm["digest"],
                    "outcome": schema.DIVERGED if diverged else schema.FINISHED,
                    "converged": not diverged,
                    schema.TEST_ACCURACY: 0.1 if diverged else accuracy,
                    schema.TEST_LOSS: np.nan if diverged else 1.0,
                    schema.TRAIN_ACCURACY: 0.1 if diverged else accuracy + gap,
                    schema.GENERALISATION_GAP: 0.0 if diverged else gap,
                    schema.SECONDS: np.nan if diverged else 8.0,
                    schema.EPOCHS: np.nan if diverged else float(EPOCHS),
                    schema.ENTROPY: np.nan if diverged else 0.9,
                    schema.CALIBRATION_ERROR: np.nan if diverged else 0.05,
                    schema.FIRST_EPOCH_LOSS: np.nan if diverged else 2.0,
                }
            )
    frame = pd.DataFrame(rows)
    order = {arm["name"]: i for i, arm in enumerate(plan["arms"])}
    return frame.sort_values(["arm", "seed"], key=lambda c: c.map(order) if c.name == "arm" else c, ignore_index=True)


def validation_accuracy(accuracy, epoch):
    return accuracy * epoch / EPOCHS


@pytest.fixture
def plan():
    return small_plan()


@pytest.fixture
def runs():
    return planted_runs(small_plan())


class Writer:
    """Writes to a store of its own what `study.store.tracking` would."""

    def __init__(self, folder: Path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mlflow's own, on import
            from mlflow.tracking import MlflowClient

            put_fresh_store(folder)
            self.folder, self.uri = folder, f"sqlite:///{folder / 'mlflow.db'}"
            self.client = MlflowClient(tracking_uri=self.uri)

    def experiment(self, name):
        return self.client.create_experiment(name, artifact_location=(self.folder / "artifacts" / name).as_uri())

    def invoke(self, experiment, plan, started=1_000, **provenance):
        tags = self._tags(plan) | {schema.KIND: schema.KIND_PLAN, schema.PLAN_DIGEST: plan["digest"]}
        tags |= {schema.PROVENANCE + key: value for key, value in provenance.items()}
        run = self.client.create_run(experiment, start_time=started, tags=tags, run_name="parent").info.run_id
        self.client.log_dict(run, plan, schema.PLAN_FILE)
        self.client.set_terminated(run, "FINISHED")
        return run

    def train(self, experiment, parent, plan, row, ended=2_000):
        from mlflow.entities import Metric, RunTag

        tags = self._tags(plan) | {
            schema.KIND: schema.KIND_TRAINING, "mlflow.parentRunId": parent, schema.ARM: row["arm"],
            schema.SEED: str(row["seed"]), schema.DIGEST: row["digest"],
        }  # fmt: skip
        run = self.client.create_run(experiment, tags=tags, run_name=f"{row['arm']}, seed {row['seed']}").info.run_id
        epochs = 1 if row["outcome"] == schema.DIVERGED else EPOCHS
        metrics = [
            Metric(schema.VALIDATION_ACCURACY, validation_accuracy(row[schema.TEST_ACCURACY], e), 0, e)
            for e in range(1, epochs + 1)
        ]
        if row["outcome"] == schema.FINISHED:
            metrics += [Metric(name, row[name], 0, EPOCHS) for name in schema.ENDINGS]
        outcome = [RunTag(schema.OUTCOME, row["outcome"])] if row["outcome"] else []
        self.client.log_batch(run, metrics=metrics, tags=outcome)
        if row["outcome"]:
            status = {schema.FAILED: "FAILED", schema.INTERRUPTED: "KILLED"}.get(row["outcome"], "FINISHED")
            self.client.set_terminated(run, status, end_time=ended)
        return run

    @staticmethod
    def _tags(plan):
        data = plan["data"]
        return {
            schema.PLAN: plan["name"], schema.PROFILE: plan["profile"]["name"], schema.DATA: data["name"],
            schema.DATA_DIGEST: data["digest"], schema.STAND_IN: str(data["stand_in"]).lower(),
        }  # fmt: skip


@dataclass(frozen=True)
class Written:
    uri: str
    folder: Path
    plan: dict
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
    older = copy.deepcopy(plan) | {"digest": "0123012301230123", "seeds": [0, 1, 2]}
    old_parent = writer.invoke(first, older, started=1_000, commit="1111111", device="cpu")
    parent = writer.invoke(second, plan, started=5_000, commit="2222222", device="cpu", host="a & b")
    run_ids = {}
    for row in frame.to_dict("records"):
        old = row["arm"] == "full recipe" and row["seed"] < 3
        home = (first, old_parent) if old else (second, parent)
        run_ids[row["arm"], row["seed"]] = writer.train(*home, plan, row, ended=2_000)

    # A later repetition, another data set, another seed, a failure and a run in training: none is a result here.
    wrong = frame.iloc[0].to_dict() | {schema.TEST_ACCURACY: 0.99}
    writer.train(second, parent, plan, wrong, ended=9_000)
    writer.train(second, parent, plan | {"data": plan["data"] | {"digest": "ffff"}}, wrong, ended=1)
    writer.train(second, parent, plan, wrong | {"seed": 77}, ended=1)
    missing = wrong | {"arm": "only dropout", "digest": plan["arms"][4]["digest"], "seed": 5}
    writer.train(second, parent, plan, missing | {"outcome": schema.FAILED}, ended=3_000)
    writer.train(second, parent, plan, missing | {"outcome": ""})

    stand_in = copy.deepcopy(plan) | {"name": "notebook", "claims": [], "arms": plan["arms"][:1], "seeds": [0, 1, 2]}
    stand_in["data"] = plan["data"] | {"name": "../drawn <shapes>", "digest": "5555", "stand_in": True}
    stand_in["overrides"] = ["dropout.p=0.3"]
    stand_parent = writer.invoke(first, stand_in, started=3_000)
    for row in frame[(frame["arm"] == "full recipe") & (frame["seed"] < 3)].to_dict("records"):
        writer.train(first, stand_parent, stand_in, row)
    return Written(writer.uri, folder, plan, frame, run_ids)
