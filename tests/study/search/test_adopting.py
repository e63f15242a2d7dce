"""From a search that has ended to its recipe on disk: which seeds have chosen it is not forgotten on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cifar_ablations.ablations import adopted, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import (
    AdoptionRecord,
    BestRecord,
    ProvenanceRecord,
    RecipeRecord,
    SearchOutcomeRecord,
    StudyRecord,
    WinnerRecord,
)
from cifar_ablations.study.commands import arguments, tune
from cifar_ablations.study.commands.arguments import SearchRequest, search_invocation
from cifar_ablations.study.commands.tune import adopt
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.search.invocation import SearchInvocation
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.search_log import SearchLog
from cifar_ablations.study.store.tracking import open_store
from tests.fresh_store import put_fresh_store

SMALL = (
    "budget.train_images=80",
    "budget.validation_images=40",
    "budget.test_images=60",
    "budget.precision=fp32",
)
MINE = adopted.Adopted(
    "mine", RecipeRecord({"dropout": {"p": 0.25}}, {}, AdoptionRecord(search="joint", seeds=(100_001, 100_000)))
)


@pytest.fixture
def home(tmp_path: Path, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch) -> Home:
    for module in (arguments, tune):
        monkeypatch.setattr(module, "load", lambda *args, **more: tiny_data)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Home(put_fresh_store(tmp_path / "home"))


def _written(folder: Path) -> Path:
    """The recipe's file in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.toml"
    path.write_bytes(MINE.as_toml().encode())
    return path


def _invocation(home: Home, baseline: str | None) -> SearchInvocation:
    request = SearchRequest(
        "regularization", profile="smoke", device="cpu", workers=1, baseline=baseline, settings=SMALL
    )
    return search_invocation(home, request, print)


def _adopted(home: Home, invocation: SearchInvocation, *, says_seeds: bool = True) -> adopted.Adopted:
    """What is adopted of the search, had it kept its baseline."""
    log, asked = SearchLog(open_store(home)), invocation.record()
    asked = asked if says_seeds else replace(asked, baseline_seeds=None)
    parent = log.open(log.experiment(asked.name, invocation.data), asked, ProvenanceRecord(commit="c0ffee"))
    log.close(parent, SearchOutcomeRecord(asked.digest, (), None), failures=False)
    adopt(home, "regularization", "again", None, print)
    return adopted.read(home.recipes / "again.toml")


def test_a_baseline_outside_the_output_folder_keeps_its_seeds(home: Home, tmp_path: Path) -> None:
    invocation = _invocation(home, str(_written(tmp_path / "elsewhere")))
    found = _adopted(home, invocation)
    assert found.seeds == (100_001, 100_000)
    assert found.record.techniques == MINE.record.techniques
    assert found.record.provenance.commit == "c0ffee"
    assert f"--baseline {tmp_path / 'elsewhere' / 'mine.toml'} --set" in found.record.provenance.command


def test_the_notebooks_recipe_was_chosen_by_no_seeds(home: Home) -> None:
    assert _adopted(home, _invocation(home, None)).seeds == (100_000,)


def test_a_record_that_does_not_say_has_the_seeds_of_the_recipe_of_that_name(home: Home) -> None:
    _written(home.recipes)
    invocation = _invocation(home, "mine")
    (home.recipes / "mine.toml").write_bytes(MINE.as_toml().replace("100001", "100009").encode())
    assert _adopted(home, invocation, says_seeds=False).seeds == (100_009, 100_000)


def test_seeds_of_the_baseline_are_not_part_of_the_digest(home: Home) -> None:
    invocation = _invocation(home, None)
    assert replace(invocation, baseline_seeds=(5,)).record().digest == invocation.record().digest


def test_the_command_asks_for_the_same(home: Home) -> None:
    settings = ("dropout=off", "mixup=on")
    request = SearchRequest("joint", None, "random", "wilcoxon", 3, 4, True, baseline="mine", settings=settings)
    assert request.command("quick", 12) == (
        "ablate tune joint --profile quick --trials 12 --sampler random --pruner wilcoxon --seed 3 --seeds-per-trial 4 "
        "--pareto --baseline mine --set dropout=off --set mixup=on"
    )


