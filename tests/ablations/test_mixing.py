"""Mixup, CutMix and label smoothing against torchvision's and torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional as F
from torchvision.transforms import v2

from cifar_ablations.ablations.beta import beta
from cifar_ablations.ablations.techniques.cutmix import Cutmix, paste
from cifar_ablations.ablations.techniques.label_smoothing import LabelSmoothing, smooth
from cifar_ablations.ablations.techniques.mixup import Mixup, blend
from cifar_ablations.study.training.randomness import StepDraws

CPU = torch.device("cpu")


def _batch(seed: int = 0, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (size,), generator=generator)
    return torch.randn(size, 3, 32, 32, generator=generator), F.one_hot(labels, 10).float()


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.integers(0, 99))
def test_mixup_is_torchvisions_for_one_share(share: float, seed: int) -> None:
    images, targets = _batch(seed)
    theirs = v2.MixUp(num_classes=10)
    parameters = {"lam": share, "labels": targets, "batch_size": len(images)}
    ours = blend(images, targets, torch.full((len(images),), share))
    torch.testing.assert_close(ours[0], theirs.transform(images, parameters), rtol=1e-5, atol=1e-5)
    expected = targets.roll(1, 0) * (1 - share) + targets * share
    torch.testing.assert_close(ours[1], expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.integers(0, 31), st.integers(0, 31), st.integers(0, 99))
def test_cutmix_is_torchvisions_for_one_rectangle(share: float, row: int, column: int, seed: int) -> None:
    images, targets = _batch(seed)
    # As torchvision's CutMix.make_params computes its box from the share and the middle.
    half = 0.5 * math.sqrt(1.0 - torch.tensor(share).item())
    reach = int((0.5 * torch.sqrt(1 - torch.tensor(share))) * 32)
    assert abs(reach - half * 32) <= 1
    top, bottom, left, right = (
        max(row - reach, 0),
        min(row + reach, 32),
        max(column - reach, 0),
        min(column + reach, 32),
    )
    kept = 1.0 - (bottom - top) * (right - left) / 1024
    parameters = {"box": (left, top, right, bottom), "lam_adjusted": kept, "labels": targets, "batch_size": len(images)}
    ours = paste(images, targets, torch.full((6,), share), torch.full((6,), row), torch.full((6,), column))
    assert torch.equal(ours[0], v2.CutMix(num_classes=10).transform(images, parameters))
    torch.testing.assert_close(ours[1], targets * kept + targets.roll(1, 0) * (1 - kept), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("technique", [Mixup(alpha=0.4), Cutmix(alpha=1.0), LabelSmoothing(epsilon=0.1)])
def test_labels_stay_probabilities_and_inputs_stay(technique: Mixup | Cutmix | LabelSmoothing) -> None:
    images, targets = _batch()
    before = images.clone(), targets.clone()
    mixed, labels = technique.mix(images, targets, StepDraws.named(CPU, 0, "mix"))
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])
    assert mixed.shape == images.shape
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(6))
    assert (labels >= 0).all()


@pytest.mark.parametrize("technique", [Mixup(alpha=0.4), Cutmix(alpha=1.0)])
def test_every_image_has_a_share_of_its_own(technique: Mixup | Cutmix) -> None:
    images, targets = _batch(size=64)
    _, labels = technique.mix(images, targets, StepDraws.named(CPU, 0, "mix"))
    assert len(labels.amax(dim=1).unique()) > 20


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_smoothing_is_torchs(epsilon: float) -> None:
    logits, (_, targets) = torch.randn(6, 10), _batch()
    ours = F.cross_entropy(logits, smooth(targets, epsilon))
    torch.testing.assert_close(ours, F.cross_entropy(logits, targets.argmax(dim=1), label_smoothing=epsilon))


def test_smoothing_and_mixing_commute() -> None:
    images, targets = _batch()
    share = torch.rand(6)
    torch.testing.assert_close(
        smooth(blend(images, targets, share)[1], 0.1), blend(images, smooth(targets, 0.1), share)[1]
    )


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    drawn = beta(StepDraws.named(CPU, 5, "share").integers, alpha, 4_000, CPU).double().numpy()
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
