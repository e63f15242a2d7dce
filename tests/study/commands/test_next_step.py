"""The next command works as it is typed, and answers what is open."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import DataRecord, PlanRecord
from cifar_ablations.reports.inference import verdict
from cifar_ablations.study.commands import next_step, show
from tests.study.commands.test_answer_table import plan


@pytest.fixture(autouse=True)
def typed_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAKELEVEL", raising=False)
    monkeypatch.delenv("ABLATE_DATA", raising=False)


def claim(**of_row: object) -> dict[str, object]:
    return {
        "verdict": verdict.INCONCLUSIVE,
        "reason": "",
        "metric": schema.TEST_ACCURACY,
        "difference": 0.01,
        "detectable": 0.02,
        "seeds_needed": 300.0,
        "seeds": 6,
        "where": "on its own",
        "technique": "dropout",
        "treatment": "only dropout",
        **of_row,
    }


DECIDED = claim(verdict=verdict.SUPPORTED)
COMMAND = "ablate run techniques --profile quick --seeds 6"


def after(*claims: dict[str, object], ending: str = "", **of_plan: object) -> tuple[str, str]:
    asked: PlanRecord = plan(**{"seeds": tuple(range(6)), "command": COMMAND} | of_plan)
    results = SimpleNamespace(plan=asked, verdicts=pd.DataFrame(list(claims)))
    return next_step.after_plan(results, ending)  # type: ignore[arg-type]


def test_an_open_claim_asks_for_the_seeds_that_would_settle_the_closest() -> None:
    # Twice as small as what is found: four times the seeds. The other is nearer.
    nearer = claim(difference=-0.0164, technique="weight_decay")
    command, why = after(DECIDED, claim(), nearer)
    assert command == "ablate run techniques --profile quick --seeds 9"
    assert why == "about so many seeds settle weight decay on its own, if its effect is as large as it looks"
    assert after(claim())[0].endswith("--seeds 24")
    assert after(claim(seeds_needed=8.0))[0].endswith("--seeds 8"), "the size of the margin is found sooner"
    assert after(claim(difference=0.03))[0].endswith("--seeds 7"), "at least one more"


def test_make_says_that_rates_are_to_be_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    retuned = "ablate run techniques --profile quick --seeds 9 --retune --trials 4"
    assert next_step.typed(retuned) == "make ablate RETUNE=1 PROFILE=quick SEEDS=9 TRIALS=4"


def test_a_search_of_rates_is_taken_up_by_the_plan() -> None:
    assert next_step.after_search("arms", " --data x") == "ablate run techniques --retune --data x"
    assert next_step.after_search("joint") == "ablate adopt joint"


def test_seeds_are_not_asked_for_without_end() -> None:
    command, why = after(claim(difference=0.001))
    assert command.endswith("--seeds 24")
    assert why == "narrower intervals; the closest open claim, dropout on its own, needs about 300 seeds"
    many = tuple(range(50))
    assert after(claim(seeds=50), seeds=many)[0].startswith("ablate tune"), "there are many already"
    assert after(claim(difference=0.0, seeds_needed=float("nan")))[0].startswith("ablate tune")


def test_too_few_seeds_ask_for_as_many_as_get_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "enough_seeds", lambda plan: 5)
    few = claim(reason=verdict.TOO_FEW)
    assert after(few) == ("ablate run techniques --profile quick --seeds 5", "verdicts are given from 5 seeds on")
    monkeypatch.setattr(show, "enough_seeds", lambda plan: None)
    assert after(few)[0].startswith("ablate tune")


def test_runs_that_are_missing_are_trained_by_the_same_command() -> None:
    assert after(claim(reason=verdict.UNFINISHED), ending=" --data x")[0] == f"{COMMAND} --data x"


def test_looks_add_their_seeds_themselves() -> None:
    looking = replace(plan().rule, looks=(5, 10, 15))
    assert after(claim(), rule=looking)[0].startswith("ablate tune")


def test_what_is_decided_leads_on() -> None:
    tuned = f"{COMMAND} --baseline mine"
    assert after(DECIDED) == ("ablate tune learning-rate", "are better settings worth it?")
    assert after(DECIDED, ending=" --data 'my images'")[0] == "ablate tune learning-rate --data 'my images'"
    assert after(DECIDED, ending=" --data a --image-size 32")[0] == "ablate tune learning-rate --data a --image-size 32"
    assert after(DECIDED, name="ladder")[0] == "ablate run techniques"
    assert after(name="notebook")[0] == "ablate run techniques"
    assert after(DECIDED, command=tuned)[0] == "ablate run tuned --baseline mine"
    assert after(DECIDED, name="tuned", command=tuned)[0] == "ablate run techniques --baseline mine"


def test_smoke_leads_to_a_size_that_says_something() -> None:
    smoke = replace(plan().profile, name="smoke")
    command = "ablate run techniques --profile smoke --seeds 2 --set dropout.p=0.3"
    assert after(claim(reason=verdict.TOO_FEW), profile=smoke, command=command, ending=" --data x")[0] == (
        "ablate run techniques --set dropout.p=0.3 --data x"
    )


def test_a_rehearsal_leads_to_photographs_where_it_was_asked_for() -> None:
    drawn = DataRecord("synthetic", "aa", stand_in=True)
    assert after(claim(), data=drawn, ending=" --data synthetic")[0] == "ablate data cifar10"
    assert after(claim(), data=drawn) == ("", ""), "the command's last line says it"


def test_make_is_answered_with_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    assert after(claim(seeds_needed=9.0))[0] == "make ablate PROFILE=quick SEEDS=9"
    assert after(DECIDED, ending=" --data cifar100")[0] == "make tune DATA=cifar100"
    assert after(DECIDED, ending=" --data a --image-size 32")[0] == "make tune DATA=a IMAGE_SIZE=32"
    words = "ablate run ladder --seeds 9 --first-seed 3 --set dropout.p=0.3 --set budget.epochs=20 --data a/b"
    made = next_step.typed(words)
    assert made == 'make ablate PLAN=ladder SEEDS=9 FIRST_SEED=3 DATA=a/b SET="dropout.p=0.3 budget.epochs=20"'
    for kept in ("ablate run tuned --baseline mine", "ablate run tuned --data 'my images'", "ablate tune joint"):
        assert next_step.typed(kept) == kept


def test_the_data_of_a_stored_plan_are_named_where_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert next_step.known_ending(plan()) == ""
    assert next_step.known_ending(plan(data=DataRecord("cifar100", "aa"))) == " --data cifar100"
    assert next_step.known_ending(plan(data=DataRecord("flowers", "aa"))) is None
    monkeypatch.setenv("ABLATE_DATA", "my/flowers")
    assert next_step.known_ending(plan(data=DataRecord("flowers", "aa"))) == " --data my/flowers"
