"""Weights of trainings as files of their runs: what stands in such a file, and which of them are kept.

A file is in the safetensors format, `schema.WEIGHTS_FILE`. Its tensors are those of the network's `state_dict`. Its
metadata say what is needed to use them (`names`, the tensors' order in the `state_dict`; `model` and `width`;
`classes`; `mean` and `std` of each channel, of pixels in [0, 1]; `precision`) and where they come from (`recipe`, the
digest; `settings`; `seed`; `epochs`; `data`, `data_digest` and `stand_in`; `test_accuracy`, `validation_accuracy`). All
values are text; lists, numbers, settings and `stand_in` are JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from safetensors.numpy import save

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.record import RecordError, RunRecord, WeightsRecord, from_tags, to_tags
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.store.tracking import Store
from cifar_ablations.study.training.engine import Outcome


def check_choice(name: str) -> None:
    """Raise AblateError for anything but one of `schema.KEEPS`."""
    if name not in schema.KEEPS:
        raise AblateError(f"weights cannot be kept {name!r}{did_you_mean(name, schema.KEEPS)}")


def content(outcome: Outcome, data: Dataset) -> bytes:
    """The file of an outcome that has weights."""
    weights, recipe = outcome.weights, outcome.member.recipe
    assert weights is not None
    model, budget = recipe.sized
    facts = {
        "names": list(weights.arrays),
        "width": model.width,
        "classes": list(data.classes),
        "mean": weights.mean,
        "std": weights.std,
        "settings": recipe.knobs(),
        "seed": outcome.member.seed,
        "epochs": outcome.epochs,
        "stand_in": data.stand_in,
        "validation_accuracy": None if math.isnan(weights.validation_accuracy) else weights.validation_accuracy,
        "test_accuracy": outcome.metrics.get(schema.TEST_ACCURACY),
    }
    words = {
        "format": "pt",
        "model": model.name,
        "precision": budget.precision,
        "recipe": outcome.member.digest,
        "data": data.name,
        "data_digest": data.digest,
    }
    return save(weights.arrays, words | {name: json.dumps(value) for name, value in facts.items()})


@dataclass(frozen=True)
class Kept:
    """A training whose weights were asked for."""

    run_id: str
    digest: str
    """Of the recipe."""
    seed: int
    outcome: str
    """As of RunRecord."""
    weights: WeightsRecord

    @property
    def rank(self) -> tuple[float, int]:
        """The best of a recipe has the highest; of equal accuracies, the lowest seed."""
        return self.weights.validation_accuracy, -self.seed

    @property
    def has_file(self) -> bool:
        """Whether its weights are there."""
        return self.weights.kept != schema.PASSED_OVER


def kept_in(store: Store, data_digest: str) -> Iterator[Kept]:
    """Every training on a data set whose weights were asked for and that nobody trains at the moment."""
    asked = f"tags.{schema.KIND} = '{schema.KIND_TRAINING}' and tags.{schema.DATA_DIGEST} = '{data_digest}'"
    ended = "attributes.status != 'RUNNING'"
    for run in store.search_runs(f"{asked} and {ended} and tags.`{schema.WEIGHTS}kept` LIKE '%'"):
        run_id, tags = run.info.run_id, run.data.tags
        with suppress(RecordError):  # edited by hand
            of = from_tags(RunRecord, tags, "", f"run {run_id}")
            yield Kept(run_id, of.digest, of.seed, of.outcome, from_tags(WeightsRecord, tags, schema.WEIGHTS, run_id))


class Keeper:
    """Keeps the weights of trainings as they end: of all, or of the best of each recipe on a data set.

    The best is the one with the highest accuracy on validation images, of all in the store whose weights were asked
    for: test images choose nothing. A file that was kept as the best is deleted once another one is better.
    """

    def __init__(self, store: Store, data: Dataset, choice: str):
        self._store, self._data, self._choice = store, data, choice
        self._best: dict[str, Kept] = {}
        self._superseded: list[Kept] = []
        if choice != schema.KEEP_BEST:
            return
        for one in kept_in(store, data.digest):
            if one.has_file and one.outcome not in schema.RESULTS:  # interrupted between its weights and its end
                self._superseded.append(one)
            elif one.has_file:
                self._supersede(self._take(one))
        self.tidy()

    def keep(self, run_id: str, outcome: Outcome) -> None:
        """Write the weights that an outcome brings, if they are to be kept; to be called before its run ends."""
        if outcome.weights is None:
            return
        member, accuracy = outcome.member, outcome.weights.validation_accuracy
        record = WeightsRecord(self._choice, accuracy)
        if self._choice == schema.KEEP_BEST:
            one = Kept(run_id, member.digest, member.seed, outcome.outcome, record)
            lesser = self._take(one)
            if lesser is one:
                record = replace(record, kept=schema.PASSED_OVER)
            else:
                self._supersede(lesser)
        if record.kept != schema.PASSED_OVER:
            self._store.put_file(run_id, schema.WEIGHTS_FILE, content(outcome, self._data))
        self._tag(run_id, record)

    def tidy(self) -> None:
        """Delete the files whose place better ones have taken; to be called once the better one's run has ended."""
        for one in self._superseded:
            self._store.remove(one.run_id, schema.WEIGHTS_FILE.partition("/")[0])
            self._tag(one.run_id, replace(one.weights, kept=schema.PASSED_OVER))
        self._superseded.clear()

    def _take(self, one: Kept) -> Kept | None:
        """Take a training into account; returns it or the one that was the best of its recipe, whichever is not now."""
        before = self._best.get(one.digest)
        if before is not None and one.rank <= before.rank:
            return one
        self._best[one.digest] = one
        return before

    def _supersede(self, one: Kept | None) -> None:
        if one is not None and one.weights.kept == schema.KEEP_BEST:  # what was kept as one of all stays
            self._superseded.append(one)

    def _tag(self, run_id: str, record: WeightsRecord) -> None:
        self._store.log(run_id, tags=to_tags(record, schema.WEIGHTS))
