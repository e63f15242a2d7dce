"""Whether networks have learned their training images: the numbers, the words, and where a page says it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import health
from cifar_ablations.reports.inference.arms import arm_table
from cifar_ablations.reports.inference.health import Health
from cifar_ablations.reports.pages import plan_page
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.wording import answer
from tests.reports.conftest import Writer, planted_runs, small_plan
from tests.reports.pages.test_plan_page import Parsed

LEARNS = {
    "arm": "full recipe",
    "n": 5,
    "diverged": 0,
    "stopped": 0,
    "guessing": 0,
    "accuracy": 0.991,
    "std": 0.002,
    "chance": 0.1,
    "fall": 0.01,
    "rate_left": 0.001,
    "soft": False,
}
NAN = math.nan


def one(**changes):
    return Health(**{**LEARNS, **changes})


def said(plan, *arms):
    return " ".join(answer.of_health(plan, arms))


def curves(losses, rates=None, arm="full recipe", seed=0):
    """The frame of `load.curves_of` for one run, from training losses and learning rates by epoch."""
    rows = [(arm, seed, e, schema.TRAIN_LOSS, v) for e, v in enumerate(losses, start=1)]
    rows += [(arm, seed, e, schema.LEARNING_RATE, v) for e, v in enumerate(rates or (), start=1)]
    return pd.DataFrame(rows, columns=load.CURVE_COLUMNS)


def checked(plan, runs, found=None):
    return {arm.arm: arm for arm in health.of_plan(plan, runs, found)}


def test_accuracies_are_those_of_converged_runs(plan, runs):
    arms = checked(plan, runs)
    bare, of_bare = arms["bare recipe"], runs[runs["arm"] == "bare recipe"]
    assert (bare.n, bare.diverged, bare.converged) == (6, 1, 5)
    known = of_bare.loc[of_bare["converged"], schema.TRAIN_ACCURACY]
    assert bare.accuracy == pytest.approx(known.mean())
    assert bare.std == pytest.approx(known.std())
    assert bare.chance == 0.1
    assert math.isnan(bare.fall), "no curves, no trend"


@pytest.mark.parametrize(
    ("losses", "fall", "trend"),
    [
        ([2.0, 1.8, 1.6, 1.4, 1.2, 1.1, 1.05, 1.0], 1 - 1.0 / 1.1, health.FALLS),
        ([2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.99, 0.98], 0.02, health.LEVEL),
        ([2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.2], -0.2, health.RISES),
        ([2.0, 1.0], 0.5, health.FALLS),  # a quarter of two epochs is one of them
        ([2.0], NAN, ""),
        ([], NAN, ""),
    ],
)
def test_the_trend_is_that_of_the_last_quarter(plan, runs, losses, fall, trend):
    found = checked(plan, runs, curves(losses))["full recipe"]
    assert found.fall == pytest.approx(fall, nan_ok=True)
    assert found.trend == trend


def test_the_trend_is_a_mean_over_converged_seeds_of_what_each_trained(plan, runs):
    """A run that was stopped early has a last quarter of its own; one that diverged has none."""
    rows = [curves([2, 2, 2, 1.0], seed=0), curves([2, 2, 2, 2, 2, 2, 2, 1.5], seed=1), curves([2, 900.0], seed=2)]
    third = (runs["arm"] == "full recipe") & (runs["seed"] == 2)
    runs.loc[third, ["outcome", "converged"]] = [schema.DIVERGED, False]
    runs.loc[(runs["arm"] == "full recipe") & (runs["seed"] == 0), "outcome"] = schema.STOPPED
    found = checked(plan, runs, pd.concat(rows))["full recipe"]
    assert found.fall == pytest.approx((0.5 + 0.25) / 2)
    assert (found.diverged, found.stopped) == (1, 1)


def test_the_rate_that_is_left(plan, runs):
    found = checked(plan, runs, curves([2.0, 1.0, 0.5], [0.1, 0.2, 0.004]))["full recipe"]
    assert found.rate_left == pytest.approx(0.02)
    assert math.isnan(checked(plan, runs, curves([2.0, 1.0]))["full recipe"].rate_left)


@pytest.mark.parametrize(
    ("accuracy", "chance", "guesses"),
    [
        (0.14, 0.1, True),
        (0.16, 0.1, False),
        (0.014, 0.01, True),
        (0.016, 0.01, False),
        (0.54, 0.5, True),
        (0.60, 0.5, False),
        (0.02, 0.1, True),
    ],
)
def test_guessing_is_told_by_the_number_of_classes(accuracy, chance, guesses):
    assert health.guesses(accuracy, chance) is guesses
    assert (one(accuracy=accuracy, chance=chance).fit == health.NO_BETTER) is guesses


def test_seeds_that_never_left_chance_are_counted(plan, runs):
    runs.loc[(runs["arm"] == "full recipe") & (runs["seed"] < 2), schema.TRAIN_ACCURACY] = [0.1, 0.12]
    found = checked(plan, runs)["full recipe"]
    assert found.guessing == 2
    assert "(6 seeds, 2 no better than guessing)" in said(plan, found)


def test_a_network_that_has_learned_is_said_to_have(plan):
    assert said(plan, one()) == (
        "Full recipe: training accuracy 99.1 % (5 seeds), training loss level at the end: the network has learned its "
        "training images."
    )
    assert said(plan, one(accuracy=0.80, fall=0.2)) == (
        "Full recipe: training accuracy 80.0 % (5 seeds), training loss still falling at the end: the network has "
        "learned most of its training images."
    )


SPEED = "effects of regularisers are effects on the speed of learning."
UNFITTED = f"In 3 epochs on 5,000 images the network has not fitted its training images: {SPEED}"


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"fall": 0.1}, f"(5 seeds), training loss still falling at the end. {UNFITTED}"),
        ({}, f"(5 seeds), training loss level at the end after the learning rate had decayed. {UNFITTED}"),
        ({"soft": True}, f"(5 seeds). {UNFITTED}"),
        ({"soft": True, "fall": 0.1}, f"training loss still falling at the end. {UNFITTED}"),
        ({"fall": -0.1}, f"training loss rising at the end. {UNFITTED}"),
        ({"n": 1, "std": NAN, "fall": NAN}, f"(1 seed). {UNFITTED}"),
        ({"rate_left": NAN}, f"training loss level at the end. {UNFITTED}"),
        (
            {"rate_left": 1.0},
            "level at the end with the learning rate still high: the network has not fitted its training images, and "
            "more epochs alone would hardly help. Effects of regularisers are effects on a network that underfits.",
        ),
        (
            {"stopped": 4},
            "(5 seeds, 4 stopped early), training loss level at the end after the learning rate had decayed. Early "
            f"stopping ended it before it had fitted its training images: {SPEED}",
        ),
        (
            {"diverged": 2, "fall": 0.1},
            f"(3 of 5 seeds, 2 diverged), training loss still falling at the end. {UNFITTED}",
        ),
    ],
)
def test_a_network_that_has_not_learned_is_said_to_have_not(plan, changes, ending):
    text = said(plan, one(**{"accuracy": 0.498, **changes}))
    assert text.startswith("Full recipe: training accuracy 49.8 % (")
    assert text.endswith(ending)


def test_nothing_learned_and_nothing_known(plan):
    assert said(plan, one(accuracy=0.102)) == (
        "Full recipe: training accuracy 10.2 % (5 seeds), no better than guessing (10 %): the network has learned "
        "nothing, and effects within it are about what keeps it from learning."
    )
    assert "no better than guessing (1 %)" in said(plan, one(accuracy=0.01, chance=0.01))
    assert said(plan, one(diverged=5, accuracy=NAN)).startswith("Full recipe: all 5 runs diverged")
    assert said(plan, one(n=1, diverged=1, accuracy=NAN)).startswith("Full recipe: its run diverged")
    assert said(plan, one(accuracy=NAN)).startswith("Full recipe: the store has no training accuracy")
    assert said(plan, one(n=0, accuracy=NAN)) == ""
    late = said(plan, one(n=0, accuracy=NAN), one(arm="bare recipe"))
    assert late == "Full recipe: no run has ended, so whether the network learns is not known."


def test_the_arm_that_learned_least_is_named_where_it_differs_much(plan):
    bare = one(arm="bare recipe", accuracy=0.95)
    only = one(arm="only dropout", accuracy=0.31)
    assert said(plan, one(), bare, only).endswith("1 of 3 arms has not learned theirs; lowest: 'only dropout', 31.0 %.")
    assert said(plan, one(accuracy=0.5), bare, only).endswith("Lowest: 'only dropout', 31.0 %.")
    assert said(plan, one(), bare).endswith("has learned its training images.")
    dead = one(arm="only dropout", accuracy=0.1)
    assert said(plan, one(accuracy=0.19), dead).endswith("Lowest: 'only dropout', 10.0 %, no better than guessing.")


def test_the_table_of_arms_says_who_has_learned(plan, runs):
    runs.loc[runs["arm"] == "only dropout", schema.TRAIN_ACCURACY] = 0.11
    runs.loc[runs["arm"] == "full recipe", schema.TRAIN_ACCURACY] = 0.9
    runs.loc[runs["arm"].isin([plan.arms[2].name, "bare recipe"]), schema.TRAIN_ACCURACY] = 0.6
    runs.loc[runs["arm"] == "without dropout", ["converged", "outcome"]] = [False, schema.DIVERGED]
    table = arm_table(plan, runs).set_index("arm")
    assert table["fit"].to_list() == [
        health.FIT,
        health.NO_BETTER,
        health.UNFIT,
        health.UNFIT,
        health.NO_BETTER,
    ]
    assert table.loc["full recipe", "train_accuracy"] == pytest.approx(0.9)
    assert set(arm_table(plan, runs.iloc[:0])["fit"]) == {""}


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory):
    """A store whose full recipe ends at 52 % in training, with its loss still falling."""
    from mlflow.entities import Metric

    folder = tmp_path_factory.mktemp("unlearned")
    writer, plan = Writer(folder), small_plan()
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan, started=1_000)
    frame = planted_runs(plan)
    converged = frame["converged"]
    frame.loc[converged, schema.TRAIN_ACCURACY] = np.where(frame.loc[converged, "arm"] == "full recipe", 0.52, 0.31)
    for row in frame.to_dict("records"):
        run = writer.train(experiment, parent, plan, row)
        losses = [Metric(schema.TRAIN_LOSS, value, 0, e) for e, value in enumerate((2.0, 1.6, 1.4), start=1)]
        writer.client.log_batch(run, metrics=losses)
    return writer


@pytest.mark.exhaustive
def test_page_and_terminal_say_it_under_the_answer(unlearned, tmp_path):
    heard = []
    (path,) = plan_page.write_reports(unlearned.uri, tmp_path, tell=heard.append)
    line = (
        "Full recipe: training accuracy 52.0 % (6 seeds), training loss still falling at the end. In 3 epochs on 5,000 "
        f"images the network has not fitted its training images: {SPEED}"
    )
    assert heard == [
        line,
        "Lowest: 'without dropout', 31.0 %.",
        "Diverged: 1 of 6 of 'bare recipe'. Means are of the others; a run that diverged never counts for its arm.",
    ]
    text = Parsed(path.read_text(encoding="utf-8")).text
    assert text.index("Holds for:") < text.index(line) < text.index("The chance that any of these verdicts is wrong")
    arms = pd.read_csv(path.with_name(path.stem + "-arms.csv"))
    assert set(arms["fit"]) == {health.UNFIT}


@pytest.mark.exhaustive
def test_curves_are_read_once(unlearned, tmp_path, monkeypatch):
    asked, real = [], load.curves_of

    def noted(client, runs, metrics):
        asked.append(metrics)
        return real(client, runs, metrics)

    monkeypatch.setattr(load, "curves_of", noted)
    plan_page.write_reports(unlearned.uri, tmp_path)
    assert asked == [[schema.VALIDATION_ACCURACY, schema.TRAIN_LOSS, schema.LEARNING_RATE]]
