"""Fleets that are killed and go on: bitwise the same as never interrupted."""

from __future__ import annotations

import errno
import json
import math
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.early_stopping import EarlyStopping
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.study.training import checkpoint
from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.checkpoint import FleetRecord, MemberRecord
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member

CPU = torch.device("cpu")
TIMES = {schema.SECONDS, schema.IMAGES_PER_SECOND}


class PowerCutError(Exception):
    pass


def _reported(
    members: list[Member],
    data,
    checkpoints: Checkpoints | None = None,
    cut_after: int | None = None,
    backend: str = TORCH,
) -> dict:
    """What was reported of each member, without times; the power goes when an epoch after `cut_after` is reported."""
    reported: dict[Member, list] = {m: [] for m in members}

    def report(event: Epoch | Outcome) -> None:
        if cut_after is not None and isinstance(event, Epoch) and event.epoch > cut_after:
            raise PowerCutError
        metrics = {k: v for k, v in event.metrics.items() if k not in TIMES}
        if isinstance(event, Epoch):
            reported[event.member].append((event.epoch, metrics))
        else:
            details = {name: values.tolist() for name, values in event.details.items()}
            reported[event.member].append((event.outcome, event.epochs, metrics, repr(details)))

    if cut_after is None:
        train(members, data, CPU, report, checkpoints, backend=backend)
    else:
        with pytest.raises(PowerCutError):
            train(members, data, CPU, report, checkpoints, backend=backend)
    return reported


@pytest.fixture(scope="module")
def members(recipe: Recipe) -> list[Member]:
    """Every kind of state: moments of several optimizers, a best epoch put aside, one that diverges at once."""
    longer = recipe.set("budget.epochs=4")
    wild = longer.with_technique(Optimizer(rate=100.0)).set("weight_decay.strength=1")
    impatient = longer.with_technique(EarlyStopping(patience=1)).set("optimizer.rate=0.1")
    patient = longer.with_technique(EarlyStopping(patience=3)).set("optimizer.rate=0.03")
    kinds = [longer.with_technique(Optimizer.at(level)) for level in ("on", "momentum", "nesterov", "rmsprop", "off")]
    return [Member(r, seed) for r, seed in zip([wild, impatient, patient, *kinds], range(8), strict=True)]


@pytest.fixture(scope="module")
def whole(members: list[Member], tiny_data, backend: str) -> dict:
    """What is reported of them where nothing interrupts."""
    return _reported(members, tiny_data, backend=backend)


