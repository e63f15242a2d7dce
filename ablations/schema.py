"""The names under which `study` writes to the MLflow store and `reports` reads from it.

The store is the only thing the two share, so its vocabulary has one home. A parent run (`kind=plan`) is one
invocation of a plan and carries the artifacts `plan.json` and `gallery.json`; a child run (`kind=training`) is one
training of one arm with one seed. A parent run of `kind=search` is one invocation of a search and carries
`search.json` and, once it has ended, `outcome.json`; its child runs (`kind=trial`) are the trials of its studies. A
parent run of `kind=foundations` is one run of all demonstrations; its child runs (`kind=foundation`) are one each, with
`demonstration.json` and a CSV file per frame in `frames/`. A parent run of `kind=commands` is one invocation of a plan
whose arms are commands, with `commands.json`; its child runs (`kind=command`) are one run of one command each, with its
own metrics and `output.txt`. The metrics of trainings are names of the store too; each is declared in one entry of
`metrics.py`.

Others may keep runs in the same store, with tags of the same names: only what `is_ours` is read, changed or ended.
"""

# mypy: implicit-reexport

from __future__ import annotations

from collections.abc import Mapping

from cifar_ablations.ablations.metrics import *  # noqa: F403

MARK = "cifar_ablations"
"""Tag of every run and experiment that is made here."""
MARKED = {MARK: "true"}
COORDINATOR = "coordinator"
"""Tag of every run: host, boot, process and its start, to tell a run in training from one whose process is gone."""

WRITTEN_AS = "written_as"
"""Tag of every run: what its coordinator called it before MLflow did. By it a run is found whose creation MLflow has
answered to nobody."""


COPY_OF = "copy_of"
"""Tag of a run that was brought from another store: the id of the run there."""


def is_ours(tags: Mapping[str, str]) -> bool:
    """Whether a run with these tags was made here; earlier versions had no mark of their own."""
    return MARK in tags or tags.get(COORDINATOR, "").count("/") == 3


SET_ASIDE = "set_aside"
"""Tag of a run that counts no longer, with the reason: what it says of itself is damaged. With a dot and the name of a
file behind it, the tag of a run whose file is no longer where it was, with where it was put, or `GONE`."""
GONE = "gone"
DOUBLE = "double"
"""Tag of a run that is a second one of the same training or trial: the id of the one that counts."""


def counts(tags: Mapping[str, str]) -> bool:
    """Whether a run with these tags was made here and is read."""
    return is_ours(tags) and SET_ASIDE not in tags


KIND = "kind"
KIND_PLAN = "plan"
KIND_TRAINING = "training"
KIND_ARM = "arm"
KIND_SEARCH = "search"
KIND_TRIAL = "trial"
KIND_COMMANDS = "commands"
KIND_COMMAND = "command"
KIND_FOUNDATIONS = "foundations"
KIND_FOUNDATION = "foundation"
PARENT = "mlflow.parentRunId"  # MLflow's own tag: by it a child run is found under its parent

# Tag of a parent run: one more than the highest before it, which tells their order whatever a clock said.
NUMBER = "invocation"

# Tags of a parent run and, where they apply, of its children.
PLAN = "plan"
PLAN_DIGEST = "plan_digest"
PROFILE = "profile"
DATA = "data"
DATA_DIGEST = "data_digest"
STAND_IN = "stand_in"  # "true" when the images are the procedurally drawn ones

REHEARSAL = "rehearsal on drawn images"
"""What every command, page, verdict and file says of runs on images that a program drew."""

# Tags of a child run.
ARM = "arm"
SEED = "seed"
DIGEST = "digest"
OUTCOME = "outcome"
STALLED = "stalled"  # why, where a run's worker was lost: made no progress, or died
ERROR = "error"  # the end of the traceback, where a run failed

