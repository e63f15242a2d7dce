"""From what was typed to what is asked for, and back."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import torch
import typer
from typer.core import TyperGroup

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.study.commands import app
from cifar_ablations.study.commands.arguments import PlanRequest, Request, SearchRequest, _seeds

CHANGED = ("dropout.p=0.3", "mixup=on")


def _typed(command: str) -> tuple[str, dict[str, Any]]:
    """The name of the command that a line calls, and what it is given."""
    program, name, *words = shlex.split(command)
    group = typer.main.get_command(app.app)
    assert isinstance(group, TyperGroup)
    assert program == "ablate"
    return name, group.commands[name].make_context(name, words).params


@pytest.mark.parametrize(
    "request_", [PlanRequest("techniques"), PlanRequest("tuned", first_seed=7, baseline="mine", settings=CHANGED)]
)
def test_a_plans_command_asks_for_the_same_when_it_is_typed(request_: PlanRequest) -> None:
    name, given = _typed(request_.command("smoke", "3"))
    assert (name, given["plan"], given["profile"], given["seeds"]) == ("run", request_.plan, "smoke", "3")
    assert (given["first_seed"], given["baseline"]) == (request_.first_seed, request_.baseline)
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
        ("cuda:99", None, "--device cuda:99: this machine has"),
        ("cpu", 0, "--workers must be at least 1, not 0"),
    ],
)
def test_a_place_that_is_not_there_is_refused(device: str, workers: int | None, said: str) -> None:
    with pytest.raises(AblateError) as refused:
        Request(device=device, workers=workers).place()
    assert str(refused.value).startswith(said)
