"""The table for a paper: its numbers against plain pandas, its rows and marks, and names that would break out of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_ablations.ablations import catalog, profiles, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import REACHED_TARGET
from cifar_ablations.ablations.record import ArmRecord, DataRecord, PlanRecord
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.inference.arms import arm_table
from cifar_ablations.reports.wording import paper_table, phrases, tables

ACCURACY = schema.TEST_ACCURACY
DATA = DataRecord("cifar10", "aa11bb22cc33dd44", classes=tuple(f"class {i}" for i in range(10)))
HOSTILE = [
    *("\\input{x}", "a_b & c%", "[0.3] x", "* y", "$x$", "#1 {z}", "~ ^ \\", "|x|", "−0.5 ± 1 → é 初", "\\\\", "%"),
    *(
        "`x` <b>y</b> &lt; **z** ![i](u)",
        "line\nbreak\r\tand \x00 \u2028",
        "^^5c",
        "--to_parse --rwrap",
        "“x” ’ … ½ 😀",
    ),
]


def made(name: str, seeds: int = 2, settings: tuple[str, ...] = ()) -> PlanRecord:
    """A plan around the notebook's recipe, as it is logged."""
    profile, baseline = profiles.profile("smoke"), catalog.notebook_recipe()
    for setting in settings:
        baseline = baseline.set(setting)
    return catalog.make_plan(name, profile.apply(baseline), profile, tuple(range(seeds))).record(profile, DATA)


def trained(plan: PlanRecord, spread: float = 0.01) -> pd.DataFrame:
    """A frame of runs like `load.runs_of`'s, each arm's accuracy by its place in the plan."""
    rows = [
        {
            "arm": arm.name,
            "seed": seed,
            "run_id": f"{i} {seed}",
            "outcome": schema.FINISHED,
            "converged": True,
            ACCURACY: 0.7 - 0.01 * i + spread * np.random.default_rng([i, seed]).normal(),
            schema.GENERALISATION_GAP: 0.05,
            schema.TRAIN_ACCURACY: 0.8,
            schema.SECONDS: 1.0,
        }
        for i, arm in enumerate(plan.arms)
        for seed in plan.seeds
    ]
    others = {name for claim in plan.claims for name in (claim.metric, *claim.mechanism)} - set(rows[0])
    return pd.DataFrame(rows).assign(**dict.fromkeys(sorted(others | {REACHED_TARGET}), 1.0))


