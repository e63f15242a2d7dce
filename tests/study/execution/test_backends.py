"""Which backend trains, and that the choice is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.activation import Activation
from cifar_ablations.study.execution import backends
from cifar_ablations.study.execution.backends import BackendChoice, choose_backend
from cifar_ablations.study.training import gpu
from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.kernels import build

pytestmark = pytest.mark.exhaustive

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class _Other(Activation):
    """A user's own."""

    def activation(self) -> nn.Module | None:
        return nn.Hardswish()


def _forget() -> None:
    build.library.cache_clear()
    build.library_path.cache_clear()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing has been compiled or measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _forget()
    yield tmp_path / "cifar-ablations"
    _forget()


def test_what_is_asked_for_is_used(recipe: Recipe) -> None:
    assert choose_backend([recipe], CPU, 10, 1, TORCH) == BackendChoice(TORCH)
    with pytest.raises(AblateError, match="no backend 'kernel'; did you mean kernels"):
        choose_backend([recipe], CPU, 10, 1, "kernel")


def test_the_faster_one_trains_and_noise_does_not_change_it(
    recipe: Recipe, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for torchs, expected in [(2.0, KERNELS), (0.5, TORCH)]:
        for path in elsewhere.glob("trial-*"):
            path.unlink()
        monkeypatch.setattr(
            backends, "_measured", lambda *_, seconds=torchs: {TORCH: seconds, KERNELS: 1.0, "bf16": 9.0}
        )
        monkeypatch.setattr(backends, "_obstacle", lambda *_: "")
        assert choose_backend([recipe], CPU, 10, 1).name == expected
        monkeypatch.setattr(backends, "_measured", lambda *_: pytest.fail("measured again"))
        assert choose_backend([recipe], CPU, 10, 1).name == expected


def test_one_arm_that_the_kernels_do_not_know_takes_all_to_torch(recipe: Recipe) -> None:
    unknown = [recipe.with_technique(_Other()), recipe.set("model.name=resnet9")]
    for other in unknown:
        choice = choose_backend([recipe, other], CPU, 10, 1)
        assert choice.name == TORCH
        assert "do not know the network" in choice.why
        with pytest.raises(AblateError, match="the kernels do not know the network"):
            choose_backend([recipe, other], CPU, 10, 1, KERNELS)


def test_bf16_is_torchs_on_a_cpu(recipe: Recipe) -> None:
    in_bf16 = replace(recipe, budget=replace(recipe.budget, precision="bf16"))
    assert choose_backend([in_bf16], CPU, 10, 1) == BackendChoice(TORCH)
    with pytest.raises(AblateError, match="on a CPU the kernels compute in fp32"):
        choose_backend([in_bf16], CPU, 10, 1, KERNELS)


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("", ""),
        ("triton", "Triton, which compiles the kernels, is not installed"),
        ("compiler", "needs a C compiler"),
        ("capability", "need compute capability 8.0, and this GPU has 7.5"),
    ],
)
def test_a_gpus_kernels_are_used_where_they_can_be_had(
    missing: str, why: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None if missing == name else name)
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None if missing == "compiler" else name)
    capability = (7, 5) if missing == "capability" else (9, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    choice = choose_backend([recipe], CUDA, 10, 1)
    assert choice.name == (TORCH if missing else KERNELS)
    assert why in choice.why
    assert choose_backend([recipe], CUDA, 10, 1, TORCH) == BackendChoice(TORCH)
    if missing:
        with pytest.raises(AblateError, match="ask for the backend auto or torch"):
            choose_backend([recipe], CUDA, 10, 1, KERNELS)


def test_without_a_compiler_torch_trains_and_says_why(
    recipe: Recipe, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert choose_backend([recipe], CPU, 10, 1) == BackendChoice(TORCH, "CXX=no-such-compiler is no program")
    with pytest.raises(AblateError, match="no program; ask for the backend auto or torch"):
        choose_backend([recipe], CPU, 10, 1, KERNELS)


def test_auto_is_decided_by_device_and_trial(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    auto = recipe.set("budget.precision=auto")
    assert backends.with_precision(recipe, CPU) == recipe
    assert backends.with_precision(auto, torch.device("cuda")).budget.precision == "bf16"
    for gain, expected in [(0.1, "fp32"), (1.1, "fp32"), (2.0, "bf16")]:
        monkeypatch.setattr(backends, "bf16_gain", lambda recipe, backend, gain=gain: gain)
        assert backends.with_precision(auto, CPU).budget.precision == expected


def test_the_trial_times_what_there_is_with_as_many_threads_as_asked(
    recipe: Recipe, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    made = backends.backend_of
    monkeypatch.setattr(backends, "backend_of", lambda *given: threads.append(torch.get_num_threads()) or made(*given))
    torch.set_num_threads(2)
    try:
        found = backends.seconds_per_pass(recipe, 10, 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(threads) == {1}
    assert set(found) - {KERNELS} == {TORCH, "bf16"}
    assert all(seconds > 0 for seconds in found.values())
    assert backends.seconds_per_pass(recipe, 10, 1) == found
    assert backends.bf16_gain(recipe, TORCH) == found[TORCH] / found["bf16"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"seconds": []}', '{"seconds": {"torch": 1}}', '{"seconds": {"torch": NaN}}']
)
def test_a_trial_that_cannot_be_read_is_made_again(
    text: str, recipe: Recipe, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_measured", lambda *_: {TORCH: 1.0, KERNELS: 2.0, "bf16": 3.0})
    backends.seconds_per_pass(recipe, 10, 1)
    (path,) = elsewhere.glob("trial-*")
    path.write_text(text)
    assert backends.seconds_per_pass(recipe, 10, 1)["bf16"] == 3.0


def test_a_trial_is_of_the_networks_functions_too(recipe: Recipe, elsewhere: Path) -> None:
    for made in (recipe, recipe.with_technique(_Other()), recipe.set("activation=gelu")):
        backends.seconds_per_pass(made, 10, 1)
    assert len(list(elsewhere.glob("trial-*"))) == 3
