"""From what was typed to what is asked for, and back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.study.commands import app
from cifar_ablations.study.commands.arguments import PlanRequest, Request, SearchRequest, _seeds, check_shown
from cifar_ablations.study.data.typed import typed_source
from tests.image_sets import as_folder, encoded, picture, small_set

CHANGED = ("dropout.p=0.3", "mixup=on")


def _typed(command: str) -> tuple[str, dict[str, Any]]:
    """The name of the command that a line calls, and what it is given."""
    program, name, *words = shlex.split(command)
    group = typer.main.get_command(app.app)
    assert isinstance(group, TyperGroup)
    assert program == "ablate"
    return name, group.commands[name].make_context(name, words).params


@pytest.mark.parametrize(
    "request_",
    [
        PlanRequest("techniques"),
        PlanRequest("tuned", first_seed=7, baseline="mine", settings=CHANGED),
        PlanRequest("techniques", retune=True),
        PlanRequest("techniques", retune=True, trials=4, settings=CHANGED),
    ],
)
def test_a_plans_command_asks_for_the_same_when_it_is_typed(request_: PlanRequest) -> None:
    name, given = _typed(request_.command("smoke", "3"))
    assert (name, given["plan"], given["profile"], given["seeds"]) == ("run", request_.plan, "smoke", "3")
    assert (given["first_seed"], given["baseline"]) == (request_.first_seed, request_.baseline)
    assert (given["retune"], given["trials"]) == (request_.retune, request_.trials)
    assert tuple(given["settings"] or ()) == request_.settings


@pytest.mark.parametrize(
    "request_",
    [
        SearchRequest("joint"),
        SearchRequest(
            "retune", sampler="random", pruner="wilcoxon", seed=2, seeds_per_trial=3, baseline="mine", settings=CHANGED
        ),
        SearchRequest("joint", pareto=True),
    ],
)
def test_a_searchs_command_asks_for_the_same_when_it_is_typed(request_: SearchRequest) -> None:
    name, given = _typed(request_.command("quick", 5))
    assert (name, given["search"], given["profile"], given["trials"]) == ("tune", request_.search, "quick", 5)
    assert given["seeds"] == request_.seeds_per_trial
    for option in ("sampler", "pruner", "seed", "pareto", "baseline"):
        assert given[option] == getattr(request_, option), option
    assert tuple(given["settings"] or ()) == request_.settings


def test_seeds_are_a_number_or_a_way() -> None:
    assert _seeds(None, 5) == (5, None)
    assert _seeds("12", 5) == (12, None)
    assert _seeds("adaptive", 5) == (1, "adaptive")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("adaptve", "must be a whole number or a way, not 'adaptve'; did you mean adaptive"),
        ("0", "must be at least 1, not 0"),
        ("2.5", "must be a whole number"),
    ],
)
def test_other_seeds_are_refused(typed: str, said: str) -> None:
    with pytest.raises(AblateError, match=f"^--seeds {said}"):
        _seeds(typed, 5)


def test_a_cpu_gets_the_quick_profile_unless_another_is_named() -> None:
    device, size, workers = Request(device="cpu").place()
    assert (device, size) == (torch.device("cpu"), profile("quick"))
    assert workers >= 1
    assert Request(device="cpu", profile="smoke", workers=3).place()[1:] == (profile("smoke"), 3)


@pytest.mark.parametrize(
    ("device", "workers", "said"),
    [
        ("tpu", None, "no device 'tpu'. Known: cpu, cuda."),
        ("cuda:x", None, "no device 'cuda:x'. Known: cpu, cuda."),
        ("cpu:", None, "no device 'cpu:'. Known: cpu, cuda."),
        ("cpu:7", None, "no device 'cpu:7'. Known: cpu, cuda."),
        ("cuda:²", None, "no device 'cuda:²'. Known: cpu, cuda."),
        ("cuda:\n", None, r"no device 'cuda:\n'. Known: cpu, cuda."),
        (f"cpu:{'9' * 5_000}", None, "no device 'cpu:99999"),
        ("cuda:99", None, "--device cuda:99: this machine has"),
        ("cpu", 0, "--workers must be at least 1, not 0"),
    ],
)
def test_a_place_that_is_not_there_is_refused(device: str, workers: int | None, said: str) -> None:
    with pytest.raises(AblateError) as refused:
        Request(device=device, workers=workers).place()
    assert str(refused.value).startswith(said)


def test_what_no_plan_records_of_the_place_is_said_again() -> None:
    assert PlanRequest("techniques").where() == ""
    asked = PlanRequest("techniques", data="my images", device="cpu", workers=3, backend="torch")
    assert asked.where() == " --data 'my images' --device cpu --workers 3 --backend torch"
    name, given = _typed(f"{asked.command('smoke', '3')}{asked.where()}")
    assert (name, given["data"], given["workers"], given["backend"]) == ("run", "my images", 3, "torch")


@pytest.mark.parametrize("command", ["run", "plan", "tune joint", "adopt joint"])
def test_the_size_of_images_can_be_given_with_the_data(command: str) -> None:
    _, given = _typed(f"ablate {command} --data x --image-size 32")
    assert (given["data"], given["image_size"]) == ("x", 32)


def test_the_size_of_images_is_typed_again_with_the_data() -> None:
    where = Request(data=typed_source("my x", 32), workers=2).where()
    assert where == " --data 'my x' --image-size 32 --workers 2"


@pytest.mark.slow
def test_images_of_several_sizes_are_taken_by_a_command_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("ABLATE_DATA", raising=False)
    files = small_set(train=20, test=5) | {"test/cat/0.png": encoded(picture(0, side=40))}
    budget = ("epochs=1", "train_images=20", "validation_images=10", "test_images=10")
    words = ["plan", "levels/dropout", *(f"--set=budget.{setting}" for setting in budget)]
    given = ["--data", str(as_folder(files, tmp_path / "images"))]

    def said(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(app.app, [*words, *more], catch_exceptions=False)
        return done.exit_code, done.output

    code, text = said(*given)
    assert (code, "--image-size 32" in text) == (2, True)
    code, text = said(*given, "--image-size", "32")
    assert (code, "Data: images, 60 training and 15 test images" in text) == (0, True)
    code, text = said("--image-size", "32")
    assert (code, text.strip()) == (2, "ablate: --image-size resizes the images of --data PATH; give both")


def test_a_password_does_not_reach_a_cluster_in_the_words_of_a_command() -> None:
    storage = "postgresql://me:secret-word@head/db"
    with pytest.raises(AblateError, match="name the database in ABLATE_STORAGE instead"):
        check_shown("ray", storage, ["ablate", "tune", "joint", f"--storage={storage}"])
    check_shown("ray", storage, ["ablate", "tune", "joint"])  # of the environment
    check_shown("local", storage, ["ablate", "tune", "joint", storage])
    check_shown("ray", "sqlite:///x.db", ["ablate", "--storage", "sqlite:///x.db"])
