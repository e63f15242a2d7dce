"""`--keep-weights` on the command line: what it costs, what it leaves, and what is said of what has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store
from tests.study.commands.test_app import TINY, _ablate

pytestmark = pytest.mark.exhaustive

RUN = ["levels/input_scaling", "--seeds", "1", "--workers", "1", "--backend", "torch", *TINY]


@pytest.fixture
def home(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    put_fresh_store(tmp_path / "out")
    return Home()


def test_a_plan_says_what_they_take_and_a_run_where_they_are(home: Home) -> None:
    for choice in ("best", "all"):
        said = _ablate("plan", *RUN, "--keep-weights", choice).output
        assert "Weights to keep: 3 files, 75.7 kB.\n" in said
        assert "no weights" not in said
    first = _ablate("run", *RUN, "--keep-weights", "best")
    assert first.exit_code == 0, first.output
    assert "Weights: 3 runs of this plan with weights/model.safetensors among the artifacts in" in first.output
    assert "--keep-weights best" in first.output.partition("Next:")[2] or "Next:" not in first.output
    assert len(list(home.artifacts.rglob("*.safetensors"))) == 3
    again = _ablate("run", *RUN, "--keep-weights", "best").output
    assert "no weights" not in again


def test_trainings_without_any_are_named_and_not_done_again(home: Home) -> None:
    assert _ablate("run", *RUN).exit_code == 0
    for choice in ("best", "all"):
        said = _ablate("run", *RUN, "--keep-weights", choice)
        sentence = "3 trainings of this plan that have ended already have no weights, and nothing is trained twice."
        assert sentence in said.output
        assert "--first-seed 1." in said.output
        assert "Weights to keep: 0 files" in said.output
        assert not list(home.artifacts.rglob("*.safetensors"))


def test_an_unknown_choice_and_no_validation_images_are_sentences(home: Home) -> None:
    said = _ablate("run", *RUN, "--keep-weights", "bets")
    assert (said.exit_code, "did you mean best" in said.output) == (2, True)
    said = _ablate("plan", *RUN, "--set", "budget.validation_images=0", "--keep-weights", "best")
    assert (said.exit_code, "keep all weights" in said.output) == (2, True)
