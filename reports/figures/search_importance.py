"""The importance of each parameter for the value of a trial, by fANOVA and by PED-ANOVA."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.reading import searches
from cifar_ablations.reports.reading.searches import Parameter, Study

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["study", "parameter", "method", "mean", "low", "high", "trials"]
LEAST_TRIALS, LEAST_PARAMETERS = 10, 2
EVALUATOR_SEEDS = range(5)
# PED-ANOVA asks what sets the best share apart; a share of fewer trials than this says little.
BEST_TRIALS = 5
LOOKS: dict[str, dict[str, Any]] = {
    "fANOVA": {"fmt": "o", "color": theme.INK, "ms": 6, "elinewidth": 1.8},
    "PED-ANOVA": {"fmt": "D", "color": theme.ACCENT, "ms": 6, "elinewidth": 1.8},
}


def data(trials: pd.DataFrame, studies: Sequence[Study]) -> pd.DataFrame:
    """Per study, parameter and method the share of importance, columns COLUMNS; the most important first.

    fANOVA: mean, lowest and highest over seeds of its forest; left out where scikit-learn is missing. PED-ANOVA has
    no seed. A study counts with LEAST_TRIALS complete trials whose values differ and LEAST_PARAMETERS that vary among
    them. Ranges that were searched by their logarithm are measured so.
    """
    parts = []
    for study in studies:
        complete = searches.complete(trials[trials["study"] == study.name])
        varying = [p for p in study.parameters if p.name in complete and complete[p.name].notna().all()]
        varying = [p for p in varying if complete[p.name].nunique() > 1]
        enough = len(complete) >= LEAST_TRIALS and len(varying) >= LEAST_PARAMETERS
        if enough and complete["value"].nunique() > 1:
            parts.append(_importances(complete, varying).assign(study=study.name, trials=len(complete)))
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _importances(complete: pd.DataFrame, parameters: Sequence[Parameter]) -> pd.DataFrame:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    study = _rebuilt(complete, parameters)
    share = min(0.5, max(0.1, BEST_TRIALS / len(complete)))
    evaluators: list[tuple[str, Any]] = [("PED-ANOVA", PedAnovaImportanceEvaluator(target_quantile=share))]
    with suppress(ImportError):
        evaluators += [("fANOVA", FanovaImportanceEvaluator(seed=seed)) for seed in EVALUATOR_SEEDS]
    rows = []
    for method, evaluator in evaluators:
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        rows += [{"method": method, "parameter": name, "share": float(value)} for name, value in shares.items()]
    by = pd.DataFrame(rows).groupby(["method", "parameter"])["share"]
    frame = by.agg(mean="mean", low="min", high="max").reset_index()
    return frame.sort_values(["method", "mean"], ascending=[False, False], kind="stable")


def table(data: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per study and parameter with both methods' rows of `data`, None where a method is missing."""
    rows = []
    for (study, parameter), of_parameter in data.groupby(["study", "parameter"], sort=False):
        by_method = {row["method"]: row for row in of_parameter.to_dict("records")}
        row = {"study": study, "parameter": parameter, "trials": int(of_parameter["trials"].iloc[0])}
        rows.append(row | {"fanova": by_method.get("fANOVA"), "ped": by_method.get("PED-ANOVA")})
    return rows


def _rebuilt(complete: pd.DataFrame, parameters: Sequence[Parameter]) -> optuna.Study:
    """The trials as a study of Optuna's in memory; of a logarithmic range, the logarithms."""
    import optuna

    # Optuna counts with a log range's raw values, of which nearly all lie in the last decade.
    distributions = {p.name: _distribution(p, complete[p.name]) for p in parameters}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    for row in complete.to_dict("records"):
        params = {p.name: p.place(row[p.name]) if p.numeric else str(row[p.name]) for p in parameters}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=row["value"]))
    return study


def _distribution(parameter: Parameter, values: pd.Series) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not parameter.numeric:
        return CategoricalDistribution(list(dict.fromkeys([*parameter.choices, *sorted(values.astype(str))])))
    places = [parameter.place(value) for value in values]
    ends = [parameter.place(end) for end in (parameter.low, parameter.high)]
    # A best value outside the range has been seen where a range was moved, not only widened.
    return FloatDistribution(min(*places, ends[0]), max(*places, ends[1]))


def draw(data: pd.DataFrame) -> Figure:
    """A panel per study: a line per parameter with both methods' shares."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no study has enough trials to compare parameters")
        names = list(data["study"].unique())
        rows = [data.loc[data["study"] == name, "parameter"].nunique() for name in names]
        figure = theme.new_figure(theme.WIDTH, 0.3 * sum(rows) + 0.5 * len(rows) + 0.5)
        panels = figure.subplots(len(names), 1, squeeze=False, sharex=True, height_ratios=[n + 0.6 for n in rows])
        for axes, name in zip(panels[:, 0], names, strict=True):
            _panel(axes, data[data["study"] == name])
            axes.set_title(name)
            axes.set_xlim(-0.02, 1.02)
        panels[-1, 0].set_xlabel("share of importance")
        methods = [name for name in LOOKS if (data["method"] == name).any()]
        handles = [panels[0, 0].errorbar([], [], xerr=[], **LOOKS[name]) for name in methods]
        figure.legend(handles, methods, loc="outside upper right", ncols=2)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    labels = list(dict.fromkeys(rows["parameter"]))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    for shift, (name, look) in zip((-0.12, 0.12), LOOKS.items(), strict=True):
        found = rows[rows["method"] == name]
        lines = [labels.index(parameter) + shift for parameter in found["parameter"]]
        axes.errorbar(found["mean"], lines, xerr=(found["mean"] - found["low"], found["high"] - found["mean"]), **look)


def describe(data: pd.DataFrame) -> str:
    """The figure in words: the parameters by share."""
    if data.empty:
        return "No study has enough trials to compare parameters."
    parts = [
        f"{row['study']}, {row['parameter']}, {row['method']}: {row['mean']:.2f}" for row in data.to_dict("records")
    ]
    return "Shares of importance, descriptive. " + "; ".join(parts) + "."
