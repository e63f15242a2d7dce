"""A lock from the file to the verdict on it: written once, kept to by a run, and verified by an exit code."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.lock import lock_of
from cifar_ablations.reports.reading import load
from cifar_ablations.study.commands import app, locking
from cifar_ablations.study.commands.locking import read_lock
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store
from tests.reports.conftest import Writer, planted_runs, small_plan

pytestmark = pytest.mark.exhaustive

TINY = [
    f"--set={setting}"
    for setting in (
        "model.width=0.0625",
        "budget.epochs=1",
        "budget.train_images=80",
        "budget.validation_images=40",
        "budget.test_images=60",
    )
]
PLAN = replace(small_plan(), seeds=(0, 1))
LOCKED = 3_000
"""When the plan was locked, in milliseconds since 1970."""


def _ablate(*words: object):
    return CliRunner().invoke(app.app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An output folder, which commands use."""
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Home()


@pytest.fixture
def writer(home: Home) -> Writer:
    """Writes to the output folder's store."""
    return Writer(home.folder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A lock of PLAN."""
    path = tmp_path / "a.lock.json"
    path.write_bytes(lock_of(PLAN, datetime.fromtimestamp(LOCKED / 1000, UTC)).encoded())
    return path


def invoke(writer: Writer, plan=PLAN, started: int = LOCKED + 1_000, ended: int = LOCKED + 2_000, runs=None) -> None:
    """Have the store hold an invocation of the plan, and its runs."""
    experiment = writer.experiment(plan.name)
    parent = writer.invoke(experiment, plan, started=started)
    for row in (planted_runs(plan) if runs is None else runs).to_dict("records"):
        writer.train(experiment, parent, plan, row, ended=ended)


def verified(file: Path) -> tuple[int, list[str]]:
    """The exit code, and what is said after the two lines on the lock itself."""
    result = _ablate("verify", file)
    first, second, *rest = result.stdout.splitlines()
    assert re.fullmatch("Lock: plan 'techniques', intact; SHA-256 [0-9a-f]{64}", first)
    assert second.startswith("It says that it was written 1970-01-01 00:00:03 UTC; only a time from outside")
    return result.exit_code, rest


NONE_BEFORE = "None of its runs had ended before the lock was written."
AS_LOCKED = "Held: plan 'techniques', invoked 1970-01-01 00:00:04 UTC, has the same data, seeds, rule, arms and claims."


def test_held_and_answered(writer: Writer, file: Path) -> None:
    invoke(writer)
    assert verified(file) == (0, [NONE_BEFORE, AS_LOCKED, "Answered: all of its runs have ended (10 of 10)."])


def test_never_invoked_is_open_with_and_without_a_store(home: Home, file: Path) -> None:
    nothing = (3, [f"Open: no invocation in {home.shown(home.folder)} has asked this."])
    assert verified(file) == nothing
    assert not home.folder.exists()
    put_fresh_store(home.folder)
    assert verified(file) == nothing


def test_runs_that_have_not_ended_leave_it_open(writer: Writer, file: Path) -> None:
    failed = planted_runs(PLAN)
    failed.loc[0, "outcome"] = schema.FAILED
    invoke(writer, runs=failed)
    assert verified(file) == (3, [NONE_BEFORE, AS_LOCKED, "Open: not all of its runs have ended (9 of 10)."])


def test_other_names_for_the_same_are_the_same(writer: Writer, file: Path) -> None:
    names = {arm.name: f"arm {i}" for i, arm in enumerate(PLAN.arms)}
    claims = tuple(
        replace(c, statement=f"{i}", treatment=names[c.treatment], control=names[c.control])
        for i, c in enumerate(PLAN.claims)
    )
    arms = tuple(replace(arm, name=names[arm.name]) for arm in PLAN.arms)
    invoke(writer, runs=planted_runs(PLAN)[:0])
    invoke(writer, replace(PLAN, name="another", arms=arms, claims=claims, digest="0" * 16), started=LOCKED + 1_500)
    code, said = verified(file)
    assert (code, said[-1]) == (0, "Answered: all of its runs have ended (10 of 10).")


def test_the_lock_that_it_was_run_under_is_this_one(writer: Writer, file: Path) -> None:
    other, this = "f" * 64, json.loads(file.read_bytes())["sha256"]
    invoke(writer, runs=planted_runs(PLAN)[:0])
    invoke(writer, replace(PLAN, lock=other, locked=1), started=LOCKED + 2_000, ended=LOCKED + 2_500)
    asked = AS_LOCKED.replace(":04", ":05").removeprefix("Held: ").removesuffix(".")
    broken = f"Broken: {asked}, but was run under another lock, with SHA-256 {other}."
    assert verified(file) == (1, [NONE_BEFORE, broken])
    invoke(writer, replace(PLAN, lock=this, locked=LOCKED), started=LOCKED + 3_000)
    code, said = verified(file)
    assert code == 0
    logged = "It was run under this lock: the store logged the hash 1970-01-01 00:00:06 UTC, when 10 of its 10 runs had"
    assert said[2] == f"{logged} ended."


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seeds": (0,)}, "seeds 0 to 1, now 0"),
        ({"seeds": (5, 6)}, "seeds 0 to 1, now 5 to 6"),
        ({"rule": replace(PLAN.rule, margin=0.01)}, "the margin 0.005, now 0.01"),
        ({"claims": PLAN.claims[:3]}, "1 claim dropped (dropout moves test accuracy on its own)"),
        (
            {"claims": (replace(PLAN.claims[0], sign=-1, statement="dropout harms"), *PLAN.claims[1:])},
            "1 claim dropped (dropout moves test accuracy in the full recipe); 1 claim added (dropout harms)",
        ),
        (
            {"arms": (*PLAN.arms[:4], replace(PLAN.arms[4], digest="f" * 16)), "overrides": ("dropout.p=0.3",)},
            "settings none, now dropout.p=0.3; 1 arm dropped (only dropout [00000000]); 1 arm added (only dropout "
            "[ffffffff])",
        ),
    ],
)
def test_a_deviation_is_said(writer: Writer, file: Path, other: dict, said: str) -> None:
    invoke(writer, replace(PLAN, **other))
    code, rest = verified(file)
    assert code == 1
    assert rest[1:] == [f"Deviated: plan 'techniques', invoked 1970-01-01 00:00:04 UTC, has {said}."]


def test_what_came_before_the_lock_or_asks_something_else_does_not_deviate(writer: Writer, file: Path) -> None:
    none = planted_runs(PLAN)[:0]
    invoke(writer, replace(PLAN, seeds=(0,)), started=LOCKED - 1, runs=none)
    others = tuple(replace(arm, digest=f"f{arm.digest[1:]}") for arm in PLAN.arms)
    invoke(writer, replace(PLAN, arms=others, profile=replace(PLAN.profile, name="smoke")), runs=none)
    invoke(writer, replace(PLAN, name="levels", arms=PLAN.arms[:2], claims=PLAN.claims[:2]), runs=none)
    elsewhere = replace(PLAN, data=replace(PLAN.data, digest="ffff"), seeds=(0,))
    invoke(writer, elsewhere, runs=none)
    code, said = verified(file)
    assert (code, len(said)) == (3, 2)
    assert said[1].startswith("Open: no invocation in ")


def test_a_deviation_beside_what_was_held_is_said_too(writer: Writer, file: Path) -> None:
    invoke(writer)
    invoke(writer, replace(PLAN, seeds=(0, 1, 2), digest="0" * 16), started=LOCKED + 5_000, runs=planted_runs(PLAN)[:0])
    assert verified(file) == (
        0,
        [
            NONE_BEFORE,
            "Besides: plan 'techniques', invoked 1970-01-01 00:00:08 UTC, has seeds 0 to 1, now 0 to 2.",
            AS_LOCKED,
            "Answered: all of its runs have ended (10 of 10).",
        ],
    )


def test_runs_that_the_lock_does_not_precede_are_counted(writer: Writer, file: Path) -> None:
    first = planted_runs(PLAN)["seed"] == 0
    invoke(writer, replace(PLAN, seeds=(0,)), started=1_000, ended=LOCKED - 1, runs=planted_runs(PLAN)[first])
    invoke(writer, runs=planted_runs(PLAN)[~first])
    code, (seen, *_) = verified(file)
    assert code == 0
    assert seen == (
        "Seen before: some of its runs had ended before the lock was written (5 of 10), so it does not precede its "
        "results."
    )


def test_looks_that_decided_every_claim_are_an_answer(writer: Writer, tmp_path: Path, monkeypatch) -> None:
    plan = replace(PLAN, seeds=(0, 1, 2), rule=replace(PLAN.rule, looks=(2, 3)))
    path = tmp_path / "looks.json"
    path.write_bytes(lock_of(plan, datetime.fromtimestamp(LOCKED / 1000, UTC)).encoded())
    invoke(writer, plan, runs=pd.DataFrame(planted_runs(PLAN)))
    for undecided, code, said in (
        (1, 3, "Open: not all of its runs have ended (10 of 15)."),
        (0, 0, "Answered: a planned look has decided every claim (10 of 15 runs have ended)."),
    ):
        monkeypatch.setattr(locking, "undecided_claims", lambda uri, plan, undecided=undecided: undecided)
        found, rest = verified(path)
        assert (found, rest[-1]) == (code, said)


def test_an_edited_lock_is_broken_and_what_is_none_is_a_mistake(home: Home, file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"margin":0.005', b'"margin":0.05'))
    edited = _ablate("verify", file)
    assert edited.exit_code == 1
    assert re.fullmatch(r"Broken: .*a\.lock\.json was edited: the SHA-256 of its content is .*\.\n", edited.stdout)
    file.write_text("{}")
    assert _ablate("verify", file).exit_code == 2
    missing = _ablate("verify", file.with_name("none.json"))
    assert missing.exit_code == 2
    assert (
        "none.json cannot be read (No such file or directory); `ablate plan PLAN --lock FILE` writes" in missing.stderr
    )


def test_a_plan_is_locked_once_and_run_as_locked(home: Home, tmp_path: Path, tiny_folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    put_fresh_store(home.folder)
    path = tmp_path / "folder" / "lock.json"
    notebook = ["notebook", *TINY, "--workers", "1"]
    planned = _ablate("plan", *notebook, "--seeds", "1", "--lock", path)
    assert planned.exit_code == 0, planned.stderr
    content = path.read_bytes()
    assert f"Lock: {path}, SHA-256 {json.loads(content)['sha256']}\nCommit or mail" in planned.stdout
    assert _ablate("verify", path).exit_code == 3

    again = _ablate("plan", *notebook, "--seeds", "1", "--lock", path)
    assert f"Lock: {path} locks the same already and stays; written 20" in again.stdout
    other = _ablate("plan", *notebook, "--seeds", "2", "--lock", path)
    assert other.exit_code == 2
    assert "exists and locks plan 'notebook' with other terms (seeds 0, now 0 to 1); name another" in other.stderr
    assert path.read_bytes() == content

    refused = _ablate("run", *notebook, "--seeds", "2", "--lock", path)
    assert refused.exit_code == 1
    assert refused.stderr == f"ablate: this is not what {path} locks, and nothing was trained: seeds 0, now 0 to 1\n"
    assert not (home.folder / "artifacts").exists()
    done = _ablate("run", *notebook, "--seeds", "1", "--lock", path)
    assert done.exit_code == 0, done.stderr
    assert re.search(rf"Lock: {path}, written 20.* UTC, locks this; SHA-256 [0-9a-f]{{64}}\n", done.stdout)
    (logged,) = load.invocations(home.tracking_uri)
    fixed = read_lock(path)
    assert (logged.plan.lock, logged.plan.locked) == (fixed.sha256, fixed.at)
    verified = _ablate("verify", path)
    assert verified.exit_code == 0, verified.stdout
    assert "It was run under this lock: the store logged the hash 20" in verified.stdout
    assert "before any of its runs had ended." in verified.stdout
    assert "Answered: all of its runs have ended (1 of 1)." in verified.stdout

    path.write_bytes(content.replace(b'"margin":0.005', b'"margin":0.05'))
    edited = _ablate("run", *notebook, "--seeds", "1", "--lock", path)
    assert edited.exit_code == 1
    assert "was edited: the SHA-256" in edited.stderr


def test_where_a_lock_cannot_be_written_is_said(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/lock\.json cannot be written"):
        locking.write_lock(tmp_path / "file" / "lock.json", PLAN, print)
    with pytest.raises(ValueError, match="cannot be read"):
        locking.write_lock(tmp_path, PLAN, print)


def test_other_data_are_a_difference() -> None:
    other = replace(PLAN, data=replace(PLAN.data, name="drawn", digest="ffff"), profile=replace(PLAN.profile, name="x"))
    assert locking.differences(PLAN, other) == ["data cifar10 (aa11bb22cc33dd44), now drawn (ffff)"]
    assert locking.differences(PLAN, replace(PLAN, overrides=("dropout.p=0.5",), name="another", question="?")) == []
