"""A plan's table as papers print it: what each arm is, its test accuracy, and the differences that the plan claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.discovery import setting_title
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import ArmRecord, PlanRecord, Value
from cifar_ablations.reports.inference import decision, verdict
from cifar_ablations.reports.wording import answer, phrases, tables

ROWS, MATRIX, STATEMENTS = "rows", "matrix", "statements"
STYLES = (ROWS, MATRIX, STATEMENTS)
OFF, LESS, MORE = "off", "−", "+"
STD, INTERVAL = "std", "interval"
SPREADS = (STD, INTERVAL)

COLUMNS = [
    "arm",
    "label",
    "below",
    "n",
    "converged",
    "diverged",
    "accuracy",
    "accuracy_std",
    "low",
    "high",
    "place",
    "reference",
    "difference",
    "difference_low",
    "difference_high",
    "reach",
    "p_page",
    "verdict",
    "mark",
]
DIFFERENT, DIVERGENT, EQUIVALENT = "*", "†", "‡"
"""The marks of what is decided: a difference, unequal numbers of runs that diverged, and equivalence."""

LEFT = ("label", "reference")
"""Columns of names."""
MANY_ROWS, MANY_STATEMENTS = 40, 12
"""More do not fit on a page, and the table goes on over several."""
MANY_TECHNIQUES = 3
"""The names of more stand upright above their columns."""
FEW = 2
"""So many differences to other arms than the rows' own are told in a sentence each, more in a column."""


def style_of(plan: PlanRecord, asked: str | None = None) -> str:
    """The style that is asked for, else the plan's own: a matrix for a factorial, statements for a ledger, else rows.

    Raises AblateError where a plan has nothing to fill the style with.
    """
    told_apart = not levels(plan).empty
    if asked is None:
        if plan.layout == "ledger":
            return STATEMENTS
        return MATRIX if plan.factors and told_apart else ROWS
    if asked == MATRIX and not told_apart:
        raise AblateError(f"the arms of plan {plan.name!r} differ in no technique, so there is no matrix; take {ROWS}")
    if asked == STATEMENTS and not plan.claims:
        raise AblateError(f"plan {plan.name!r} claims nothing, so there are no statements; take {ROWS}")
    return asked