def _end(home: Home, invocation: SearchInvocation, rate: float = 0.01, outcome: str = schema.FINISHED) -> None:
    """A search that has ended with one trial, whose recipe has this rate."""
    log, asked = SearchLog(open_store(home)), invocation.record()
    recipe = invocation.baseline.set(f"optimizer.rate={rate}")
    best = BestRecord(0, 0.5, {"optimizer.rate": rate})
    study = StudyRecord("regularization", "s", {}, (), "tpe", 0, (), best)
    winner = WinnerRecord("regularization", 0, 0.5, recipe.digest(), recipe.knobs(), ())
    parent = log.open(log.experiment(asked.name, invocation.data), asked, ProvenanceRecord())
    log.end_trial(log.start_trial(parent, "regularization", 0, best.sampled, recipe), outcome, {}, "")
    log.close(parent, SearchOutcomeRecord(asked.digest, (study,), winner), failures=False)


def _adopt(home: Home, **more: bool) -> str:
    """The text of the file that is adopted."""
    adopt(home, "regularization", "mine", None, print, **more)
    return (home.recipes / "mine.toml").read_text()


def test_what_the_same_search_has_found_since_is_written_over_it(home: Home) -> None:
    invocation = _invocation(home, None)
    _end(home, invocation)
    assert "rate = 0.01" in _adopt(home)
    _adopt(home)
    _end(home, replace(invocation, trials=invocation.trials + 3), rate=0.02)
    assert "rate = 0.02" in _adopt(home)


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("rate = 0.01", "rate = 0.017"),
        lambda text: f"{text}# my notes\n",
        lambda text: f"# my notes\n{text}",
        lambda text: text.replace("# as written: ", "# as written: 0"),
        lambda text: text.replace('search = "regularization"', 'search = ""'),
        lambda text: "rate = ",
        lambda text: "\x00",
    ],
)
def test_a_file_that_was_edited_stays_as_it_is_unless_it_is_to_be_replaced(edit, home: Home) -> None:
    _end(home, _invocation(home, None))
    path, written = home.recipes / "mine.toml", _adopt(home)
    path.write_text(edit(written))
    with pytest.raises(AblateError, match=r"mine\.toml .*left as it is\. .*--replace"):
        _adopt(home)
    assert path.read_text() == edit(written)
    assert "rate = 0.01\n" in _adopt(home, replace_file=True)
    assert path.with_name("mine.toml.old").read_text() == edit(written), "what was there is kept"


def test_the_recipe_of_another_search_stays_too(home: Home) -> None:
    invocation = _invocation(home, None)
    _end(home, invocation)
    _adopt(home)
    _end(home, replace(invocation, seed=1), rate=0.02)
    with pytest.raises(AblateError, match="is the recipe of that search as invoked otherwise"):
        _adopt(home)
    assert "rate = 0.02" in _adopt(home, replace_file=True)
    _written(home.recipes)
    with pytest.raises(AblateError, match="may have been edited"):
        _adopt(home)


def test_a_file_of_a_version_before_is_written_anew_where_it_says_the_same(home: Home) -> None:
    _end(home, _invocation(home, None))
    text = _adopt(home)
    path = home.recipes / "mine.toml"
    path.write_text(text[: text.index(adopted.MARK)])
    assert adopted.MARK in _adopt(home)


def test_a_trial_that_diverged_is_not_adopted(home: Home) -> None:
    invocation = _invocation(home, None)
    _end(home, invocation, outcome=schema.DIVERGED)
    with pytest.raises(AblateError, match=r"nothing is adopted .*the one trial that came to an end diverged"):
        _adopt(home)
    assert not (home.recipes / "mine.toml").exists()


def test_where_a_version_before_chose_one_that_diverged_the_others_are_asked_for(home: Home) -> None:
    log, asked = SearchLog(open_store(home)), _invocation(home, None).record()
    _end(home, _invocation(home, None), outcome=schema.DIVERGED)
    ended = log.newest_ended("regularization", _invocation(home, None).data)
    assert ended is not None
    (study,) = ended.outcome.studies
    two = replace(ended.outcome, studies=(study, replace(study, name="other", best=BestRecord(3, 0.1, {}))))
    parent = log.open(log.experiment(asked.name, _invocation(home, None).data), asked, ProvenanceRecord())
    log.close(parent, two, failures=False)
    with pytest.raises(
        AblateError, match=r"its best trial diverged\. `ablate tune regularization .*best of the others"
    ):
        _adopt(home)
