"""The contracts notice what breaks them: each is put before something that does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_ablations.ablations import catalog, metrics
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import contracts
from cifar_ablations.study.training.contracts import Check, Trainings
from tests.own_extension import METRIC, NETWORK, PLAN, SEARCH, TECHNIQUE, named, put_extension


@pytest.fixture
def trainings(recipe: Recipe, tiny_data: Dataset) -> Trainings:
    return Trainings(recipe, tiny_data)


def _failures(files: dict[str, str], folder: Path, recipe: Recipe, data: Dataset) -> dict[str, str]:
    """Why checks of what lies in these files fail, by their names."""
    lab = put_extension(folder / f"lab_{abs(hash(folder))}", files)
    with named(lab):
        stems = {
            kind: [Path(file).stem for file in files if file.startswith(kind)]
            for kind in ("te", "pl", "se", "me", "ne")
        }
        asked = contracts.checks_of(
            Trainings(recipe, data),
            {name: catalog.techniques()[name] for name in stems["te"]},
            stems["pl"],
            stems["se"],
            stems["me"],
            stems["ne"],
        )
        assert asked
        return {check.name: why for check in asked if (why := check.failure())}


def _changed(text: str, before: str, after: str) -> str:
    assert before in text
    return text.replace(before, after)


RANDOM = "import torch\n" + _changed(TECHNIQUE, "(1 - self.share)", "(1 - self.share * torch.rand(()))")
IN_PLACE = _changed(TECHNIQUE, "return images if", "images[0] = 0\n        return images if")
SHORT = _changed(TECHNIQUE, "return images if", "return images[:-1] if")
ALWAYS = _changed(
    TECHNIQUE, "return images if self.share == 0.0 else (images * (1 - self.share))", "return (images * .3)"
)
NEVER = _changed(TECHNIQUE, "self.share == 0.0", "True")
UNUSED = (
    _changed(NETWORK, "return nn.Sequential(", "return With(")
    + """
