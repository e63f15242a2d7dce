"""The notebook's exercises, each answered by a small measurement."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_ablations.ablations.record import CheckRecord, LinkRecord
from cifar_ablations.ablations.techniques.dropout import inverted_mask
from cifar_ablations.ablations.techniques.initialisation import SCHEMES
from cifar_ablations.ablations.techniques.shuffling import Shuffling
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.foundations.demonstration import (
    CLOSED_FORM,
    Demonstration,
    between,
    farthest,
    near,
    says,
)
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import StepDraws, key, permutation, seeded

NAME = "exercises"
TITLE = "The exercises, answered"
CHAPTER = 10

CPU = torch.device("cpu")
SCALED, UNSCALED = "scaled by 1 / (1 − p)", "not scaled"
INPUTS, OUTPUTS, DRAWS = 400, 100, 40
WIDTHS = {
    "1 / inputs": (1 / INPUTS) ** 0.5,
    "1 / outputs": (1 / OUTPUTS) ** 0.5,
    "Xavier": (2 / (INPUTS + OUTPUTS)) ** 0.5,
}
"""The weights' standard deviation: made for the way forward, for the way back, and for both at once."""

CLASSES, FEATURES, TRAIN, TEST, BATCH, RATE, REPEATS, ORDERS = 10, 20, 2_000, 2_000, 20, 0.1, 20, 50


def run(seed: int) -> Demonstration:
    """Dropout with and without scaling, orders of training and of test images, and variances forward and backward."""
    scaling = _scaling(seed)
    order, spread = _orders(seed)
    directions = _directions(seed)
    checks = (*_of_scaling(scaling), *_of_orders(order, spread), *_of_directions(directions), _two_sums(seed))
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="What do the notebook's questions come to when they are measured?",
        idea=(
            "The notebook leaves several questions to its reader. Here each has a number: what the next layer receives "
            "when dropout does not scale, what an order changes in training and in testing, and what the way back asks "
            "of the weights that the way forward does not. The last exercise, a sweep of learning rates on CIFAR-10, "
            "is a plan of its own."
        ),
        frames={"answers": _answers(), "scaling": scaling, "orders": order, "directions": directions},
        checks=checks,
        links=(
            LinkRecord("learning-rate-sweep", "three rates or more, and dropout and weight decay at the best one"),
            LinkRecord("levels/shuffling", "orders of the training images, on the network"),
            LinkRecord("levels/initialisation", "weights made for the way forward, on the network"),
        ),
    )


def _answers() -> pd.DataFrame:
    rows = (
        (
            "Why does dropout scale what it keeps?",
            "So that the next layer receives the same sum on average in training as in testing, when nothing "
            "is dropped.",
        ),
        (
            "What do the plots of activation functions and their slopes say?",
            "How much of a gradient each lets through: a quarter at most, all or nothing, all or a fifth. See "
            "chapter 4.",
        ),
        (
            "How can weights be drawn so that nothing explodes?",
            "With a variance of one over the number of inputs, or two over it under ReLU. See chapter 5.",
        ),
        (
            "What does the way back ask for?",
            "A variance of one over the number of outputs; Xavier's 2 / (inputs + outputs) is between the two, and "
            "exact for both where they are equal.",
        ),
        (
            "Why need the test images not be shuffled?",
            "Nothing is learnt from them, and a mean is the same in any order. In training every step depends on those "
            "before it.",
        ),
        (
            "Why are there two sums in the line that computes the penalty?",
            "One over the tensors of the model, one over the elements of each.",
        ),
    )
    return pd.DataFrame(rows, columns=["question", "answer"])


def _scaling(seed: int) -> pd.DataFrame:
    """The mean of the sums that the next layer receives in training, as a share of those in testing, by p."""
    generator = torch.Generator().manual_seed(key(seed, "foundations", NAME, "scaling"))
    activations = torch.rand(400, generator=generator)
    weights = torch.rand(400, 50, generator=generator)
    tested = (activations @ weights).mean()
    rows = []
    for i in range(1, 10):
        p = i / 10
        mask = inverted_mask(StepDraws.named(CPU, seed, "foundations", NAME, "mask", i).uniform((2_000, 400)), p)
        for how, factor in ((SCALED, 1.0), (UNSCALED, 1 - p)):
            received = (activations * mask * factor) @ weights
            rows.append({"p": p, "how": how, "share": float(received.mean() / tested)})
    return pd.DataFrame(rows)


def _of_scaling(frame: pd.DataFrame) -> list[CheckRecord]:
    by_p = frame.pivot(index="p", columns="how", values="share")
    ratio = by_p[UNSCALED].to_numpy() / (1 - by_p.index.to_numpy())
    return [
        near(
            "Why scale? Without it the next layer receives 1 − p of what it gets in testing: ratio farthest from 1",
            expected=1,
            found=farthest(ratio),
            tolerance=0.02,
            source=CLOSED_FORM,
        ),
        near(
            "With scaling it receives all of it: share farthest from 1",
            expected=1,
            found=farthest(by_p[SCALED]),
            tolerance=0.02,
            source=says("the expected sum stays roughly the same"),
        ),
    ]


