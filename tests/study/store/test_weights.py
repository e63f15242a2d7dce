"""Weights as files of runs: a plain module computes with them what was logged, and no more stay than were asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors import safe_open
from torch import nn

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.comparison import comparison
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plain.program import program
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ProvenanceRecord, RuleRecord
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.runner import Invocation, run
from cifar_ablations.study.store import weights
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import open_store
from cifar_ablations.study.store.weights import check_choice, content, kept_in
from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.engine import Checkpoints, Outcome, train
from cifar_ablations.study.training.events import Weights
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.kernels import build
from cifar_ablations.study.training.randomness import permutation
from tests.fresh_store import put_fresh_store

pytestmark = pytest.mark.exhaustive

CPU = torch.device("cpu")


class Plain(nn.Module):
    """The notebook's network, as a person would write it who has the file alone."""

    def __init__(self, width: float, classes: int):
        super().__init__()
        sizes = [3, *(max(1, round(width * size)) for size in (64, 128, 256, 256))]
        hidden = max(1, round(width * 512))
        self.convolutions = nn.ModuleList(nn.Conv2d(sizes[i], sizes[i + 1], 3, padding=1) for i in range(4))
        self.hidden = nn.Linear(4 * sizes[4], hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for convolution in self.convolutions:
            images = torch.max_pool2d(torch.relu(convolution(images)), 2)
        return self.classifier(torch.relu(self.hidden(images.flatten(1))))


def _invocation(recipe: Recipe, data: Dataset, seeds: int, keep: str, backend: str = TORCH) -> Invocation:
    profile = Profile("tiny", "for tests", recipe.model, recipe.budget, seeds, 0.01)
    arms = {"baseline": recipe, "stopping": recipe.set("early_stopping.patience=1")}
    plan = comparison(arms, tuple(range(seeds)), RuleRecord(margin=0.01, test="welch t", correction="weighted holm"))
    return Invocation(plan, keep_weights=keep, profile=profile, data=data, device=CPU, workers=1, backend=backend)


def _run(home: Home, invocation: Invocation) -> None:
    progress = run(invocation, open_store(home), ProvenanceRecord(), lambda progress: None)
    assert not progress.failed


def _runs(home: Home) -> list:
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.kind = '{schema.KIND_TRAINING}'", max_results=1000))


def _file(home: Home, run_id: str) -> Path:
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    return Path(client.download_artifacts(run_id, schema.WEIGHTS_FILE))


def _read(path: Path | bytes, tmp_path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if isinstance(path, bytes):
        (tmp_path / "one").write_bytes(path)
        path = tmp_path / "one"
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.fixture(params=[TORCH, KERNELS])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == KERNELS:
        try:
            build.library()
        except build.UnavailableError as reason:
            pytest.skip(str(reason))
    return str(request.param)


@pytest.fixture
def stopping(recipe: Recipe) -> Recipe:
    """One whose training goes on for epochs after its lowest validation loss."""
    fast = recipe.set("optimizer.rate=0.03").without("augmentation").without("dropout").set("early_stopping=off")
    return replace(fast, budget=replace(fast.budget, epochs=4))


def test_a_plain_module_repeats_the_accuracy_from_the_raw_images(
    stopping: Recipe, tiny_data: Dataset, tmp_path: Path, backend: str
) -> None:
    home, without = (Home(put_fresh_store(tmp_path / name)) for name in ("with", "without"))
    _run(home, _invocation(stopping, tiny_data, 2, schema.KEEP_ALL, backend))
    outcomes = set()
    for stored in _runs(home):
        tensors, about = _read(_file(home, stored.info.run_id), tmp_path)
        told = {name: json.loads(about[name]) for name in ("width", "classes", "mean", "std", "seed", "settings")}
        network = Plain(told["width"], len(told["classes"]))
        network.load_state_dict(tensors)
        mean, std = (torch.tensor(told[name]).view(3, 1, 1) for name in ("mean", "std"))
        images = tiny_data.test_images
        assert stopping.budget.test_images < len(images)
        with torch.no_grad():
            right = network((images / 255 - mean) / std).argmax(1) == tiny_data.test_labels
        assert stored.data.metrics[schema.TEST_ACCURACY] == json.loads(about["test_accuracy"])
        drawn = _drawn(stopping, tiny_data)
        assert float(right[drawn].double().mean()) == stored.data.metrics[schema.TEST_ACCURACY]
        assert (about["recipe"], about["data_digest"]) == (stored.data.tags["digest"], tiny_data.digest)
        assert (about["model"], about["precision"], about["format"]) == ("notebook", "fp32", "pt")
        assert told["classes"] == list(tiny_data.classes)
        assert {name: str(value) for name, value in told["settings"].items()}.items() <= stored.data.params.items()
        outcomes.add(stored.data.tags[schema.OUTCOME])
    assert outcomes == {schema.FINISHED, schema.STOPPED}, "early stopping takes back the weights of an earlier epoch"
    if backend == TORCH:
        _run(without, _invocation(stopping, tiny_data, 2, schema.KEEP_NONE, backend))
        assert _numbers(home) == _numbers(without), "keeping them changes nothing"
        assert not list(without.artifacts.rglob("*.safetensors"))


def _drawn(recipe: Recipe, data: Dataset) -> torch.Tensor:
    """The test images that the budget has, of those that there are."""
    return permutation(len(data.test_labels), "test images")[: recipe.budget.test_images]


def _numbers(home: Home) -> dict[tuple[str, str], dict[str, float]]:
    clocks = {schema.SECONDS, schema.IMAGES_PER_SECOND}
    return {
        (r.data.tags["digest"], r.data.tags["seed"]): {k: v for k, v in r.data.metrics.items() if k not in clocks}
        for r in _runs(home)
    }


@pytest.mark.parametrize("network", ["notebook", "notebook-deeper", "resnet9", "convnext"])
def test_the_network_of_a_written_program_takes_them(
    network: str, recipe: Recipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    member = Member(recipe.set(f"model.name={network}").set("activation=gelu"), 0)
    ended: list[Outcome] = []
    train([member], tiny_data, CPU, lambda e: ended.append(e) if isinstance(e, Outcome) else None, keep_weights=True)
    tensors, about = _read(content(ended[0], tiny_data), tmp_path)
    names: dict = {"__name__": "train"}
    exec(program(member.recipe), names)
    model = names["Network"](10).eval()
    model.load_state_dict(dict(zip(model.state_dict(), (tensors[n] for n in json.loads(about["names"])), strict=True)))
    mean, std = (torch.tensor(json.loads(about[name])).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        right = model((tiny_data.test_images / 255 - mean) / std).argmax(1) == tiny_data.test_labels
    found = float(right[_drawn(recipe, tiny_data)].double().mean())
    assert abs(found - ended[0].metrics[schema.TEST_ACCURACY]) <= 1.001 / recipe.budget.test_images


def test_a_training_that_was_interrupted_ends_with_the_same(
    stopping: Recipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    members = [Member(stopping.set(f"early_stopping.patience={n}"), seed) for n in (0, 1) for seed in (0, 1)]

    def trained(until: int | None = None, folder: Path | None = None) -> dict[Member, Weights]:
        found = {}
        saved = Checkpoints(folder, 1e9) if folder else None
        take = lambda e: found.update({e.member: e.weights}) if isinstance(e, Outcome) else None  # noqa: E731
        train(members, tiny_data, CPU, take, saved, until, keep_weights=True)
        return found

    whole = trained()
    assert trained(until=1, folder=tmp_path) == {}
    again = trained(folder=tmp_path)
    for member in members:
        assert again[member].validation_accuracy == whole[member].validation_accuracy
        for name, values in whole[member].arrays.items():
            assert (again[member].arrays[name] == values).all()


def test_only_the_best_of_each_arm_stays(recipe: Recipe, tiny_data: Dataset, tmp_path: Path) -> None:
    home = Home(put_fresh_store(tmp_path / "out"))
    for seeds in (1, 3):
        _run(home, _invocation(recipe, tiny_data, seeds, schema.KEEP_BEST))
        runs, by_arm = _runs(home), {}
        assert len(runs) == 2 * seeds
        for stored in runs:
            by_arm.setdefault(stored.data.tags["digest"], []).append(stored)
        for of_arm in by_arm.values():
            accuracy = {r: float(r.data.tags["weights.validation_accuracy"]) for r in of_arm}
            best = max(of_arm, key=lambda r: (accuracy[r], -int(r.data.tags["seed"])))
            for r in of_arm:
                assert (r.data.tags["weights.kept"] == "best") == (r is best)
                if r.data.tags[schema.OUTCOME] == schema.FINISHED and r.data.tags[schema.ARM] == "baseline":
                    assert accuracy[r] == r.data.metrics[schema.VALIDATION_ACCURACY]
            assert _file(home, best.info.run_id).is_file()
        assert len(list(home.artifacts.rglob("*.safetensors"))) == 2
    assert not list(home.artifacts.rglob("weights/.partial*"))


def _put(home: Home, keeper: weights.Keeper, member: Member, accuracy: float) -> str:
    """A run that ends with weights; its id."""
    store = open_store(home)
    experiment = store.experiment_of({schema.PLAN: "x"}, "x", "x").experiment_id
    tags = {schema.KIND: schema.KIND_TRAINING, "digest": member.digest, "seed": str(member.seed), "data_digest": "d"}
    run_id = store.create_run(experiment, "x", tags)
    arrays = {"w": torch.full((3,), accuracy).numpy()}
    ended = Outcome(member, schema.FINISHED, 1, {}, {}, Weights(arrays, [0.0] * 3, [1.0] * 3, accuracy))
    keeper.keep(run_id, ended)
    store.close(run_id, schema.FINISHED)
    keeper.tidy()
    return run_id


def test_what_was_kept_as_one_of_all_is_never_deleted(recipe: Recipe, tiny_data: Dataset, tmp_path: Path) -> None:
    home, data = Home(put_fresh_store(tmp_path / "out")), replace(tiny_data, digest="d")
    keepers = {choice: lambda c=choice: weights.Keeper(open_store(home), data, c) for choice in schema.KEEPS[1:]}
    first = _put(home, keepers["all"](), Member(recipe, 0), 0.5)
    worse = _put(home, keepers["best"](), Member(recipe, 1), 0.4)
    better = _put(home, keepers["best"](), Member(recipe, 2), 0.6)
    best = _put(home, keepers["best"](), Member(recipe, 3), 0.7)
    other = _put(home, keepers["best"](), Member(recipe.without("dropout"), 3), 0.1)
    files = {one.run_id: one.has_file for one in kept_in(open_store(home), "d")}
    assert files == {first: True, worse: False, better: False, best: True, other: True}
    there = {path.parents[2].name for path in home.artifacts.rglob("model.safetensors")}
    assert there == {first, best, other}


def test_weights_whose_run_never_ended_give_way(recipe: Recipe, tiny_data: Dataset, tmp_path: Path) -> None:
    home, data = Home(put_fresh_store(tmp_path / "out")), replace(tiny_data, digest="d")
    ended = _put(home, weights.Keeper(open_store(home), data, "best"), Member(recipe, 0), 0.5)
    store = open_store(home)
    store.client.set_tag(ended, schema.OUTCOME, schema.INTERRUPTED)
    weights.Keeper(store, data, "best")
    assert not list(home.artifacts.rglob("*.safetensors"))
    again = _put(home, weights.Keeper(store, data, "best"), Member(recipe, 1), 0.1)
    assert [path.parents[2].name for path in home.artifacts.rglob("model.safetensors")] == [again]


def test_class_names_may_be_anything(recipe: Recipe, tiny_data: Dataset, tmp_path: Path) -> None:
    names = ('a "b"', "c\\d\n", "../é/ 中 \u2028", "\x00", "", "\udcff", "__metadata__", "🦆" * 300, "}", "{")
    data = replace(tiny_data, classes=names)
    arrays = {"w": torch.eye(3).numpy(), "n": torch.tensor(7).numpy()}
    ended = Outcome(Member(recipe, 0), schema.FINISHED, 1, {}, {}, Weights(arrays, [0.1] * 3, [0.2] * 3, float("nan")))
    tensors, about = _read(content(ended, data), tmp_path)
    assert tuple(json.loads(about["classes"])) == names
    assert json.loads(about["validation_accuracy"]) is None
    assert (tensors["w"].tolist(), int(tensors["n"])) == (torch.eye(3).tolist(), 7)


def test_what_cannot_be_kept_is_refused(recipe: Recipe, tiny_data: Dataset) -> None:
    with pytest.raises(AblateError, match="'bset'; did you mean best"):
        check_choice("bset")
    blind = replace(recipe, budget=replace(recipe.budget, validation_images=0))
    plan = catalog.make_plan("levels/dropout", blind, Profile("t", "", blind.model, blind.budget, 1, 0.01), (0,))
    asked = replace(_invocation(recipe, tiny_data, 1, schema.KEEP_BEST), plan=plan)
    with pytest.raises(AblateError, match=r"budget\.validation_images is 0 .*keep all weights"):
        asked.check()
    replace(asked, keep_weights=schema.KEEP_ALL).check()
