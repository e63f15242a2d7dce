"""The coefficients of one optimizer step; the arithmetic that uses them lives in `study.update`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UpdateRule:
    """One member of the family SGD – momentum – RMSProp – Adam.

    With gradient g, weights w and step number t from 1:

        g <- g + coupled_decay * w
        m <- first_decay * m + first_gain * g
        s <- second_decay * s + (1 - second_decay) * g**2                   (adaptive only)
        w <- w - rate * (m / c1) / (sqrt(s / c2) + epsilon)                 (adaptive)
        w <- w - rate * m                                                   (otherwise)

    with c1 = 1 - first_decay**t and c2 = 1 - second_decay**t (Kingma & Ba 2015, Algorithm 1). Plain SGD is
    first_decay = 0, first_gain = 1; PyTorch's momentum keeps first_gain = 1.
    """

    rate: float = 0.1
    first_decay: float = 0.0
    first_gain: float = 1.0
    second_decay: float = 0.0
    epsilon: float = 1e-8
    adaptive: bool = False
    coupled_decay: float = 0.0
