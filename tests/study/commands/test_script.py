"""`ablate script`: standard output is a whole program and nothing else; what cannot be one is a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.adopted import adopted_from
from cifar_ablations.ablations.plain.program import program
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.record import AdoptionRecord
from cifar_ablations.study.commands import app
from cifar_ablations.study.store.home import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    return Home()


def _script(*words: str):
    return CliRunner().invoke(app.app, ["script", *words], catch_exceptions=False)


def test_it_prints_the_recipe_that_a_run_would_train(home: Home) -> None:
    done = _script("--profile", "smoke", "--set", "dropout.p=0.3", "--without", "schedule", "--seed", "7")
    assert done.exit_code == 0, done.stderr
    recipe = PROFILES["smoke"].apply(catalog.notebook_recipe()).set("dropout.p=0.3").without("schedule")
    called = "the notebook's recipe with dropout.p=0.3, without schedule"
    command = "ablate script --profile smoke --set dropout.p=0.3 --without schedule --seed 7"
    assert done.stdout == program(recipe, 7, called, command)
    assert "default=7)" in done.stdout
    assert done.stderr == ""
    assert not home.folder.exists(), "nothing is written"


def test_an_adopted_recipe_is_written_by_its_name(home: Home) -> None:
    home.recipes.mkdir(parents=True)
    recipe = catalog.notebook_recipe().set("optimizer=rmsprop")
    (home.recipes / "mine.toml").write_text(adopted_from("mine", recipe, {}, AdoptionRecord()).as_toml())
    done = _script("--profile", "quick", "--baseline", "mine")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith('"""Train the adopted recipe mine.\n')
    assert PROFILES["quick"].apply(recipe).digest() in done.stdout
    assert "torch.optim.RMSprop(" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "optimizer=adam_uncorrected"], "optimizer (adam_uncorrected) has no plain form: torch.optim has no"),
        (["--set", "model.name=mine:factory"], "model.name=mine:factory has no plain form"),
        (["--set", "early_stopping=on", "--set", "budget.validation_images=0"], "early_stopping (on) has no plain"),
        (["--set", "dropuot=on"], "--set dropuot=on: no object 'dropuot'; did you mean dropout?"),
        (["--without", "dropuot"], "--without dropuot: no technique 'dropuot'; did you mean dropout?"),
        (["--baseline", "nobody"], "no recipe 'nobody', and none has been adopted yet"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--profile", "smok"], "no profile 'smok'; did you mean smoke?"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2_and_no_half_of_a_program(home: Home, words: list[str], said: str) -> None:
    done = _script("--profile", "smoke", *words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"ablate: {said}")
    assert done.stderr.count("\n") == 1


@pytest.mark.exhaustive
def test_the_program_is_in_the_encoding_of_python_whatever_the_terminals(home: Home, tmp_path: Path) -> None:
    """The name of a recipe may hold any sign."""
    home.recipes.mkdir(parents=True)
    adopted = adopted_from("größer", catalog.notebook_recipe(), {}, AdoptionRecord())
    (home.recipes / "größer.toml").write_text(adopted.as_toml(), encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = "from cifar_ablations.study.commands.app import main; main()"
    words = ["script", "--profile", "smoke", "--baseline", str(home.recipes / "größer.toml")]
    done = subprocess.run([sys.executable, "-c", command, *words], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "größer" in done.stdout.decode("utf-8")
    compile(done.stdout, "train.py", "exec")
