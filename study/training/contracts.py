"""What every technique, plan, search, metric and network keeps to, the suite's own and those of extensions.

The suite's tests and `ablate check-extension` ask the same of them: each check is a function that raises ContractError,
with a sentence, where it is not kept. Its name says what is kept.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from pathlib import Path

import torch

from cifar_ablations.ablations import catalog, metrics, schema
from cifar_ablations.ablations.budget import Budget
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plan import Plan
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Best
from cifar_ablations.ablations.technique import Technique, overrides
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.data import synthetic
from cifar_ablations.study.data.dataset import Dataset, store
from cifar_ablations.study.data.images import Images
from cifar_ablations.study.training import model
from cifar_ablations.study.training.engine import Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.randomness import ImageVisits, StepDraws

CPU = torch.device("cpu")
SMALL = Budget(epochs=2, batch_size=32, train_images=80, validation_images=40, test_images=60)
"""Takes a fraction of a second at a narrow network."""
NARROW = 0.0625
CLASSES = 10
MOST_ROUNDS = 12
"""Of studies; a search that asks for more does not end."""

Told = list[dict[str, float]]
"""The metrics of a training's epochs and, last, of its outcome, without times."""


class ContractError(AblateError):
    """A contract that is not kept; the message says by what."""


def _need(kept: bool, otherwise: str) -> None:
    if not kept:
        raise ContractError(otherwise)


class Trainings:
    """Trains small recipes on one data set, on this machine's CPU, in this process."""

    def __init__(self, recipe: Recipe, data: Dataset):
        self.recipe = recipe
        """Everything in it is small."""
        self._data = data
        self._known = functools.cache(self.anew)

    def known(self, recipe: Recipe) -> Told:
        """What a recipe's training reported; each is trained once."""
        return self._known(recipe)

    def anew(self, recipe: Recipe) -> Told:
        """The same, trained again."""
        return self.together([recipe])[0]

    def together(self, recipes: list[Recipe]) -> list[Told]:
        """What the trainings of recipes in one fleet reported, with a seed each."""
        members = [Member(recipe, 3 + place) for place, recipe in enumerate(recipes)]
        told: dict[Member, Told] = {member: [] for member in members}

        def report(event: Epoch | Outcome) -> None:
            timed = {schema.SECONDS, schema.IMAGES_PER_SECOND}
            told[event.member].append({k: v for k, v in event.metrics.items() if k not in timed})

        train(members, self._data, CPU, report)
        return [told[member] for member in members]


def small_trainings(folder: Path) -> Trainings:
    """Trainings of the notebook's recipe, made small, on images that are drawn into a folder."""
    images = Images(
        tuple(f"class {number}" for number in range(CLASSES)),
        *synthetic.draw("train", 200),
        *synthetic.draw("test", 80),
    )
    recipe = catalog.notebook_recipe()
    return Trainings(
        replace(recipe, model=replace(recipe.model, width=NARROW), budget=SMALL),
        store(images, folder / "drawn", name="drawn", source="Drawn for the contracts.", stand_in=True),
    )


def _same(one: Told, other: Told) -> bool:
    """Whether the same numbers were told; NaN equals NaN."""
    return repr(one) == repr(other)


# Techniques.

Of = type[Technique]


def says_what_it_is(cls: Of, trainings: Trainings) -> None:
    """It has a title, a source, and a text for every knob, and expects only what can be measured."""
    _need(bool(cls.title.strip()), "its title is empty")
    _need(bool(cls.source.strip()), "its source is empty: which paper proposed it?")
    _need("off" in cls.levels and cls.notebook in cls.levels, "its levels lack 'off', or the notebook's")
    for name, about in cls.knobs().items():
        _need(bool(about.doc), f"the knob {name} has no doc")
    for expectation in cls.expectations:
        known = (name for name, metric in metrics.known().items() if metric.logged in (metrics.CURVE, metrics.ENDING))
        _need(expectation.metric in known, f"it expects something of {expectation.metric!r}, which is no metric")
        _need(expectation.sign in (-1, 1), f"the sign of what it expects of {expectation.metric} must be -1 or +1")
        _need(bool(expectation.source), f"what it expects of {expectation.metric} has no source")


def is_frozen(cls: Of, trainings: Trainings) -> None:
    """It is a value: nothing can be set on it, and equal ones have one hash."""
    technique = cls.at("off")
    for name in (one.name for one in fields(technique)):  # type: ignore[arg-type]
        try:
            setattr(technique, name, getattr(technique, name))
        except FrozenInstanceError:
            continue
        raise ContractError(f"its field {name} can be set; make it @dataclass(frozen=True)")
    _need(hash(technique) == hash(cls.at("off")), "two equal ones have different hashes")


