"""How sure the network is of its answers on test images, right or wrong."""

from __future__ import annotations

from cifar_ablations.ablations.metrics import ENDING, Ended, Metric


def confidence(end: Ended) -> float:
    """The mean over test images of the largest class probability."""
    return float(end.log_probabilities.exp().amax(dim=1).mean())


METRIC = Metric("the confidence of predictions", ENDING, share=True, of_training=confidence)
