"""What the notebook says about training, statement by statement, each put to the test."""

from __future__ import annotations

from cifar_ablations.ablations import metrics, schema
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.record import ClaimRecord

QUESTION = "Which of the notebook's statements about training hold here?"

FULL = "full recipe"

ARMS: dict[str, tuple[str, ...]] = {
    FULL: (),
    "without weight decay": ("weight_decay=off",),
    "much weight decay": ("weight_decay.strength=0.005",),
    "without dropout": ("dropout=off",),
    "dropout 0.7": ("dropout.p=0.7",),
    "without augmentation": ("augmentation=off",),
    "an eighth of the data": ("data_size=1/8",),
    "an eighth, without augmentation": ("data_size=1/8", "augmentation=off"),
    "with mixup": ("mixup=on",),
    "with CutMix": ("cutmix=on",),
    "torch's default initialisation": ("initialisation=off",),
    "weights from N(0, 1)": ("initialisation=normal_1",),
    "Xavier initialisation": ("initialisation=xavier_normal",),
    "sigmoid": ("activation=sigmoid",),
    "a hundredth of the rate": ("learning_rate=×0.01",),
    "a hundred times the rate": ("learning_rate=×100",),
    "constant rate": ("schedule=off",),
    "three times the rate, cosine": ("learning_rate=×3", "schedule=cosine"),
    "three times the rate, warm-up and cosine": ("learning_rate=×3", "schedule=warmup_cosine"),
    "plain SGD": ("optimizer=off",),
    "SGD with momentum": ("optimizer=momentum",),
    "Adam, a third of the rate": ("optimizer.rate=0.001",),
    "Adam without bias correction": ("optimizer=adam_uncorrected", "optimizer.rate=0.001"),
    "unregularised": ("augmentation=off", "dropout=off", "weight_decay=off"),
    "unregularised, early stopping": ("augmentation=off", "dropout=off", "weight_decay=off", "early_stopping=on"),
    "sorted by class": ("shuffling=sorted",),
    "inputs not normalised": ("input_scaling=pixels",),
    "twice the width": ("capacity=×2",),
}
"""Every arm as changes to the full recipe."""

REGULARISATION = "regularisation"
INITIALISATION = "initialisation and activation"
RATES = "learning rates"
OPTIMIZERS = "optimizers"
DATA = "data and capacity"


def _claim(
    statement: str, technique: str, name: str, sign: int, treatment: str, control: str, family: str, notebook: str,
    source: str, *mechanism: str, beyond: tuple[str, str] | None = None, allowed: bool = False,
) -> ClaimRecord:  # fmt: skip
    return ClaimRecord(
        statement, technique, name, sign, treatment, control, family, source, notebook, mechanism, beyond, allowed
    )


ACCURACY, GAP = schema.TEST_ACCURACY, schema.GENERALISATION_GAP
RATIO, DRIFT = schema.INITIAL + schema.VARIANCE_RATIO, schema.INITIAL + schema.VARIANCE_DRIFT
GRADIENTS = schema.INITIAL + schema.GRADIENT_RATIO

# Sections of the notebook.
DECAY, DROP, AUGMENT = "Weight Decay", "Dropout", "Data Augmentation"
VANISHING, INIT = "Exploding & Vanishing Gradients", "Weight Initialization"
RATE, NETWORK = "Learning Rate", "Training Efficient Model"

