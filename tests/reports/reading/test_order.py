"""What was logged later is later, whatever the clocks said."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import registration
from cifar_ablations.reports.pages import foundations_page, index_page, plan_page, search_page
from cifar_ablations.reports.reading import load, order, searches
from cifar_ablations.reports.reading.stored import Stored
from tests.reports.conftest import CLOCK, Writer, planted_runs
from tests.reports.pages.test_search_page import SearchWriter, asked_for

pytestmark = pytest.mark.slow

NOW = int(time.time() * 1000)
YEAR = 365 * int(order.DAY)
SAID = "A clock was wrong: dates of runs lie more than a day ahead of now, the last "


def parent(name, number, started):
    tags = {} if number is None else {schema.NUMBER: str(number)}
    return Stored(name, "1", "FINISHED", started, None, "", tags)


@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        ([(1, 1_000), (2, 2_000)], [1_000, 2_000]),
        ([(1, NOW + YEAR), (2, NOW - 5)], [NOW - 6, NOW - 5]),
        ([(1, NOW + YEAR), (2, NOW + 2 * YEAR), (3, NOW - 5)], [NOW - 7, NOW - 6, NOW - 5]),
        ([(1, 1_000), (2, NOW + YEAR)], [1_000, NOW + YEAR]),
        ([(1, NOW - YEAR), (2, 7), (3, NOW - 5)], [NOW - YEAR, NOW - YEAR + 1, NOW - 5]),
        ([(1, 5_000), (1, 4_000)], [5_000, 4_000]),
        ([(None, 9_000), (None, 1_000)], [9_000, 1_000]),
        ([(None, NOW + YEAR), (1, 2_000)], [1_999, 2_000]),
        ([(1, 2_000), (None, 3_000), (2, 4_000)], [2_000, 3_000, 4_000]),
        ([("by hand", 1_000), (-3, 2_000)], [1_000, 2_000]),
        ([], []),
    ],
)
def test_moments_are_in_the_order_of_numbers(logged, expected):
    parents = [parent(str(i), *about) for i, about in enumerate(logged)]
    found = order.moments(parents)
    assert [found[one.run_id].at for one in parents] == expected
    assert [one.started + found[one.run_id].added for one in parents] == expected


def test_runs_move_with_their_invocation():
    ahead, later = order.moments([parent("0", 1, NOW + YEAR), parent("1", 2, NOW - 50_000)]).values()
    assert ahead.ended(NOW + YEAR + 90_000) < later.at, "all ended before the next invocation was logged"
    assert later.ended(NOW - 10_000) == NOW - 10_000
    assert np.isnan(later.ended(None))
    assert order.UNKNOWN.ended(7_000) == 7_000


@pytest.fixture
def writer(tmp_path):
    found = Writer(tmp_path)
    del found.store.next_number  # this store has numbers
    return found


def test_invocations_are_numbered_across_kinds(tmp_path, plan):
    from cifar_ablations.ablations.record import ProvenanceRecord
    from cifar_ablations.study.store.foundations_log import FoundationsLog

    writer = SearchWriter(tmp_path)
    del writer.store.next_number
    first = writer.invoke(writer.experiment("first"), plan)
    second = writer.search(asked_for("found", "feed"), 1_000).run_id
    _, third = FoundationsLog(writer.store).open(0, ProvenanceRecord())
    tags = [writer.client.get_run(run).data.tags[schema.NUMBER] for run in (first, second, third)]
    assert tags == ["1", "2", "3"]
    writer.client.set_tag(first, schema.NUMBER, "one")
    assert writer.store.next_number() == 4, "a number edited by hand harms its own run alone"
    assert load.invocations(writer.uri) == []


@pytest.mark.exhaustive
def test_a_plan_of_a_clock_that_was_ahead_does_not_hide_later_ones(writer, plan, tmp_path):
    experiment = writer.experiment("first")
    ahead = writer.invoke(experiment, replace(plan, seeds=(0,), digest="0" * 16), started=NOW + YEAR)
    row = planted_runs(plan).iloc[0].to_dict()
    old = writer.train(experiment, ahead, plan, row, ended=NOW + YEAR + 9_000)
    heard = []
    plan_page.write_reports(writer.uri, tmp_path / "pages", tell=heard.append)
    assert sum(sentence.startswith(SAID) for sentence in heard) == 1
    now = writer.invoke(experiment, plan, started=NOW - 60_000)
    again = writer.train(experiment, now, plan, row | {schema.TEST_ACCURACY: 0.99}, ended=NOW - 50_000)
    known = load.invocations(writer.uri)
    assert [one.run_id for one in known] == [now, ahead]
    assert registration.earlier(known[0], known) == [known[1]]
    assert list(load.matching_runs(writer.client, plan)["run_id"]) == [old, again], "the first that was trained counts"
    heard.clear()
    (page,) = plan_page.write_reports(writer.uri, tmp_path / "pages", tell=heard.append)
    assert sum(sentence.startswith(SAID) for sentence in heard) == 1
    text = page.read_text(encoding="utf-8")
    assert text.count(SAID) == 1
    assert "6 seeds" in text


@pytest.mark.exhaustive
def test_what_had_been_seen_is_known_though_a_clock_was_ahead(writer, plan):
    """Claims that were fixed after runs had ended are late, also where those runs are dated after them."""
    experiment = writer.experiment("first")
    silent = replace(plan, name="notebook", claims=(), digest="0" * 16)
    ahead = writer.invoke(experiment, silent, started=NOW + YEAR)
    for row in planted_runs(plan).to_dict("records"):
        writer.train(experiment, ahead, plan, row, ended=NOW + YEAR + 9_000)
    writer.invoke(experiment, plan, started=NOW - 60_000)
    known = load.invocations(writer.uri)
    runs = load.runs_of(writer.client, plan)
    assert registration.runs_before(known[0], runs, known) == len(runs) > 0


def test_the_index_puts_first_what_was_asked_last(tmp_path, plan):
    writer = SearchWriter(tmp_path)
    del writer.store.next_number
    writer.search(asked_for("found", "feed"), NOW + YEAR)
    writer.invoke(writer.experiment("first"), plan, started=NOW - 60_000)
    text = index_page.write_index(writer.uri, tmp_path / "pages").read_text(encoding="utf-8")
    assert text.index("techniques") < text.index("found")


def test_a_search_of_a_clock_that_was_ahead_does_not_hide_later_ones(tmp_path):
    writer = SearchWriter(tmp_path)
    del writer.store.next_number
    asked = asked_for("found", "feed")
    ahead = writer.search(asked, NOW + YEAR)
    now = writer.search(replace(asked, trials=asked.trials + 1), NOW - 60_000)
    assert [one.run_id for one in searches.searches(writer.uri)] == [now.run_id, ahead.run_id]
    heard = []
    (page,) = search_page.write_search_reports(writer.uri, tmp_path / "pages", tell=heard.append)
    assert not any(SAID in sentence for sentence in heard), "of this search no run is dated ahead of now"
    writer.search(asked, NOW + 2 * YEAR)
    (page,) = search_page.write_search_reports(writer.uri, tmp_path / "pages", tell=heard.append)
    assert heard == [sentence for sentence in heard if sentence.startswith(SAID)] != []
    assert SAID in page.read_text(encoding="utf-8")


def test_the_demonstrations_of_a_clock_that_was_ahead_do_not_hide_later_ones(writer):
    from unittest.mock import patch

    from cifar_ablations.ablations.record import ProvenanceRecord
    from cifar_ablations.study.store.foundations_log import FoundationsLog

    log = FoundationsLog(writer.store)
    for started in (NOW + YEAR, NOW - 60_000):
        with patch(CLOCK, return_value=started):
            experiment, run = log.open(0, ProvenanceRecord())
        writer.client.set_terminated(run)
        tags = {schema.KIND: schema.KIND_FOUNDATION, schema.PARENT: run, **schema.MARKED}
        writer.client.set_terminated(writer.client.create_run(experiment, tags=tags).info.run_id)
    assert foundations_page._newest(writer.client).parent.info.run_id == run


def test_a_day_ahead_is_said_and_an_hour_is_not():
    hour = order.DAY / 24
    assert order.ahead([NOW, NOW + hour, float("nan"), 0.0]) == ""
    assert order.ahead([]) == ""
    last = datetime.now(UTC) + timedelta(days=400)
    said = order.ahead([NOW, NOW + 2 * order.DAY, last.timestamp() * 1000])
    assert said.startswith(f"{SAID}{last:%Y-%m-%d %H:%M} UTC. ")
