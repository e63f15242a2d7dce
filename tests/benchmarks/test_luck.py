"""What repeated searches come to, on numbers small enough to work out by hand."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import luck
from cifar_ablations.ablations import catalog, profiles, schema
from cifar_ablations.ablations.errors import AblateError


def _of(sampler: str, validation: float, baseline: float = 0.48) -> luck.Searched:
    return luck.Searched(sampler, validation, baseline, catalog.notebook_recipe())


def test_gains_are_paired_by_seed_and_promises_are_held_against_what_came() -> None:
    """The seed that all trials are trained from and the images that validate them favoured the baseline as well."""
    reached = {luck.BASELINE: (0.40, 0.50), "tpe, search 0": (0.45, 0.57), "random, search 0": (0.39, 0.51)}
    runs = pd.DataFrame(
        [(arm, seed, value) for arm, values in reached.items() for seed, value in enumerate(values)],
        columns=["arm", "seed", schema.TEST_ACCURACY],
    )
    searches = {"tpe, search 0": _of("tpe", 0.60), "random, search 0": _of("random", 0.48)}
    found = luck.table(searches, runs).set_index("sampler")
    assert list(found["gain"]) == pytest.approx([0.06, 0.0])
    assert list(found["test"]) == pytest.approx([0.51, 0.45])
    assert list(found["promised"]) == pytest.approx([0.12, 0.0])
    assert list(found["promised_too_much"]) == pytest.approx([0.06, 0.0])
    assert found["gain_low"]["tpe"] == pytest.approx(0.06 - stats.t.ppf(0.975, 1) * 0.01)
    assert list(luck.of_samplers(found.reset_index())["gain"]) == pytest.approx([0.06, 0.0])


def test_seeds_on_which_a_run_diverged_have_no_gain() -> None:
    reached = {luck.BASELINE: (0.40, 0.50), "tpe, search 0": (0.45, np.nan), "tpe, search 1": (np.nan, np.nan)}
    runs = pd.DataFrame(
        [(arm, seed, value) for arm, values in reached.items() for seed, value in enumerate(values)],
        columns=["arm", "seed", schema.TEST_ACCURACY],
    )
    found = luck.table({name: _of("tpe", 0.5, np.nan) for name in reached if name != luck.BASELINE}, runs)
    assert list(found["seeds"]) == [1, 0]
    assert found["gain"][0] == pytest.approx(0.05)
    assert found[["gain_low", "promised"]].isna().all(axis=None)
    (row,) = luck.of_samplers(found).to_dict("records")
    assert (row["searches"], row["gain"]) == (1, pytest.approx(0.05))


def test_a_search_of_several_studies_and_one_without_a_winner_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = argparse.Namespace(search="joint", profile="smoke", trials=2, data=None)
    trials = pd.DataFrame({"study": ["a", "b"], "trial": 0, "outcome": schema.PRUNED, "value": np.nan, "digest": "x"})
    for rows, said in ((trials, "several studies"), (trials[:1], "came to its end")):
        monkeypatch.setattr(luck.ca, "tune", lambda *_, rows=rows, **__: SimpleNamespace(trials=rows, recipe=None))
        with pytest.raises(AblateError, match=said):
            luck.searched(asked, "tpe", 0)


@pytest.mark.parametrize(("outcome", "baseline"), [(schema.FINISHED, 0.5), (schema.DIVERGED, None)])
def test_the_baseline_of_a_search_is_its_own_trial_of_it(
    outcome: str, baseline: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that diverged is given what guessing reaches, which is no accuracy to be better than."""
    size = profiles.PROFILES["smoke"]
    own, better = catalog.notebook_recipe(), catalog.notebook_recipe().set("dropout=off")
    trials = pd.DataFrame(
        {
            "study": "joint",
            "trial": [0, 1],
            "outcome": [outcome, schema.FINISHED],
            "value": [0.5 if baseline else 0.1, 0.6],
            "digest": [size.apply(own).digest(), size.apply(better).digest()],
            "ended": 0,
        }
    )
    monkeypatch.setattr(luck.ca, "tune", lambda *_, **__: SimpleNamespace(trials=trials, recipe=better))
    asked = argparse.Namespace(search="joint", profile="smoke", trials=2, data=None)
    found, _ = luck.searched(asked, "tpe", 0)
    assert (found.sampler, found.validation, found.recipe) == ("tpe", 0.6, size.apply(better))
    assert found.baseline == baseline or (baseline is None and np.isnan(found.baseline))


def test_the_best_so_far_counts_pruned_trials_as_tried() -> None:
    def trials(*values: float | None) -> pd.DataFrame:
        rows = [
            ("joint", n, schema.PRUNED if value is None else schema.FINISHED, value) for n, value in enumerate(values)
        ]
        return pd.DataFrame(rows, columns=["study", "trial", "outcome", "value"])

    found = luck.growth({"a": trials(0.3, None, 0.5, 0.4), "b": trials(0.1, 0.2, None)}, "tpe")
    assert list(found["trials"]) == [1, 2, 3]
    assert list(found["best"]) == pytest.approx([0.2, 0.25, 0.35])
    assert list(found["lowest"]) == pytest.approx([0.1, 0.2, 0.2])
    assert list(found["highest"]) == pytest.approx([0.3, 0.3, 0.5])


def test_the_figure_has_every_sampler_and_is_the_same_again() -> None:
    growth = pd.DataFrame({"sampler": ["tpe"] * 2 + ["random"] * 2, "trials": [1, 2] * 2, "best": 0.5})
    names = ["tpe", "random", "gp", "cmaes", "grid"]
    by_search = pd.DataFrame({"sampler": names, "gain": 0.1, "gain_low": 0.0, "gain_high": 0.2})
    drawn = [luck.drawn(growth.assign(lowest=0.4, highest=0.6), by_search) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert all(f">{name}<" in drawn[0].decode() for name in names)
