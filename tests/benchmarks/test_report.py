"""What the benchmark of reports plants is what a page reads: a field under another name would leave it empty."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report
from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import RunRecord, from_tags
from cifar_ablations.reports.reading import details, load
from tests.fresh_store import put_fresh_store


def test_planted_runs_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/else.db")
    whole = report.planned(1)
    plan = replace(whole, arms=whole.arms[:3], claims=whole.claims[:1])
    uri = report.plant(put_fresh_store(tmp_path / "store"), plan)
    (invocation,) = load.invocations(uri)
    assert invocation.plan == plan
    assert invocation.provenance.device == "cpu"
    client = load.connect(uri)
    runs = load.runs_of(client, plan)
    assert list(runs["arm"]) == [arm.name for arm in plan.arms]
    assert set(runs["parent_run_id"]) == {invocation.run_id}
    assert (runs["ended"] > 1_000 * invocation.started.timestamp()).all()
    assert not runs[load.METRIC_COLUMNS].isna().any(axis=None)
    assert set(details.answers(details.arrays_of(client, runs, plan))) == set(runs["run_id"])
    stored = client.get_run(runs["run_id"].iloc[0])
    about = from_tags(RunRecord, stored.data.tags, "", "a run")
    assert about == RunRecord(
        digest=plan.arms[0].digest,
        seed=0,
        data_digest=plan.data.digest,
        data=plan.data.name,
        stand_in=True,
        plan=plan.name,
        profile=plan.profile.name,
        arm=plan.arms[0].name,
        outcome=schema.FINISHED,
        parent=invocation.run_id,
    )
    assert stored.data.params == {name: str(value) for name, value in plan.arms[0].knobs.items()}
