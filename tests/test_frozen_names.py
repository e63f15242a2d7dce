"""What trainings and plans are called in stores, and what is drawn for them, stays as version 0.1.0 had it.

`fixtures/digests.json` is of commit eb35146. A recipe's digest and a draw must never change: runs that are done would
be trained again, or would be paired with others that are not their like. A plan's digest is of its words too and of the
names of the techniques that 0.1.0 had; where one is to change, the plan is logged anew beside its runs, and its entry
here is replaced by hand, with a line in the changelog. What came later stands here as it was when it came.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cifar_ablations.ablations import catalog, profiles
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.training.engine import split
from cifar_ablations.study.training.fleet import Member, initialised
from cifar_ablations.study.training.randomness import StepDraws, halves, key, permutation
from cifar_ablations.study.training.step import order

FROZEN = json.loads((Path(__file__).parent / "fixtures" / "digests.json").read_text())

SEEDS = (0, 1, 2, 3, 4)
RETUNED = {"dropout": {"optimizer.rate": 0.002}}


def _profile(name: str) -> Profile:
    """A profile at the budget that it had in 0.1.0: what is trained may change, and what it is called may not."""
    found = profiles.profile(name)
    if name == "quick":
        return replace(found, budget=replace(found.budget, epochs=12, train_images=4_000, validation_images=1_000))
    return found


def _baseline(profile: Profile) -> Recipe:
    """The notebook's recipe at a profile's size, in fp32 where that is decided by trying."""
    recipe = profile.apply(catalog.notebook_recipe())
    precision = recipe.budget.precision
    return replace(recipe, budget=replace(recipe.budget, precision="fp32" if precision == "auto" else precision))


@pytest.mark.parametrize("profile", FROZEN["recipes"])
def test_recipes(profile: str) -> None:
    """Every level of every technique in the notebook's recipe."""
    baseline, known = _baseline(_profile(profile)), catalog.techniques()
    frozen = FROZEN["recipes"][profile]
    found = {
        name: {level: baseline.with_technique(known[name].at(level)).digest() for level in levels}
        for name, levels in frozen.items()
    }
    assert found == frozen


@pytest.mark.parametrize("name", FROZEN["plans"])
def test_plans(name: str) -> None:
    quick = _profile("quick")
    baseline = _baseline(quick)
    if name in ("tuned", "gain"):  # compares with the notebook's recipe, and needs another one
        baseline = baseline.set("dropout.p=0.3")
    plan = catalog.make_plan(name, baseline, quick, SEEDS, RETUNED)
    assert (plan.rule.test, plan.rule.correction) == ("welch t", "weighted holm")
    # All of it but the rule is as 0.1.0 had it: with the rule of that time it has the name of that time.
    before = replace(plan, rule=replace(plan.rule, test="paired t", correction="holm"))
    assert before.digest() == FROZEN["plans"][name]


def test_nothing_is_left_out() -> None:
    """What 0.1.0 had is all here."""
    assert set(FROZEN["recipes"]) == {"smoke", "quick", "full"}
    assert min(len(techniques) for techniques in FROZEN["recipes"].values()) >= 18
    assert len(FROZEN["plans"]) >= 29


CPU = torch.device("cpu")
SMALL = [
    "model.width=0.0625",
    "budget.train_images=8",
    "budget.validation_images=4",
    "budget.batch_size=4",
]


def _small(*settings: str) -> Member:
    recipe = catalog.notebook_recipe()
    for setting in (*SMALL, *settings):
        recipe = recipe.set(setting)
    return Member(recipe, 3)


def test_names_are_hashed_alike() -> None:
    assert key(3, "order", 7) == 6281923939438112905
    assert halves(3, "order", 7) == (876294281, 777765140)


def test_draws_of_a_step() -> None:
    """All in whole numbers, the same on every machine."""
    draws = StepDraws.named(CPU, 3, "augmentation", 7)
    assert draws.integers(9, (8,)).tolist() == [4, 3, 0, 0, 0, 5, 7, 8]
    uniform = draws.uniform((2, 2)) * 2**24
    assert uniform.tolist() == [[11880334, 7817762], [1056232, 12126229]]


def test_permutations() -> None:
    assert permutation(10, 0, "split").tolist() == [9, 8, 3, 1, 6, 4, 5, 0, 2, 7]
    assert permutation(10, 1, "order", 2).tolist() == [5, 3, 4, 1, 7, 8, 2, 6, 9, 0]


def test_images_of_a_seed_and_the_order_of_visits() -> None:
    member, labels = _small(), torch.arange(20) % 10
    train, validation = split(20, member)
    assert train.tolist() == [10, 19, 0, 8, 4, 5, 9, 16]
    assert validation.tolist() == [18, 3, 7, 6]
    assert order(member, train, labels, 0).tolist() == [4, 8, 0, 16, 9, 19, 10, 5]
    assert order(member, train, labels, 1).tolist() == [10, 19, 0, 5, 4, 16, 8, 9]


