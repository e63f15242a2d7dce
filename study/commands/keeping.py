"""What is said of weights that are to be kept: how much disk they take, what is there, and what has none."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.sizes import readable
from cifar_ablations.reports.wording.phrases import count
from cifar_ablations.study.execution.runner import Invocation
from cifar_ablations.study.store.tracking import Store
from cifar_ablations.study.store.weights import kept_in
from cifar_ablations.study.training import model


def before(invocation: Invocation, store: Store | None, done: Collection[tuple[str, int]]) -> Iterator[str]:
    """How much disk the weights take of trainings that are to be done; and how many that are done have none.

    done: (recipe digest, seed) of all that are. store: None where there is none yet.
    """
    classes = len(invocation.data.classes)
    recipes = [member.recipe for member in invocation.missing(done)]
    if invocation.keep_weights == schema.KEEP_BEST:
        recipes = list({recipe.digest(): recipe for recipe in recipes}.values())
    sizes: dict[object, int] = {}
    for recipe in recipes:
        if recipe.model not in sizes:
            state = model.network_of(recipe, classes).state_dict().values()
            sizes[recipe.model] = sum(values.nbytes for values in state)
    total = sum(sizes[recipe.model] for recipe in recipes)
    most = "at most " if invocation.plan.rule.looks else ""
    yield f"Weights to keep: {most}{count(len(recipes), 'file')}, {most}{readable(total)}."

    ours = {(member.recipe.digest(), member.seed) for member in invocation.members()} & set(done)
    if store is None or not ours:
        return
    known = [
        (one.digest, one.seed)
        for one in kept_in(store, invocation.data.digest)
        if one.has_file or invocation.keep_weights == schema.KEEP_BEST
    ]
    if without := len(ours.difference(known)):
        has = "has" if without == 1 else "have"
        yield (
            f"{count(without, 'training')} of this plan that {has} ended already {has} no weights, and nothing is "
            "trained twice. The same again with weights: ABLATE_HOME=FOLDER, another output folder; fresh seeds: "
            f"--first-seed {max(invocation.plan.seeds) + 1}."
        )


def there(invocation: Invocation, store: Store) -> str:
    """How many files of weights there are of a plan's trainings, and where."""
    ours = {(member.recipe.digest(), member.seed) for member in invocation.members()}
    files = [one for one in kept_in(store, invocation.data.digest) if one.has_file and (one.digest, one.seed) in ours]
    where = f" in {store.home.shown(store.home.artifacts)}" if store.local else ""
    return f"Weights: {count(len(files), 'run')} of this plan with {schema.WEIGHTS_FILE} among the artifacts{where}."
