"""What is chosen for a time: for any plan, machine and rule, and by hand for some."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations.budget import Budget
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.execution import minutes
from cifar_ablations.study.execution.minutes import FEW_SEEDS, MOST_SEEDS, START_AND_REPORT_SECONDS, Choice

QUICK = Budget(epochs=12, batch_size=32, train_images=4_000, validation_images=1_000)
BUDGETS = st.builds(
    Budget, epochs=st.integers(1, 40), batch_size=st.integers(1, 600), train_images=st.integers(1, 50_000)
)


def _seconds(per_image: float, of_evaluation: float):
    """What a seed takes that is trained and evaluated."""
    return lambda budget: of_evaluation + per_image * budget.epochs * budget.train_images


def _choice(
    available: float, first: Budget, per_image: float, of_evaluation: float, fewest: int, saturated: int
) -> Choice | None:
    try:
        return minutes.choose(
            available,
            minutes.budgets(first),
            _seconds(per_image, of_evaluation),
            lambda n: 1.0 if n >= saturated else 0.5,
            lambda n: n >= fewest,
        )
    except AblateError:
        return None


MACHINES = {
    "first": BUDGETS,
    "per_image": st.floats(1e-6, 1e-2),
    "of_evaluation": st.floats(0.0, 10.0),
    "fewest": st.sampled_from(FEW_SEEDS),
    "saturated": st.integers(1, 2 * MOST_SEEDS),
}


@given(available=st.floats(0.0, 1e5), **MACHINES)
def test_a_choice_fits_by_its_own_estimate_and_says_something(available: float, **machine) -> None:
    choice = _choice(available, **machine)
    first, fewest = machine["first"], machine["fewest"]
    seconds = _seconds(machine["per_image"], machine["of_evaluation"])
    if choice is None:
        smallest = minutes.budgets(first)[-1]
        assert fewest * seconds(smallest) + START_AND_REPORT_SECONDS > available * (1 - 1e-9)
        return
    assert choice.seconds == pytest.approx(choice.seeds * seconds(choice.budget) + START_AND_REPORT_SECONDS)
    assert choice.seconds <= available * (1 + 1e-9)
    assert fewest <= choice.seeds <= max(fewest, min(MOST_SEEDS, machine["saturated"]))
    assert choice.budget == first or choice.seeds == fewest


@given(times=st.lists(st.floats(0.0, 1e4), min_size=2, max_size=2).map(sorted), **MACHINES)
def test_more_time_buys_no_less(times: list[float], **machine) -> None:
    less, more = (_choice(available, **machine) for available in times)
    if less is None:
        return
    assert more is not None
    assert more.seeds >= less.seeds
    assert more.budget.epochs >= less.budget.epochs
    assert more.budget.train_images >= less.budget.train_images


@given(BUDGETS, st.sets(st.sampled_from(["epochs", "train_images"])))
def test_budgets_shrink_one_thing_at_a_time_epochs_first(first: Budget, fixed: set[str]) -> None:
    sizes = minutes.budgets(first, fixed)
    assert sizes[0] == first
    assert len({*sizes}) == len(sizes)
    for larger, smaller in pairwise(sizes):
        (changed,) = (name for name in vars(first) if getattr(larger, name) != getattr(smaller, name))
        assert changed not in fixed
        assert getattr(smaller, changed) < getattr(larger, changed)
        assert changed == "train_images" or smaller.train_images == first.train_images
    assert sizes[-1].steps_per_epoch >= 1
    assert sizes[-1].train_images >= min(first.batch_size, first.train_images)


def test_the_budgets_of_the_quick_profile() -> None:
    sizes = [(one.epochs, one.train_images) for one in minutes.budgets(QUICK)]
    assert sizes[:7] == [(epochs, 4_000) for epochs in (12, 10, 8, 6, 5, 4, 3)]
    assert sizes[7:] == [(3, images) for images in (3_200, 2_600, 2_000, 1_600, 1_200, 1_000)]


@pytest.mark.parametrize(
    ("training", "fewest", "expected"),
    [
        (600, 5, (QUICK, 10)),
        (659, 5, (QUICK, 10)),
        (6_000, 5, (QUICK, 12)),  # power has saturated
        (6_000, 14, (QUICK, 14)),  # and would have with fewer than get verdicts
        (250, 5, (replace(QUICK, epochs=10), 5)),
        (249, 5, (replace(QUICK, epochs=8), 5)),
        (15, 4, (replace(QUICK, epochs=3, train_images=1_000), 4)),
    ],
)
def test_a_choice_by_hand(training: float, fewest: int, expected: tuple[Budget, int]) -> None:
    """A seed takes a minute for twelve epochs of 4,000 images; twelve seeds find nearly everything."""
    choice = minutes.choose(
        training + START_AND_REPORT_SECONDS,
        minutes.budgets(QUICK),
        lambda budget: 60 * budget.epochs * budget.train_images / (12 * 4_000),
        lambda n: 0.95 if n >= 12 else 0.9,
        lambda n: n >= fewest,
    )
    assert (choice.budget, choice.seeds) == expected


def test_where_nothing_fits_it_says_how_long_the_least_takes() -> None:
    with pytest.raises(AblateError) as refused:
        minutes.choose(30, minutes.budgets(QUICK), _seconds(60 / (12 * 4_000), 0.0), lambda n: 0.0, lambda n: n >= 5)
    assert str(refused.value) == (
        "30 s are too short: 5 seeds, the fewest that say anything, take about 34 s even with 3 epochs on 1,000 images"
    )


def test_a_rule_that_never_gives_verdicts_gets_what_fits() -> None:
    never = minutes.choose(75, [QUICK], lambda budget: 10.0, lambda n: 0.0, lambda n: False)
    assert never == Choice(QUICK, 6, 75.0)


def test_few_questions_are_asked() -> None:
    """Each answer takes seconds: a trial on the machine, a simulation of pages."""
    timed: list[Budget] = []
    simulated: list[int] = []

    def seconds(budget: Budget) -> float:
        timed.append(budget)
        return 60 / 12 * budget.epochs

    def decides(n: int) -> bool:
        simulated.append(n)
        return n >= 5

    minutes.choose(600, minutes.budgets(QUICK), seconds, lambda n: 0.5, decides)
    assert (timed, simulated) == ([QUICK], [9])
    timed.clear()
    minutes.choose(200, minutes.budgets(QUICK), seconds, lambda n: 0.5, decides)
    assert len(timed) <= 5
    assert len(timed) == len(set(timed))
