"""Runs of other programs as the suite's own tables: from a CSV or Parquet file, an MLflow experiment, or a frame."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations import addresses, metrics, paging, schema, stores
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import Metric
from cifar_ablations.ablations.naming import did_you_mean, shown
from cifar_ablations.ablations.record import ArmRecord, ClaimRecord, DataRecord, PlanRecord, ProfileRecord, RuleRecord
from cifar_ablations.reports.reading import load

HIGHER, LOWER = "higher", "lower"
SIGNS = {HIGHER: +1, LOWER: -1}
LESS_IS_BETTER = {"loss", "error", "err", "mse", "rmse", "mae", "nll", "perplexity", "ppl", "bpb", "bpc", "wer", "cer"}
"""Parts of a metric's name by which less of it is taken to be better."""
SHARES = {"accuracy", "acc", "top1", "top5", "precision", "recall", "f1", "auc", "auroc", "iou", "miou", "dice"}
"""Parts of a metric's name by which it is a share, where its values allow it: read in per cent."""
STEPS = {"epoch", "step", "iteration", "iter", "global_step", "batch"}
"""Columns by which several rows may be of one training."""
MARGIN = 0.005
"""The smallest difference of shares that matters, where nobody says: that of the suite's short trainings."""
MOST_ARMS = 100
"""Arms on one page: of more, few have runs enough, and no page shows them."""
MOST_LISTED = 20
"""Names of a column or an experiment that a message lists."""
MISSING = {"", "nan", "na", "n/a", "null", "none", "<na>"}
"""Text that stands for no number."""


@dataclass(frozen=True)
class OutsideMetric(Metric):
    """The metric that runs of another program are judged by. The rule's margin is about it, and `better` is told."""


OUTSIDE: dict[str, OutsideMetric] = {}
"""Those that were judged, by the names of `Outside.name`."""


def metric(name: str) -> Metric:
    """The metric of that name: one that runs of another program were judged by, or of the store."""
    return OUTSIDE.get(name) or metrics.metric(name)


@dataclass(frozen=True)
class Pairing:
    """How the arms' seeds agree.

    paired: whether every arm has the control's seeds, each once. The others say why not: seed: the column, "" for
    none; unnamed: runs without a seed; repeated: runs beyond the first of one arm and seed; differing: arms with other
    seeds than the control; steps: columns by which repeated rows may be of one training.
    """

    paired: bool
    seed: str = ""
    unnamed: int = 0
    repeated: int = 0
    differing: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outside:
    """Runs of another program.

    runs: columns arm (a category, the control first), seed (from 0: the same number for the same seed where arms are
    paired, else each run's place in its arm), converged, and the metric, by `name`, NaN for a run that has no number.
    scale: what its values were multiplied by, 0.01 for per cent.
    """

    source: str
    column: str
    metric: OutsideMetric
    scale: float
    runs: pd.DataFrame
    pairing: Pairing
    notes: tuple[str, ...] = ()
    """What was left out and how values were read, in sentences."""
    rehearsal: bool = False

    @property
    def arms(self) -> list[str]:
        """Their names, the control first."""
        return [str(name) for name in self.runs["arm"].cat.categories]

    @property
    def name(self) -> str:
        """What `metric` knows it by from now on: no metric of a store has such a name."""
        about = self.metric
        name = f"outside/{about.better:+d}/{'share' if about.share else 'own'}/{about.title}"
        OUTSIDE[name] = about
        return name


@dataclass(frozen=True)
class Source:
    """A table of runs, where it is from, and what was left out of it."""

    frame: pd.DataFrame
    name: str
    notes: tuple[str, ...] = ()
    rehearsal: bool = False


MOST_BYTES = 1 << 29
"""Of a table: more than ten million rows."""


