"""The names under which `study` writes to the MLflow store and `reports` reads from it.

The store is the only thing the two share, so its vocabulary has one home. A parent run (`kind=plan`) is one
invocation of a plan and carries the artifact `plan.json`; a child run (`kind=training`) is one training of one arm
with one seed.
"""

from __future__ import annotations

KIND = "kind"
KIND_PLAN = "plan"
KIND_TRAINING = "training"

# Tags of a parent run and, where they apply, of its children.
PLAN = "plan"
PLAN_DIGEST = "plan_digest"
PROFILE = "profile"
DATA = "data"
DATA_DIGEST = "data_digest"
STAND_IN = "stand_in"  # "true" when the images are the procedurally drawn ones

# Tags of a child run.
ARM = "arm"
SEED = "seed"
DIGEST = "digest"
OUTCOME = "outcome"

# Values of OUTCOME. Failed and interrupted are no results, and are trained again.
FINISHED = "finished"
STOPPED = "stopped early"
DIVERGED = "diverged"
FAILED = "failed"
INTERRUPTED = "interrupted"
CONVERGED = (FINISHED, STOPPED)
RESULTS = (*CONVERGED, DIVERGED)

# Artifacts.
PLAN_FILE = "plan.json"
TEST_CORRECT_FILE = "test_correct.npz"  # key "correct": bool [test images], in the order of the test set

# Metrics logged once per epoch (step = epoch, from 1).
TRAIN_LOSS = "train/loss"
VALIDATION_LOSS = "validation/loss"
VALIDATION_ACCURACY = "validation/accuracy"
LEARNING_RATE = "learning_rate"
GRADIENT_NORM = "gradient_norm"
WEIGHT_NORM = "weight_norm"
IMAGES_PER_SECOND = "images_per_second"
CURVES = (
    TRAIN_LOSS,
    VALIDATION_LOSS,
    VALIDATION_ACCURACY,
    LEARNING_RATE,
    GRADIENT_NORM,
    WEIGHT_NORM,
    IMAGES_PER_SECOND,
)

# Metrics logged once, when a run ends. Accuracies and the gap are fractions in [0, 1].
TEST_ACCURACY = "test/accuracy"
TEST_LOSS = "test/loss"
TRAIN_ACCURACY = "train/accuracy"  # in eval mode, without augmentation
GENERALISATION_GAP = "generalisation_gap"  # train/accuracy - test/accuracy
SECONDS = "seconds"
EPOCHS = "epochs"  # trained until the end, which early stopping and divergence bring forward
ENDINGS = (TEST_ACCURACY, TEST_LOSS, TRAIN_ACCURACY, GENERALISATION_GAP, SECONDS, EPOCHS)

# Tags of a parent run that say what produced it: commit, versions, device, … are found by this prefix.
PROVENANCE = "provenance."
