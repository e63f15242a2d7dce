"""Shares from a symmetric beta distribution, where its quantiles have a closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cifar_ablations.ablations.beta import QUANTILES, beta, quantiles

CPU = torch.device("cpu")
AT = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES


def test_quantiles_of_the_uniform_distribution_are_themselves() -> None:
    torch.testing.assert_close(quantiles(1.0, CPU), AT.float())


def test_quantiles_of_the_arcsine_distribution_are_a_squared_sine() -> None:
    torch.testing.assert_close(quantiles(0.5, CPU), torch.sin(torch.pi / 2 * AT).square().float())


def test_a_share_is_the_quantile_that_was_drawn() -> None:
    drawn = torch.tensor([0, QUANTILES - 1, 7])

    def integers(bound: int, shape: Sequence[int]) -> Tensor:
        assert (bound, tuple(shape)) == (QUANTILES, (3,))
        return drawn

    assert beta(integers, 1.0, 3, CPU).tolist() == AT[drawn].float().tolist()
