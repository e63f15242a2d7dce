"""How often test images were consulted: as counted run by run in the store."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.reports.reading import consulted, load, stored
from cifar_ablations.reports.reading.consulted import Consulted
from cifar_ablations.reports.wording import answer


def _by_hand(client: Any, digest: str) -> int:
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=5_000)
    tags = {schema.KIND: schema.KIND_TRAINING, schema.DATA_DIGEST: digest}
    return sum(
        tags.items() <= run.data.tags.items()
        and schema.is_ours(run.data.tags)
        and schema.TEST_ACCURACY in run.data.metrics
        for run in runs
    )


@pytest.mark.parametrize("server", [False, True], ids=["database", "interface"])
def test_every_training_with_a_test_accuracy_counts_and_nothing_else(
    written: Any, tmp_path: Path, server: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(written.folder / "mlflow.db", tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client, known = load.connect(uri), load.invocations(written.uri)
    if server:
        monkeypatch.setattr(stored, "database", lambda client: None)
    digest, run_id = written.plan.data.digest, written.run_ids["full recipe", 0]
    found = consulted.of_data(client, digest, known)
    # The planted runs that have not diverged, one trained twice, and one of a seed that the plan does not have.
    assert found.trainings == written.runs["converged"].sum() + 2 == _by_hand(client, digest)
    assert (found.claims, found.plans) == (len(written.plan.claims), 1), "two invocations make the same claims"
    assert consulted.of_data(client, "ffff", known) == Consulted(1, 0, 0)
    assert consulted.of_data(client, "no' such", known) == Consulted(0, 0, 0)

    client.set_tag(run_id, schema.KIND, schema.KIND_TRIAL)
    assert consulted.of_data(client, digest, known).trainings == found.trainings - 1
    client.set_tag(run_id, schema.KIND, schema.KIND_TRAINING)
    client.delete_run(run_id)
    assert consulted.of_data(client, digest, known).trainings == found.trainings - 1 == _by_hand(client, digest)
    stranger = client.create_run("0", tags={schema.KIND: schema.KIND_TRAINING, schema.DATA_DIGEST: digest})
    client.log_metric(stranger.info.run_id, schema.TEST_ACCURACY, 0.5)
    assert consulted.of_data(client, digest, known).trainings == found.trainings - 1 == _by_hand(client, digest)


def test_claims_that_test_images_do_not_decide_are_not_counted(written: Any) -> None:
    (newest, *_) = [one for one in load.invocations(written.uri) if one.digest == written.plan.digest]
    claims = tuple(replace(claim, metric=schema.TRAIN_LOSS) for claim in newest.plan.claims)
    known = [replace(newest, plan=replace(newest.plan, claims=claims))]
    assert consulted.of_data(load.connect(written.uri), newest.data_digest, known)[1:] == (0, 0)


def test_it_is_said_in_a_sentence() -> None:
    meaning = "What is chosen for its test accuracy looks better than it is on other images."
    assert answer.of_test_images("mine", Consulted(84, 13, 2)) == (
        "In this store 84 trainings were measured on the test images of mine, by which 13 claims of 2 plans are "
        f"judged. {meaning}"
    )
    assert answer.of_test_images("mine", Consulted(1, 1, 1)) == (
        "In this store 1 training was measured on the test images of mine, by which 1 claim of 1 plan is judged. "
        f"{meaning}"
    )
    assert answer.of_test_images("mine", Consulted(2, 0, 0)) == (
        f"In this store 2 trainings were measured on the test images of mine. {meaning}"
    )
    assert answer.of_test_images("mine", Consulted(0, 3, 1)) is None
