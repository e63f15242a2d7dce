"""A view of an experiment that MLflow's UI opens as it is: runs grouped by arm, with the columns that matter.

MLflow keeps a shared view as an experiment's tag, the interface's state as deflated JSON; the address names its key.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence

from cifar_ablations.ablations import schema

TAG = f"mlflow.sharedViewState.{schema.GROUPED_VIEW}"


def grouped(kind: str, by: str, metrics: Sequence[str]) -> str:
    """The value of TAG for runs with the tag `kind`, grouped by the tag `by`, averages first."""
    state = {
        "searchFilter": f"tags.kind = '{kind}'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": by}]},
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "selectedColumns": [f"metrics.`{name}`" for name in metrics],
    }
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