def of_file(path: Path, text: Sequence[str | None] = ()) -> Source:
    """The table in a CSV or Parquet file; text: columns that hold names, which stay as they are written.

    A CSV may be compressed, and its columns divided by commas, semicolons, tabs or bars. Raises AblateError for a file
    that is not there or cannot be read.
    """
    name = path.name
    if not path.is_file():
        near = [file.name for file in path.parent.glob("*") if file.suffix in (".csv", ".tsv", ".parquet", ".gz")]
        known = did_you_mean(name, sorted(near)[:MOST_LISTED]) if near and path.parent.is_dir() else ""
        raise AblateError(f"there is no file {str(path)!r}{known}")
    if path.stat().st_size > MOST_BYTES:
        raise AblateError(f"{name} has more than {MOST_BYTES >> 20:,} MB; a table with a row per run has less")
    try:
        if path.suffix in (".parquet", ".pq"):
            frame = pd.read_parquet(path)
        else:
            names = {one for one in text if one}
            frame = pd.read_csv(
                path,
                sep=_separator(path),
                encoding="utf-8-sig",
                skipinitialspace=True,
                dtype=dict.fromkeys(names, "str"),
                low_memory=False,
            )
    except AblateError:
        raise
    except UnicodeDecodeError:
        raise AblateError(f"{name} is not UTF-8 text; save it as CSV in UTF-8, or as Parquet") from None
    except pd.errors.EmptyDataError:
        raise AblateError(f"{name} is empty") from None
    except Exception as error:  # each reader has exceptions of its own
        why = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise AblateError(f"{name} cannot be read as CSV or Parquet: {why}") from None
    return Source(frame, name)


def _separator(path: Path) -> str:
    """What divides the columns of a CSV file, by its first line."""
    if path.suffix not in (".csv", ".tsv", ".txt", ".gz"):
        return ","
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        first = re.sub(rb'"[^"]*"', b"", file.readline(100_000))
    return max(",;\t|", key=lambda sign: first.count(sign.encode()))


def of_experiment(
    name: str, tracking_uri: str, arm: str | None = None, seed: str | None = None, metric: str | None = None
) -> Source:
    """The runs of an MLflow experiment that have ended: a column for each parameter, tag and metric that is named.

    A run that failed or was stopped has no number. Raises AblateError where there is no such store or experiment, and
    for names that no run has.
    """
    file = addresses.sqlite_file(tracking_uri)
    if file is not None and not file.is_file():
        raise AblateError(f"there is no MLflow store at {file}; --tracking-uri names another")
    client = load.connect(tracking_uri)
    with stores.opening(tracking_uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            known = [one.name for one in paging.entries(lambda token: client.search_experiments(page_token=token))]
            raise AblateError(f"no experiment {name!r} in this store{did_you_mean(name, known[:MOST_LISTED])}")
        found = list(
            paging.entries(
                lambda token: client.search_runs([experiment.experiment_id], max_results=2_000, page_token=token)
            )
        )
    ended = [run for run in found if run.info.status in ("FINISHED", "FAILED", "KILLED")]
    running = len(found) - len(ended)
    if not ended:
        raise AblateError(f"no run of experiment {name!r} has ended yet")
    labels = [{**_own_tags(run.data.tags), **run.data.params} for run in ended]
    kinds = {"params or tags": {key for one in labels for key in one}}
    kinds["metrics"] = {key for run in ended for key in run.data.metrics}
    for option, asked, kind in (
        ("--arm", arm, "params or tags"),
        ("--seed", seed, "params or tags"),
        ("--metric", metric, "metrics"),
    ):
        if asked is not None and asked not in kinds[kind]:
            near = did_you_mean(asked, sorted(kinds[kind])[:MOST_LISTED])
            raise AblateError(f"{option} {asked!r} is none of the {kind} of experiment {name!r}{near}")
    seeded = seed or ("seed" if "seed" in kinds["params or tags"] else None)
    others = 0
    if seeded is not None and metric is not None:  # of parents and of summaries, which are no runs
        mine = [i for i, run in enumerate(ended) if seeded in labels[i] or metric in run.data.metrics]
        others = len(ended) - len(mine)
        ended, labels = [ended[i] for i in mine], [labels[i] for i in mine]
    named = sorted(kinds["params or tags"]) if arm is None else dict.fromkeys([arm, seeded])
    columns: dict[str, Any] = {key: [one.get(key) for one in labels] for key in named if key}
    if metric is not None:
        columns[metric] = [
            run.data.metrics.get(metric, math.nan) if run.info.status == "FINISHED" else math.nan for run in ended
        ]
    else:
        columns |= {key: [run.data.metrics.get(key, math.nan) for run in ended] for key in sorted(kinds["metrics"])}
    notes = [f"{_count(running, 'run')} of the experiment had not ended and {_were(running)} left out."] * bool(running)
    if others:
        notes.append(f"{_count(others, 'run')} with neither {seeded!r} nor {metric!r} {_were(others)} left out.")
    drawn = any(run.data.tags.get(schema.STAND_IN) == "true" for run in ended)
    return Source(pd.DataFrame(columns), f"experiment {name}", tuple(notes), drawn)


def _own_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in tags.items() if not key.startswith("mlflow.")}


