"""Running averages of weights against torch.optim.swa_utils and the algorithm of Lookahead's paper."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import swa_utils

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import RunningAverage
from cifar_ablations.ablations.techniques.early_stopping import EarlyStopping
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.ablations.techniques.weight_averaging import WeightAveraging, exponential
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import averaging
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome, Training, train
from cifar_ablations.study.training.evaluation import KNOWN_IMAGES
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.step import normalize

CPU = torch.device("cpu")
TIMES = {schema.SECONDS, schema.IMAGES_PER_SECOND}
EPOCHS, STEPS = 4, 3
DECAY = 0.4
AVERAGES = {
    "ema": WeightAveraging(kind="ema", decay=DECAY),
    "late ema": WeightAveraging(kind="ema", decay=DECAY, start=0.5),
    "swa": WeightAveraging(kind="swa", start=0.5),
    "lookahead": WeightAveraging(kind="lookahead", every=4, alpha=0.6),
}


@pytest.fixture(scope="module")
def longer(recipe: Recipe) -> Recipe:
    made = recipe.set(f"budget.epochs={EPOCHS}")
    assert made.budget.steps_per_epoch == STEPS
    return made


def _steps(training: Training) -> list[Tensor]:
    """The weights of the first member after every step of its training."""
    weights, stepper = [], training._stepper
    step = stepper.average.step

    def noted(number: Tensor) -> None:
        weights.append(training.fleet.weights[0].clone())
        step(number)

    stepper.average.step = noted  # type: ignore[method-assign]
    for _ in range(EPOCHS):
        training.run_epoch()
    return weights


def _ema(average: Tensor, newest: Tensor, taken: Tensor) -> Tensor:
    """With TensorFlow's decay for a number of updates; both DECAY and a smaller one are met in these steps."""
    decay = min(DECAY, (1 + float(taken)) / (10 + float(taken)))
    return decay * average + (1 - decay) * newest


@pytest.mark.parametrize("name", ["ema", "late ema", "swa"])
def test_an_average_is_torchs(name: str, longer: Recipe, tiny_data: Dataset, backend: str) -> None:
    training = Training([Member(longer.with_technique(AVERAGES[name]), 3)], tiny_data, CPU, backend=backend)
    weights = _steps(training)
    holder = nn.ParameterList([torch.zeros_like(weights[0])])
    averaged = swa_utils.AveragedModel(holder, avg_fn=_ema if name != "swa" else None)
    for number, after in enumerate(weights):
        holder[0].data.copy_(after)
        ended = (number + 1) % STEPS == 0
        if name == "ema" or (name == "late ema" and number >= 6) or (name == "swa" and ended and number >= 5):
            averaged.update_parameters(holder)
    (expected,) = averaged.parameters()
    found = training.average.of(0)
    assert found is not None
    torch.testing.assert_close(found, expected.detach())
    assert not torch.equal(found, training.fleet.weights[0])


def test_of_a_short_training_little_of_the_beginning_is_left() -> None:
    """By a decay of 0.99 alone, 0.62 of the average of 48 steps were the first weights."""
    shares = exponential(48, 0.99, 0.0)
    assert (1 - shares[1:]).prod() < 1e-6
    whole = exponential(2_000, 0.99, 0.0)
    assert (whole[1_000:] - 0.01).abs().max() < 1e-12


@pytest.mark.parametrize("level", ["ema", "swa"])
def test_ema_and_swa_leave_the_training_as_it_is(level: str, longer: Recipe, tiny_data: Dataset, backend: str) -> None:
    recipes = (longer.set("dropout=on"), longer.set("dropout=on").with_technique(WeightAveraging.at(level)))
    trainings = [Training([Member(one, 3)], tiny_data, CPU, backend=backend) for one in recipes]
    for training in trainings:
        for _ in range(EPOCHS):
            training.run_epoch()
    without, with_it = trainings
    assert torch.equal(without.fleet.weights, with_it.fleet.weights)