# Tags of a search's parent run (the first two) and of its trials, which have DIGEST and OUTCOME too.
SEARCH = "search"
SEARCH_DIGEST = "search_digest"
STUDY = "study"
TRIAL = "trial"  # Optuna's number, counted from 0 within the study
SAMPLED = "sampled"  # JSON: the parameters that were sampled, `technique.knob` to value
ORIGIN = "origin"  # where a trial's result comes from, if it was not trained for this store
FROM_OPTUNA = "optuna"  # a value of it: from Optuna's storage, which has no curves

# Tag of a demonstration's run.
DEMONSTRATION = "demonstration"

# Tag of the run of a command that has no result: why, in words.
CAUSE = "cause"

# Values of OUTCOME. Failed and interrupted are no results, and are trained again.
FINISHED = "finished"
STOPPED = "stopped early"
DIVERGED = "diverged"
FAILED = "failed"
PRUNED = "pruned"  # a trial that its study's pruner ended
INTERRUPTED = "interrupted"
CONVERGED = (FINISHED, STOPPED)
RESULTS = (*CONVERGED, DIVERGED)
OUTCOMES = (*RESULTS, FAILED, PRUNED, INTERRUPTED)

# Beside a SQLite store: the port on which MLflow's UI was last served for it.
UI_PORT_FILE = "mlflow-ui.port"

# The view of an experiment that shows runs by arm, or trials by study: part of an address in MLflow's UI.
GROUPED_VIEW = "grouped"

# Artifacts.
PLAN_FILE = "plan.json"
GALLERY_FILE = "gallery.json"
"""Some training images as a plan's networks saw them: a `record.GalleryRecord`."""
SEARCH_FILE = "search.json"
OUTCOME_FILE = "outcome.json"
DEMONSTRATION_FILE = "demonstration.json"
COMMANDS_FILE = "commands.json"
OUTPUT_FILE = "output.txt"  # the end of what a command printed
FRAMES_FOLDER = "frames"
DETAILS_FILE = "details.npz"
"""Arrays of a training, without pickle. `correct`: bool [test images], in the order of the test set. `confusion`: int64
[classes, classes], truth by row. `layers`: names of the weight tensors; `by_layer`: float32 [epochs, 3, layers], norms
of gradients, of weights, and of the update relative to the weights, at the last step of each epoch. `initial/` and
`final/` + `variance`, `mean`, `dead` by activation function and `gradient` by weight tensor, as
`study.training.diagnostics` has them.
"""

WEIGHTS_FILE = "weights/model.safetensors"
"""The weights of a training, where they are kept: `study.store.weights` says what stands in the file."""

# What to keep the weights of.
KEEP_NONE, KEEP_BEST, KEEP_ALL = "none", "best", "all"
KEEPS = (KEEP_NONE, KEEP_BEST, KEEP_ALL)

# Tags of a training's run whose weights were asked for, as `record.WeightsRecord` has them.
WEIGHTS = "weights."
PASSED_OVER = "passed over"  # a value of `kept`, beside the last two of KEEPS: another run of the recipe is the best

# Metrics of a trial, logged when it ends; its CURVES are means over its seeds.
OBJECTIVE = "objective"  # mean validation accuracy over seeds at the last epoch, as a fraction
RUNG = "rung"  # the same at each rung (step = epoch), where the pruner was asked

# Metrics of the run of an arm (`kind=arm`), which stands among the arm's trainings: what the technique that the arm
# singles out does to test accuracy, as a fraction, and the limits of its interval; its tag says what became of the
# claim.
EFFECT, EFFECT_LOW, EFFECT_HIGH = "effect", "effect/low", "effect/high"
VERDICT = "verdict"

# Metrics of a demonstration: 1 for a check that holds, 0 for one that does not, numbered from 1; how many hold, and the
# seconds it took.
CHECK = "check/"
CHECKS_HOLDING = "checks_holding"

# Tags of a parent run that say what produced it: commit, versions, device, … are found by this prefix.
PROVENANCE = "provenance."

# Tags of a training's run that say in what environment it was trained, as `record.EnvironmentRecord` has it.
ENVIRONMENT = "environment."