def judged(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    verdicts = phrases.with_sentences(plan, verdict.judge(plan, runs))
    return verdicts.assign(late=False) if len(verdicts) else verdicts


def table_of(plan: PlanRecord, style: str | None = None, runs: pd.DataFrame | None = None) -> paper_table.Printed:
    runs = trained(plan) if runs is None else runs
    style = paper_table.style_of(plan, style)
    return paper_table.printed(plan, arm_table(plan, runs), judged(plan, runs), style)


def test_numbers_are_those_of_plain_pandas(plan: PlanRecord, runs: pd.DataFrame) -> None:
    table = paper_table.tidy(plan, arm_table(plan, runs), judged(plan, runs)).set_index("arm")
    grouped = runs.groupby("arm")[ACCURACY]
    np.testing.assert_allclose(table["accuracy"], grouped.mean()[table.index])
    np.testing.assert_allclose(table["accuracy_std"], grouped.std()[table.index])
    assert table["converged"].to_list() == grouped.count()[table.index].to_list()
    assert table.loc["bare recipe", ["n", "converged", "diverged"]].to_list() == [6, 5, 1]
    means = grouped.mean()
    compared = table[table["reference"] != ""]
    assert dict(zip(compared.index, compared["reference"], strict=True)) == {
        "without dropout": "full recipe",
        plan.arms[2].name: "full recipe",
        "only dropout": "bare recipe",
    }
    expected = [means[arm] - means[reference] for arm, reference in compared["reference"].items()]
    np.testing.assert_allclose(compared["difference"].astype(float), expected)
    low, high = (compared[f"difference_{end}"].astype(float) for end in ("low", "high"))
    assert (low < expected).all()
    assert (high > expected).all()


def test_an_interval_is_turned_round_with_its_difference(plan: PlanRecord, runs: pd.DataFrame) -> None:
    verdicts = judged(plan, runs)
    table = paper_table.data(plan, arm_table(plan, runs), verdicts).set_index("arm")
    claim = verdicts.iloc[0]
    row = table.loc["without dropout"]
    assert (claim["treatment"], claim["control"]) == ("full recipe", "without dropout")
    assert row[["difference", "difference_low", "difference_high"]].to_list() == pytest.approx(
        [-claim["difference"], -claim["high"], -claim["low"]]
    )
    assert table.loc["only dropout", "difference"] == pytest.approx(verdicts.iloc[3]["difference"])


def test_marks_say_what_is_decided(plan: PlanRecord, runs: pd.DataFrame) -> None:
    verdicts = judged(plan, runs)
    decided = verdicts.assign(
        verdict=[verdict.REFUTED, verdict.INCONCLUSIVE, verdict.EQUIVALENT, verdict.SUPPORTED],
        counted=[False, False, False, True],
    )
    table = paper_table.data(plan, arm_table(plan, runs), decided).set_index("arm")
    assert table["mark"].to_list() == ["", "*", "‡", "", "†"]
    caption = paper_table.printed(plan, arm_table(plan, runs), decided, "rows").caption
    assert (
        "* a difference beyond chance; † more runs diverged than by chance on one side; ‡ equivalent within ±0.5 pp; "
        "no mark: open. Tests: two-sided"
    ) in caption
    undecided = decided.assign(verdict=verdict.INCONCLUSIVE)
    caption = paper_table.printed(plan, arm_table(plan, runs), undecided, "rows").caption
    assert "Nothing is decided" in caption
    assert "*" not in caption


def test_the_caption_says_test_correction_seeds_budget_data_and_what_diverged(
    plan: PlanRecord, runs: pd.DataFrame
) -> None:
    caption = table_of(plan, runs=runs).caption
    for said in (
        "Test accuracy on cifar10 (5,000 training images, batch 64, 3 epochs; notebook × 0.25)",
        "mean ± standard deviation over n runs, seeds 0 to 5.",
        "Tests: two-sided Welch t tests of arms as independent",
        "Holm's correction weighted by mean squares over the plan's 4 claims, α = 0.05.",
        "a ranking of means, not a test.",
        "Diverged: 1 of 6 of 'bare recipe'.",
        "Arms that lost runs are not ranked.",
        "Not finished: 1 of 30 runs have not ended.",
    ):
        assert said in caption
    assert "ehearsal" not in caption
    drawn = replace(plan, data=replace(plan.data, stand_in=True))
    assert tables.NOTE in table_of(drawn, runs=runs).caption
    spread = paper_table.printed(plan, arm_table(plan, runs), judged(plan, runs), "rows", "interval")
    assert "mean and 95 % t interval of the mean over n runs" in spread.caption
    assert re.fullmatch(r"\d\d\.\d\d \[\d\d\.\d\d, \d\d\.\d\d\]", spread.cells["accuracy"][0])


def ranked(*means: float, diverged: tuple[int, ...] = ()) -> list[int]:
    """The places of arms with these means in per cent."""
    frame = pd.DataFrame({"accuracy": np.array(means) / 100, "diverged": 0})
    frame.loc[list(diverged), "diverged"] = 1
    return paper_table._places(frame).tolist()


def test_the_highest_mean_is_first_and_the_next_second() -> None:
    assert ranked(70, 72, 71, 60) == [0, 1, 2, 0]
    assert ranked(70, 72) == [0, 1], "of two, the other one is no second"
    assert ranked(70) == [0]
    assert ranked(np.nan, 70, 71, 69) == [0, 2, 1, 0]
    assert ranked(70, 72, 71, 60, diverged=(1,)) == [2, 0, 1, 0], "an arm that lost runs is not ranked"


def test_means_that_are_printed_alike_share_their_place() -> None:
    assert ranked(71.994, 71.986, 71.95, 60) == [1, 1, 2, 0]
    assert ranked(72, 71, 71, 60) == [1, 2, 2, 0]
    assert ranked(72, 72, 72) == [0, 0, 0]


def test_bold_and_underlined_are_the_first_and_second() -> None:
    plan = made("techniques")
    runs = trained(plan, spread=0.0)
    table = table_of(plan, runs=runs)
    assert table.places[:3] == [1, 2, 0]
    latex, markdown = paper_table.as_latex(table, "x"), paper_table.as_markdown(table)
    assert re.findall(r"\\(textbf|underline){([\d.]+) \$\\pm\$", latex) == [("textbf", "70.00"), ("underline", "69.00")]
    assert re.findall(r"\*\*([\d.]+) ±", markdown) == ["70.00"]
    assert re.findall(r"<ins>([\d.]+) ±", markdown) == ["69.00"]


def test_leaving_one_out_and_adding_one_in_are_read_below_their_recipes() -> None:
    table = table_of(made("techniques"))
    assert table.cells["label"].to_list() == [
        *("Full recipe", "− augmentation", "− dropout", "− Kaiming initialisation", "− Adam"),
        *("− learning-rate schedule", "− weight decay"),
        *("Bare recipe", "+ augmentation", "+ dropout", "+ Kaiming initialisation", "+ Adam"),
        *("+ learning-rate schedule", "+ weight decay"),
    ]
    assert table.indented == [label[0] in "−+" for label in table.cells["label"]]
    assert "reference" not in table.cells
    assert (table.cells["difference"][[i for i, one in enumerate(table.indented) if one]] != "").all()
    assert "Δ: difference to the row that a row is indented under" in table.caption
    assert "Indented rows are the recipe above them without (−) or with (+) what they name." in table.caption


def test_a_technique_is_called_as_it_is_set() -> None:
    labels = table_of(made("techniques", settings=("optimizer=rmsprop", "dropout.p=0.37"))).cells["label"].to_list()
    assert any(label.startswith("− RMSProp") for label in labels)
    assert "+ dropout (p = 0.37)" in labels
    assert not any("Adam" in label for label in labels)


def test_a_ladder_is_read_from_its_lowest_rung() -> None:
    plan = made("ladder")
    table = table_of(plan)
    labels = table.cells["label"].to_list()
    assert labels[0] == "Bare recipe"
    assert labels[1:3] == ["+ Kaiming initialisation", "+ Adam"]
    assert all(label.startswith("+ ") for label in labels[1:])
    assert "Each row adds a technique to the row above." in table.caption
    assert "Δ: difference to the row above" in table.caption
    assert plan.note in table.caption


def test_pairs_and_sizes_keep_to_their_recipes() -> None:
    pairs = paper_table._lines(made("pairwise"))
    assert set(pairs["below"]) == {"", "full recipe"}
    assert "− augmentation, − dropout" in set(pairs["label"])
    sizes = paper_table._lines(made("data-size"))
    heads = sizes.loc[sizes["below"] == "", "arm"].to_list()
    assert heads == [f"full recipe, {words} of the data" for words in ("all", "a quarter", "a sixteenth")]


@pytest.mark.parametrize("name", ["levels/initialisation", "learning-rate-sweep", "variance", "a-a", "tuned"])
def test_other_plans_call_their_arms_by_name(name: str) -> None:
    plan = made(name, settings=("optimizer=rmsprop",) if name == "tuned" else ())
    lines = paper_table._lines(plan)
    own = lines[lines["below"] == ""]
    assert own["label"].to_list() == [phrases.sentence_case(arm) for arm in own["arm"]]
    assert lines["arm"].to_list() == [arm.name for arm in plan.arms]
    assert lines["label"].is_unique


@pytest.mark.exhaustive
def test_every_plan_has_a_table_in_every_style_that_it_takes() -> None:
    for name in catalog.plan_names():
        plan = replace(made(name, settings=("dropout.p=0.4",) if name == "tuned" else ()), claims=())
        runs = trained(plan)
        for style in (paper_table.ROWS, *([] if paper_table.levels(plan).empty else [paper_table.MATRIX])):
            table = table_of(plan, style, runs)
            assert len(table.cells) == len(plan.arms)
            assert len(table.aligned) == len(table.cells.columns) == len(table.headings)
            assert paper_table.as_latex(table, "x").count("\\\\\n") >= len(plan.arms)
            names = table.cells[[name for name in table.cells if name not in ("accuracy", "n")]]
            if style == paper_table.ROWS:
                names = paper_table._lines(plan)[["label", "below"]]
            assert not names.duplicated().any(), "a row says which arm it is"


def test_levels_are_compared_with_the_one_that_all_are() -> None:
    plan = made("levels/initialisation")
    table = table_of(plan)
    (off,) = [arm.name for arm in plan.arms if arm.levels["initialisation"] == "off"]
    assert "reference" not in table.cells
    assert f"Δ: difference to '{phrases.sentence_case(off)}', in percentage points" in table.caption
    assert (
        f"Δ: difference to no. {1 + [arm.name for arm in plan.arms].index(off)}, " in table_of(plan, "matrix").caption
    )


def test_a_factorial_is_a_matrix_of_ticks() -> None:
    plan = replace(made("factorial"), claims=())
    table = table_of(plan)
    ticks = table.cells[[name for name in table.cells if name.startswith("technique ")]]
    assert ticks.shape == (64, 6)
    assert set(ticks.to_numpy().ravel()) == {"", "✓"}
    assert not ticks.duplicated().any()
    assert (ticks.iloc[0] == "✓").all()
    assert (ticks.iloc[-1] == "").all()
    for i, arm in enumerate(plan.arms):
        on = {name for name, level in arm.levels.items() if level != "off" and f"technique {name}" in ticks}
        assert {name.removeprefix("technique ") for name in ticks if ticks.loc[i, name]} == on
    assert table.headings["technique initialisation"] == "Kaiming initialisation"
    assert table.cells["number"].to_list() == [str(i) for i in range(1, 65)]
    latex = paper_table.as_latex(table, "x")
    assert "\\begin{longtable}" in latex
    assert latex.count("Test accuracy on cifar10") == 1, "the caption stands on one page"
    assert latex.count("\\rotatebox{90}") == 12, "on the first page and on the others"


def test_a_matrix_refers_to_rows_by_number() -> None:
    plan = made("techniques")
    table = table_of(plan, "matrix")
    assert "label" not in table.cells
    assert table.cells["reference"].to_list()[1:7] == ["1"] * 6
    assert table.cells["reference"].to_list()[8:] == ["8"] * 6
    assert not any(table.indented)


def test_levels_stand_in_a_matrix_where_there_are_several() -> None:
    plan = made("levels/initialisation")
    table = table_of(plan, "matrix")
    cells = table.cells["technique initialisation"].to_list()
    assert "Kaiming initialisation" in cells
    assert "✓" not in cells
    assert len(set(cells)) == len(plan.arms)
    assert table.headings["technique initialisation"] == "Initialisation"


def test_a_ledger_is_a_table_of_statements() -> None:
    plan = replace(made("claims"), claims=made("claims").claims[:3])
    table = table_of(plan)
    assert table.cells["Claim"].to_list() == [claim.statement for claim in plan.claims]
    assert "What was claimed and what was found on cifar10" in table.caption
    assert "p{0.26\\linewidth}" in paper_table.as_latex(table, "x")


def test_what_a_plan_cannot_fill_is_a_sentence(plan: PlanRecord) -> None:
    with pytest.raises(AblateError, match="differ in no technique, so there is no matrix; take rows"):
        paper_table.style_of(plan, "matrix")
    with pytest.raises(AblateError, match="claims nothing, so there are no statements; take rows"):
        paper_table.style_of(replace(plan, claims=()), "statements")
    assert paper_table.style_of(plan) == "rows"


def test_one_seed_has_a_mean_alone_and_no_verdict() -> None:
    plan = made("techniques", seeds=1)
    table = table_of(plan)
    assert all(re.fullmatch(r"\d\d\.\d\d", cell) for cell in table.cells["accuracy"])
    assert not any("*" in cell for cell in table.cells["difference"])
    assert "seed 0." in table.caption
    assert "Nothing is decided, as there are too few seeds" in table.caption


def renamed(names: list[str]) -> PlanRecord:
    """A plan without claims whose arms, data set and a technique are called like this."""
    arms = tuple(
        ArmRecord(name, f"{i:016x}", levels={"a": "off" if i else "on", names[0]: "off" if i % 2 else "on"})
        for i, name in enumerate(dict.fromkeys(names))
    )
    base = replace(made("techniques"), claims=(), arms=arms, data=replace(DATA, name=names[-1]))
    return replace(base, titles={"a": names[0]})


NAMES = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=12)), min_size=1
)


