"""Designs: which arms answer a question about the techniques of a recipe.

An arm is named after the kinds of techniques that it lacks or has, without their knobs: within a plan a technique is
there as the baseline sets it, or not at all. Statements are about that setting, and name it whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.plan import Arm
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ClaimRecord
from cifar_ablations.ablations.technique import Expectation, Technique
from cifar_ablations.ablations.techniques.optimizer import Optimizer

FULL, BARE = "full recipe", "bare recipe"

MOST_FACTORS = 8
"""A factorial of more techniques would have over 256 arms."""

ROADMAP = ("initialisation", "optimizer", "schedule", "augmentation", "dropout", "weight_decay")
"""The order in which a ladder adds techniques: first what makes training work, then what makes it generalise."""


ALL = "everything"
"""The technique of a claim about all of them together."""

OVERALL = "overall"
"""The place of such a claim."""

RATE = "optimizer.rate"
"""The learning rate, as a knob."""

AT_BEST = " at its best rate"
"""Ends the name of an arm at the learning rate that a search found for it."""

BEST_RATES = "best rates"
"""Begins what an invocation says to have changed where the best rates of its arms were looked for."""

EACH_AT_BEST = ", each at its best rate"
"""Ends the place of a claim about such arms."""


def kind(technique: Technique) -> str:
    """What arms call a technique: its kind, or the whole setting where the kind is that of the level `off` too, as of
    plain SGD at another rate."""
    same = technique.kind_title == technique.at("off").kind_title
    return technique.setting_title if same else technique.kind_title


def without(technique: Technique) -> str:
    """The name of the arm that lacks one technique of the baseline."""
    return f"without {kind(technique)}"


def only(technique: Technique) -> str:
    """The name of the arm that has one technique alone."""
    return f"only {kind(technique)}"


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def switched_on(recipe: Recipe) -> list[Technique]:
    """The techniques that a recipe trains with: those that only measure are no factors of a design."""
    return [t for t in recipe.techniques if not t.is_off and not t.measuring]


def bare(recipe: Recipe) -> Recipe:
    """The recipe with every technique off but those that only measure."""
    for technique in (t for t in recipe.techniques if not t.measuring):
        recipe = recipe.without(technique.name)
    return recipe


def combination(baseline: Recipe, used: Iterable[str]) -> Arm:
    """The arm that has these of the baseline's techniques, and no others; named alike in every design."""
    techniques, used = switched_on(baseline), set(used)
    recipe = bare(baseline)
    present = [t for t in techniques if t.name in used]
    for technique in present:
        recipe = recipe.with_technique(technique)
    removed = [t for t in techniques if t.name not in used]
    if not removed:
        return Arm(FULL, recipe)
    if not present:
        return Arm(BARE, recipe)
    if len(removed) == 1 and len(techniques) > 2:
        return Arm(without(removed[0]), recipe)
    if len(present) == 1:
        return Arm(only(present[0]), recipe)
    return Arm(" + ".join(kind(t).removeprefix("the ") for t in present), recipe)


def factorial(baseline: Recipe) -> list[Arm]:
    """Every combination of the baseline's techniques, 2^k arms, those with most techniques first.

    Raises AblateError for more than MOST_FACTORS techniques.
    """
    names = [t.name for t in switched_on(baseline)]
    if len(names) > MOST_FACTORS:
        raise AblateError(
            f"a full factorial of {len(names)} techniques has {2 ** len(names):,} arms; switch all but "
            f"{MOST_FACTORS} off, for example {names[0]}=off"
        )
    return [combination(baseline, used) for size in range(len(names), -1, -1) for used in combinations(names, size)]


def half_fraction(baseline: Recipe) -> list[Arm]:
    """The half of the factorial in which an even number of techniques is missing: the defining relation is their
    product. Of six techniques it has resolution VI: main effects are mixed up with effects of five techniques together,
    and those of two with those of four. Box, Hunter & Hunter 2005, chapter 6.
    """
    techniques = switched_on(baseline)
    return [arm for arm in factorial(baseline) if (len(techniques) - len(switched_on(arm.recipe))) % 2 == 0]


def leave_two_out(baseline: Recipe) -> list[Arm]:
    """The baseline with each pair of its techniques removed."""
    names = [t.name for t in switched_on(baseline)]
    return [combination(baseline, set(names) - set(pair)) for pair in combinations(names, 2)]


