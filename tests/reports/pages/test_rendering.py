"""Names, times, tables and scripts as every page has them, against the standard library and pandas."""

from __future__ import annotations

import base64
import gc
import hashlib
import io
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import DataRecord, PlanRecord, ProfileRecord, RuleRecord
from cifar_ablations.ablations.schema import UI_PORT_FILE
from cifar_ablations.reports.pages import plan_page, rendering
from cifar_ablations.reports.reading.load import Logged
from cifar_ablations.reports.wording import tables
from tests.reports.conftest import Writer, planted_runs, small_plan


@given(st.text())
def test_a_slug_is_a_file_name_anywhere_and_its_own_slug(text: str) -> None:
    slug = rendering.slug(text)
    assert re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)*", slug)
    assert rendering.slug(slug) == slug


def test_a_slug_keeps_what_tells_names_apart() -> None:
    assert rendering.slug("Levels/Weight_Decay (2)") == "levels-weight_decay-2"
    assert rendering.slug("¿?") == "unnamed"


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1).map("a{}".format),
            st.floats(-1e6, 1e6),
        )
    )
)
def test_a_csv_file_comes_back_from_pandas(rows: list[tuple[str, float]]) -> None:
    frame = pd.DataFrame(rows, columns=["name, quoted", "value"]).astype({"value": float, "name, quoted": str})
    text = rendering.csv(frame)
    back = pd.read_csv(io.BytesIO(text), dtype={"name, quoted": str, "value": float}, keep_default_na=False)
    assert b"\r" not in text
    assert back["name, quoted"].tolist() == frame["name, quoted"].tolist()
    np.testing.assert_allclose(back["value"], frame["value"], rtol=1e-7)


@given(st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)))
def test_a_time_is_in_utc_to_the_minute(moment: datetime) -> None:
    milliseconds = int(moment.replace(tzinfo=UTC).timestamp() * 1000)
    assert rendering.when(milliseconds) == f"{moment.isoformat(' ', 'minutes')} UTC"


def test_a_time_that_is_not_there_is_nothing() -> None:
    assert rendering.when(float("nan")) == ""


@given(st.floats(allow_nan=False))
def test_a_sort_key_is_the_number_to_nine_digits(value: float) -> None:
    assert float(rendering.sort_key(value)) == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_no_number_has_no_sort_key(value: float | None) -> None:
    assert rendering.sort_key(value) == ""


def test_the_script_is_named_by_the_hash_of_what_stands_in_the_page() -> None:
    script = rendering.sort_script()
    method, _, digest = script.hash.partition("-")
    assert base64.b64decode(digest) == hashlib.new(method, str(script.text).encode()).digest()


@pytest.mark.parametrize(
    ("store", "asked", "found"),
    [
        ("sqlite:///out/mlflow.db", None, "http://127.0.0.1:5000"),
        ("postgresql://me@runs.example/mlflow", None, "http://127.0.0.1:5000"),
        ("https://me:secret@runs.example/", None, "https://runs.example"),
        ("sqlite:///out/mlflow.db", "http://ui.example/sub/", "http://ui.example/sub"),
    ],
)
def test_an_address_is_the_one_asked_for_or_a_servers_without_its_password(
    store: str, asked: str | None, found: str
) -> None:
    assert rendering.address_of(store, asked) == found


@pytest.mark.parametrize(("kept", "port"), [("5001\n", 5001), ("5001 # mine", 5000), ("é", 5000), ("", 5000)])
def test_a_store_of_this_machine_answers_where_its_ui_last_did(tmp_path: Path, kept: str, port: int) -> None:
    (tmp_path / UI_PORT_FILE).write_text(kept, encoding="utf-8")
    assert rendering.address_of(f"sqlite:///{tmp_path}/mlflow.db", None) == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("asked", ["javascript:alert(1)", "ftp://ui.example", "ui.example"])
def test_other_addresses_are_refused(asked: str) -> None:
    with pytest.raises(AblateError, match="must begin with http:// or https://"):
        rendering.address_of("sqlite:///out/mlflow.db", asked)


def _invocation(run_id: str, data_digest: str = "d1", overrides: tuple[str, ...] = ()) -> Logged[PlanRecord]:
    plan = PlanRecord(
        name="levels/dropout",
        question="?",
        arms=(),
        seeds=(),
        rule=RuleRecord(margin=0.005),
        profile=ProfileRecord("smoke"),
        data=DataRecord("Own images", data_digest),
        overrides=overrides,
    )
    return Logged(run_id, "1", datetime(2030, 1, 1, tzinfo=UTC), False, {}, plan)


def test_the_newest_of_each_question_has_the_plain_name() -> None:
    asked = [
        _invocation("newest"),
        _invocation("changed", overrides=("dropout.p=0.3",)),
        _invocation("other images of that name", data_digest="d2"),
        _invocation("older"),
    ]
    found = rendering.newest(asked)
    changed = hashlib.sha256(b"dropout.p=0.3").hexdigest()[:6]
    plain = "levels-dropout-own-images-smoke"
    assert {stem: one.run_id for stem, one in found.items()} == {
        plain: "newest",
        f"{plain}-{changed}": "changed",
        f"{plain}-d2": "other images of that name",
    }


