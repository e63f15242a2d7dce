"""A view of an experiment that MLflow's UI opens as it is: runs grouped by arm, with the columns that matter.

MLflow keeps a shared view as an experiment's tag, the interface's state as deflated JSON; the address names its key.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord

TAG = f"mlflow.sharedViewState.{schema.GROUPED_VIEW}"
MOST = 5_000
"""Characters that MLflow takes in an experiment's tag."""

NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"
"""What the interface calls its columns of names and of times, which are always there."""
CREATED_WIDTH = 32
"""In pixels: out of the way, as all times of an invocation are alike; with less MLflow takes its own."""
NAMES = (240, 330)
"""The widths that a column of names may have; half of a window of 1280 pixels is MLflow's own."""

TRIAL_COLUMNS = {schema.OBJECTIVE: 100, schema.EPOCHS: 90, schema.SECONDS: 90}
PLAN_COLUMNS = {
    schema.TEST_ACCURACY: 92,
    schema.GENERALISATION_GAP: 80,
    schema.EFFECT: 76,
    schema.EFFECT_LOW: 90,
    schema.EFFECT_HIGH: 90,
    schema.TRAIN_ACCURACY: 110,
    schema.SECONDS: 90,
}


def of_plan(plan: PlanRecord) -> str:
    """The value of TAG for a plan: its arms, folded, the most accurate first; of the plan's profile alone."""
    shown = f"tags.{schema.KIND} != '{schema.KIND_PLAN}'"
    if plan.profile.name.isalnum():  # no other name may stand in a filter's quotes
        shown += f" and tags.{schema.PROFILE} = '{plan.profile.name}'"
    return grouped(shown, schema.ARM, PLAN_COLUMNS, [arm.name for arm in plan.arms])


def of_search() -> str:
    """The value of TAG for a search: its studies, the best first."""
    return grouped(f"tags.{schema.KIND} = '{schema.KIND_TRIAL}'", schema.STUDY, TRIAL_COLUMNS)


def grouped(shown: str, by: str, metrics: Mapping[str, int], folded: Iterable[str] = ()) -> str:
    """The value of TAG for the runs for which MLflow's filter `shown` holds, grouped by the tag `by`, averages first.

    metrics: the columns with their widths; the groups are sorted by the first. folded: groups of which no run is shown.
    """
    columns = {f"metrics.`{name}`": width for name, width in metrics.items()}
    folded = list(folded)
    needed = 72 + 6 * max((len(f"Group: {name}") for name in folded), default=0)  # at MLflow's size of letters
    widths = {NAME: min(max(needed, NAMES[0]), NAMES[1]), CREATED: CREATED_WIDTH} | columns
    state = {
        "searchFilter": shown,
        "orderByKey": next(iter(columns)),
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": by}]},
        "groupsExpanded": {f"tag.{by}.{name}": False for name in folded},
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "selectedColumns": list(columns),
        "columnOrder": list(widths),
        "columnWidths": widths,
    }
    value = "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return value if len(value) <= MOST or not folded else grouped(shown, by, metrics)
