"""The throughput benchmark: alone on a bare machine, within its time, and with fleets that a plan has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import comparison, contenders, kernels, scaled_factorial, throughput
from benchmarks.comparison import Comparison, Curve
from benchmarks.contenders import Call, Contender
from benchmarks.deadline import Deadline, OutOfTimeError
from benchmarks.results import Facts, record
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.execution.sizing import pack
from cifar_ablations.study.training import gpu
from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.kernels import build
from tests.benchmarks.bare import environment_with

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 36 images to train on and 6 to test on, of three classes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 2)):
        for label in "abc":
            folder = tmp_path / "pictures" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def with_kernels() -> bool:
    """Whether there is a compiler."""
    try:
        build.library()
    except build.UnavailableError:
        return False
    return True


@pytest.mark.exhaustive
def test_it_runs_to_the_end_where_only_torch_is_installed(pictures: Path, tmp_path: Path) -> None:
    bare = environment_with("torch", "torchvision", "numpy", "pillow", folder=tmp_path)
    check = subprocess.run([sys.executable, "-c", "import mlflow"], capture_output=True, text=True, env=bare)
    assert "No module named 'mlflow'" in check.stderr
    # As `python -m benchmarks.throughput`, with small fleets only in the cost by fleet size.
    code = (
        "import runpy; from benchmarks import comparison; comparison.CURVE['cpu'] = (1, 2); "
        "runpy.run_module('benchmarks.throughput', run_name='__main__', alter_sys=True)"
    )
    options = ["--device=cpu", "--profiles", "smoke", "--repeats=1", "--images=32", "--workers=1"]
    places = [f"--data={pictures}", f"--results={tmp_path / 'RESULTS.md'}"]
    command = [sys.executable, "-c", code, *options, *places]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=bare)
    assert done.returncode == 0, done.stderr
    _, *sections = (tmp_path / "RESULTS.md").read_text().split("\n## ")
    assert [section.partition(":")[0] for section in sections] == ["Throughput", "Cost by fleet size"]
    raw = json.loads((tmp_path / "home" / "benchmarks" / "throughput.json").read_text())
    named = [(row["contender"], row["precision"], row["n"]) for row in raw["throughput"]["rows"]]
    assert named[0] == ("notebook's loop", "fp32", 1)
    fleets = ("one run", "fleet of 7 seeds", "fleet of 7 of plan techniques")
    backends = [KERNELS, TORCH] if with_kernels() else [TORCH]
    engines = {(f"engine by {backend}, {fleet}", "fp32", 1) for fleet in fleets for backend in backends}
    assert engines <= set(named)
    assert all(row["median"] > 0 and row["ratio"] > 0 for row in raw["throughput"]["rows"])
    curves = raw["cost by fleet size"]["curves"]
    assert [name.rpartition(" ")[2] for name in curves] == backends
    assert all(list(points) == ["1", "2"] for points in curves.values())
    assert "failed" not in done.stdout
    assert "Error" not in "".join(sections)


def test_workers_start_without_torchvision() -> None:
    """They import the benchmark anew, and would do so for seconds that `ablate run` does not spend."""
    for file in (ROOT / "benchmarks").glob("*.py"):
        assert not re.search("^(import|from) torchvision", file.read_text(), re.MULTILINE), file.name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes=0"], "--minutes must be positive, not 0"),
        (["--data=/nowhere"], "/nowhere does not exist; give a folder or an archive of images"),
        (["--device=cuda"], "--device cuda needs a CUDA device, and torch finds none; use --device cpu"),
    ],
)
def test_a_mistake_is_a_sentence(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["throughput", *words])
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as exited:
        throughput.main()
    assert exited.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("plan", "workers", "size"), [("techniques", 2, 7), ("techniques", 1, 64), ("factorial", 1, 64)]
)
def test_a_plans_fleets_are_those_that_a_run_packs(plan: str, workers: int, size: int) -> None:
    profile = PROFILES["full"]
    recipe = contenders_recipe(profile)
    fleets = contenders.fleets_of_plan(plan, "full", recipe, workers, size)
    made = catalog.make_plan(plan, recipe, profile, tuple(range(profile.seeds)))
    members = list(dict.fromkeys(Member(arm.recipe, seed) for seed in made.seeds for arm in made.arms))
    assert fleets == pack(members, workers, size)[:workers]
    assert len(fleets) == workers


def contenders_recipe(profile) -> Recipe:
    """The notebook's recipe at a profile's size, in an arithmetic that is decided."""
    return profile.apply(catalog.notebook_recipe()).set("budget.precision=bf16")


def test_the_mix_of_a_plans_fleet_is_stated() -> None:
    recipe = contenders_recipe(PROFILES["full"])
    techniques = contenders.fleets_of_plan("techniques", "full", recipe, 1, 64)
    assert contenders.mix(techniques) == "42 trainings of 14 arms and 3 seeds"
    factorial = contenders.fleets_of_plan("factorial", "full", recipe, 1, 64)
    assert contenders.mix(factorial) == "64 trainings of 64 arms and 1 seed"


class Watch:
    """Contenders on a clock of their own, which is what takes time here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.turns: list[str] = []
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def contender(self, name: str, seconds: float, rates: list[float]) -> Contender:
        """One that takes so many seconds a turn, unless the deadline cuts it off; no more rates are an error."""
        left = iter(rates)

        def rate(deadline: Deadline) -> float:
            self.turns.append(name)
            if deadline.left < seconds:
                self.now += deadline.left
                raise OutOfTimeError
            self.now += seconds
            images_per_second = next(left, None)
            if images_per_second is None:
                raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
            return images_per_second

        return Contender(name, "fp32", rate)


