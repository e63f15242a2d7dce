"""Cross entropy and its gradient in one pass are torch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cifar_ablations.study.training.gpu.loss import cross_entropy


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("batch", "classes"), [(1, 2), (37, 10), (64, 100)])
def test_it_is_torchs(batch: int, classes: int, dtype: torch.dtype, device: torch.device) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(batch, classes, device=device) * 5).to(dtype)
    targets = torch.rand(batch, classes, device=device).softmax(dim=1)
    targets[0] = F.one_hot(torch.tensor(1), classes)
    reference = logits.clone().requires_grad_()
    expected = F.cross_entropy(reference.float(), targets)
    loss, slope = cross_entropy(logits, targets)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(expected, reference)[0], rtol=1.6e-2, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(value: float, device: torch.device) -> None:
    logits = torch.zeros(3, 4, device=device)
    logits[1, 2] = value
    loss, _ = cross_entropy(logits, torch.eye(4, device=device)[:3])
    assert not torch.isfinite(loss)