def test_lookahead_is_the_papers_algorithm(longer: Recipe, tiny_data: Dataset, backend: str) -> None:
    """Zhang et al. 2019, algorithm 1, around torch's SGD, on the gradients that the engine had."""
    recipe = longer.with_technique(Optimizer.at("momentum")).without("weight_decay")
    training = Training([Member(recipe.with_technique(AVERAGES["lookahead"]), 3)], tiny_data, CPU, backend=backend)
    slow = training.fleet.weights[0].clone()
    fast = slow.clone().requires_grad_()
    optimizer = torch.optim.SGD([fast], lr=1.0, momentum=0.9)
    rates, step, taken = training.optimizer.rates[:, 0].tolist(), training.average.step, []

    def noted(number: Tensor) -> None:
        nonlocal slow
        optimizer.param_groups[0]["lr"] = rates[len(taken)]
        fast.grad = training.fleet.gradients[0].clone()
        optimizer.step()
        taken.append(None)
        torch.testing.assert_close(training.fleet.weights[0], fast.detach())
        if len(taken) % 4 == 0:
            slow = slow + 0.6 * (fast.detach() - slow)
            fast.data.copy_(slow)
        step(number)
        torch.testing.assert_close(training.fleet.weights[0], fast.detach())

    training.average.step = noted  # type: ignore[method-assign]
    for _ in range(EPOCHS):
        training.run_epoch()
    found = training.average.of(0)
    assert len(taken) == EPOCHS * STEPS
    assert found is not None
    torch.testing.assert_close(found, slow)


def test_the_network_is_measured_and_kept_with_the_average(longer: Recipe, tiny_data: Dataset, backend: str) -> None:
    members = [Member(longer.with_technique(AVERAGES["ema"]), 3), Member(longer, 3)]
    training = Training(members, tiny_data, CPU, backend=backend, keep_weights=True)
    for _ in range(EPOCHS):
        events = [event for event in training.run_epoch() if isinstance(event, Epoch)]
    own = training.fleet.weights.clone()
    (row,) = [row for row, member in enumerate(training.fleet.members) if member == members[0]]
    average = training.average.of(row)
    assert average is not None
    average = average.clone()
    assert average.shape == own[row].shape
    outcomes = {outcome.member: outcome for outcome in training.outcomes(range(2), schema.FINISHED)}
    assert torch.equal(training.fleet.weights, own), "the weights in training are put back"
    network = deepcopy(training.fleet.networks[row]).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(training.fleet.view(average[None], 0, name, parameter.shape))
        kept = outcomes[members[0]].weights
        assert kept is not None
        for name, values in network.state_dict().items():
            assert np.array_equal(kept.arrays[name], values.numpy())
        mean, std = training.evaluator.scales[members[0]]
        _, validation = training._splits[3]
        logits = network(normalize(tiny_data.train_images[validation], mean, std))
        loss = nn.functional.cross_entropy(logits, tiny_data.train_labels[validation])
    (measured,) = [event.metrics[schema.VALIDATION_LOSS] for event in events if event.member == members[0]]
    assert measured == pytest.approx(loss.item(), rel=1e-5)


def test_statistics_are_those_of_torchs_update_bn() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))
    batches = list(torch.randn(4, 8, 3, 8, 8))
    theirs = deepcopy(network)
    swa_utils.update_bn(batches, theirs)
    averaging.estimate_statistics(network, iter(batches))
    for name, values in theirs.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], values)
    assert [m.momentum for m in network if isinstance(m, nn.BatchNorm2d)] == [0.1, 0.1]
    assert not any(m.training for m in network.modules() if m is not network)


@pytest.mark.slow
def test_the_average_of_a_network_with_batch_normalisation_is_measured_with_statistics_of_its_own(
    longer: Recipe, tiny_data: Dataset
) -> None:
    normed = longer.set("model.name=resnet9").set("model.width=0.0625").with_technique(WeightAveraging.at("swa"))
    member = Member(normed, 3)
    training = Training([member], tiny_data, CPU)
    for _ in range(2):
        training.run_epoch()
    buffers = {name: values.clone() for name, values in training.fleet.state().items()}
    with training._measured():
        measured = deepcopy(training.fleet.networks[0])
    for name, values in training.fleet.state().items():
        assert torch.equal(values, buffers[name]), "what training goes on with is put back"
    theirs = deepcopy(measured)
    images, _ = training._splits[3]
    batch = normalize(tiny_data.train_images[images[:KNOWN_IMAGES]], *training.evaluator.scales[member])
    for module in theirs.modules():
        module.mask = None  # of the last step
    swa_utils.update_bn([batch], theirs)
    for name, values in theirs.state_dict().items():
        torch.testing.assert_close(measured.state_dict()[name], values, rtol=1e-4, atol=1e-5)