def of_frame(
    source: Source,
    *,
    arm: str | None,
    seed: str | None,
    metric: str | None,
    control: str | None,
    better: str | None = None,
) -> Outside:
    """The runs of a table, one a row.

    arm, seed, metric: its columns; without a seed, a column of that name is taken where there is one. control: the arm
    that the others are compared with. better: HIGHER or LOWER; None for LOWER where the metric's name says so, else
    HIGHER. Raises AblateError for columns, a control or values that cannot be used.
    """
    frame, name = source.frame, source.name
    frame = frame.rename(columns=lambda column: str(column).strip()).reset_index(drop=True)
    columns = list(frame.columns)
    if not len(frame):
        raise AblateError(f"{name} has no rows" + (f" below its columns {_listed(columns)}" if columns else ""))
    _check(better, "--better")
    arm = _column(name, columns, arm, "--arm", "which column names what was changed")
    metric = _column(name, columns, metric, "--metric", "which column holds the numbers")
    if seed is not None:
        seed = _column(name, columns, seed, "--seed", "")
    elif "seed" in columns and "seed" not in (arm, metric):
        seed = "seed"
    if len({arm, metric, seed}) < 3:
        raise AblateError(f"--arm, --seed and --metric must be three different columns, not {arm}, {seed} and {metric}")
    values = _numbers(name, frame[metric], metric)
    notes = list(source.notes)
    named = frame[arm].notna().to_numpy()
    if not named.all():
        gone = int((~named).sum())
        notes.append(f"{_count(gone, 'row')} without a name in {arm!r} {_were(gone)} left out.")
        frame, values = frame[named], values[named]
    codes, written = pd.factorize(_text(frame[arm]))
    again, names = pd.factorize(np.array([_printable(one) for one in written], dtype=object))
    order = _control_first(name, arm, list(names), control)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    arms = pd.Categorical.from_codes(place[again[codes]], pd.Index([str(names[i]) for i in order]))
    numbers, pairing = _seeds(frame, arms, seed)
    finite = np.isfinite(values) & (np.abs(values) < load.HUGE)
    _check_runs(name, metric, arms, np.where(finite, values, math.nan))
    about, scale, said = _about(metric, values[finite], better)
    if said:
        notes.append(said)
    runs = pd.DataFrame({"arm": arms, "seed": numbers, "converged": finite})
    found = Outside(
        name,
        metric,
        about,
        scale,
        runs,
        pairing,
        tuple(notes),
        source.rehearsal or _rehearsed(frame),
    )
    runs[found.name] = np.where(finite, values, math.nan) * scale
    return found


def plan_of(
    outside: Outside, *, expect: str | None = None, margin: float | None = None, paired: bool = False
) -> PlanRecord:
    """A plan as it would have been fixed: each arm against the control, by the suite's own rule.

    expect: the direction that is claimed, HIGHER or LOWER; None for a difference in either. margin: the smallest
    difference that matters, in the unit of the values as they were read; None for MARGIN of a share, and for none of
    other metrics. paired: whether differences within seeds are tested, in place of arms as independent. Raises
    AblateError where arms cannot be paired, and for a margin that is not above zero.
    """
    _check(expect, "--expect")
    if margin is not None and not 0 < margin < math.inf:
        raise AblateError(f"--margin must be above 0, in the unit of {outside.column}, not {margin:g}")
    if paired and not outside.pairing.paired:
        raise AblateError(
            "--paired needs every arm to have the control's seeds, each once"
            + (f"; not so {_listed(outside.pairing.differing)}" if outside.pairing.differing else "")
        )
    if margin is not None:
        margin *= outside.scale
    elif outside.metric.share:
        margin = MARGIN
    control, *others = outside.arms
    title, name = outside.metric.title, outside.name
    said = "is different from {}" if expect is None else f"has a {expect} {title} than {{}}"
    return PlanRecord(
        name="judged",
        question=f"Which arms differ from {control} in {title}?",
        profile=ProfileRecord("outside"),
        data=DataRecord(outside.source, "", stand_in=outside.rehearsal),
        titles={arm: arm for arm in others},
        arms=tuple(ArmRecord(arm, "") for arm in outside.arms),
        seeds=tuple(range(int(outside.runs["seed"].max()) + 1)),
        rule=RuleRecord(
            margin=math.nan if margin is None else margin,
            test="paired t" if paired else "welch t",
            correction="weighted holm",
        ),
        claims=tuple(
            ClaimRecord(
                statement=f"{arm} {said.format(control)}" + (f" in {title}" if expect is None else ""),
                technique=arm,
                metric=name,
                sign=0 if expect is None else SIGNS[expect],
                treatment=arm,
                control=control,
                family=f"{title} against {control}",
                source="",
            )
            for arm in others
        ),
    )