def levels_and_search_ranges_can_be_made(cls: Of, trainings: Trainings) -> None:
    """Each level is the level that it is called, and both ends of each knob's search range are legal."""
    for level in cls.levels:
        _need(cls.at(level).level == level, f"its level {level!r} is the same as {cls.at(level).level!r}")
    for name, about in cls.knobs().items():
        for end in about.search or ():
            whole = isinstance(getattr(cls.at("off"), name), int)
            try:
                cls(**{name: int(end) if whole else end})
            except AblateError as error:
                raise ContractError(f"an end of the search range of {name} is not legal: {error}") from error


def what_shows_why_is_measured(cls: Of, trainings: Trainings) -> None:
    """The metrics in which one sees why it works are there."""
    _need(bool(cls.mechanism), "its mechanism is empty: in which metrics does one see why it works?")
    if unknown := set(cls.mechanism) - set(metrics.known()):
        raise ContractError(f"its mechanism names {', '.join(sorted(unknown))}, which are no metrics")


def levels_have_names_of_their_own(cls: Of, trainings: Trainings) -> None:
    """No level is called as another, of it or of another technique."""
    taken = {
        other.at(level).setting_title: f"{other.name} at {level}"
        for other in catalog.techniques().values()
        if other.name != cls.name
        for level in other.levels
    }
    for level in cls.levels:
        name = cls.at(level).setting_title
        _need(bool(name.strip()) and not name[0].isspace(), f"its level {level!r} has no name")
        _need(name not in taken, f"its level {level!r} is called {name!r}, and so is {taken.get(name)}")
        taken[name] = f"{cls.name} at {level}"
    if astray := (set(cls.titles) | set(cls.sources)) - set(cls.levels):
        raise ContractError(f"titles or sources name {', '.join(sorted(astray))}, which are no levels")


def hooks_leave_what_they_are_given(cls: Of, trainings: Trainings) -> None:
    """Hooks return batches of the shape and type that they got, and change none in place."""
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before, rule = images.clone(), UpdateRule()
    for level in cls.levels:
        technique = cls.at(level)
        changed = technique.augment(images, StepDraws.named(CPU, 0, "test"))
        _need(changed.shape == images.shape, f"augment at {level} returns the shape {tuple(changed.shape)}")
        _need(changed.dtype == torch.uint8, f"augment at {level} returns {changed.dtype}, not torch.uint8")
        visits = ImageVisits(torch.zeros(2, dtype=torch.int32), torch.arange(len(images)), torch.tensor([3]), 2)
        _need(torch.equal(images, before), f"augment at {level} changes its images in place")
        changed = technique.augment_by_epoch(images, visits)
        _need(changed.shape == images.shape, f"augment_by_epoch at {level} returns the shape {tuple(changed.shape)}")
        _need(changed.dtype == torch.uint8, f"augment_by_epoch at {level} returns {changed.dtype}, not torch.uint8")
        technique.update(rule)
        inputs, targets = images.float(), torch.eye(CLASSES)[:8]
        mixed, labels = technique.mix(inputs, targets, StepDraws.named(CPU, 0, "test"))
        _need(mixed.shape == inputs.shape, f"mix at {level} returns images of the shape {tuple(mixed.shape)}")
        _need(labels.shape == targets.shape, f"mix at {level} returns targets of the shape {tuple(labels.shape)}")
        _need(torch.equal(inputs, images.float()), f"mix at {level} changes its images in place")
        _need(torch.equal(targets, torch.eye(CLASSES)[:8]), f"mix at {level} changes its targets in place")
        _need(torch.equal(images, before), f"augment_by_epoch at {level} changes its images in place")
    _need(rule == UpdateRule(), "update changes the rule in place")


def at_off_a_run_is_the_run_without_it(cls: Of, trainings: Trainings) -> None:
    """At `off` a training is bitwise what it is without the technique."""
    recipe = trainings.recipe.with_technique(cls.at("off"))
    absent = replace(recipe, techniques=tuple(t for t in recipe.techniques if t.name != cls.name))
    _need(_same(trainings.known(recipe), trainings.anew(absent)), "at 'off' a training differs from one without it")


def each_level_does_something_and_the_same_again(cls: Of, trainings: Trainings) -> None:
    """Each level trains, bitwise alike in two trainings, and otherwise than `off` does."""
    # What masks draws by the recipe's digest: with it on, a level that does nothing would still train otherwise.
    masking = [t.name for t in trainings.recipe.techniques if overrides(t, "mask") and t.name != cls.name]
    base = functools.reduce(Recipe.without, masking, trainings.recipe)
    off = trainings.known(base.with_technique(cls.at("off")))
    for level in cls.levels:
        if level == "off":
            continue
        recipe = base.with_technique(cls.at(level))
        first = trainings.known(recipe)
        _need(
            _same(first, trainings.anew(recipe)),
            f"two trainings at {level!r} differ; take what is random from `draws` alone",
        )
        acts = not _same(first, off) or _stops(cls.at(level))
        _need(acts, f"{cls.name} at {level!r} changes nothing")


