"""The coefficients of one optimizer step; the arithmetic that uses them lives in `study.training.optimizer`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UpdateRule:
    """One member of the family SGD – momentum – Nesterov – RMSProp – Adam – AdamW.

    With gradient g, weights w and step number t from 1:

        g <- g * min(1, max_norm / (|g| + 1e-6))                            (max_norm > 0)
        g <- g + coupled_decay * w
        w <- w - rate * decoupled_decay * w
        m <- first_decay * m + first_gain * g
        s <- second_decay * s + (1 - second_decay) * g**2                   (adaptive only)
        d <- m, or first_decay * m + first_gain * g                         (nesterov)
        w <- w - rate * (d / c1) / (sqrt(s / c2) + epsilon)                 (adaptive)
        w <- w - rate * d                                                   (otherwise)

    with c1 = 1 - first_decay**t and c2 = 1 - second_decay**t where an adaptive rule corrects its bias (Kingma & Ba
    2015, Algorithm 1), else 1. Plain SGD is first_decay = 0, first_gain = 1; PyTorch's momentum keeps first_gain = 1;
    RMSProp is an adaptive rule without a first moment and without correction. Decoupled decay is Loshchilov & Hutter
    2019, Algorithm 2, as torch.optim.AdamW has it. Clipping is torch.nn.utils.clip_grad_norm_.

    Where a rule orthogonalises, the weights of every layer but the last are matrices W, a row for each output, and take
    another step with d = first_decay * m + first_gain * g (Jordan et al. 2024, Muon):

        W <- W - rate * decoupled_decay * W
        W <- W - rate * sqrt(max(1, rows / columns)) * N(d)

    N is five steps of the Newton-Schulz iteration, which takes singular values to about 1. All other weights take the
    rule's own step, at the rate times `rest`.
    """

    rate: float = 0.1
    first_decay: float = 0.0
    first_gain: float = 1.0
    nesterov: bool = False
    second_decay: float = 0.0
    epsilon: float = 1e-8
    adaptive: bool = False
    correct_bias: bool = True
    coupled_decay: float = 0.0
    decoupled_decay: float = 0.0
    max_norm: float = 0.0
    orthogonalised: bool = False
    rest: float = 1.0
