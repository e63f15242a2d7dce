"""What has been said of runs and is not in MLflow yet. A file keeps it too, so that no kill loses any of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Metric, Param

from cifar_ablations.ablations.files import parse_json

SECONDS = 60.0
"""How long anything waits at most while trainings report: so late does MLflow show how those in flight are doing, or an
epoch late where that is longer."""


@dataclass(frozen=True)
class Waiting:
    """What waits of one run, in the order in which it came."""

    metrics: list[Metric] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)


class Pending:
    """Metrics and parameters by run, in memory and in a file of a line for each call of `add`.

    The file is gone when nothing waits. It is written without waiting for the disk: what it guards against is the end
    of this process, not of the machine, after which trainings go on from what their checkpoints hold.
    """

    def __init__(self, path: Path):
        self._path = path
        self._waiting: dict[str, Waiting] = {}
        self._since = 0.0

    def add(self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()) -> None:
        """Keep metrics and parameters of a run."""
        if not self._waiting:
            self._since = time.monotonic()
        line = [run_id, [(m.key, m.value, m.timestamp, m.step) for m in metrics], [(p.key, p.value) for p in params]]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._take(run_id, metrics, params)

    def recover(self) -> None:
        """Take up what a process left behind that has ended. The caller has made sure that there is no other."""
        with suppress(FileNotFoundError):
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, TypeError):  # the last line, of a process that ended in the middle of it
                    run_id, metrics, params = parse_json(line)
                    self._take(run_id, [Metric(*values) for values in metrics], [Param(*values) for values in params])

    def _take(self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param]) -> None:
        waiting = self._waiting.setdefault(run_id, Waiting())
        waiting.metrics.extend(metrics)
        waiting.params.extend(params)

    def runs(self) -> list[str]:
        """Those of which something waits."""
        return list(self._waiting)

    def due(self) -> list[str]:
        """The runs of which something waits, once the first of it has waited long enough."""
        return list(self._waiting) if time.monotonic() - self._since >= SECONDS else []

    def of(self, run_id: str) -> Waiting:
        """What waits of a run."""
        return self._waiting.get(run_id, Waiting())

    def drop(self, run_id: str) -> None:
        """Forget what waited of a run, once it is written. Written twice, after a kill in between, it is there once."""
        if self._waiting.pop(run_id, None) is not None and not self._waiting:
            self._path.unlink(missing_ok=True)
