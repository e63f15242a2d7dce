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
    "Adam, a third of the rate": ("optimizer=on", "optimizer.rate=0.001"),
    "Adam without bias correction": ("optimizer=adam_uncorrected", "optimizer.rate=0.001"),
    "unregularised": ("augmentation=off", "dropout=off", "weight_decay=off"),
    "unregularised, early stopping": ("augmentation=off", "dropout=off", "weight_decay=off", "early_stopping=on"),
    "sorted by class": ("shuffling=sorted",),
    "inputs not normalised": ("input_scaling=pixels",),
    "twice the width": ("capacity=×2",),
}
"""Every arm as changes to the full recipe."""

NAMED = {"Adam": "Adam", "Kaiming": "Kaiming initialisation"}
"""Words by which a statement names a kind of technique. About the full recipe it is left out where the baseline has
another kind."""

REGULARISATION = "regularisation"
INITIALISATION = "initialisation and activation"
RATES = "learning rates"
OPTIMIZERS = "optimizers"
DATA = "data and capacity"

ACCURACY, GAP = schema.TEST_ACCURACY, schema.GENERALISATION_GAP
RATIO, DRIFT = schema.INITIAL + schema.VARIANCE_RATIO, schema.INITIAL + schema.VARIANCE_DRIFT
GRADIENTS = schema.INITIAL + schema.GRADIENT_RATIO

# Sections of the notebook.
DECAY, DROP, AUGMENT = "Weight Decay", "Dropout", "Data Augmentation"
VANISHING, INIT = "Exploding & Vanishing Gradients", "Weight Initialization"
RATE, NETWORK = "Learning Rate", "Training Efficient Model"