def _check(direction: str | None, option: str) -> None:
    if direction is not None and direction not in SIGNS:
        raise AblateError(f"{option} is {HIGHER} or {LOWER}, not {shown(direction)}")


def _column(source: str, columns: Sequence[str], asked: str | None, option: str, what: str) -> str:
    """A column that is there once."""
    if asked is None:
        raise AblateError(f"{option} says {what} of {source}; it has {_listed(columns)}")
    if asked not in columns:
        raise AblateError(f"{source} has no column {asked!r} ({option}){did_you_mean(asked, columns[:MOST_LISTED])}")
    if list(columns).count(asked) > 1:
        raise AblateError(f"{source} has several columns {asked!r} ({option}); rename all but one")
    return asked


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(map(str, names[:MOST_LISTED])) + (f" and {more} more" if more > 0 else "")


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def _text(column: pd.Series) -> pd.Series:
    """Names as text; a whole number that pandas reads as 3.0, since one is missing, is 3."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype("str")


def _printable(name: str) -> str:
    """A name on one line, with a space for all that is not printed."""
    return "".join(sign if sign.isprintable() else " " for sign in name)


def _numbers(source: str, column: pd.Series, metric: str) -> np.ndarray:
    """A column as float64; NaN where it is empty. Raises AblateError, with the first, where it has text."""
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise AblateError(f"--metric {metric!r} of {source} holds times, not numbers")
    values = pd.to_numeric(column, errors="coerce")
    wrong = values.isna() & column.notna()
    if wrong.any():
        wrong &= ~column[wrong].astype("str").str.strip().str.lower().isin(MISSING).reindex(
            column.index, fill_value=True
        )
    if wrong.any():
        first = int(np.flatnonzero(wrong.to_numpy())[0])
        text = str(column.iloc[first])
        hint = "; a number has a point, not a comma" if re.fullmatch(r"\s*-?\d+,\d+\s*", text) else ""
        hint = "; leave out the sign for per cent" if text.rstrip().endswith("%") else hint
        raise AblateError(
            f"--metric {metric!r} of {source} holds text: {shown(text)} in row {first + 1:,} below the head, and "
            f"{_count(int(wrong.sum()) - 1, 'other row')}{hint}"
            if wrong.sum() > 1
            else f"--metric {metric!r} of {source} holds text: {shown(text)} in row {first + 1:,} below the head{hint}"
        )
    return values.to_numpy(dtype=float, na_value=math.nan)


def _control_first(source: str, arm: str, names: list[str], control: str | None) -> list[int]:
    """The places of an order of the names in which the control comes first."""
    if len(names) > MOST_ARMS:
        raise AblateError(
            f"--arm {arm!r} of {source} has {len(names):,} different values, such as {shown(names[0])}; an arm is what "
            f"several runs have in common, and at most {MOST_ARMS} are judged at once"
        )
    if control is None:
        raise AblateError(f"--control says which arm the others are compared with; {source} has {_listed(names)}")
    if control not in names:
        control = next((one for one in names if _same_number(one, control)), control)
    if control not in names:
        raise AblateError(f"no arm {control!r} (--control) in {source}{did_you_mean(control, names[:MOST_LISTED])}")
    if len(names) == 1:
        raise AblateError(f"{control!r} is the only arm in column {arm!r} of {source}: there is nothing to compare")
    first = names.index(control)
    return [first, *(i for i in range(len(names)) if i != first)]


def _same_number(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _seeds(frame: pd.DataFrame, arms: pd.Categorical[str], seed: str | None) -> tuple[np.ndarray, Pairing]:
    """A number of each run, as `Outside` has it, and how the arms' seeds agree."""
    arm = np.asarray(arms.codes)
    counted = pd.Series(arm).groupby(arm).cumcount().to_numpy()
    if seed is None:
        return counted, Pairing(False)
    known = frame[seed].notna().to_numpy()
    codes, _ = pd.factorize(_text(frame[seed]).where(known))
    repeated = pd.DataFrame({"arm": arm, "seed": codes})[known].duplicated().sum()
    of_control = np.zeros(codes.max(initial=0) + 1, dtype=bool)
    of_control[codes[(arm == 0) & known]] = True
    strange = known & ~of_control[codes]  # -1, of a run without a seed, is known not to be
    pairs = pd.DataFrame({"arm": arm, "seed": codes})[known & ~strange].drop_duplicates()
    shared = np.bincount(pairs["arm"], minlength=len(arms.categories))
    differs = (shared < of_control.sum()) | (np.bincount(arm[strange], minlength=len(shared)) > 0)
    differing = tuple(str(name) for name, other in zip(arms.categories, differs, strict=True) if other)
    unnamed = int((~known).sum())
    if not (unnamed or repeated or differing):
        return codes, Pairing(True, seed)
    steps = tuple(column for column in frame.columns if column.lower() in STEPS) if repeated else ()
    return counted, Pairing(False, seed, unnamed, int(repeated), differing, steps)


