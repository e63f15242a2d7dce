"""Files of runs that were deleted, as to save disk: what is missing is named, and the rest stands."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.reports.pages import plan_page
from cifar_ablations.reports.reading import load, searches
from cifar_ablations.study.commands.reporting import write_pages
from tests.reports.conftest import Writer, planted_runs, small_plan

PLAN = small_plan()
DATA = SimpleNamespace(digest=PLAN.data.digest)


@pytest.fixture
def writer(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Writer(tmp_path)


@pytest.fixture
def parent(writer):
    experiment = writer.experiment("techniques")
    parent = writer.invoke(experiment, PLAN)
    for row in planted_runs(PLAN).iloc[:4].to_dict("records"):
        writer.train(experiment, parent, PLAN, row)
    return parent


def delete(writer, *names):
    lost = [path for name in names for path in writer.folder.rglob(name)]
    assert lost
    for path in lost:
        path.unlink()


def test_a_plan_without_its_file_is_named_with_what_brings_it_back(writer, parent):
    assert writer.store.invoked(PLAN.digest, DATA)
    delete(writer, schema.PLAN_FILE)
    unreadable, told = [], []
    assert load.invocations(writer.uri, unreadable) == []
    assert unreadable == [
        f"plan.json of run {parent} is missing, so plan 'techniques' has no page of it; `ablate run techniques`, with "
        "the same options, writes it again and trains nothing twice"
    ]
    assert not writer.store.invoked(PLAN.digest, DATA), "so that it is written again"
    with pytest.raises(AblateError, match=r"no page was written: nothing that was asked of this store can be read$"):
        write_pages(writer.store.home, None, told.append)
    assert told == [f"Left out: {unreadable[0]}."]
    with pytest.raises(AblateError, match=rf"plan\.json of run {parent} is missing"):
        write_pages(writer.store.home, None)


def test_written_again_it_counts_as_asked_when_it_was_first(writer, parent):
    """Its digest names all that it fixed: its claims were there before the runs ended."""
    delete(writer, schema.PLAN_FILE)
    again = writer.invoke(writer.experiment("techniques"), PLAN, started=9_000)
    unreadable = []
    newest, first = load.invocations(writer.uri, unreadable)
    assert (newest.run_id, first.run_id, unreadable) == (again, parent, [])
    assert first.plan == PLAN
    assert first.started < newest.started
    other = replace(PLAN, digest="0" * 16)
    gone = writer.invoke(writer.experiment("techniques"), other, started=10_000)
    next(path for path in writer.folder.rglob(schema.PLAN_FILE) if gone in path.parts).unlink()
    assert [one.run_id for one in load.invocations(writer.uri, unreadable)] == [again, parent]
    assert unreadable[0].startswith(f"plan.json of run {gone} is missing")


def test_one_that_was_stopped_before_it_was_logged_whole_is_left_out_without_a_word(writer, parent):
    delete(writer, schema.PLAN_FILE)
    writer.client.delete_tag(parent, schema.PLAN_DIGEST)
    unreadable = []
    assert load.invocations(writer.uri, unreadable) == []
    assert unreadable == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", ["missing", "cut", "no archive", "empty"])
def test_a_page_stands_without_arrays_and_pictures_and_says_which(writer, parent, tmp_path, damage):
    files = sorted(writer.folder.rglob(schema.DETAILS_FILE))
    for file in files[:3]:
        content = file.read_bytes()
        made = {"cut": content[: len(content) // 2], "no archive": b"x" * 300, "empty": b""}
        file.unlink() if damage == "missing" else file.write_bytes(made[damage])
    delete(writer, schema.GALLERY_FILE)
    (page,) = plan_page.write_reports(writer.uri, tmp_path / "pages")
    text = page.read_text(encoding="utf-8")
    assert "Of 3 of 4 runs the file details.npz is missing or damaged" in text
    assert f"gallery.json of run {parent} is missing" in text


def test_a_search_without_its_file_is_named(writer):
    experiment = writer.experiment("search x")
    tags = {schema.KIND: schema.KIND_SEARCH, schema.SEARCH: "learning-rate", schema.SEARCH_DIGEST: "a" * 16}
    ended, stopped = (writer.store.create_run(experiment, "x", tags) for _ in range(2))
    writer.client.set_terminated(ended)
    writer.client.set_terminated(stopped, "KILLED")
    unreadable = []
    assert searches.searches(writer.uri, unreadable) == []
    (sentence,) = unreadable
    assert sentence.startswith(f"search.json of run {ended} is missing, so search 'learning-rate' has no page of it")
    assert "`ablate tune learning-rate`" in sentence