FIRST_WEIGHTS = {
    "notebook": {
        "convolutions.0.weight": [-0.356315, 0.303330, 0.445243],
        "convolutions.1.weight": [0.016993, 0.130546, 0.123859],
        "convolutions.2.weight": [0.035821, 0.242029, 0.187594],
        "convolutions.3.weight": [-0.128263, -0.120878, -0.130210],
        "hidden.weight": [0.123828, -0.123575, -0.122818],
        "classifier.weight": [0.265470, -0.011879, 0.396578],
    },
    "notebook-deeper": {
        "convolutions.0.weight": [-0.356315, 0.303330, 0.445243],
        "convolutions.1.weight": [0.016993, 0.130546, 0.123859],
        "convolutions.2.weight": [0.035821, 0.242029, 0.187594],
        "convolutions.3.weight": [-0.128263, -0.120878, -0.130210],
        "convolutions.4.weight": [-0.146342, 0.194128, 0.001488],
        "convolutions.5.weight": [0.059940, -0.110473, -0.143307],
        "hidden.weight": [0.123828, -0.123575, -0.122818],
        "classifier.weight": [0.265470, -0.011879, 0.396578],
    },
    "resnet9": {
        "features.0.0.weight": [0.241756, -0.022741, 0.402750],
        "features.1.0.weight": [0.293531, -0.290929, -0.318640],
        "features.2.body.0.0.weight": [0.102826, -0.056458, -0.255751],
        "features.2.body.1.0.weight": [-0.033662, 0.009828, -0.178903],
        "features.3.0.weight": [0.011261, -0.070838, -0.053872],
        "features.4.0.weight": [-0.011348, 0.013045, 0.070056],
        "features.5.body.0.0.weight": [-0.003863, -0.005400, -0.014458],
        "features.5.body.1.0.weight": [0.142894, 0.022443, 0.104511],
        "classifier.weight": [0.265470, -0.011879, 0.396578],
    },
    "convnext": {
        "features.0.weight": [-0.604352, -0.208257, -0.536952],
        "features.2.scale": [0.100000, 0.100000, 0.100000],
        "features.2.body.0.weight": [0.055265, -0.178589, 0.177058],
        "features.2.body.2.weight": [-0.140290, 0.920292, 1.163504],
        "features.2.body.4.weight": [-0.378046, -0.092497, 0.067483],
        "features.3.scale": [0.100000, 0.100000, 0.100000],
        "features.3.body.0.weight": [-0.052864, 0.129919, -0.033453],
        "features.3.body.2.weight": [-0.740700, 0.258145, 0.069139],
        "features.3.body.4.weight": [0.488396, -0.397836, 0.568416],
        "features.5.weight": [-0.335772, 0.255336, -0.180736],
        "features.6.scale": [0.100000, 0.100000, 0.100000],
        "features.6.body.0.weight": [-0.276050, 0.307732, -0.324887],
        "features.6.body.2.weight": [-0.580411, -0.018523, 0.563324],
        "features.6.body.4.weight": [-0.274107, 0.345062, 0.058661],
        "features.7.scale": [0.100000, 0.100000, 0.100000],
        "features.7.body.0.weight": [0.257240, 0.227666, -0.271584],
        "features.7.body.2.weight": [0.291951, -0.068515, 0.668145],
        "features.7.body.4.weight": [0.418000, 0.111474, -0.147015],
        "features.9.weight": [0.152727, -0.058492, 0.394638],
        "features.10.scale": [0.100000, 0.100000, 0.100000],
        "features.10.body.0.weight": [0.250608, -0.020480, -0.092119],
        "features.10.body.2.weight": [-0.455047, -0.325544, 0.351206],
        "features.10.body.4.weight": [-0.259752, -0.011520, -0.032605],
        "features.11.scale": [0.100000, 0.100000, 0.100000],
        "features.11.body.0.weight": [0.067895, -0.341710, 0.109314],
        "features.11.body.2.weight": [-0.562737, 0.484533, 0.207591],
        "features.11.body.4.weight": [0.008087, 0.055383, -0.225135],
        "classifier.weight": [0.375431, -0.016799, 0.560846],
    },
}


@pytest.mark.parametrize("network", FIRST_WEIGHTS)
def test_first_weights(network: str) -> None:
    """A layer's draws are named by its place in the network: to rename one is to start other trainings."""
    layers = dict(initialised(_small(f"model.name={network}"), 10).named_parameters())
    for name, first in FIRST_WEIGHTS[network].items():
        # The last bits of what a generator draws depend on the processor.
        assert layers[name].flatten()[:3].tolist() == pytest.approx(first, abs=1e-5), name
    weights = {name for name, parameter in layers.items() if parameter.dim() > 1}
    assert weights == set(FIRST_WEIGHTS[network])


@pytest.mark.parametrize(
    ("scheme", "first"),
    [
        ("off", [0.108378, -0.004849, 0.161902]),
        ("on", [0.265470, -0.011879, 0.396578]),
        ("normal_1", [-1.665927, -1.146966, 0.659219]),
        ("normal_0.01", [-0.016659, -0.011470, 0.006592]),
        ("xavier_uniform", [0.231721, -0.010369, 0.346162]),
        ("xavier_normal", [-0.363535, -0.250288, 0.143853]),
        ("kaiming_normal", [-0.416482, -0.286741, 0.164805]),
        ("orthogonal", [-0.267106, -0.183899, 0.105696]),
    ],
)
def test_first_weights_of_each_scheme(scheme: str, first: list[float]) -> None:
    layers = dict(initialised(_small(f"initialisation={scheme}"), 10).named_parameters())
    assert layers["classifier.weight"].flatten()[:3].tolist() == pytest.approx(first, abs=1e-5)