def test_a_file_that_is_written_while_training_goes_on_holds_what_was_there(
    recipe: Recipe, tiny_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [Member(recipe.set("early_stopping=on").set("early_stopping.patience=5"), seed) for seed in (0, 1)]
    expected, read, real = _reported(members, tiny_data), [], checkpoint.save
    trained = threading.Event()

    def late(path: Path, header: FleetRecord, arrays: dict[str, np.ndarray]) -> None:
        assert trained.wait(60)
        real(path, header, arrays)
        read.append(path.read_bytes())

    def report(event: Epoch | Outcome) -> None:
        if event.epoch == 2 if isinstance(event, Epoch) else True:
            trained.set()

    monkeypatch.setattr(checkpoint, "save", late)
    train(members, tiny_data, CPU, report, Checkpoints(tmp_path, seconds=0))
    assert len(read) == 2, "after each epoch"
    monkeypatch.undo()
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(read[0])
    gone_on = _reported(members, tiny_data, Checkpoints(tmp_path, seconds=1e9))
    assert gone_on == expected


def test_a_file_that_cannot_be_written_ends_the_training(
    recipe: Recipe, tiny_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, header: FleetRecord, arrays: dict[str, np.ndarray]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train([Member(recipe, 0)], tiny_data, CPU, lambda event: None, Checkpoints(tmp_path, seconds=0))


@pytest.mark.slow
@pytest.mark.parametrize("cut_after", [1, 2, 3])
def test_cut_off_and_gone_on_is_bitwise_uninterrupted(
    cut_after: int, members: list[Member], whole: dict, tiny_data, tmp_path: Path, backend: str
) -> None:
    assert whole[members[0]][-1][0] == schema.DIVERGED
    places = Checkpoints(tmp_path, seconds=0)
    before = _reported(members, tiny_data, places, cut_after, backend)
    left = [m for m in members if not isinstance(before[m][-1][0], str)]
    assert 5 <= len(left) < len(members)
    other = KERNELS if backend == TORCH else TORCH
    assert not checkpoint.find(tmp_path, tiny_data.digest, CPU, other)
    known = checkpoint.find(tmp_path, tiny_data.digest, CPU, backend)
    assert {known[checkpoint.identity(m)].epoch for m in left} == {cut_after}
    # They need not go on in the company they were in.
    halves = [_reported(half, tiny_data, places, backend=backend) for half in (left[::2], left[1::2])]
    after = halves[0] | halves[1]
    assert after == {m: whole[m] for m in left}


@pytest.mark.exhaustive
def test_running_statistics_go_on_too(recipe: Recipe, tiny_data, tmp_path: Path) -> None:
    normed = recipe.set("model.name=resnet9").set("model.width=0.0625").set("optimizer.rate=0.001")
    pair = [Member(normed, 0), Member(normed.without("optimizer"), 1)]
    whole, places = _reported(pair, tiny_data), Checkpoints(tmp_path, seconds=0)
    _reported(pair, tiny_data, places, cut_after=1)
    assert checkpoint.find(tmp_path, tiny_data.digest, CPU)
    assert _reported(pair, tiny_data, places) == whole


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut short", "overwritten", "empty", "another format"])
def test_a_damaged_file_means_starting_over(damage: str, recipe: Recipe, tiny_data, tmp_path: Path) -> None:
    members, places = [Member(recipe, 0)], Checkpoints(tmp_path, seconds=0)
    whole = _reported(members, tiny_data)
    _reported(members, tiny_data, places, cut_after=1)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "overwritten":
        middle = len(content) // 2
        path.write_bytes(content[: middle - 50] + bytes(100) + content[middle + 50 :])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        np.savez(path, meta=np.frombuffer(b'{"format": 999, "members": [1]}', np.uint8))
    assert _reported(members, tiny_data, places) == whole


def test_only_the_same_data_goes_on(recipe: Recipe, tiny_data, tmp_path: Path) -> None:
    members, places = [Member(recipe, 0)], Checkpoints(tmp_path, seconds=0)
    _reported(members, tiny_data, places, cut_after=1)
    others = replace(tiny_data, digest="0" * 16)
    assert checkpoint.find(tmp_path, tiny_data.digest, CPU)
    assert not checkpoint.find(tmp_path, others.digest, CPU)
    assert not checkpoint.find(tmp_path, tiny_data.digest, torch.device("cuda"))


def test_cleaning_keeps_what_is_still_wanted(recipe: Recipe, tiny_data, tmp_path: Path) -> None:
    members, places = [Member(recipe, 0), Member(recipe, 1)], Checkpoints(tmp_path, seconds=0)
    _reported(members, tiny_data, places, cut_after=1)
    (path,) = tmp_path.iterdir()
    (tmp_path / ".partial-x").write_bytes(b"half")
    (tmp_path / f"damaged{checkpoint.SUFFIX}").write_bytes(b"half")
    checkpoint.clean(tmp_path, tiny_data.digest, [checkpoint.identity(members[0])])
    assert list(tmp_path.iterdir()) == [path]
    checkpoint.clean(tmp_path, "other data", map(checkpoint.identity, members))
    assert list(tmp_path.iterdir()) == [path]
    checkpoint.clean(tmp_path, tiny_data.digest, map(checkpoint.identity, members))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / f"fleet{checkpoint.SUFFIX}"
    header = FleetRecord(1, "d", "t", "cpu", (MemberRecord(("digest", 0), 1.0, [], []),))
    checkpoint.save(path, header, {"weights": np.ones((1, 3))})
    with pytest.raises(TypeError):
        checkpoint.save(path, replace(header, data=object()), {"weights": np.zeros((1, 3))})  # type: ignore[arg-type]

    class Unwritable:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, header, {"weights": Unwritable()})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == [path]
    assert checkpoint.read(path)["weights"].tolist() == [[1, 1, 1]]


def test_a_header_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Bitwise, and also what is not finite: a loss on validation images may be."""
    path, numbers = tmp_path / f"fleet{checkpoint.SUFFIX}", np.random.default_rng(0).standard_normal(100)
    history = [{"loss": float(number) * 10.0 ** (7 * i - 300)} for i, number in enumerate(numbers[:80])]
    members = tuple(
        MemberRecord(("digest", seed), 0.1, [*history, {"loss": loss}], [[numbers.tolist()] * 3] * 81)
        for seed, loss in enumerate((math.inf, -math.inf, 5e-324))
    )
    header = FleetRecord(epoch=81, data="d", members=members, **checkpoint.place(CPU))
    checkpoint.save(path, header, {"weights": np.ones((3, 3))})
    saved = checkpoint.find(tmp_path, "d", CPU)
    assert [(one.about, one.row, one.epoch) for one in saved.values()] == [(m, i, 81) for i, m in enumerate(members)]


@pytest.mark.parametrize(
    ("field", "value"), [("epoch", "2"), ("members", [{"identity": ["digest", 0]}]), ("format", 2), ("data", None)]
)
def test_a_header_that_is_not_one_is_as_good_as_none(field: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / f"fleet{checkpoint.SUFFIX}"
    member = {"identity": ["digest", 0], "seconds": 1.0, "history": [], "layers": []}
    whole = {"format": 1, "epoch": 2, "data": "d", **checkpoint.place(CPU), "members": [member]}
    for header, count in ((whole, 1), (whole | {field: value}, 0)):
        np.savez(path, meta=np.frombuffer(json.dumps(header).encode(), np.uint8))
        assert len(checkpoint.find(tmp_path, "d", CPU)) == count
    checkpoint.clean(tmp_path, "other data", [])
    assert not path.exists()


def _mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with bytes turned, cut out, put in, exchanged for extreme numbers, or its end cut off."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(len(changed))), int(rng.integers(1, 9))
        match rng.integers(5):
            case 0:
                changed[at] ^= 1 << int(rng.integers(8))
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = rng.bytes(length)
            case 3:
                changed[at : at + length] = rng.choice([b"\xff", b"\x00", b"\x7f"]) * length
            case _:
                del changed[at:]
        if not changed:
            break
    return bytes(changed)


@pytest.mark.parametrize("count", [200, pytest.param(4_000, marks=pytest.mark.exhaustive)])
def test_whatever_is_in_a_file_it_is_taken_or_passed_over(count: int, tmp_path: Path) -> None:
    """Of 4,000 of these, 19 ended the command."""
    path, rng = tmp_path / f"fleet{checkpoint.SUFFIX}", np.random.default_rng(7)
    abouts = tuple(MemberRecord(("digest", seed), 1.0, [{"loss": 1.0}], [[[0.5]]]) for seed in range(2))
    header = FleetRecord(1, "d", members=abouts, **checkpoint.place(CPU))
    weights = rng.standard_normal((2, 3)).astype(np.float32)
    checkpoint.save(path, header, {"weights": weights, "own.0.best.weights": weights[0], "steps": np.arange(2)})
    whole, taken = path.read_bytes(), 0
    members = [SimpleNamespace(digest="digest", seed=seed, extension="") for seed in range(2)]
    for _ in range(count):
        path.write_bytes(_mutated(whole, rng))
        saved = checkpoint.find(tmp_path, "d", CPU)
        for _, rows in checkpoint.take(members, saved, {"weights": (3,), "steps": ()}):  # type: ignore[arg-type]
            taken += 1
            assert torch.from_numpy(rows["weights"]).shape == (3,)
    assert taken < 0.2 * count, "what was turned in an array is noticed"


def test_more_members_than_rows_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / f"fleet{checkpoint.SUFFIX}"
    abouts = tuple(MemberRecord(("digest", seed), 1.0, [], []) for seed in range(3))
    checkpoint.save(path, FleetRecord(1, "d", members=abouts, **checkpoint.place(CPU)), {"weights": np.ones((2, 3))})
    member: Any = SimpleNamespace(digest="digest", seed=2, extension="")
    assert checkpoint.take([member], checkpoint.find(tmp_path, "d", CPU), {"weights": (3,)}) == []


def test_a_file_is_whole_where_every_array_can_be_read(tmp_path: Path) -> None:
    header = FleetRecord(3, "data", "2.8.0", "cpu", (MemberRecord(("a", 1), 1.0, [], []),))
    checkpoint.save(tmp_path / "fleet.npz", header, {"weights": np.arange(100.0).reshape(1, 100)})
    assert checkpoint.whole(tmp_path / "fleet.npz") == header
    content = bytearray((tmp_path / "fleet.npz").read_bytes())
    content[-400] ^= 1  # of an array: the header can still be read
    (tmp_path / "fleet.npz").write_bytes(content)
    assert checkpoint.whole(tmp_path / "fleet.npz") is None
    assert checkpoint.whole(tmp_path / "none.npz") is None
