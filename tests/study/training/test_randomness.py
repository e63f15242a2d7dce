"""Draws: pure, uniform, and independent of each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from cifar_ablations.study.training.randomness import ImageVisits, StepDraws, halves, key, permutation, seeded

CPU = torch.device("cpu")
FROZEN = [10866062, 14329638, 2509738, 8971948]


def test_a_draw_depends_on_its_name_and_nothing_else() -> None:
    torch.manual_seed(1)
    first = StepDraws.named(CPU, 3, "dropout", 7).uniform((50,))
    torch.manual_seed(2)
    StepDraws.named(CPU, 3, "dropout", 8).uniform((50,))
    assert torch.equal(first, StepDraws.named(CPU, 3, "dropout", 7).uniform((50,)))
    assert torch.equal(permutation(20, 3, "order", 0), permutation(20, 3, "order", 0))
    assert not torch.equal(permutation(20, 3, "order", 0), permutation(20, 3, "order", 1))


def test_names_do_not_run_into_each_other() -> None:
    assert len({key(1, 23), key(12, 3), key(1, 2, 3), key("1", "2"), key(123)}) == 5


def test_seeding_a_block_leaves_the_generator_outside_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(0, "weights"):
        torch.rand(10)
    assert torch.equal(torch.rand(3), expected)


def test_seeding_a_block_leaves_the_generators_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU was seeded"))
    with seeded(0, "weights"):
        torch.rand(10)


def test_draws_are_the_frozen_ones() -> None:
    # A changed hash would silently change every run; these digits are the agreement between machines.
    drawn = (StepDraws.named(CPU, 0, "frozen").uniform((4,)) * 2**24).to(torch.int64).tolist()
    assert drawn == FROZEN


def test_an_image_has_one_number_in_every_epoch_and_batch_and_another_with_another_seed() -> None:
    def of(seed: int, images: torch.Tensor, step: int) -> torch.Tensor:
        name = torch.tensor(halves(seed, "augmentation", "images"), dtype=torch.int32)
        visits = ImageVisits(name, images, torch.tensor([step]), 10)
        assert visits.epoch().tolist() == [step // 10]
        return visits.uniform()

    images = torch.arange(50_000)
    drawn = of(0, images, 0)
    assert images.tolist() == list(range(50_000)), "they are not used up"
    assert torch.equal(of(0, images[[7, 3]], 23), drawn[[7, 3]])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(drawn.numpy(), of(1, images, 0).numpy())[0, 1]) < 0.02
    assert abs(np.corrcoef(drawn[1:].numpy(), drawn[:-1].numpy())[0, 1]) < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_uniform_is_uniform(seed: int) -> None:
    drawn = StepDraws.named(CPU, seed, "test").uniform((200_000,)).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn, "uniform").pvalue > 1e-4


def test_all_crop_positions_are_equally_likely() -> None:
    draws = StepDraws.named(CPU, 0, "crop")
    top, left = draws.integers(9, (81_000,)), draws.integers(9, (81_000,))
    counts = torch.bincount(top * 9 + left, minlength=81).numpy()
    assert counts.min() > 0
    assert stats.chisquare(counts).pvalue > 1e-4


def test_neighbours_steps_calls_and_purposes_are_uncorrelated() -> None:
    size = 100_000
    draws = StepDraws.named(CPU, 0, "mask", 0)
    first, second = draws.uniform((size,)), draws.uniform((size,))
    others = [
        second,
        StepDraws.named(CPU, 0, "mask", 1).uniform((size,)),
        StepDraws.named(CPU, 1, "mask", 0).uniform((size,)),
        StepDraws.named(CPU, 0, "crop", 0).uniform((size,)),
        first.roll(1),
        first.roll(512),
    ]
    for other in others:
        r = np.corrcoef(first.numpy(), other.numpy())[0, 1]
        assert abs(r) < 5 / np.sqrt(size)