def ladder(baseline: Recipe) -> list[Arm]:
    """From the bare recipe to the full one, a technique more on each rung, in the order of ROADMAP."""
    names = [t.name for t in by_roadmap(switched_on(baseline))]
    return [combination(baseline, names[:count]) for count in range(len(names) + 1)]


def by_roadmap(techniques: Iterable[Technique]) -> list[Technique]:
    """Techniques in the order of ROADMAP, the others after them by name."""
    return sorted(techniques, key=lambda t: (_place(t.name), t.name))


def _place(name: str) -> int:
    return ROADMAP.index(name) if name in ROADMAP else len(ROADMAP)


def main_effect_claims(baseline: Recipe, arms: Sequence[Arm]) -> list[ClaimRecord]:
    """A claim per technique and expectation: the mean of the arms that have it less the mean of those that have not."""
    claims = []
    for technique in switched_on(baseline):
        treatment = [a.name for a in arms if technique in a.recipe.techniques]
        control = [a.name for a in arms if technique not in a.recipe.techniques]
        over = [(name, 1 / len(treatment)) for name in treatment] + [(name, -1 / len(control)) for name in control]
        for expectation in technique.expectations:
            if expectation.metric not in (schema.TEST_ACCURACY, schema.GENERALISATION_GAP):
                continue
            words = f"on average over {len(arms)} combinations"
            claim = _claim(technique, expectation, words, f"with {kind(technique)}", without(technique))
            claims.append(replace(claim, over=tuple(over)))
    return claims


def leave_one_out(baseline: Recipe) -> list[Arm]:
    """The baseline with each of its techniques removed, one at a time."""
    return [Arm(without(t), baseline.without(t.name)) for t in switched_on(baseline)]


def add_one_in(baseline: Recipe) -> list[Arm]:
    """Each of the baseline's techniques alone, all others off."""
    start = bare(baseline)
    return [Arm(only(t), start.with_technique(t)) for t in switched_on(baseline)]


def one_at_a_time(baseline: Recipe) -> list[Arm]:
    """The baseline, it without each of its techniques, the bare recipe, and each technique alone."""
    return [Arm(FULL, baseline), *leave_one_out(baseline), Arm(BARE, bare(baseline)), *add_one_in(baseline)]


def each_optimizer(baseline: Recipe) -> list[Arm]:
    """The baseline with each optimizer at its usual rate."""
    settings = [Optimizer.at(level) for level in Optimizer.levels]
    return [Arm(setting.setting_title, baseline.with_technique(setting)) for setting in settings]


def by_recipe(arms: Iterable[Arm]) -> dict[Recipe, str]:
    """The recipes of arms, each with the name of the first arm that has it: that of its study in a search of rates."""
    names = dict[Recipe, str]()
    for arm in arms:
        names.setdefault(arm.recipe, arm.name)
    return names


def at_best_rates(arms: Sequence[Arm], rates: Mapping[str, float]) -> dict[str, Arm]:
    """By name, each arm at its best learning rate; one whose recipe is an arm's already is that arm.

    rates: by the names of `by_recipe`.
    """
    names, found = by_recipe(arms), dict[str, Arm]()
    for arm in arms:
        recipe = arm.recipe.with_knob(RATE, rates[names[arm.recipe]])
        found[arm.name] = Arm(names.setdefault(recipe, f"{arm.name}{AT_BEST}"), recipe)
    return found


def claims_of(
    techniques: Sequence[Technique], where: str, treatment: Sequence[str], control: Sequence[str]
) -> list[ClaimRecord]:
    """A claim per technique and expectation; one family per metric within the given place.

    `where` says in words what surrounds the technique; treatment and control name, per technique, the arm that has
    it and the arm that has not.
    """
    claims = []
    for technique, with_it, without_it in zip(techniques, treatment, control, strict=True):
        for expectation in technique.expectations:
            claims.append(_claim(technique, expectation, where, with_it, without_it))
    return claims


def _claim(technique: Technique, expectation: Expectation, where: str, treatment: str, control: str) -> ClaimRecord:
    named = metric(expectation.metric).title
    verb = "raises" if expectation.sign > 0 else "lowers"
    return ClaimRecord(
        statement=f"{sentence(technique.setting_title)} {verb} {named} {where}",
        technique=technique.name,
        metric=expectation.metric,
        sign=expectation.sign,
        treatment=treatment,
        control=control,
        family=f"{named} {where}",
        source=technique.paper or expectation.source,
        mechanism=technique.mechanism,
    )