def _stops(technique: Technique) -> bool:
    """Whether it would end a training of which the validation loss rises for long, as few epochs do not show."""
    rising = [float(epoch) for epoch in range(200)]
    return overrides(technique, "stop") and any(technique.stop(rising[:epoch]) for epoch in range(1, 200))


TECHNIQUES: tuple[Callable[[Of, Trainings], None], ...] = (
    says_what_it_is,
    is_frozen,
    levels_and_search_ranges_can_be_made,
    what_shows_why_is_measured,
    levels_have_names_of_their_own,
    hooks_leave_what_they_are_given,
    at_off_a_run_is_the_run_without_it,
    each_level_does_something_and_the_same_again,
)


# Plans and searches.


MakePlan = Callable[[str], Plan]
"""Makes a plan at the size of a profile, by the profile's name."""


def around_the_notebooks(name: str) -> MakePlan:
    """Makes the plan of that name around the notebook's recipe, with two seeds."""

    def make(profile: str) -> Plan:
        size = PROFILES[profile]
        return catalog.make_plan(name, size.apply(catalog.notebook_recipe()), size, (0, 1))

    return make


def asks_and_compares_what_it_trains(name: str, make: MakePlan) -> None:
    """It asks a question, its arms are different trainings, and its claims compare arms in metrics that there are."""
    plan = make("quick")
    _need(plan.name == name, f"the plan calls itself {plan.name!r}, and is called as its file, {name!r}")
    _need(plan.question.endswith("?"), f"its question must end with a question mark: {plan.question!r}")
    trained = [(arm.recipe.digest(), arm.seed_offset) for arm in plan.arms]
    _need(len(set(trained)) == len(trained), "two of its arms are one training")
    for claim in plan.claims:
        _need(bool(claim.source), f"the claim {claim.statement!r} has no source")
        for metric in (claim.metric, *claim.mechanism):
            _need(metric in metrics.known(), f"the claim {claim.statement!r} names {metric!r}, which is no metric")
        if claim.over:
            _need(math.isclose(sum(w for _, w in claim.over), 0, abs_tol=1e-9), "the weights of a claim must sum to 0")
        else:
            one, other = plan.arm(claim.treatment), plan.arm(claim.control)
            differ = (one.recipe, one.seed_offset) != (other.recipe, other.seed_offset)
            _need(differ, f"the claim {claim.statement!r} compares an arm with itself")


def is_the_same_plan_again(name: str, make: MakePlan) -> None:
    """Made again, it has the same digest."""
    _need(make("quick").digest() == make("quick").digest(), "made twice, it is two plans")


def can_be_trained(name: str, make: MakePlan) -> None:
    """Every arm's network can be built, and has a place for what its techniques mask."""
    for arm in make("smoke").arms:
        model.check(arm.recipe, CLASSES)


PLANS: tuple[Callable[[str, MakePlan], None], ...] = (
    asks_and_compares_what_it_trains,
    is_the_same_plan_again,
    can_be_trained,
)


def asks_and_ends(name: str) -> None:
    """It asks a question, its trials can be trained, and it ends."""
    module, baseline = catalog.search_module(name), PROFILES["quick"].apply(catalog.notebook_recipe())
    _need(module.QUESTION.endswith("?"), f"its QUESTION must end with a question mark: {module.QUESTION!r}")
    rounds = module.search(baseline, module.DEFAULT_TRIALS)
    studies = next(rounds)
    for _ in range(MOST_ROUNDS):
        _need(len({study.name for study in studies}) == len(studies), "two of its studies have one name")
        bests: list[Best | None] = []
        for study in studies:
            for values in study.first:
                study.with_values(values).digest()
            sampled = study.middle()
            knobs = study.with_values(sampled).knobs()
            for knob, value in sampled.items():
                kept = "." not in knob or knobs[knob] == value or math.isclose(float(knobs[knob]), float(value))
                _need(kept, f"the study {study.name!r} sampled {knob}={value}, and its trial has {knobs.get(knob)}")
            bests.append(Best(study, 0, 0.5, sampled))
        try:
            studies = rounds.send(bests)
        except StopIteration:
            return
    raise ContractError(f"after {MOST_ROUNDS} rounds it has not ended")


SEARCHES: tuple[Callable[[str], None], ...] = (asks_and_ends,)


# Metrics.


def is_measured(name: str, trainings: Trainings) -> None:
    """It is measured of a training, as a finite number within its bounds, and the same again."""
    stored = [one for one in (name, metrics.INITIAL + name, metrics.FINAL + name) if one in metrics.known()]
    first, again = trainings.known(trainings.recipe)[-1], trainings.anew(trainings.recipe)[-1]
    for one in stored:
        value, (low, high) = first.get(one, math.nan), metrics.metric(one).bounds
        _need(isinstance(value, float) and math.isfinite(value), f"{one} of a training is {value}, not a finite number")
        _need(low <= value <= high, f"{one} of a training is {value}, beyond [{low:g}, {high:g}]")
        _need(again.get(one) == value, f"{one} of two equal trainings is {value} and {again.get(one)}")


