"""A tuned recipe against the notebook's: is it better, where do the points come from, does each technique still pay?"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.designs import ALL, OVERALL, by_roadmap, kind, sentence, switched_on, without
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ClaimRecord
from cifar_ablations.ablations.technique import Technique

QUESTION = "Is the tuned recipe better than the notebook's, and where do the points come from?"

NOTEBOOK, TUNED = "notebook's recipe", "tuned recipe"

ON_TOP = "on top of the changes before it"
"""The place of what one change adds."""


def plan(asked: PlanRequest) -> Plan:
    """The notebook's recipe, the tuned one, the way from one to the other a technique at a time, and the tuned one
    without each of its techniques, with the rate that it has and with one of its own where one was found.

    Raises AblateError where the baseline is the notebook's recipe.
    """
    baseline = asked.baseline
    notebook = notebook_beside(baseline)
    rungs = _roadmap(notebook, baseline)
    arms = [Arm(TUNED, baseline), Arm(NOTEBOOK, notebook), *rungs[1:-1]]
    claims = [overall()]
    for (below, above), (before, after) in zip(pairwise(rungs), _changes(notebook, baseline), strict=True):
        replaced = "" if before.is_off else f" in place of {before.setting_title}"
        statement = f"{sentence(after.setting_title)}{replaced} raises test accuracy, {ON_TOP}"
        claims.append(claim(after.name, statement, above.name, below.name, ON_TOP))
    removed: list[tuple[Arm, Technique]] = []
    for technique in switched_on(baseline):
        for words, changes in (("", {}), (", rate found anew", asked.retuned.get(technique.name, {}))):
            recipe = baseline.without(technique.name)
            for name, value in changes.items():
                recipe = recipe.set(f"{name}={value}")
            name = f"tuned {without(technique)}{words}"
            if words and (not changes or any(arm.recipe == recipe for arm, _ in removed)):
                continue
            removed.append((Arm(name, recipe), technique))
            place = f"in the tuned recipe{', against a rate found anew without it' if words else ''}"
            statement = f"{sentence(technique.setting_title)} raises test accuracy {place}"
            claims.append(claim(technique.name, statement, TUNED, name, place))
    known = {arm.recipe: arm.name for arm in arms}
    renamed = {arm.name: known[arm.recipe] for arm, _ in removed if arm.recipe in known}
    arms += [arm for arm, _ in removed if arm.name not in renamed]
    return Plan(
        name="tuned",
        question=QUESTION,
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(replace(claim, control=renamed.get(claim.control, claim.control)) for claim in claims),
        note="What one change adds depends on the order: it holds on top of the changes before it alone.",
    )


def notebook_beside(tuned: Recipe) -> Recipe:
    """The notebook's recipe at the size of another one, and measured as that is.

    Raises AblateError where the other one is the notebook's itself.
    """
    notebook = Recipe(tuned.model, tuned.budget, catalog.notebook_recipe().techniques)
    for technique in (t for t in tuned.techniques if t.measuring):
        notebook = notebook.with_technique(technique)
    if tuned == notebook:
        raise AblateError("the tuned recipe is the notebook's: give another baseline, such as an adopted recipe")
    return notebook


def _roadmap(notebook: Recipe, tuned: Recipe) -> list[Arm]:
    """From the notebook's recipe to the tuned one, a technique's setting at a time."""
    arms, recipe = [Arm(NOTEBOOK, notebook)], notebook
    for before, after in _changes(notebook, tuned):
        recipe = recipe.with_technique(after)
        same = after.kind_title == before.kind_title  # then it is the knobs that have changed
        name = after.setting_title if same else kind(after)
        arms.append(Arm(f"+ {name.removeprefix('the ')}", recipe))
    arms[-1] = Arm(TUNED, tuned)
    return arms


def _changes(notebook: Recipe, tuned: Recipe) -> list[tuple[Technique, Technique]]:
    """The techniques that are set otherwise, in the notebook's recipe and in the tuned one."""
    before = {t.name: t for t in notebook.techniques}
    return [(before[t.name], t) for t in by_roadmap(t for t in tuned.techniques if t != before[t.name])]


def overall() -> ClaimRecord:
    """That the tuned recipe is better than the notebook's."""
    return claim(ALL, "The tuned recipe reaches a higher test accuracy than the notebook's", TUNED, NOTEBOOK, OVERALL)


def claim(technique: str, statement: str, treatment: str, control: str, place: str) -> ClaimRecord:
    """That the treatment has the higher test accuracy."""
    return ClaimRecord(
        statement=statement,
        technique=technique,
        metric=schema.TEST_ACCURACY,
        sign=+1,
        treatment=treatment,
        control=control,
        family=f"test accuracy {place}",
        source="the search that chose it, on validation images of other seeds",
        mechanism=(schema.GENERALISATION_GAP,),
    )