def _check_runs(source: str, metric: str, arms: pd.Categorical[str], values: np.ndarray) -> None:
    """Raise AblateError where nothing can come of any comparison."""
    names, ended = list(arms.categories), np.bincount(arms.codes, minlength=len(arms.categories))
    if np.isnan(values).all():
        raise AblateError(f"no run in {source} has a number in {metric!r}")
    if ended.max() == 1:
        raise AblateError(
            f"each arm of {source} has one run alone, and one seed cannot tell an effect from chance; "
            "two runs of each arm are the least"
        )
    if ended[0] == 1:
        raise AblateError(f"the control {names[0]!r} has one run alone in {source}; two are the least")
    if ended[1:].max() == 1:
        raise AblateError(f"every arm but the control {names[0]!r} has one run alone in {source}; two are the least")
    of_arm = pd.Series(values).groupby(arms.codes)
    low, high = of_arm.min(), of_arm.max()
    if (high.dropna() == low.dropna()).all():
        every = low.dropna()
        same = every.nunique() == 1
        what = (
            f"every value of {metric!r} is {every.iloc[0]:g}"
            if same
            else f"{metric!r} is the same in all runs of each arm"
        )
        raise AblateError(f"{what} in {source}: nothing varies over runs, so no test applies")


def _about(metric: str, values: np.ndarray, better: str | None) -> tuple[OutsideMetric, float, str]:
    """What kind of metric it is by its name and values, the factor that makes shares of per cent, and what to say."""
    parts = set(re.split(r"[^a-z0-9]+", metric.lower()))
    parts |= {end for end in LESS_IS_BETTER | SHARES if len(end) > 3 and metric.lower().endswith(end)}
    less = bool(parts & LESS_IS_BETTER)
    said = ""
    if better is None:
        better = LOWER if less else HIGHER
        if less:
            said = f"By its name less of {metric} is better; --better higher says otherwise."
    sign = SIGNS[better]
    if not parts & SHARES or less or values.min() < 0 or values.max() > 100:
        return OutsideMetric(metric, better=sign), 1.0, said
    if values.max() <= 1:
        return OutsideMetric(metric, share=True, better=sign), 1.0, said
    return OutsideMetric(metric, share=True, better=sign), 0.01, f"{said} {metric} is read as per cent.".strip()


def _rehearsed(frame: pd.DataFrame) -> bool:
    """Whether the suite itself wrote the table, of runs on drawn images."""
    kind = "data_kind"
    return kind in frame and bool((frame[kind].astype("str") == schema.REHEARSAL).any())