class With(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers, self.spare = nn.Sequential(*layers), nn.Linear(2, 2)

    def forward(self, x):
        return self.layers(x)
"""
)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("files", "check", "said"),
    [
        (
            {"techniques/fade.py": RANDOM},
            "each_level_does_something_and_the_same_again",
            "two trainings at 'on' differ",
        ),
        (
            {"techniques/fade.py": IN_PLACE},
            "hooks_leave_what_they_are_given",
            "augment at off changes its images in place",
        ),
        (
            {"techniques/fade.py": SHORT},
            "hooks_leave_what_they_are_given",
            "augment at off returns the shape (7, 3, 32, 32)",
        ),
        ({"techniques/fade.py": ALWAYS}, "at_off_a_run_is_the_run_without_it", "at 'off' a training differs"),
        ({"techniques/fade.py": NEVER}, "each_level_does_something_and_the_same_again", "fade at 'on' changes nothing"),
        (
            {"techniques/fade.py": _changed(TECHNIQUE, '"fading"', '"dropout"')},
            "levels_have_names_of_their_own",
            "and so is dropout at off",
        ),
        (
            {"techniques/fade.py": _changed(TECHNIQUE, "(0.1, 0.5)", "(0.1, 5.0)")},
            "levels_and_search_ranges_can_be_made",
            "not legal",
        ),
        (
            {"techniques/fade.py": _changed(TECHNIQUE, "schema.WEIGHT_NORM", "'weight'")},
            "what_shows_why_is_measured",
            "weight",
        ),
        (
            {"techniques/fade.py": _changed(TECHNIQUE, "(schema.WEIGHT_NORM,)", "()")},
            "what_shows_why_is_measured",
            "is empty",
        ),
        ({"techniques/fade.py": _changed(TECHNIQUE, '"Nobody 2020"', '" "')}, "says_what_it_is", "its source is empty"),
        ({"plans/fading.py": _changed(PLAN, '"fade=on"', '"dropout=off"'), "metrics/surprise.py": METRIC}, "", ""),
        (
            {"plans/fading.py": _changed(PLAN, '"fade=on"', '"dropout=on"')},
            "asks_and_compares_what_it_trains",
            "one training",
        ),
        (
            {"plans/fading.py": _changed(PLAN, '"fade=on"', '"dropout=off"')},
            "asks_and_compares_what_it_trains",
            "'surprise', which is no metric",
        ),
        ({"plans/fading.py": _changed(PLAN, "help?", "help.")}, "asks_and_compares_what_it_trains", "fade"),
        (
            {"plans/other.py": _changed(PLAN, '"fade=on"', '"dropout=off"')},
            "asks_and_compares_what_it_trains",
            "calls itself 'fading'",
        ),
        (
            {"searches/fading.py": _changed(SEARCH, "best?", "best"), "techniques/fade.py": TECHNIQUE},
            "asks_and_ends",
            "question mark",
        ),
        (
            {"searches/fading.py": _changed(SEARCH, "yield [", "while True: yield ["), "techniques/fade.py": TECHNIQUE},
            "asks_and_ends",
            "not ended",
        ),
        ({"metrics/surprise.py": _changed(METRIC, "float(", "1j * float(")}, "is_measured", "not a finite number"),
        (
            {"metrics/surprise.py": _changed(METRIC, "ENDING, of", "ENDING, share=True, of")},
            "is_measured",
            "beyond [0, 1]",
        ),
        (
            {"metrics/surprise.py": _changed(METRIC, "the surprise", "test loss")},
            "has_a_title_of_its_own",
            "that of test/loss",
        ),
        ({"networks/patches.py": _changed(NETWORK, "64 * width", "8")}, "width_makes_it_wider", "use `width`"),
        (
            {"networks/patches.py": _changed(NETWORK, "4 * size, classes)", "4 * size, 10)")},
            "gives_logits",
            "must return logits of shape (2, 2)",
        ),
        ({"networks/patches.py": UNUSED}, "every_parameter_is_trained", "the loss does not depend on spare.weight"),
    ],
)
def test_what_breaks_a_contract_is_said(
    files: dict[str, str], check: str, said: str, tmp_path: Path, recipe: Recipe, tiny_data: Dataset
) -> None:
    failures = _failures(files, tmp_path, recipe, tiny_data)
    assert bool(failures) == bool(check), failures
    assert said in failures.get(check, "")


@pytest.mark.slow
def test_what_keeps_to_them_passes(tmp_path: Path, recipe: Recipe, tiny_data: Dataset) -> None:
    files = {
        "techniques/fade.py": TECHNIQUE,
        "plans/fading.py": PLAN,
        "searches/fading.py": SEARCH,
        "metrics/surprise.py": METRIC,
        "networks/patches.py": NETWORK,
    }
    assert _failures(files, tmp_path, recipe, tiny_data) == {}


@pytest.mark.exhaustive
@pytest.mark.parametrize("check", contracts.NETWORKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["notebook", "notebook-deeper", "resnet9", "convnext"])
def test_the_suites_networks_keep_to_them(
    name: str, check: Callable[[str, Trainings], None], trainings: Trainings
) -> None:
    check(name, trainings)


@pytest.mark.exhaustive
@pytest.mark.parametrize("check", contracts.METRICS, ids=lambda check: check.__name__)
def test_the_suites_metrics_keep_to_them(check: Callable[[str, Trainings], None], trainings: Trainings) -> None:
    for name, known in metrics.METRICS.items():
        if known.of_training or known.of_network:
            check(name, trainings)


def test_an_error_of_what_is_checked_is_a_failure() -> None:
    def broken() -> None:
        raise ZeroDivisionError("by nothing")

    assert Check("a thing", "a name", "what it keeps", broken).failure() == "ZeroDivisionError: by nothing"
    assert re.fullmatch("", Check("a thing", "a name", "what it keeps", lambda: None).failure())