def test_contenders_take_turns_and_ratios_are_formed_within_a_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    compared = Comparison("net", 1000, [watch.contender("a", 1, [10, 20, 40]), watch.contender("b", 1, [30, 40, 40])])
    saved: list[int] = []
    compared.measure(3, Deadline(), Deadline(), lambda text: None, lambda: saved.append(len(compared.rows())))
    assert watch.turns == ["a", "b"] * 3
    assert saved[:2] == [1, 2]  # after every single measurement
    a, b = compared.rows()
    assert (a.n, a.median, a.ratio) == (3, 20, 1)
    assert (b.n, b.median, b.lowest, b.highest) == (3, 40, 30, 40)
    assert (b.ratio, b.ratio_lowest, b.ratio_highest) == (2, 1, 3)
    assert b.seconds_per_run == 25
    assert compared.said() == []


def test_what_no_longer_fits_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    compared = Comparison(
        "net",
        1000,
        [watch.contender("a", 10, [1] * 5), watch.contender("b", 30, [1] * 5), watch.contender("c", 40, [1])],
    )
    # The first repeat has all of the 75 seconds, of which c needs five too many; a second one had to be through at 60.
    compared.measure(5, Deadline(75), Deadline(60), lambda text: None, lambda: None)
    assert watch.turns == ["a", "b", "c"]
    assert [row.contender for row in compared.rows()] == ["a", "b"]
    (said,) = compared.said()
    assert "fewer than 5 repeats: 1 of a, fp32; 1 of b, fp32; 0 of c, fp32." in said


def test_a_later_repeat_takes_in_what_still_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    compared = Comparison("net", 1000, [watch.contender("a", 10, [1] * 9), watch.contender("b", 30, [1] * 9)])
    compared.measure(9, Deadline(100), Deadline(70), lambda text: None, lambda: None)
    assert watch.turns == ["a", "b", "a", "a"]  # b would end at 80


def test_an_error_is_a_sentence_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(monkeypatch)
    compared = Comparison("net", 1000, [watch.contender("a", 1, [1]), watch.contender("b", 1, [5, 5])])
    compared.measure(2, Deadline(), Deadline(), lambda text: None, lambda: None)
    assert compared.said() == ["- net: a, fp32: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."]
    a, b = compared.rows()
    assert (a.n, b.n, b.ratio) == (1, 2, 5)