def test_a_link_leads_to_the_same_data_whatever_is_asked_later() -> None:
    first = _invocation("first")
    plain = next(iter(rendering.newest([first])))
    other = _invocation("other images of that name", data_digest="d2")
    again = _invocation("again")
    for logged in ([other, first], [again, other, first], [other, again, first]):
        stems = {one.data_digest: stem for stem, one in rendering.newest(logged).items()}
        assert stems == {first.data_digest: plain, "d2": f"{plain}-d2"}
        assert next(iter(rendering.newest(logged).values())).run_id == logged[0].run_id, "newest first"


def test_a_name_of_any_length_and_kind_is_a_file(tmp_path: Path) -> None:
    names = ["x" * 300, "数据" * 150, "y" * 300, "con", "a b", "a/b", "..", "ünïcode"]
    plan = _invocation("id").plan
    asked = [
        replace(_invocation(str(i)), plan=replace(plan, data=replace(plan.data, name=name, digest=f"d{i}")))
        for i, name in enumerate(names)
    ]
    stems = rendering.newest(asked)
    assert len(stems) == len(names)
    for stem in stems:
        (tmp_path / f"search-{stem}-surroundings.csv").touch()
        assert re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)*", stem)


def test_a_spreadsheet_knows_a_csv_file_as_utf_8_with_times_and_whole_numbers() -> None:
    frame = pd.DataFrame({"arm": ["×4", "off"], "ended": [1_795_750_758_123.0, math.nan], "epochs": [30.0, math.nan]})
    content = rendering.csv(tables.typed(frame))
    assert content == "\ufeffarm,ended,epochs\n×4,2026-11-27T03:39:18Z,30\noff,,\n".encode()


def test_numbers_that_were_edited_by_hand_stay_what_they_are() -> None:
    edited = pd.DataFrame({"ended": [1e300, math.inf], "epochs": [0.5, 3.0], "threads": ["none", "1"]})
    table = tables.typed(edited)
    assert table["ended"].isna().all()
    assert table["epochs"].to_list() == [0.5, 3.0]
    assert table["threads"].isna().to_list() == [True, False]


def test_a_page_ends_in_one_line_break_and_begins_with_its_markup(tmp_path: Path) -> None:
    path = rendering.write_html(tmp_path / "page.html", "\n\n<!doctype html>é")
    assert path.read_bytes() == "<!doctype html>é\n".encode()


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_as_it_was_also_after_an_error(on: bool) -> None:
    before = gc.isenabled()
    _collect(on)
    try:
        with rendering.uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() is on
        with pytest.raises(KeyError), rendering.uncollected():
            raise KeyError
        assert gc.isenabled() is on
    finally:
        _collect(before)


def _collect(on: bool) -> None:
    if on:
        gc.enable()
    else:
        gc.disable()


def test_equal_things_have_one_fingerprint_and_others_another() -> None:
    def thing(value: float) -> list[object]:
        return [pd.DataFrame({"a": [1.0, value], "b": ["x", "y"]}), {"answers": np.arange(3)}, "stem"]

    assert rendering.fingerprint(*thing(2.0)) == rendering.fingerprint(*thing(2.0))
    others = {rendering.fingerprint(*thing(np.nextafter(2.0, 3.0))), rendering.fingerprint(*thing(2.0), "address")}
    assert len({*others, rendering.fingerprint(*thing(2.0))}) == 3


def test_other_code_and_other_libraries_make_another_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = rendering.fingerprint("a")
    monkeypatch.setattr(rendering, "version", lambda library: "99")
    libraries = rendering.fingerprint("a")
    (tmp_path / "more.css").write_text("body { color: red }")
    monkeypatch.setattr(rendering, "ROOMS", (*rendering.ROOMS, tmp_path))
    assert len({before, libraries, rendering.fingerprint("a")}) == 3


def test_a_page_is_made_of_what_it_says_while_all_its_files_are_there(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert not rendering.is_made_of(page, "abc")
    text = '<a href="table&amp;1.csv"> <a href="#top"> <a href="guide.html#p"> <a href="https://example.org/x.csv">'
    rendering.write_html(page, text, "abc")
    assert not rendering.is_made_of(page, "abc"), "it links to files that are not there"
    (tmp_path / "table&1.csv").touch()
    (tmp_path / "guide.html").touch()
    assert rendering.is_made_of(page, "abc")
    assert not rendering.is_made_of(page, "abcd")
    rendering.write_html(page, text)
    assert not rendering.is_made_of(page, "abc")


@pytest.mark.exhaustive
def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    """Nearly half of the time of a command that had nothing to train went into drawing the same figures again."""
    writer, plan = Writer(tmp_path), small_plan()
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan)
    rows = planted_runs(plan).to_dict("records")
    for row in rows[:4]:
        writer.train(experiment, parent, plan, row)

    def written(**asked: bool) -> bool:
        """Whether a page was drawn again, and not only left."""
        before = path.stat().st_ino if path.exists() else 0
        assert plan_page.write_reports(writer.uri, tmp_path / "pages", **asked) == [path]
        return path.stat().st_ino != before

    path = tmp_path / "pages" / "techniques-cifar10-quick.html"
    assert written(anew=False)
    assert not written(anew=False)
    assert written(), "where it is asked for"
    assert not written(anew=False)
    next(path.parent.glob("*-runs.csv")).unlink()
    assert written(anew=False)
    writer.train(experiment, parent, plan, rows[4])
    assert written(anew=False)
    assert not written(anew=False)
    (tmp_path / UI_PORT_FILE).write_text("5001")
    assert written(anew=False)