CLAIMS: tuple[ClaimRecord, ...] = (
    _claim("Weight decay lowers the generalisation gap", "weight_decay", GAP, -1, FULL, "without weight decay",
           REGULARISATION, DECAY, "Krogh & Hertz 1991", schema.WEIGHT_NORM, schema.TRAIN_ACCURACY),
    _claim("Weight decay makes weights smaller", "weight_decay", schema.WEIGHT_NORM, -1, FULL, "without weight decay",
           REGULARISATION, DECAY, "Krogh & Hertz 1991", schema.UPDATE_RATIO),
    _claim("Too much weight decay underfits: training accuracy falls", "weight_decay", schema.TRAIN_ACCURACY, -1,
           "much weight decay", FULL, REGULARISATION, DECAY, "Goodfellow et al. 2016, section 5.2", schema.WEIGHT_NORM),
    _claim("Dropout lowers the generalisation gap", "dropout", GAP, -1, FULL, "without dropout", REGULARISATION, DROP,
           "Srivastava et al. 2014", schema.TRAIN_ACCURACY, schema.ENTROPY),
    _claim("Too much dropout costs accuracy", "dropout", ACCURACY, -1, "dropout 0.7", "without dropout",
           REGULARISATION, DROP, "Srivastava et al. 2014, section 7.3", schema.TRAIN_ACCURACY),
    _claim("Augmentation lowers the generalisation gap", "augmentation", GAP, -1, FULL, "without augmentation",
           REGULARISATION, AUGMENT, "Shorten & Khoshgoftaar 2019", schema.TRAIN_ACCURACY),
    _claim("Augmentation raises accuracy", "augmentation", ACCURACY, +1, FULL, "without augmentation", REGULARISATION,
           AUGMENT, "Krizhevsky et al. 2012", GAP, schema.TRAIN_ACCURACY),
    _claim("Augmentation raises accuracy more where there is less data", "augmentation", ACCURACY, +1,
           "an eighth of the data", "an eighth, without augmentation", REGULARISATION, AUGMENT,
           "Shorten & Khoshgoftaar 2019", GAP, beyond=(FULL, "without augmentation")),
    _claim("Mixup lowers the generalisation gap", "mixup", GAP, -1, "with mixup", FULL, REGULARISATION, AUGMENT,
           "Zhang et al. 2018", schema.ENTROPY),
    _claim("CutMix lowers the generalisation gap", "cutmix", GAP, -1, "with CutMix", FULL, REGULARISATION, AUGMENT,
           "Yun et al. 2019", schema.ENTROPY),
    _claim("Early stopping costs no accuracy", "early_stopping", ACCURACY, +1, "unregularised, early stopping",
           "unregularised", REGULARISATION, AUGMENT, "Prechelt 1998", schema.EPOCHS, GAP, allowed=True),
    _claim("Early stopping saves epochs", "early_stopping", schema.EPOCHS, -1, "unregularised, early stopping",
           "unregularised", REGULARISATION, AUGMENT, "Prechelt 1998", GAP),
    _claim("Kaiming initialisation keeps the variance of activations with depth better than torch's default",
           "initialisation", DRIFT, -1, FULL, "torch's default initialisation", INITIALISATION, INIT, "He et al. 2015",
           RATIO, GRADIENTS),
    _claim("Weights from N(0, 1) make activations explode with depth", "initialisation", RATIO, +1,
           "weights from N(0, 1)", FULL, INITIALISATION, INIT, "Glorot & Bengio 2010", GRADIENTS),
    _claim("Xavier's initialisation lets activations shrink under ReLU, next to Kaiming's", "initialisation", RATIO, -1,
           "Xavier initialisation", FULL, INITIALISATION, INIT, "He et al. 2015, section 2.2", GRADIENTS),
    _claim("Under sigmoid, gradients vanish on their way to the first layer", "activation", GRADIENTS, -1, "sigmoid",
           FULL, INITIALISATION, VANISHING, "Glorot & Bengio 2010", ACCURACY),
    _claim("With a learning rate far too low, the training loss falls too slowly", "learning_rate", schema.TRAIN_LOSS,
           +1, "a hundredth of the rate", FULL, RATES, RATE, "Bengio 2012, section 3.1", schema.UPDATE_RATIO),
    _claim("With a learning rate far too high, training fails", "learning_rate", ACCURACY, -1,
           "a hundred times the rate", FULL, RATES, RATE, "Bengio 2012, section 3.1", schema.UPDATE_RATIO),
    _claim("Decaying the learning rate raises the final accuracy", "schedule", ACCURACY, +1, FULL, "constant rate",
           RATES, RATE, "He et al. 2016, section 4.2", schema.UPDATE_RATIO, schema.TRAIN_LOSS),
    _claim("Warm-up avoids early instability: the first epoch's loss at a high rate is lower", "schedule",
           schema.FIRST_EPOCH_LOSS, -1, "three times the rate, warm-up and cosine", "three times the rate, cosine",
           RATES, RATE, "Goyal et al. 2017", ACCURACY),
    _claim("Momentum reaches the target in fewer epochs than plain SGD", "optimizer", metrics.EPOCHS_TO_TARGET, -1,
           "SGD with momentum", "plain SGD", OPTIMIZERS, "Momentum", "Sutskever et al. 2013", schema.FIRST_EPOCH_LOSS),
    _claim("Adam starts faster than plain SGD: the first epoch's loss is lower", "optimizer", schema.FIRST_EPOCH_LOSS,
           -1, FULL, "plain SGD", OPTIMIZERS, "Adam", "Kingma & Ba 2015", metrics.EPOCHS_TO_TARGET),
    _claim("Without its bias correction Adam starts worse", "optimizer", schema.FIRST_EPOCH_LOSS, +1,
           "Adam without bias correction", "Adam, a third of the rate", OPTIMIZERS, "Adam",
           "Kingma & Ba 2015, section 6.4", ACCURACY),
    _claim("Training on images sorted by class converges worse", "shuffling", ACCURACY, -1, "sorted by class", FULL,
           DATA, NETWORK, "Bottou 2012, section 3", schema.TRAIN_LOSS),
    _claim("Inputs that are not normalised train worse", "input_scaling", ACCURACY, -1, "inputs not normalised", FULL,
           DATA, NETWORK, "LeCun et al. 1998, section 4.3", schema.FIRST_EPOCH_LOSS),
    _claim("More capacity helps an underfitting model: training accuracy rises", "capacity", schema.TRAIN_ACCURACY, +1,
           "twice the width", FULL, DATA, DROP, "Goodfellow et al. 2016, section 5.2", GAP),
)  # fmt: skip


def plan(asked: PlanRequest) -> Plan:
    """Exactly the arms that the claims compare."""
    baseline = asked.baseline
    arms = []
    for name, changes in ARMS.items():
        recipe = baseline
        for change in changes:
            recipe = recipe.set(change)
        arms.append(Arm(name, recipe))
    assert {name for claim in CLAIMS for name in claim.arms} == set(ARMS)
    return Plan(
        name="claims", question=QUESTION, arms=tuple(arms), seeds=asked.seeds, rule=asked.rule,
        claims=CLAIMS, layout="ledger",
    )  # fmt: skip