def test_a_curve_stops_at_what_does_not_fit(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    watch = Watch(monkeypatch)

    def milliseconds(members, data, device, backend, deadline) -> float:
        watch.now += len(members)
        if len(members) == 8:
            raise torch.OutOfMemoryError("no memory")
        return 3.0

    monkeypatch.setattr(comparison, "member_milliseconds", milliseconds)
    members = [Member(recipe, seed) for seed in range(16)]
    full, late = Curve("all", members), Curve("late", members)
    full.measure(None, CPU, Deadline(), lambda: None)
    late.measure(None, CPU, Deadline(watch.now + 6), lambda: None)
    assert (list(full.points), full.notes) == ([1, 2, 4], ["- all, K = 8: OutOfMemoryError: no memory."])
    assert (list(late.points), late.notes) == ([1, 2], ["- late: left out for want of time: K = 4, K = 8, K = 16."])


SOME_CPU = Facts(
    commit="unknown",
    python="3.12",
    processor="CPU",
    device="cpu",
    workers="1",
    cores="16",
    torch="2.11",
    torchvision="0.26",
)
GPU = replace(SOME_CPU, device="NVIDIA Example", gpu_memory="80 GiB", driver="1.2", cuda="13.0", cudnn="9")


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The benchmark as it goes where there is a GPU, but that nothing is measured; what would be, in order."""
    order: list[str] = []

    def rate(kind: str):
        return lambda *given: order.append(kind) or 1000.0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(throughput, "facts", lambda device, workers: GPU)
    monkeypatch.setattr(throughput, "fleet_size", lambda recipe, data, device, backend: 32)
    monkeypatch.setattr(gpu, "obstacle", lambda device: "")
    for module in (comparison, throughput):
        monkeypatch.setattr(module, "free_memory", lambda device: None)  # which takes its time
    for name in ("notebook_rate", "alone_rate", "fleet_rate"):
        monkeypatch.setattr(throughput, name, rate(name))
    monkeypatch.setattr(comparison, "member_milliseconds", lambda members, *rest: order.append("curve") or 0.5)
    whole = scaled_factorial.Scaled(320, 320, 2, 20, 30.0, 10.0)
    monkeypatch.setattr(scaled_factorial, "measured", lambda *given: order.append("factorial") or whole)
    monkeypatch.setattr(kernels, "measured", lambda *given: order.append("kernels") or iter([("a table", [])]))
    return order


def test_on_a_gpu_the_most_important_comes_first_and_sections_are_named_by_it(
    as_on_a_gpu: list[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    words = ["--device=cuda", "--repeats=2", f"--data={pictures}", f"--results={tmp_path / 'RESULTS.md'}"]
    monkeypatch.setattr(sys, "argv", ["throughput", *words])
    throughput.main()
    in_turn = ["notebook_rate", "alone_rate", *["fleet_rate"] * 3, *["alone_rate", "fleet_rate"] * 2]
    assert as_on_a_gpu == [*in_turn * 2, "factorial", *["curve"] * 21, "kernels"]
    _, *sections = (tmp_path / "RESULTS.md").read_text().split("\n## ")
    assert [s.partition("\n")[0] for s in sections] == [
        f"{name}: NVIDIA Example" for name in ("Throughput", "A whole factorial", "Cost by fleet size", "Kernels")
    ]
    assert "320 trainings for 2 of 20 epochs" in sections[1]
    assert "30.0 s. Calculated from it, with the last epochs repeated: 210 s" in sections[1]
    assert "NVIDIA Example, 80 GiB, driver 1.2, CUDA 13.0, cuDNN 9; CPU, 16 cores; Python 3.12" in sections[0]
    raw = json.loads((tmp_path / "home" / "benchmarks" / "throughput.json").read_text())
    named = [(row["contender"], row["precision"], row["n"]) for row in raw["throughput"]["rows"]]
    assert named == [
        ("notebook's loop", "fp32", 2),
        ("engine by kernels, one run", "bf16", 2),
        ("engine by kernels, fleet of 64 of plan factorial", "bf16", 2),
        ("engine by kernels, fleet of 28 of plan techniques", "bf16", 2),
        ("engine by kernels, fleet of 32 seeds", "bf16", 2),
        ("engine by torch, one run", "bf16", 2),
        ("engine by torch, fleet of 64 of plan factorial", "bf16", 2),
        ("engine by kernels, one run", "fp32", 2),
        ("engine by kernels, fleet of 64 of plan factorial", "fp32", 2),
    ]


def test_an_error_among_the_kernels_is_reported_below_what_was_measured(
    as_on_a_gpu: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*given):
        yield "a row", [{"members": 8}]
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(kernels, "measured", measured)
    book = throughput.Book(tmp_path / "RESULTS.md", tmp_path / "raw.json", GPU)
    throughput.write_kernels(book, torch.device("cuda"), Deadline())
    assert (tmp_path / "RESULTS.md").read_text().endswith("a row\n\n- OutOfMemoryError: no memory.\n")
    assert json.loads((tmp_path / "raw.json").read_text())["kernels"] == [{"members": 8}]


def test_a_fleet_size_that_cannot_be_found_is_noted_and_the_largest_taken(
    as_on_a_gpu: list[str], tiny_data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_kernel(recipe, data, device, backend) -> int:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(throughput, "fleet_size", no_kernel)
    compared = throughput.comparison("full", tiny_data, torch.device("cuda"), 1, None)
    assert "Finding a fleet size: RuntimeError: no kernel image. 64 was taken." in compared.notes
    assert "engine by kernels, fleet of 64 seeds" in [contender.name for contender in compared.contenders]


def test_the_notebooks_loop_has_torchs_settings_and_the_engine_its_own() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32
    try:
        cudnn.benchmark, cudnn.allow_tf32 = True, False  # as the engine sets them on a GPU
        with contenders.torchs_defaults():
            assert (cudnn.benchmark, cudnn.allow_tf32) == (False, True)
        assert (cudnn.benchmark, cudnn.allow_tf32) == (True, False)
    finally:
        cudnn.benchmark, cudnn.allow_tf32 = before


def test_halves_that_train_in_turn_are_as_fast_as_their_seconds_say() -> None:
    assert contenders.in_turn([400.0] * 4) == 400
    # Two members at 100 and two at 300 images per second, one pair after the other.
    assert contenders.in_turn([100.0, 100.0, 300.0, 300.0]) == pytest.approx(150)


@pytest.mark.exhaustive
def test_a_fleet_that_ends_in_an_error_says_why(recipe: Recipe, tiny_data) -> None:
    broken = recipe.set("budget.train_images=500")  # of 200
    calls: list[Call] = []
    with pytest.raises(RuntimeError, match="together exceed the 200 training images"):
        contenders.fleet_rate([[Member(broken, 0)]], tiny_data, CPU, TORCH, calls, Deadline())
    assert calls == []


@pytest.mark.slow
def test_time_that_is_up_ends_a_fleet(recipe: Recipe, tiny_data) -> None:
    with pytest.raises(OutOfTimeError):
        contenders.fleet_rate([[Member(recipe, 0)]], tiny_data, CPU, TORCH, [], Deadline.after(-1))


def test_the_engine_still_says_so_where_it_trains_without_a_graph() -> None:
    assert contenders.NOT_CAPTURED in (ROOT / "study" / "training" / "step.py").read_text()


def test_a_worker_that_cannot_capture_its_step_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    code = f"import warnings; warnings.warn({contenders.NOT_CAPTURED + ' as a CUDA graph: why'!r})"
    with contenders._capture_or_fail():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("UserWarning: this network cannot be captured as a CUDA graph: why\n")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_every_form_of_a_layer_computes_the_same_and_a_failing_one_says_so() -> None:
    forms = kernels.forms_on(CPU)
    for layer in kernels.layers(2, 2, torch.float32, CPU):
        cells = {name: kernels.cell(form, layer, 1) for name, form in forms.items()}
        for name, (text, took) in cells.items():
            assert (took is not None) == kernels.applies(forms[name], layer), (layer.name, text)
        assert kernels.cell(lambda x, w: kernels.grouped(x, 2 * w), layer, 1)[0].startswith("failed: ")


def test_kernels_that_time_leaves_out_are_named() -> None:
    (only,) = kernels.measured(CPU, SOME_CPU, Deadline.after(-1))
    assert only[0].endswith("- Left out for want of time: 4 members in float32.")


def test_a_section_replaces_its_older_one_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "RESULTS.md"
    for title, text in (("A: one", "first"), ("B: one", "kept"), ("A: one", "second\n\n- with a list")):
        record(path, title, text)
    assert path.read_text().endswith("](README.md).\n\n## A: one\n\nsecond\n\n- with a list\n\n## B: one\n\nkept\n")
    assert [file.name for file in path.parent.iterdir()] == ["RESULTS.md"]