@pytest.mark.exhaustive
@settings(max_examples=60, deadline=None)
@given(NAMES, st.sampled_from(["rows", "matrix"]))
def test_no_name_breaks_out_of_a_cell(names: list[str], style: str) -> None:
    plan = renamed(names)
    table = table_of(plan, style if not paper_table.levels(plan).empty else "rows")
    columns = len(table.cells.columns)
    first, rule, *rows = paper_table.as_markdown(table).partition("\n\nTable: ")[0].split("\n")
    assert len(rows) == len(table.cells)
    for line in (first, rule, *rows):
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == columns + 1
    latex = paper_table.as_latex(table, "x")
    body = latex.partition("\\midrule\n")[2].partition("\\bottomrule")[0].splitlines()
    assert len(body) == len(table.cells)
    for line in body:
        assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
        assert not re.match(r"\s*[\[*]", line), "it would belong to the end of the row above"
    for line in [*body, latex.partition("\\caption")[2].partition("\\label")[0]]:
        assert re.search(r"(?<!\\)[%#_~]", line) is None
        assert len(re.findall(r"(?<!\\)\{", line)) == len(re.findall(r"(?<!\\)\}", line))
        assert all(sign.isascii() or sign in tables.PLAIN for sign in line)


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_it_compiles_whatever_names_it_holds(tmp_path: Path) -> None:
    plans = [made("techniques"), replace(made("factorial"), claims=()), renamed(HOSTILE)]
    printed = [table_of(plan, style) for plan in plans for style in ("rows", "matrix")]
    printed.append(table_of(made("claims")))
    texts = [paper_table.as_latex(table, f"t-{i}") for i, table in enumerate(printed)]
    (packages,) = {text.splitlines()[0].removeprefix("% ") for text in texts}
    document = ["\\documentclass{article}", packages, "\\begin{document}", *texts, "\\end{document}"]
    (tmp_path / "paper.tex").write_text("\n".join(document), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-3000:]
    assert "LaTeX Error" not in done.stdout
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