def _told(members: list[Member], data: Dataset, backend: str, **more: object) -> dict[Member, list[str]]:
    told: dict[Member, list[str]] = {member: [] for member in members}

    def report(event: Epoch | Outcome) -> None:
        metrics = {name: value for name, value in event.metrics.items() if name not in TIMES}
        kept = event.weights.arrays if isinstance(event, Outcome) and event.weights else {}
        sums = {name: float(np.abs(values).sum(dtype=np.float64)) for name, values in kept.items()}
        told[event.member].append(repr((event.epoch if isinstance(event, Epoch) else event.outcome, metrics, sums)))

    train(members, data, CPU, report, backend=backend, keep_weights=True, **more)  # type: ignore[arg-type]
    return told


@pytest.fixture(scope="module")
def members(longer: Recipe) -> list[Member]:
    """Every average, with rules that are adaptive and others, one that stops early, one that diverges, one without."""
    recipes = [longer.with_technique(average) for average in AVERAGES.values()]
    recipes += [one.with_technique(Optimizer.at("momentum")) for one in recipes]
    stops = recipes[1].set("optimizer.rate=0.1").with_technique(EarlyStopping(patience=1))
    wild = recipes[4].with_technique(Optimizer(rate=100.0)).set("weight_decay.strength=1")
    return [Member(one, seed) for seed, one in enumerate([stops, *recipes, wild, longer, longer.set("optimizer=off")])]


@pytest.mark.slow
def test_alone_beside_others_and_after_an_interruption_a_member_is_the_same(
    members: list[Member], tiny_data: Dataset, tmp_path: Path, backend: str
) -> None:
    together = _told(members, tiny_data, backend)
    said = " ".join(told[-1] for told in together.values())
    assert schema.DIVERGED in said
    assert schema.STOPPED in said
    alone = {member: _told([member], tiny_data, backend)[member] for member in members}
    assert alone == together
    places = Checkpoints(tmp_path, seconds=0)
    _told(members, tiny_data, backend, checkpoints=places, until_epoch=3)
    left = [member for member in members if len(together[member]) > EPOCHS]
    assert len(left) >= len(members) - 2
    gone_on = _told(left[::2], tiny_data, backend, checkpoints=places) | _told(
        left[1::2], tiny_data, backend, checkpoints=places
    )
    assert gone_on == {member: together[member] for member in left}


def test_a_file_without_the_average_starts_the_training_anew(
    longer: Recipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    member = Member(longer.with_technique(AVERAGES["ema"]), 0)
    whole, places = _told([member], tiny_data, "torch"), Checkpoints(tmp_path, seconds=0)
    _told([member], tiny_data, "torch", checkpoints=places, until_epoch=1)
    (path,) = tmp_path.iterdir()
    with np.load(path) as file:
        arrays = dict(file)
    assert arrays.pop("own.0.average").any()
    np.savez(path, **arrays)
    assert _told([member], tiny_data, "torch", checkpoints=places) == whole


def test_members_with_an_average_stand_beside_each_other(members: list[Member]) -> None:
    placed = sorted(members, key=averaging.place)
    fleet = Fleet(placed, 10, CPU)
    average = averaging.FleetAverage(fleet)
    assert [average.of(row) is not None for row in range(len(placed))] == [
        member.recipe.running_average() is not None for member in placed
    ]
    assert len(average.weights) == len(members) - 2
    # Nothing is laid out for a fleet that has none, and its members stand as they always did.
    plain = [member for member in members if member.recipe.running_average() is None]
    assert not len(averaging.FleetAverage(Fleet(plain, 10, CPU)).weights)
    assert sorted(plain, key=averaging.place) == sorted(plain, key=lambda m: not m.recipe.update_rule().adaptive)


def test_two_averages_are_refused(longer: Recipe) -> None:
    class Another(WeightAveraging):
        name = "another"

        def average(self, epochs: int, steps_per_epoch: int) -> RunningAverage | None:
            return RunningAverage(torch.ones(epochs * steps_per_epoch))

    both = longer.with_technique(AVERAGES["ema"]).with_technique(Another())
    with pytest.raises(AblateError, match="measured with one average"):
        both.running_average()