def data(plan: PlanRecord, arms: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, in the order in which they are printed: columns COLUMNS; accuracies and differences are
    fractions.

    arms: of `arms.arm_table`; verdicts: of `verdict.judge`. `label` is what the row is called below the arm `below`,
    "" for none. `place` is 1 for the highest mean as it is printed and 2 for the next, else 0. The difference is to
    the arm `reference`, of the first claim that compares the two in test accuracy.
    """
    lines = _lines(plan)
    table = lines.merge(arms, on="arm", how="left")
    differences = _differences(plan, verdicts, dict(zip(lines["arm"], lines["below"], strict=True)))
    table = table.merge(differences, on="arm", how="left").assign(place=_places(table))
    return table.reindex(columns=COLUMNS).fillna({"reference": "", "verdict": "", "mark": ""})


def tidy(plan: PlanRecord, arms: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """The table as a file keeps it: of `data`, with the levels in which arms differ and what they were trained with."""
    table = data(plan, arms, verdicts).drop(columns=["mark", "reach"])
    table = table.join(levels(plan).add_prefix("level_"), on="arm")
    facts = {"budget": plan.budget, "model": plan.model, "data": plan.data.name, "plan_digest": plan.digest}
    return table.assign(seeds=len(plan.seeds), **facts)


def _places(table: pd.DataFrame) -> np.ndarray:
    """Equal ones as printed share their place. An arm that lost runs has none, and one mean alone is no ranking."""
    printed = (100 * table["accuracy"]).map(lambda accuracy: round(accuracy, 2)).where(table["diverged"] == 0)
    if (known := printed.nunique()) < 2:
        return np.zeros(len(table), dtype=int)
    place = printed.rank(method="dense", ascending=False)
    return place.where(place <= (2 if known > 2 else 1)).fillna(0).astype(int).to_numpy()


# What an arm is: how it differs from another one.


def levels(plan: PlanRecord) -> pd.DataFrame:
    """The level of every technique in which arms differ, text by arm and technique."""
    names = dict.fromkeys(name for arm in plan.arms for name in arm.levels)
    told = [name for name in names if len({_setting(arm, name) for arm in plan.arms}) > 1]
    rows = {arm.name: [arm.levels.get(name, OFF) for name in told] for arm in plan.arms}
    return pd.DataFrame.from_dict(rows, orient="index", columns=told)


def _setting(arm: ArmRecord, technique: str) -> tuple[tuple[str, Value], ...]:
    """The knobs of a technique in an arm, and its level; nothing where it is off."""
    level = arm.levels.get(technique, OFF)
    return () if level == OFF else (*_knobs(arm, technique), ("", level))


def _knobs(arm: ArmRecord, technique: str) -> tuple[tuple[str, Value], ...]:
    owner = f"{technique}."
    return tuple((name.removeprefix(owner), value) for name, value in arm.knobs.items() if name.startswith(owner))


def _title(plan: PlanRecord, arm: ArmRecord, technique: str) -> str:
    """What a technique is called as an arm sets it, in a table: without an article."""
    knobs = _knobs(arm, technique)
    title = (setting_title(technique, knobs) if knobs else "") or phrases.technique_title(plan, technique)
    return title.removeprefix("the ")


def _changes(one: ArmRecord, other: ArmRecord) -> dict[str, str]:
    """The techniques in which two arms differ: LESS where the second has it off, MORE where the first has, else ""."""
    changed = {}
    for name in dict.fromkeys([*one.levels, *other.levels]):
        before, after = _setting(one, name), _setting(other, name)
        if before != after:
            changed[name] = LESS if not after else MORE if not before else ""
    return changed


def _lines(plan: PlanRecord) -> pd.DataFrame:
    """The arms as they are printed, columns `arm`, `label` and `below`.

    Those that lack a technique of the arm before them, or have one more, are called after it; a ladder is read from its
    lowest rung.
    """
    rows: list[tuple[ArmRecord, ArmRecord | None]] = []
    rungs = list(reversed(plan.arms))
    steps = list(pairwise(rungs))
    if len(steps) > 1 and all(list(_changes(*step).values()) == [MORE] for step in steps):
        rows += [(rungs[0], None), *((upper, lower) for lower, upper in steps)]
    else:
        rest = list(plan.arms)
        while rest:
            head, *rest = rest
            variants = _variants(head, rest)
            rows += [(head, None), *((arm, head) for arm in variants)]
            rest = rest[len(variants) :]
    lines = [
        (arm.name, _variant(plan, of, arm) if of else phrases.sentence_case(arm.name), of.name if of else "")
        for arm, of in rows
    ]
    return pd.DataFrame(lines, columns=["arm", "label", "below"])


def _variant(plan: PlanRecord, head: ArmRecord, arm: ArmRecord) -> str:
    """'− dropout': what an arm is called below the one that it is a variant of."""
    changed = _changes(head, arm)
    return ", ".join(f"{sign} {_title(plan, head if sign == LESS else arm, name)}" for name, sign in changed.items())


def _variants(head: ArmRecord, rest: Sequence[ArmRecord]) -> list[ArmRecord]:
    """Those arms, one after the other, that have one or two techniques more than the first, or fewer.

    None where these are not several techniques, each by itself: the arms' own names then say more. An arm in which
    everything is off stands by itself.
    """
    found: list[ArmRecord] = []
    signs, techniques = set[str](), set[tuple[str, ...]]()
    for arm in rest:
        changed = _changes(head, arm)
        signs |= set(changed.values())
        if not any(_setting(arm, name) for name in arm.levels) or len(changed) not in (1, 2):
            break
        if len(signs) > 1 or "" in signs:
            break
        found.append(arm)
        techniques.add(tuple(changed))
    several = sum(len(names) == 1 for names in techniques) > 1 and len(techniques) == len(found)
    return found if several else []


# What is compared.


def _differences(plan: PlanRecord, verdicts: pd.DataFrame, below: Mapping[str, str]) -> pd.DataFrame:
    """One row per arm that a claim compares with another one in test accuracy.

    An arm is compared with the one that it is printed below, else with the one that more claims are about; of two that
    as many are about, the treatment with the control. Claims about differences of differences, about means of many
    arms, and those that allow a loss are no differences of two arms.
    """
    pairs = [
        (claim.treatment, claim.control, row)
        for claim, row in zip(plan.claims, verdicts.to_dict("records"), strict=True)
        if claim.metric == schema.TEST_ACCURACY and not claim.over and not claim.beyond and not claim.allowed
    ]
    uses = Counter(name for treatment, control, _ in pairs for name in (treatment, control))
    found: dict[str, dict[str, object]] = {}
    for treatment, control, row in pairs:
        sides = (treatment, control)
        if below.get(control) == treatment or (below.get(treatment) != control and uses[treatment] > uses[control]):
            sides = (control, treatment)
        if sides[0] in found:
            sides = (sides[1], sides[0])
        arm, reference = sides
        if arm in found:
            continue
        sign = 1 if arm == treatment else -1
        low, high = (row["low"], row["high"]) if sign > 0 else (-row["high"], -row["low"])
        p = row["tost_p_page"] if row["verdict"] == verdict.EQUIVALENT else row["p_page"]
        found[arm] = {
            "arm": arm,
            "reference": reference,
            "difference": sign * row["difference"],
            "difference_low": low,
            "difference_high": high,
            "reach": row["reach"],
            "p_page": p,
            "verdict": row["verdict"],
            "mark": _mark(row),
        }
    return pd.DataFrame(list(found.values()), columns=["arm", *COLUMNS[COLUMNS.index("reference") :]])


def _mark(row: phrases.Row) -> str:
    if row["verdict"] == verdict.INCONCLUSIVE:
        return ""
    if row["verdict"] == verdict.EQUIVALENT:
        return EQUIVALENT
    return DIVERGENT if row["counted"] else DIFFERENT


# The table in text.


@dataclass(frozen=True)
class Printed:
    """A table in text: its cells, and what is to be said and shown of them.

    cells: a row per line; headings: what its columns are called; aligned: `l`, `r` or `c` for each column. places: of
    each line by its mean, which is in the column `accuracy`; indented: whether a line is printed below another one, by
    its column `label`. upright: columns whose heading stands upright; wide: those of sentences, with their share of the
    width.
    """

    cells: pd.DataFrame
    headings: Mapping[str, str]
    aligned: str
    caption: str
    places: Sequence[int] = ()
    indented: Sequence[bool] = ()
    upright: frozenset[str] = frozenset()
    wide: Mapping[str, float] = field(default_factory=dict)


def printed(plan: PlanRecord, arms: pd.DataFrame, verdicts: pd.DataFrame, style: str, spread: str = STD) -> Printed:
    """The table of a plan in one of STYLES, with one of SPREADS beside the mean; arms, verdicts: as `data` takes them,
    the verdicts in words."""
    if style == STATEMENTS:
        return _statements(plan, verdicts)
    table = data(plan, arms, verdicts)
    if style == MATRIX:
        table = table.set_index("arm").loc[[arm.name for arm in plan.arms]].reset_index()
    cells, headings, upright = _names(plan, table, style)
    cells["accuracy"], headings["accuracy"] = _accuracies(table, spread), "Test accuracy (%)"
    to: list[str] = []
    if (table["reference"] != "").any():
        cells["difference"], headings["difference"] = _printed_differences(table), "Δ (pp)"
        first = "number" if "number" in cells else "label"
        called = dict(zip(table["arm"], cells[first], strict=True))
        quoted = {arm: f"no. {name}" if first == "number" else f"'{name}'" for arm, name in called.items()}
        to = _to(table, style, quoted)
        if not to:
            to = ["the arm named beside it"]
            cells["reference"] = table["reference"].map(called).fillna("")
            headings["reference"] = "to no." if first == "number" else "to"
    cells["n"], headings["n"] = table["converged"].map(str), "n"
    return Printed(
        cells=cells,
        headings=headings,
        aligned="".join("l" if name in LEFT else "c" if name in upright else "r" for name in cells),
        caption=" ".join(_caption(plan, arms, verdicts, table, to, style, spread)),
        places=table["place"].tolist(),
        indented=(table["below"] != "").tolist() if style == ROWS else (),
        upright=upright if len(upright) > MANY_TECHNIQUES else frozenset(),
    )


def _statements(plan: PlanRecord, verdicts: pd.DataFrame) -> Printed:
    cells = tables.short_verdicts(verdicts)
    said = [
        f"What was claimed and what was found on {_setting_of(plan)}, {_seeds(plan)}.",
        f"Differences have their {100 * decision.confidence(plan.rule):g} % intervals. Tests: {_test(plan)}",
        answer.standing(plan, verdicts),
        plan.note,
        tables.NOTE if plan.data.stand_in else "",
    ]
    return Printed(
        cells=cells,
        headings={str(name): str(name) for name in cells},
        aligned="l" * len(cells.columns),
        caption=" ".join(filter(None, said)),
        wide={"Claim": 0.26, "Difference": 0.2},
    )


def _names(plan: PlanRecord, table: pd.DataFrame, style: str) -> tuple[pd.DataFrame, dict[str, str], frozenset[str]]:
    """The columns that say what an arm is, their headings, and those of techniques.

    Where the techniques tell all arms apart, a number is name enough.
    """
    if style == ROWS:
        return table[["label"]].copy(), {"label": "Arm"}, frozenset()
    by_name, told = {arm.name: arm for arm in plan.arms}, [str(name) for name in levels(plan)]
    arms = [by_name[name] for name in table["arm"]]
    # A technique may be called as one of the other columns is.
    ticks = pd.DataFrame({f"technique {name}": _ticks(plan, arms, name) for name in told})
    titles = {f"technique {name}": phrases.sentence_case(_heading(plan, arms, name)) for name in told}
    if ticks.duplicated().any():
        first = table["arm"].map(phrases.sentence_case).rename("label").to_frame()
        return first.join(ticks), {"label": "Arm", **titles}, frozenset(titles)
    first = pd.Series([str(i) for i in range(1, len(table) + 1)], name="number").to_frame()
    return first.join(ticks), {"number": "No.", **titles}, frozenset(titles)


def _ticks(plan: PlanRecord, arms: Sequence[ArmRecord], technique: str) -> list[str]:
    """For each arm a tick where a technique is on, or how it is set where arms set it in several ways; nothing where it
    is off."""
    several = len(_settings(arms, technique)) > 1
    return [(_title(plan, arm, technique) if several else "✓") if _setting(arm, technique) else "" for arm in arms]


def _heading(plan: PlanRecord, arms: Sequence[ArmRecord], technique: str) -> str:
    settings = _settings(arms, technique)
    return technique.replace("_", " ") if len(settings) > 1 else _title(plan, next(iter(settings.values())), technique)


def _settings(arms: Sequence[ArmRecord], technique: str) -> dict[tuple[tuple[str, Value], ...], ArmRecord]:
    """The ways in which arms set a technique that is on, each with such an arm."""
    return {setting: arm for arm in arms if (setting := _setting(arm, technique))}


def _accuracies(table: pd.DataFrame, spread: str) -> list[str]:
    if spread == STD:
        return [
            phrases.mean_and_std(mean, std) for mean, std in zip(table["accuracy"], table["accuracy_std"], strict=True)
        ]
    rows = zip(table["accuracy"], table["low"], table["high"], strict=True)
    return [f"{phrases.percent(mean)} {phrases.share_interval(low, high)}".rstrip() for mean, low, high in rows]


def _printed_differences(table: pd.DataFrame) -> list[str]:
    cells = []
    for row in table.to_dict("records"):
        within = phrases.interval(row["difference_low"], row["difference_high"], least=-row["reach"], most=row["reach"])
        cells.append(f"{phrases.points(row['difference'])} {within}".rstrip() + row["mark"] if row["reference"] else "")
    return cells


def _to(table: pd.DataFrame, style: str, names: Mapping[str, str]) -> list[str]:
    """What the differences are to, and which are to another arm; nothing where that takes a column.

    names: what a row is called, by arm.
    """
    compared = table[table["reference"] != ""]
    if compared["reference"].nunique() == 1:
        return [names[compared["reference"].iloc[0]]]
    others = compared[compared["reference"] != compared["below"]]
    if style == MATRIX or len(others) > FEW or not (table["below"] != "").any():
        return []
    return [
        "the row above" if _ladder(table) else "the row that a row is indented under",
        *(f"Δ of {names[row['arm']]} is to {names[row['reference']]}." for row in others.to_dict("records")),
    ]


def _ladder(table: pd.DataFrame) -> bool:
    """Whether each row is printed below the one above."""
    return bool((table["below"] != "").sum() == len(table) - 1 and table["below"].is_unique)


TEST = {
    "welch t": "two-sided Welch t tests of arms as independent, with a pseudo-seed added",
    "paired t": "two-sided t tests of pairs of runs with equal seeds",
    "paired t e-process": "two-sided t tests of pairs of runs with equal seeds that hold whenever one stops",
}
CORRECTION = {"holm": "Holm's correction", "weighted holm": "Holm's correction weighted by mean squares"}


def _test(plan: PlanRecord) -> str:
    """The test, its correction and its level in a sentence."""
    rule, claims = plan.rule, phrases.count(len(plan.claims), "claim")
    over = f"over the plan's {claims}" if len(plan.claims) > 1 else "of one claim"
    looks = f", looks after {phrases.listing([str(look) for look in rule.looks])} seeds" if rule.looks else ""
    correction = CORRECTION.get(rule.correction, rule.correction)
    return f"{TEST.get(rule.test, rule.test)}, {correction} {over}, α = {rule.alpha:g}{looks}."


def _caption(
    plan: PlanRecord,
    arms: pd.DataFrame,
    verdicts: pd.DataFrame,
    table: pd.DataFrame,
    to: Sequence[str],
    style: str,
    spread: str,
) -> list[str]:
    """What a reader must know of the table, in sentences."""
    level = f"{100 * decision.confidence(plan.rule):g} %"
    shown = "standard deviation" if spread == STD else f"{level} t interval of the mean"
    joined = "±" if spread == STD else "and"
    said = [
        f"Test accuracy on {_setting_of(plan)}: mean {joined} {shown} over n runs, {_seeds(plan)}.",
        _reading(table, style),
        *_of_differences(plan, verdicts, table, to, level),
    ]
    if table["place"].any():
        second = ", the second underlined" if (table["place"] == 2).any() else ""
        said.append(f"The highest mean is bold{second}: a ranking of means, not a test.")
    if diverged := answer.of_divergence(arms):
        said += [diverged, "Arms that lost runs are not ranked."]
    if (missing := len(arms) * len(plan.seeds) - int(arms["n"].sum())) > 0:
        said.append(f"Not finished: {missing} of {phrases.count(len(arms) * len(plan.seeds), 'run')} have not ended.")
    return list(filter(None, [*said, plan.note, tables.NOTE if plan.data.stand_in else ""]))


def _setting_of(plan: PlanRecord) -> str:
    """The data set, and the budget and network as far as the store says them."""
    within = "; ".join(filter(None, [plan.budget, plan.model]))
    return f"{plan.data.name} ({within})" if within else plan.data.name


def _seeds(plan: PlanRecord) -> str:
    first, last = plan.seeds[0], plan.seeds[-1]
    return f"seed {first}" if len(plan.seeds) == 1 else f"seeds {first} to {last}"


def _reading(table: pd.DataFrame, style: str) -> str:
    """How a row is read."""
    if style == MATRIX:
        return "✓: the technique is on; what all arms have in common is not listed."
    if not (table["below"] != "").any():
        return ""
    if _ladder(table):
        return "Each row adds a technique to the row above."
    return "Indented rows are the recipe above them without (−) or with (+) what they name."


def _of_differences(
    plan: PlanRecord, verdicts: pd.DataFrame, table: pd.DataFrame, to: Sequence[str], level: str
) -> list[str]:
    """What the differences are to, what was tested and how, and what the marks mean; to: as of `_to`."""
    if not to:
        return []
    said = [f"Δ: difference to {to[0]}, in percentage points with its {level} interval.", *to[1:]]
    marks = {
        DIFFERENT: "a difference beyond chance",
        DIVERGENT: "more runs diverged than by chance on one side",
        EQUIVALENT: f"equivalent within {phrases.margin(plan.rule.margin)}",
    }
    meant = [f"{mark} {what}" for mark, what in marks.items() if (table["mark"] == mark).any()]
    few = len(plan.seeds) == 1 or (verdicts["reason"] == verdict.TOO_FEW).any()
    nothing = f"Nothing is decided{', as there are too few seeds' if few else ''}"
    decided = "; ".join([*meant, "no mark: open"]) if meant else nothing
    return [*said, f"{decided}.", f"Tests: {_test(plan)}", answer.standing(plan, verdicts)]


def as_markdown(table: Printed) -> str:
    """The table as GitHub shows it, with its caption below."""
    wrapped = {0: "{}", 1: "**{}**", 2: "<ins>{}</ins>"}
    cells = table.cells.map(tables.markdown)
    if any(table.places):
        marked = zip(cells["accuracy"], table.places, strict=True)
        cells["accuracy"] = [wrapped[place].format(cell) for cell, place in marked]
    if any(table.indented):
        named = zip(cells["label"], table.indented, strict=True)
        cells["label"] = [f"&emsp;{cell}" if indented else cell for cell, indented in named]
    headings = [tables.markdown(table.headings[str(name)]) for name in cells]
    lines = tables.markdown_table(headings, cells.to_numpy().tolist(), table.aligned)
    return f"{lines}\nTable: {tables.markdown(table.caption)}\n"


PACKAGES = r"% \usepackage{booktabs,amssymb,array,graphicx,longtable}"
SET = r"{\tabcolsep}{4pt}\setlength{\abovetopsep}{6pt}"
"""How far columns stand apart, and a table from its caption."""


def as_latex(table: Printed, label: str) -> str:
    """The table as LaTeX, with its caption and a label made of letters, digits, `_` and `-`."""
    caption = tables.latex(table.caption)
    long = len(table.cells) > (MANY_STATEMENTS if table.wide else MANY_ROWS)

    def heading(name: object) -> str:
        text = tables.latex(table.headings[str(name)])
        return rf"\rotatebox{{90}}{{{text}}}" if name in table.upright else text

    styled = table.cells.style.format(tables.latex).format_index(heading, axis="columns").hide(axis="index")
    if any(table.places):
        commands = {0: "", 1: "textbf:--rwrap", 2: "underline:--rwrap"}
        styled = styled.apply(lambda _: [commands[place] for place in table.places], subset=["accuracy"])
    if any(table.indented):
        styled = styled.apply(lambda _: ["quad:--nowrap" if one else "" for one in table.indented], subset=["label"])
    if not long:
        styled = styled.set_table_styles(
            [{"selector": "small", "props": ":;"}, {"selector": "setlength", "props": f":{SET};"}]
        )
    columns = [
        rf">{{\raggedright\arraybackslash}}p{{{table.wide[name]}\linewidth}}" if name in table.wide else to
        for name, to in zip(map(str, table.cells), table.aligned, strict=True)
    ]
    text = styled.to_latex(
        hrules=True,
        column_format="".join(columns),
        caption=caption,
        label=f"tab:{label}",
        environment="longtable" if long else "table",
        position=None if long else "htbp",
        position_float=None if long else "centering",
    )
    if long:  # it says its caption once, not again on every page
        once = text.replace(f"\\caption[]{{{caption}}} \\\\\n", "")
        text = f"{{\\small\\setlength{SET}\n{once}}}\n"
    return f"{PACKAGES}\n{text}"
