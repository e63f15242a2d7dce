"""What `--retune` does: has the best learning rate of each arm looked for, and makes the plan of what was found."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace

from cifar_ablations.ablations.designs import RATE, by_recipe, each_optimizer, one_at_a_time
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plan import Arm
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.commands.arguments import (
    BestRates,
    PlanRequest,
    Request,
    SearchRequest,
    plan_invocation,
    search_invocation,
)
from cifar_ablations.study.execution.runner import Invocation
from cifar_ablations.study.search.invocation import SearchInvocation
from cifar_ablations.study.store.home import Home

Say = Callable[[str], None]

SEARCHES: dict[str, tuple[str, Callable[[Recipe], list[Arm]]]] = {
    "techniques": ("arms", one_at_a_time),
    "optimizers": ("optimizers", each_optimizer),
}
"""The plans whose arms are retuned: the search for their rates, and what it looks for them for."""


def plan_retuned(home: Home, request: PlanRequest, say: Say, *, training: bool) -> tuple[Invocation, bool]:
    """What a request with `retune` asks for, its data loaded, and whether trials of the search have failed.

    training: whether the search may be carried out, if it has not been; else it is said what it would cost, and the
    plan is what it is without. Raises AblateError, in a sentence, for what cannot be.
    """
    _check(request)
    plain = plan_invocation(home, request, say)  # before the search, so that what is wrong is said at once

    def of_data(text: str) -> None:
        """What was said of the data need not be said again."""

    shared = {field.name: getattr(request, field.name) for field in fields(Request)}
    search = search_invocation(
        home, SearchRequest(SEARCHES[request.plan][0], request.trials, **shared), of_data, plain.data
    )
    best, failed = _known(home, request.plan, search), False
    if best is None and not training:
        _say_cost(request, search, plain, say)
        return plain, False
    if best is None:
        from cifar_ablations.study.commands.execute import run_search

        failed = run_search(home, search, os.environ.get("ABLATE_STORAGE"), request.data, say, goes_on=True)
        best = _known(home, request.plan, search)
        if best is None:
            raise AblateError("the search for the best rates has not come to its end; the same command goes on with it")
        say("")
    else:
        say(f"The best rate of each arm is known, from {best.trials} trials each.")
    return plan_invocation(home, replace(request, best=best), of_data, plain.data), failed


def _check(request: PlanRequest) -> None:
    """Raise AblateError for a request that cannot be retuned."""
    if not request.retune:
        raise AblateError("--trials is about the search of --retune: give that too, or leave --trials out")
    if request.plan not in SEARCHES:
        known = " and ".join(SEARCHES)
        raise AblateError(f"--retune finds rates for the arms of the plans {known}, not for {request.plan}'s")
    if request.minutes is not None:
        raise AblateError("--minutes cannot tell how long the search of --retune takes: give --seeds in its place")


def _known(home: Home, plan: str, search: SearchInvocation) -> BestRates | None:
    """What this very search has found; None where it has not ended. Raises AblateError where it found too little."""
    if not home.has_store:
        return None
    from cifar_ablations.study.store.search_log import SearchLog
    from cifar_ablations.study.store.tracking import open_store

    ended = SearchLog(open_store(home)).newest_ended(search.name, search.data, search.record().digest)
    if ended is None or ended.asked.trials < search.trials:
        return None
    rates = {arm: float(values[RATE]) for arm, values in ended.outcome.retuned.items()}
    for arm in by_recipe(SEARCHES[plan][1](search.baseline)).values():
        if arm not in rates:
            raise AblateError(
                f"every trial of {arm!r} diverged or failed, so no best rate of it is known; more --trials may find "
                "one, or leave out --retune"
            )
    return BestRates(rates, ended.asked.trials, ended.asked.seeds, ended.asked.digest)


def _say_cost(request: PlanRequest, search: SearchInvocation, plain: Invocation, say: Say) -> None:
    """Say what a search would train, and what comes after it. Raises AblateError where the plan is to be locked."""
    from cifar_ablations.study.commands.tune import dry

    if request.lock is not None:
        raise AblateError("--lock fixes the arms, and their best rates are not known yet: `ablate run` finds them")
    dry(search, say)
    arms = len(plain.plan.arms)
    say(
        f"After it up to {arms} arms more, each at its best rate: up to {arms * len(plain.plan.seeds)} trainings more "
        "than the plan has without --retune, which is:\n"
    )