CLAIMS: tuple[ClaimRecord, ...] = (
    ClaimRecord(
        statement="Weight decay lowers the generalisation gap",
        technique="weight_decay",
        metric=GAP,
        sign=-1,
        treatment=FULL,
        control="without weight decay",
        family=REGULARISATION,
        notebook=DECAY,
        source="Krogh & Hertz 1991",
        mechanism=(schema.WEIGHT_NORM, schema.TRAIN_ACCURACY),
    ),
    ClaimRecord(
        statement="Weight decay makes weights smaller",
        technique="weight_decay",
        metric=schema.WEIGHT_NORM,
        sign=-1,
        treatment=FULL,
        control="without weight decay",
        family=REGULARISATION,
        notebook=DECAY,
        source="Krogh & Hertz 1991",
        mechanism=(schema.UPDATE_RATIO,),
    ),
    ClaimRecord(
        statement="Too much weight decay underfits: training accuracy falls",
        technique="weight_decay",
        metric=schema.TRAIN_ACCURACY,
        sign=-1,
        treatment="much weight decay",
        control=FULL,
        family=REGULARISATION,
        notebook=DECAY,
        source="Goodfellow et al. 2016, section 5.2",
        mechanism=(schema.WEIGHT_NORM,),
    ),
    ClaimRecord(
        statement="Dropout lowers the generalisation gap",
        technique="dropout",
        metric=GAP,
        sign=-1,
        treatment=FULL,
        control="without dropout",
        family=REGULARISATION,
        notebook=DROP,
        source="Srivastava et al. 2014",
        mechanism=(schema.TRAIN_ACCURACY, schema.ENTROPY),
    ),
    ClaimRecord(
        statement="Too much dropout costs accuracy",
        technique="dropout",
        metric=ACCURACY,
        sign=-1,
        treatment="dropout 0.7",
        control="without dropout",
        family=REGULARISATION,
        notebook=DROP,
        source="Srivastava et al. 2014, section 7.3",
        mechanism=(schema.TRAIN_ACCURACY,),
    ),
    ClaimRecord(
        statement="Augmentation lowers the generalisation gap",
        technique="augmentation",
        metric=GAP,
        sign=-1,
        treatment=FULL,
        control="without augmentation",
        family=REGULARISATION,
        notebook=AUGMENT,
        source="Shorten & Khoshgoftaar 2019",
        mechanism=(schema.TRAIN_ACCURACY,),
    ),
    ClaimRecord(
        statement="Augmentation raises accuracy",
        technique="augmentation",
        metric=ACCURACY,
        sign=+1,
        treatment=FULL,
        control="without augmentation",
        family=REGULARISATION,
        notebook=AUGMENT,
        source="Krizhevsky et al. 2012",
        mechanism=(GAP, schema.TRAIN_ACCURACY),
    ),
    ClaimRecord(
        statement="Augmentation raises accuracy more where there is less data",
        technique="augmentation",
        metric=ACCURACY,
        sign=+1,
        treatment="an eighth of the data",
        control="an eighth, without augmentation",
        family=REGULARISATION,
        notebook=AUGMENT,
        source="Shorten & Khoshgoftaar 2019",
        mechanism=(GAP,),
        beyond=(FULL, "without augmentation"),
    ),
    ClaimRecord(
        statement="Mixup lowers the generalisation gap",
        technique="mixup",
        metric=GAP,
        sign=-1,
        treatment="with mixup",
        control=FULL,
        family=REGULARISATION,
        notebook=AUGMENT,
        source="Zhang et al. 2018",
        mechanism=(schema.ENTROPY,),
    ),
    ClaimRecord(
        statement="CutMix lowers the generalisation gap",
        technique="cutmix",
        metric=GAP,
        sign=-1,
        treatment="with CutMix",
        control=FULL,
        family=REGULARISATION,
        notebook=AUGMENT,
        source="Yun et al. 2019",
        mechanism=(schema.ENTROPY,),
    ),
    ClaimRecord(
        statement="Early stopping costs no accuracy",
        technique="early_stopping",
        metric=ACCURACY,
        sign=+1,
        treatment="unregularised, early stopping",
        control="unregularised",
        family=REGULARISATION,
        notebook=AUGMENT,
        source="Prechelt 1998",
        mechanism=(schema.EPOCHS, GAP),
        allowed=True,
    ),
    ClaimRecord(
        statement="Early stopping saves epochs",
        technique="early_stopping",
        metric=schema.EPOCHS,
        sign=-1,
        treatment="unregularised, early stopping",
        control="unregularised",
        family=REGULARISATION,
        notebook=AUGMENT,
        source="Prechelt 1998",
        mechanism=(GAP,),
    ),
    ClaimRecord(
        statement="Kaiming initialisation keeps the variance of activations with depth better than torch's default",
        technique="initialisation",
        metric=DRIFT,
        sign=-1,
        treatment=FULL,
        control="torch's default initialisation",
        family=INITIALISATION,
        notebook=INIT,
        source="He et al. 2015",
        mechanism=(RATIO, GRADIENTS),
    ),
    ClaimRecord(
        statement="Weights from N(0, 1) make activations explode with depth",
        technique="initialisation",
        metric=RATIO,
        sign=+1,
        treatment="weights from N(0, 1)",
        control=FULL,
        family=INITIALISATION,
        notebook=INIT,
        source="Glorot & Bengio 2010",
        mechanism=(GRADIENTS,),
    ),
    ClaimRecord(
        statement="Xavier's initialisation lets activations shrink under ReLU, next to Kaiming's",
        technique="initialisation",
        metric=RATIO,
        sign=-1,
        treatment="Xavier initialisation",
        control=FULL,
        family=INITIALISATION,
        notebook=INIT,
        source="He et al. 2015, section 2.2",
        mechanism=(GRADIENTS,),
    ),
    ClaimRecord(
        statement="Under sigmoid, gradients vanish on their way to the first layer",
        technique="activation",
        metric=GRADIENTS,
        sign=-1,
        treatment="sigmoid",
        control=FULL,
        family=INITIALISATION,
        notebook=VANISHING,
        source="Glorot & Bengio 2010",
        mechanism=(ACCURACY,),
    ),
    ClaimRecord(
        statement="With a learning rate far too low, the training loss falls too slowly",
        technique="learning_rate",
        metric=schema.TRAIN_LOSS,
        sign=+1,
        treatment="a hundredth of the rate",
        control=FULL,
        family=RATES,
        notebook=RATE,
        source="Bengio 2012, section 3.1",
        mechanism=(schema.UPDATE_RATIO,),
    ),
    ClaimRecord(
        statement="With a learning rate far too high, training fails",
        technique="learning_rate",
        metric=ACCURACY,
        sign=-1,
        treatment="a hundred times the rate",
        control=FULL,
        family=RATES,
        notebook=RATE,
        source="Bengio 2012, section 3.1",
        mechanism=(schema.UPDATE_RATIO,),
    ),
    ClaimRecord(
        statement="Decaying the learning rate raises the final accuracy",
        technique="schedule",
        metric=ACCURACY,
        sign=+1,
        treatment=FULL,
        control="constant rate",
        family=RATES,
        notebook=RATE,
        source="He et al. 2016, section 4.2",
        mechanism=(schema.UPDATE_RATIO, schema.TRAIN_LOSS),
    ),
    ClaimRecord(
        statement="Warm-up avoids early instability: the first epoch's loss at a high rate is lower",
        technique="schedule",
        metric=schema.FIRST_EPOCH_LOSS,
        sign=-1,
        treatment="three times the rate, warm-up and cosine",
        control="three times the rate, cosine",
        family=RATES,
        notebook=RATE,
        source="Goyal et al. 2017",
        mechanism=(ACCURACY,),
    ),
    ClaimRecord(
        statement="Momentum reaches the target in fewer epochs than plain SGD",
        technique="optimizer",
        metric=metrics.EPOCHS_TO_TARGET,
        sign=-1,
        treatment="SGD with momentum",
        control="plain SGD",
        family=OPTIMIZERS,
        notebook="Momentum",
        source="Sutskever et al. 2013",
        mechanism=(schema.FIRST_EPOCH_LOSS,),
    ),
    ClaimRecord(
        statement="Adam starts faster than plain SGD: the first epoch's loss is lower",
        technique="optimizer",
        metric=schema.FIRST_EPOCH_LOSS,
        sign=-1,
        treatment=FULL,
        control="plain SGD",
        family=OPTIMIZERS,
        notebook="Adam",
        source="Kingma & Ba 2015",
        mechanism=(metrics.EPOCHS_TO_TARGET,),
    ),
    ClaimRecord(
        statement="Without its bias correction Adam starts worse",
        technique="optimizer",
        metric=schema.FIRST_EPOCH_LOSS,
        sign=+1,
        treatment="Adam without bias correction",
        control="Adam, a third of the rate",
        family=OPTIMIZERS,
        notebook="Adam",
        source="Kingma & Ba 2015, section 6.4",
        mechanism=(ACCURACY,),
    ),
    ClaimRecord(
        statement="Training on images sorted by class converges worse",
        technique="shuffling",
        metric=ACCURACY,
        sign=-1,
        treatment="sorted by class",
        control=FULL,
        family=DATA,
        notebook=NETWORK,
        source="Bottou 2012, section 3",
        mechanism=(schema.TRAIN_LOSS,),
    ),
    ClaimRecord(
        statement="Inputs that are not normalised train worse",
        technique="input_scaling",
        metric=ACCURACY,
        sign=-1,
        treatment="inputs not normalised",
        control=FULL,
        family=DATA,
        notebook=NETWORK,
        source="LeCun et al. 1998, section 4.3",
        mechanism=(schema.FIRST_EPOCH_LOSS,),
    ),
    ClaimRecord(
        statement="More capacity helps an underfitting model: training accuracy rises",
        technique="capacity",
        metric=schema.TRAIN_ACCURACY,
        sign=+1,
        treatment="twice the width",
        control=FULL,
        family=DATA,
        notebook=DROP,
        source="Goodfellow et al. 2016, section 5.2",
        mechanism=(GAP,),
    ),
)


def plan(asked: PlanRequest) -> Plan:
    """The statements that are about the baseline's techniques, and exactly the arms that they compare."""
    baseline = asked.baseline
    used = {technique.kind_title for technique in baseline.techniques}
    claims = tuple(
        claim
        for claim in CLAIMS
        if FULL not in claim.arms or used >= {kind for word, kind in NAMED.items() if word in claim.statement}
    )
    compared = {name for claim in claims for name in claim.arms}
    arms = []
    for name, changes in ARMS.items():
        if name not in compared:
            continue
        recipe = baseline
        for change in changes:
            recipe = recipe.set(change)
        arms.append(Arm(name, recipe))
    return Plan(
        name="claims",
        question=QUESTION,
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=claims,
        layout="ledger",
    )