def has_a_title_of_its_own(name: str, trainings: Trainings) -> None:
    """It has a title, and no other metric has that."""
    known = metrics.known()
    for one in (name, metrics.INITIAL + name, metrics.FINAL + name):
        if one in known:
            others = [other for other, about in known.items() if other != one and about.title == known[one].title]
            _need(bool(known[one].title.strip()), "its title is empty")
            _need(not others, f"its title {known[one].title!r} is that of {', '.join(others)} too")


METRICS: tuple[Callable[[str, Trainings], None], ...] = (has_a_title_of_its_own, is_measured)


# Networks.


def _on(name: str, trainings: Trainings) -> Recipe:
    """The small recipe on a network, without techniques that need a DropoutSite where it has none."""
    recipe = trainings.recipe.set(f"model.name={name}")
    sites = any(isinstance(m, model.DropoutSite) for m in model.build(recipe.model, CLASSES).modules())
    for technique in recipe.techniques:
        if not sites and overrides(technique, "mask"):
            recipe = recipe.without(technique.name)
    return recipe


def gives_logits(name: str, trainings: Trainings) -> None:
    """It takes two images, and gives a logit for each of any number of classes, at any width."""
    recipe = _on(name, trainings)
    for width in (NARROW, 0.25):
        for classes in (2, CLASSES):
            model.check(recipe.set(f"model.width={width}"), classes)


def width_makes_it_wider(name: str, trainings: Trainings) -> None:
    """Twice the width means more parameters."""
    recipe = _on(name, trainings)
    sizes = [
        sum(p.numel() for p in model.build(recipe.set(f"model.width={width}").model, CLASSES).parameters())
        for width in (0.25, 0.5)
    ]
    _need(sizes[0] < sizes[1], f"at half the width it has as many parameters, {sizes[0]:,}; use `width`")


def every_parameter_is_trained(name: str, trainings: Trainings) -> None:
    """The loss has a gradient with respect to each of its parameters."""
    network = model.network_of(_on(name, trainings), CLASSES)
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = torch.nn.functional.cross_entropy(network(images), torch.arange(16) % CLASSES)
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    unused = [one for one, gradient in zip(names, gradients, strict=True) if gradient is None]
    _need(not unused, f"the loss does not depend on {', '.join(unused[:3])}")


def beside_others_it_trains_as_alone(name: str, trainings: Trainings) -> None:
    """In a fleet with another, its training is bitwise what it is alone."""
    recipe = _on(name, trainings)
    together = trainings.together([recipe, recipe])
    _need(_same(together[0], trainings.anew(recipe)), "beside another training it trains otherwise than alone")
    _need(not _same(*together), "two seeds train alike; first weights must come from torch's generator")


NETWORKS: tuple[Callable[[str, Trainings], None], ...] = (
    gives_logits,
    width_makes_it_wider,
    every_parameter_is_trained,
    beside_others_it_trains_as_alone,
)


@dataclass(frozen=True)
class Check:
    """One contract of one thing."""

    of: str
    """What it is of, as `techniques/dropout`."""
    name: str
    keeps: str
    """What it means that it is kept."""
    ask: Callable[[], None]

    def failure(self) -> str:
        """Why the contract is not kept; "" where it is."""
        try:
            self.ask()
        except AblateError as error:
            return str(error)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""


def checks_of(
    trainings: Trainings,
    techniques: Mapping[str, Of],
    plans: list[str],
    searches: list[str],
    measured: list[str],
    networks: list[str],
) -> list[Check]:
    """All contracts of these techniques, and of plans, searches, metrics and networks by their names."""
    asked: list[tuple[str, Callable[..., None], Callable[[], None]]] = []
    for name, cls in techniques.items():
        asked += [(f"techniques/{name}", check, functools.partial(check, cls, trainings)) for check in TECHNIQUES]
    for name in plans:
        make = around_the_notebooks(name)
        asked += [(f"plans/{name}", check, functools.partial(check, name, make)) for check in PLANS]
    for name in searches:
        asked += [(f"searches/{name}", check, functools.partial(check, name)) for check in SEARCHES]
    for name in measured:
        asked += [(f"metrics/{name}", check, functools.partial(check, name, trainings)) for check in METRICS]
    for name in networks:
        asked += [(f"networks/{name}", check, functools.partial(check, name, trainings)) for check in NETWORKS]
    return [Check(of, check.__name__, (check.__doc__ or "").strip(), ask) for of, check, ask in asked]
