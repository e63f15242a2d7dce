"""A training whose tags were edited by hand is left out, and said; the others count."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.study.commands import app
from tests.reports.conftest import ENVIRONMENT, Writer, planted_runs, small_plan


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        (
            schema.SEED,
            "zero",
            "the tag seed input should be a valid integer, unable to parse string as an integer, not 'zero'",
        ),
        (schema.SEED, None, "the tag seed is missing"),
        (schema.DIGEST, None, "the tag digest is missing"),
        (
            schema.STAND_IN,
            "perhaps",
            "the tag stand_in input should be a valid boolean, unable to interpret input, not 'perhaps'",
        ),
    ],
)
def test_an_edited_training_does_not_stop_the_others(tmp_path, tag: str, value: str | None, said: str) -> None:
    writer, plan = Writer(tmp_path), small_plan()
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan)
    one, other = planted_runs(plan).iloc[:2].to_dict("records")
    edited, _ = (writer.train(experiment, parent, plan, row) for row in (one, other))
    both = {(row["digest"], row["seed"]) for row in (one, other)}
    heard: list[str] = []
    assert writer.store.results(plan.data, ENVIRONMENT, heard.append) == both
    assert heard == []
    if value is None:
        writer.client.delete_tag(edited, tag)
    else:
        writer.client.set_tag(edited, tag, value)
    assert writer.store.results(plan.data, ENVIRONMENT, heard.append) == {(other["digest"], other["seed"])}
    assert heard == [f"Left out: run {edited}: {said}."]
    assert writer.store.results(plan.data, ENVIRONMENT) == {(other["digest"], other["seed"])}


def test_the_commands_say_it(tmp_path, tiny_folder, tiny_data, monkeypatch) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writer, plan = Writer(tmp_path), small_plan()
    plan = replace(plan, data=replace(plan.data, digest=tiny_data.digest))
    experiment = writer.experiment("first")
    edited = writer.train(experiment, writer.invoke(experiment, plan), plan, planted_runs(plan).iloc[0].to_dict())
    writer.client.set_tag(edited, schema.SEED, "zero")
    settings = ("model.width=0.0625", "budget.train_images=80", "budget.validation_images=40", "budget.epochs=1")
    words = ["plan", "notebook", "--seeds", "1", *(f"--set={setting}" for setting in settings)]
    shown = CliRunner().invoke(app.app, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert f"Left out: run {edited}: the tag seed" in shown.output