def _orders(seed: int) -> tuple[pd.DataFrame, float]:
    """Accuracy of a softmax regression on ten Gaussian classes after an epoch in different orders.

    Also how much the accuracy of one trained model differs between ORDERS orders of the test examples.
    """
    generator = torch.Generator().manual_seed(key(seed, "foundations", NAME, "examples"))
    centres = torch.randn(CLASSES, FEATURES, generator=generator)
    labels = torch.arange(TRAIN + TEST) % CLASSES
    x = centres[labels] + 1.5 * torch.randn(TRAIN + TEST, FEATURES, generator=generator)
    x = torch.cat([x, torch.ones(TRAIN + TEST, 1)], dim=1)
    kinds = {"shuffled": Shuffling(), "sorted by class": Shuffling(kind="sorted")}
    rows = []
    for kind, technique in kinds.items():
        for repeat in range(REPEATS):
            shuffled = permutation(TRAIN, seed, "foundations", NAME, "order", repeat)
            weights = _train(x, labels, technique.order(shuffled, shuffled, labels))
            right = (x[TRAIN:] @ weights).argmax(dim=1) == labels[TRAIN:]
            rows.append({"order": kind, "repeat": repeat, "accuracy": float(right.double().mean())})
    accuracies = [
        float(
            torch.cat([(x[part] @ weights).argmax(dim=1) == labels[part] for part in order.split(100)]).double().mean()
        )
        for order in (TRAIN + permutation(TEST, seed, "foundations", NAME, "test", i) for i in range(ORDERS))
    ]
    return pd.DataFrame(rows), max(accuracies) - min(accuracies)


def _train(x: Tensor, labels: Tensor, order: Tensor) -> Tensor:
    """Weights [features + 1, classes] after one epoch of SGD in that order."""
    weights = torch.zeros(1, (FEATURES + 1) * CLASSES)
    matrix, steps = weights.view(FEATURES + 1, CLASSES), len(order) // BATCH
    optimizer = FleetOptimizer(weights, [UpdateRule()], torch.full((steps, 1), RATE, dtype=torch.float64))
    for step, batch in enumerate(order.split(BATCH)):
        errors = (x[batch] @ matrix).softmax(dim=1) - F.one_hot(labels[batch], CLASSES)
        optimizer.step(torch.tensor([step]), weights, (x[batch].T @ errors / BATCH).reshape(1, -1))
    return matrix


def _of_orders(frame: pd.DataFrame, spread: float) -> list[CheckRecord]:
    means = frame.groupby("order")["accuracy"].mean()
    return [
        near(
            "Why not shuffle for the test? Accuracy over 50 orders of the test examples: highest less lowest",
            expected=0,
            found=spread,
            tolerance=0,
            source=says("unnecessary"),
        ),
        between(
            "For training it matters: accuracy after an epoch in random order less that in the order of classes",
            expected=0,
            found=means["shuffled"] - means["sorted by class"],
            low=0.05,
            high=None,
            source=says("an order biases gradients"),
        ),
    ]


def _directions(seed: int) -> pd.DataFrame:
    """The factors by which a layer of 400 inputs and 100 outputs changes mean squares of signals and of gradients."""
    rows = []
    for name, deviation in WIDTHS.items():
        with seeded(seed, "foundations", NAME, "directions"):
            for draw in range(DRAWS):
                # Xavier by the engine's own scheme, the other two by their definitions.
                weight = torch.empty(OUTPUTS, INPUTS)
                weight = SCHEMES["xavier_normal"](weight) if name == "Xavier" else weight.normal_(std=deviation)
                x, back = torch.randn(64, INPUTS), torch.randn(64, OUTPUTS)
                for way, found in (("forward", x @ weight.T), ("backward", back @ weight)):
                    square = float(found.double().square().mean())
                    n = INPUTS if way == "forward" else OUTPUTS
                    rows.append(
                        {"weights": name, "way": way, "draw": draw, "factor": square, "theory": n * deviation**2}
                    )
    return pd.DataFrame(rows)


def _of_directions(frame: pd.DataFrame) -> list[CheckRecord]:
    means = frame.groupby(["weights", "way"])[["factor", "theory"]].mean().to_dict("index")
    words = {
        ("1 / inputs", "forward"): "Made for the way forward, weights keep signals",
        ("1 / inputs", "backward"): "Made for the way forward, they shrink gradients to outputs / inputs",
        ("1 / outputs", "backward"): "Made for the way back, they keep gradients",
        ("Xavier", "forward"): "Xavier's compromise multiplies signals by 2 · inputs / (inputs + outputs)",
        (
            "Xavier",
            "backward",
        ): "Xavier's compromise multiplies gradients by 2 · outputs / (inputs + outputs), the other's difference to 2",
    }
    return [
        near(
            f"{statement}: factor of the mean square",
            expected=means[which]["theory"],
            found=means[which]["factor"],
            tolerance=0.03 * means[which]["theory"],
            source=CLOSED_FORM,
        )
        for which, statement in words.items()
    ]


def _two_sums(seed: int) -> CheckRecord:
    """The penalty by tensor and element, and as half the squared norm of one long vector."""
    with seeded(seed, "foundations", NAME, "sums"):
        layer = torch.nn.Linear(200, 1)
    by_tensor = sum(float(p.detach().double().square().sum()) for p in layer.parameters()) / 2
    whole = torch.cat([p.detach().double().flatten() for p in layer.parameters()])
    return near(
        "The two sums of the penalty make half the squared norm of all weights as one vector: difference",
        expected=0,
        found=by_tensor - float(whole @ whole) / 2,
        tolerance=1e-12,
        source=CLOSED_FORM,
    )
