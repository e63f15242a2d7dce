"""The examples: each is found, keeps to the contracts, and runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import cifar_ablations as ca
from cifar_ablations.ablations import catalog, command_plan, extensions
from cifar_ablations.ablations.budget import Network
from cifar_ablations.reports.reading import command_plans, load
from cifar_ablations.study.commands import app
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training import model
from cifar_ablations.study.training.randomness import StepDraws
from tests.conftest import TINY
from tests.fresh_store import put_fresh_store

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
LAB = EXAMPLES / "my_lab"
SMALL = ("budget.epochs=2", "budget.train_images=80", "budget.validation_images=40", "budget.test_images=60")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ABLATE_HOME", str(put_fresh_store(tmp_path / "out")))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield tmp_path / "out"
    extensions.name()


@pytest.mark.exhaustive
def test_the_examples_keep_to_the_contracts() -> None:
    done = CliRunner().invoke(app.app, ["check-extension", str(LAB)])
    assert done.exit_code == 0, done.stdout
    for path in LAB.glob("*/*.py"):
        assert (
            f"ok      {path.parent.name}/{path.stem.replace('_', '-' if path.parent.name == 'plans' else '_')}: "
            in done.stdout
        )


@pytest.mark.parametrize("network", ["notebook", "small_mixer"])
def test_the_plan_of_the_examples_is_answered(network: str, home: Path) -> None:
    ca.use_extension(LAB)
    settings = [*SMALL, f"model.name={network}", "model.width=0.0625"]
    result = ca.run("input-noise", seeds=1, profile="smoke", settings=settings, workers=1, quiet=True)
    assert len(result.runs) == 4
    assert result.runs["confidence"].between(0.1, 1.0).all(), "their metric is measured"
    used = result.runs.set_index("arm")["extension"]
    (extension,) = extensions.known()
    with_noise = used.index.str.endswith("with noise")
    assert set(used[with_noise]) == {extension.code}
    assert set(used[~with_noise]) == ({load.NOT_SAID} if network == "notebook" else {extension.code})
    assert "Does noise on the inputs help" in result.to_html()
    again = ca.run("input-noise", seeds=1, profile="smoke", settings=settings, workers=1, quiet=True)
    assert again.runs["run_id"].to_list() == result.runs["run_id"].to_list()


def test_noise_has_the_deviation_that_is_asked_for(tiny_data: Dataset) -> None:
    ca.use_extension(LAB)
    technique = catalog.techniques()["input_noise"].at("strong")
    images, targets = torch.zeros(64, 3, 32, 32), torch.eye(10)[torch.arange(64) % 10]
    noise, labels = technique.mix(images, targets, StepDraws.named(torch.device("cpu"), 0, "noise"))
    assert labels is targets
    assert noise.mean().item() == pytest.approx(0, abs=0.005)
    assert noise.std().item() == pytest.approx(0.5, rel=0.01)
    assert (noise.abs() > 1.0).float().mean().item() == pytest.approx(0.0455, abs=0.003), "a share of normal numbers"


def test_the_network_of_the_examples_mixes_patches_and_channels() -> None:
    ca.use_extension(LAB)
    network = model.build(Network("small_mixer", 0.25), 10).eval()
    assert any(isinstance(m, model.DropoutSite) for m in network.modules())
    assert sum(isinstance(m, torch.nn.Conv2d) for m in network.modules()) == 1
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    network.blocks[0](network.patches(images).flatten(2).mT)[0, 0, 0].backward()  # type: ignore[operator]
    assert images.grad is not None
    assert (images.grad != 0).flatten(2).any(dim=2).all(), "one channel of one patch depends on every colour"
    assert (images.grad != 0).any(dim=1)[0, ::4, ::4].all(), "and on every patch"


@pytest.mark.exhaustive
def test_what_python_reads_in_the_readme_works(home: Path) -> None:
    (block,) = re.findall(r"^    import cifar.*?(?=\n\n)", (EXAMPLES / "README.md").read_text(), re.M | re.S)
    code = "\n".join(line.strip() for line in block.splitlines()).replace('"my_lab"', repr(str(LAB)))
    code = code.replace("metrics=[", "profile=None, seeds=1, workers=1, quiet=True, metrics=[")
    code = code.replace("ca.notebook_recipe()", "replace(ca.notebook_recipe(), model=TINIEST, budget=TINY)")
    scope: dict[str, object] = {"replace": replace, "TINY": TINY, "TINIEST": Network(width=0.0625)}
    exec(compile(code.replace("ca.compare", "result = ca.compare"), "README", "exec"), scope)
    result = scope["result"]
    assert isinstance(result, ca.Result)
    assert {"test/accuracy", "confidence"} == set(result.verdicts["metric"])


def test_commands_of_the_readme_exist() -> None:
    text = (EXAMPLES / "README.md").read_text()
    known = {command.name for command in app.app.registered_commands}
    typed = re.findall(r"^    ablate (\S+)", text, re.M)
    assert len(typed) == 5
    assert set(typed) <= known
    for link in re.findall(r"\]\(((?:my_lab|commands)/[^)]+)\)", text):
        assert (EXAMPLES / link).is_file()


def test_a_plain_script_is_run_as_arms(home: Path, tmp_path: Path) -> None:
    """The example as it is, made small: a program that is run by no import of ours."""
    folder = tmp_path / "commands"
    shutil.copytree(EXAMPLES / "commands", folder)
    assert "cifar_ablations" not in (folder / "train.py").read_text()
    text = (folder / "plan.toml").read_text()
    first, second, *_ = re.split(r"(?m)(?=^\[arms)", text.replace("{metrics}", "{metrics} --epochs 1 --images 100"))[1:]
    (folder / "plan.toml").write_text(text[: text.index("[arms")] + first + second)
    done = CliRunner().invoke(app.app, ["run", str(folder / "plan.toml"), "--seeds", "1"])
    assert done.exit_code == 0, done.output
    assert "2 runs in " in done.stdout
    runs = command_plans.runs_of(load.connect(Home().tracking_uri), command_plan.read(folder / "plan.toml", 1))
    assert runs["value"].between(0.05, 1.0).all()
    assert len(set(runs["value"])) == len(runs) == 2, "dropout does something"
