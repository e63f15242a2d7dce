"""Tables of text: what stands in a cell cannot end it, in Markdown or in LaTeX."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.wording import phrases
from cifar_ablations.reports.wording.tables import (
    LATEX,
    VERDICT_COLUMNS,
    as_latex,
    as_markdown,
    for_spreadsheets,
    latex,
    markdown,
    short_verdicts,
    verdict_table,
)

CELLS = st.text(st.sampled_from("ab|\\&%$#_{}~^<>−±→×·\n"), max_size=8)
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4)


def _table(rows: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["Claim", "Seeds"])


@given(ROWS)
def test_a_row_of_markdown_has_as_many_cells_as_the_table(rows: list[tuple[str, str]]) -> None:
    lines = as_markdown(_table(rows)).splitlines()
    assert len(lines) == len(rows) + 2
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3 for line in lines)


@given(st.text(st.sampled_from("ab\\`*_|$~<>&#![]():/ \n\r"), max_size=12))
def test_markdown_shows_what_it_is_given(text: str) -> None:
    escaped = markdown(text)
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped) == re.sub("[\n\r]", " ", text)
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", " ", escaped)
    assert re.search(r"[`*_|$~]|<[A-Za-z/!?]|&[#A-Za-z]", bare) is None
    assert "](" not in bare


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("=1+1", "'=1+1"),
        ("+ dropout", "'+ dropout"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("＝1", "'＝1"),
        ("\r=1", "'\n=1"),
        ("a\r=1\r\n=2", "a\n=1\n=2"),
        ("− dropout", "− dropout"),
        ("without dropout", "without dropout"),
        ("", ""),
    ],
)
def test_no_text_is_a_formula(text: str, kept: str) -> None:
    table = pd.DataFrame({"arm": [text, "plain"], "effect": [-0.5, 0.5], "n": [1, -2], "decided": [True, False]})
    table["level"] = [-0.25, text]
    safe = for_spreadsheets(table)
    assert safe["arm"].to_list() == [kept, "plain"]
    assert safe["level"].to_list() == [-0.25, kept], "a number is none"
    pd.testing.assert_frame_equal(safe[["effect", "n", "decided"]], table[["effect", "n", "decided"]])
    assert for_spreadsheets(pd.DataFrame({text: ["a"]})).columns.to_list() == [kept]


def test_a_table_without_formulas_is_as_it_was() -> None:
    table = pd.DataFrame({"arm": ["a", None], "mixed": pd.Series([0.1, 0.2], dtype=object), "kind": ["x", "−"]})
    pd.testing.assert_frame_equal(
        for_spreadsheets(table.astype({"kind": "category"})), table.astype({"kind": "category"})
    )


@given(ROWS)
def test_a_row_of_latex_has_one_ampersand_and_no_comment(rows: list[tuple[str, str]]) -> None:
    body = as_latex(_table(rows)).partition("\\midrule\n")[2].partition("\\bottomrule")[0].splitlines()
    assert len(body) == len(rows)
    for line in body:
        assert len(re.findall(r"(?<!\\)&", line)) == 1
        assert re.search(r"(?<!\\)[%#_~^]", line.replace("$_{10}$", "")) is None
        assert len(re.findall(r"(?<!\\)\{", line)) == len(re.findall(r"(?<!\\)\}", line))


def test_every_sign_has_its_own_latex() -> None:
    assert len(set(LATEX.values())) == len(LATEX)
    assert r"a $-$1\% \& b$_{10}$" in as_latex(_table([("a −1% & b₁₀", "2")]))


def test_latex_takes_no_cell_for_an_option_of_the_row_above() -> None:
    assert latex("[0.3] x") == "{[}0.3] x"
    assert latex(" * x") == " {*} x"
    assert latex("[−0.3, 0.2]") == "{[}$-$0.3, 0.2]"
    assert latex("a [b]") == "a [b]"


def test_latex_names_a_letter_that_it_cannot_print() -> None:
    assert latex("é 初") == "é U+521D"
    assert latex("a\r\nb\0") == "a  b "


def test_a_note_stands_above_markdown_and_in_latex_in_a_row_of_its_own() -> None:
    table = _table([("a", "2")])
    assert as_markdown(table, "Only 50 %").startswith("**Only 50 %**\n\n| Claim | Seeds |\n| --- | --- |\n| a | 2 |\n")
    first, *others = as_latex(table, "Only 50 %").splitlines()
    assert first == "% Only 50 %"
    assert r"\multicolumn{2}{l}{Only 50 \%} \\" in others


def test_the_file_of_verdicts_has_every_column_that_is_judged_or_said(plan: PlanRecord, runs: pd.DataFrame) -> None:
    verdicts = phrases.with_sentences(plan, verdict.judge(plan, runs))
    table = verdict_table(verdicts, plan)
    assert set(VERDICT_COLUMNS) - set(verdicts) == {"late", "seen", "runs"}, "known once the invocations are"
    assert table["p_page"].equals(verdicts["p_page"])
    assert not {"negligible", "sign_flip_p", "p_holm", "level"} & set(table)


def test_a_paper_is_told_the_runs_and_the_pages_p(plan: PlanRecord, runs: pd.DataFrame) -> None:
    verdicts = phrases.with_sentences(plan, verdict.judge(plan, runs))
    table = short_verdicts(verdicts)
    assert table.columns.to_list() == ["Claim", "Runs", "Difference", "p (page)", "Verdict"]
    assert table["Runs"].to_list() == ["6 against 6"] * 3 + ["5 of 5 against 5 of 6"]
    assert table["p (page)"].iloc[0] == phrases.p_value(verdicts["p_page"].iloc[0]).removeprefix("= ")
