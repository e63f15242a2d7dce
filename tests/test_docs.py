"""The documentation: its commands can be typed, its examples in Python run, and it is built without a warning."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import tomlkit
import yaml

from cifar_ablations.ablations import catalog, expectations
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import PROFILES
from docs import made, measured, studies
from tests.test_readme import _ablate_takes, _calls, _commands, _make_takes

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
WRITTEN = "\n".join(page.read_text() for page in PAGES)


def _blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def _lines(program: str) -> list[str]:
    """Commands of a program, without their comments."""
    lines = [line for block in _blocks("sh", WRITTEN) for line in block.splitlines()]
    return _calls(program, [bare for line in lines if (bare := re.sub(r"\s#.*", "", line).strip())])


@pytest.mark.parametrize("line", _lines("ablate"))
def test_a_line_of_ablate_can_be_typed(line: str) -> None:
    _ablate_takes(line, WRITTEN)


def _made() -> dict[str, str]:
    """The pages that are made of the code, by their names."""
    found = {f"{folder}/{name}": text for folder in made.FOLDERS for name, text in made.pages(folder)}
    return found | {name: text for name, (_, text) in made.single_pages().items()}


def test_commands_of_made_pages_can_be_typed() -> None:
    lines = [line for text in _made().values() for block in _blocks("sh", text) for line in block.splitlines()]
    assert len(_calls("ablate", lines)) > len(catalog.techniques())
    for line in _calls("ablate", lines):
        _ablate_takes(line, WRITTEN)


def test_all_that_there_is_has_its_page() -> None:
    pages = _made()
    for name in catalog.techniques():
        text = pages[f"techniques/{name.replace('_', '-')}"]
        for part in ("Source: ", "## Levels", "## When it helps, when it hurts", "## What it costs"):
            assert part in text, name
    assert {f"plans/{name.partition('/')[0]}" for name in catalog.plan_names()} <= set(pages)
    assert {f"searches/{name}" for name in catalog.search_names()} <= set(pages)
    for name, command in _commands().items():
        section = pages["command-line"].partition(f"## ablate {name}\n")[2].partition("\n## ")[0]
        options = {option for p in command.params if not getattr(p, "hidden", False) for option in p.opts}
        assert (
            command.hidden or {o for o in options - {"--help", "-h"} if o.startswith("-") and o not in section} == set()
        )


@pytest.mark.parametrize("line", _lines("make"))
def test_a_line_of_make_can_be_typed(line: str) -> None:
    _make_takes(line)


def test_what_stands_in_a_block_is_one_of_these() -> None:
    assert set(re.findall(r"```(\w+)", WRITTEN)) <= {"sh", "python", "toml", "json", "text", "yaml"}


def test_the_technique_that_is_shown_is_the_example() -> None:
    example = (ROOT / "examples" / "my_lab" / "techniques" / "input_noise.py").read_text()
    assert example in _blocks("python", (ROOT / "docs" / "how-to" / "own-technique.md").read_text())


def test_what_is_data_can_be_read(tmp_path: Path) -> None:
    for block in _blocks("toml", WRITTEN):
        if "expect" in tomllib.loads(block):
            (tmp_path / "expectations.toml").write_text(block)
            assert expectations.read(tmp_path / "expectations.toml").expected
    for block in _blocks("json", WRITTEN):
        json.loads(block)
    for block in _blocks("yaml", WRITTEN):
        yaml.safe_load(block)


@pytest.mark.parametrize("line", re.findall(r"- run: (.+)", "\n".join(_blocks("yaml", WRITTEN))))
def test_what_a_workflow_runs_can_be_typed(line: str) -> None:
    made, called = _calls("make", [line]), _calls("ablate", [line])
    assert made or called
    for word in made:
        _make_takes(word)
    for word in called:
        _ablate_takes(word, WRITTEN)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "page", [page for page in PAGES if _blocks("python", page.read_text())], ids=lambda page: page.stem
)
def test_examples_in_python_run(page: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "ABLATE_HOME": str(tmp_path / "out")}
    script = "\n".join(_blocks("python", page.read_text()))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.exhaustive
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs what `make docs` installs")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "site" / "reference" / "techniques" / "dropout.html").read_text()
    assert "When it helps, when it hurts" in page
    assert (tmp_path / "site" / "reference" / "measured.html").exists()
    pages = {page.parent.name for page in (ROOT / "results").glob("*/page.html")}
    assert {page.stem for page in (tmp_path / "site" / "reference" / "pages").iterdir()} == pages


MADE = {"processor": "EPYC", "instructions": ["AVX2"], "cores": "2", "device": "cpu"}
OF = {"torch": "2.15.0", "commit": "0123456789", "dirty": "false"}


def _written(folder: Path, rows: list[dict[str, object]], **about: object) -> Path:
    """A folder of results of the plan `techniques`, with these verdicts."""
    place = folder / "techniques-quick"
    place.mkdir()
    said = {
        "kind": "plan",
        "layout": "effects",
        "plan": "techniques",
        "profile": "quick",
        "question": "What?",
        "date": date(2026, 11, 27),
    }
    said |= {"network": "notebook network", "budget": "2,000 training images", "seeds": [0, 1], "trainings": 4}
    said |= {"minutes": 12.0, "data": {"name": "photos", "digest": "abc"}, "machine": MADE, "versions": OF}
    (place / "about.toml").write_text(tomlkit.dumps(said | about))
    pd.DataFrame(rows).to_csv(place / "verdicts.csv", index=False)
    pd.DataFrame([{"arm": "full recipe", "train_accuracy": 0.56}]).to_csv(place / "arms.csv", index=False)
    return folder


def _verdict(technique: str, where: str, difference: float, direction: str) -> dict[str, object]:
    numbers = {"treatment_n": 6, "control_n": 5, "treatment_diverged": 0, "control_diverged": 1}
    numbers |= {"treatment_mean": 0.5 + difference, "control_mean": 0.5, "low": difference - 0.01, "high": 0.02}
    said = {"technique": technique, "title": technique, "where": where, "metric": "test/accuracy", "verdict": "open"}
    return said | numbers | {"difference": difference, "direction": direction, "outcome": direction}


def test_a_technique_s_page_says_what_was_measured(tmp_path: Path) -> None:
    rows = [
        _verdict("dropout", "in the full recipe", -0.0379, "hurts"),
        _verdict("dropout", "on its own", 0.0123, "open"),
        _verdict("everything", "overall", 0.01, "helps"),
    ]
    found = measured.read(_written(tmp_path, rows))
    text = "\n\n".join(measured.of_technique("dropout", found))
    sentence = "it **hurts** in the full recipe (−3.79 pp [−4.79, 2.00]) and is open on its own (+1.23 pp [0.23, 2.00])"
    assert sentence in text
    assert "| in the full recipe | test accuracy | 50.00 % (5, 1 diverged) | 46.21 % (6) | −3.79 pp" in text
    assert "1 of 1 arm got less than 75 %: there, an effect of a regulariser is an effect on the speed" in text
    for part in ("27 November 2026", "EPYC with AVX2, 2 cores;", "2 seeds, 4 trainings in 12.0 min", "commit 0123456;"):
        assert part in text
    assert "Not measured so far" in text, "what it costs"
    other = "\n\n".join(measured.of_technique("mixup", found))
    assert "hurts**" not in other
    assert "`ablate run levels/mixup`" in other
    assert "[dropout](techniques/dropout.md) | in the full recipe" in measured.overview(found)


def test_levels_are_told_by_their_arms_and_statements_by_their_words(tmp_path: Path) -> None:
    arms = [{"arm": "ReLU", "n": 6, "diverged": 0, "accuracy": 0.5, "low": 0.48, "high": 0.52, "train_accuracy": 0.9}]
    arms += [{"arm": "GELU", "n": 5, "diverged": 1, "accuracy": 0.6, "low": None, "high": None, "train_accuracy": 1}]
    empty = pd.DataFrame(columns=list(_verdict("dropout", "", 0.0, "open")))
    folder = _written(tmp_path, [], plan="levels/activation") / "techniques-quick"
    empty.to_csv(folder / "verdicts.csv", index=False)
    pd.DataFrame(arms).to_csv(folder / "arms.csv", index=False)
    (folder / "page.html").write_text("<p></p>")
    found = measured.read(tmp_path)
    text, overview = "\n\n".join(measured.of_technique("activation", found)), measured.overview(found)
    for said in (text, overview):
        assert "| ReLU | 50.00 [48.00, 52.00] | 90.00 | 6 |" in said
        assert "| GELU | 60.00 | 100.00 | 5, 1 diverged |" in said
    assert "[the whole page](../pages/techniques-quick.html)" in text
    assert "[the whole page](pages/techniques-quick.html)" in overview
    assert "Not measured so far" in measured.of_technique("dropout", found)[1]
    rows = [_verdict("dropout", "regularisation", -0.08, "hurts") | {"statement": "Too much dropout costs accuracy"}]
    (tmp_path / "claims").mkdir()
    found = measured.read(_written(tmp_path / "claims", rows, plan="claims", layout="ledger"))
    text = "\n\n".join(measured.of_technique("dropout", found))
    assert "| Too much dropout costs accuracy | test accuracy |" in text
    assert "regularisation" not in text, "where a statement stands is no place in a recipe"
    assert "[dropout](techniques/dropout.md) | Too much dropout costs accuracy |" in measured.overview(found)


def test_results_of_what_there_is_not_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with pytest.raises(AblateError, match="no technique 'dropuot'; did you mean dropout"):
        measured.read(_written(tmp_path / "one", [_verdict("dropuot", "on its own", 0.0, "open")]))
    with pytest.raises(AblateError, match="no plan 'tecniques'; did you mean techniques"):
        measured.read(_written(tmp_path / "other", [_verdict("dropout", "on its own", 0.0, "open")], plan="tecniques"))


def test_the_results_that_are_here_can_be_shown() -> None:
    found = measured.read()
    for name in catalog.techniques():
        lines = measured.of_technique(name, found)
        assert lines[0].startswith("## When it helps")
        assert ("Not measured so far" in lines[1]) == all(
            one.costs or (name not in set(one.rows["technique"]) and one.about["plan"] != f"levels/{name}")
            for one in found
        )
    overview = measured.overview(found)
    assert all(f"results/{one.name}" in overview for one in found)
    for section in overview.split("\n## ")[1:]:
        rows = [line.split(" | ")[:2] for line in section.splitlines() if line.startswith("| ")]
        assert len(rows) == len({tuple(row) for row in rows}), f"two rows cannot be told apart: {section[:40]}"


def test_a_technique_s_page_says_what_it_costs(tmp_path: Path) -> None:
    folder = _written(tmp_path, [_verdict("dropout", "on its own", 0.0, "open")]) / "techniques-quick"
    about = tomllib.loads((folder / "about.toml").read_text()) | {"kind": "cost", "repeats": 9}
    (folder / "about.toml").write_text(tomlkit.dumps(about))
    numbers = {"seconds": 12.6, "bare_seconds": 10.5, "ratio": 1.2, "ratio_low": 1.17, "ratio_high": 1.24}
    rows = [{"technique": "dropout", "level": "on", "title": "dropout", "backend": "kernels"} | numbers]
    rows += [
        rows[0]
        | {
            "technique": "early_stopping",
            "title": "early stopping",
            "ratio": 1.01,
            "ratio_low": 0.98,
            "ratio_high": 1.03,
        }
    ]
    pd.DataFrame(rows).to_csv(folder / "cost.csv", index=False)
    text = "\n\n".join(measured.of_technique("dropout", measured.read(tmp_path)))
    assert "| `on` | 12.6 s | 10.5 s | 1.20 (1.17 to 1.24) | kernels |" in text
    assert "Early stopping, which changes no step, came out at 1.01 (0.98 to 1.03)" in text
    assert "9 of each" in text
    assert "at the profile `quick` of the notebook network, with the level" in text
    (folder / "about.toml").write_text(tomlkit.dumps(about | {"network": str(PROFILES["quick"].model)}))
    own = "\n\n".join(measured.of_technique("dropout", measured.read(tmp_path)))
    assert "at the profile `quick`, with the level" in own
    assert "[early stopping](techniques/early-stopping.md) | 1.01" in measured.overview(measured.read(tmp_path))


def _study(folder: Path, kind: str, figure: str, tables: dict[str, list[dict[str, object]]], **about: object) -> None:
    place = folder / kind
    place.mkdir()
    origin = {"data": {"name": "photos", "digest": "abc"}, "date": date(2026, 11, 27), "machine": MADE, "versions": OF}
    said = {"kind": kind, "command": f"python -m {kind}"} | about | origin
    (place / "about.toml").write_text(tomlkit.dumps(said))
    (place / figure).write_text("<svg></svg>")
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(place / name, index=False)


def test_budgets_searches_and_parts_are_told_with_their_numbers(tmp_path: Path) -> None:
    budget = {
        "arms_in_pairs": 13,
        "batch_size": 8,
        "width": 0.25,
        "seconds": 7.4,
        "arms": 14,
        "seeds": 6,
        "pairs_alike": 0.8123,
    }
    budget |= {
        "pairs_alike_low": 0.7,
        "pairs_alike_high": 0.9,
        "halves_alike": 0.95,
        "train_accuracy": 0.377,
        "steps": 3_520,
        "decided": 9,
        "carried": 6,
    }
    budget |= {"turned": 2, "open_at_the_largest": 1}
    sizes = [budget | {"train_images": n} for n in (1_406, 11_250)]
    effect = {"title": "Adam", "where": "on its own", "train_images": 1_406, "treatment_n": 6, "control_n": 5}
    effect |= {"treatment_diverged": 0, "control_diverged": 0}
    effects = [effect, effect | {"title": "Kaiming initialisation", "treatment_diverged": 3}]
    tables = {"agreement.csv": sizes, "effects.csv": effects}
    _study(tmp_path, "budgets", "effects.svg", tables, plan="techniques")
    searches = [{"sampler": "tpe", "gain": gain, "seeds": 5} for gain in (-0.0041, 0.1173)]
    sampler = {"sampler": "tpe", "searches": 2, "gain": 0.0592, "gain_low": 0.0034, "gain_high": 0.115}
    sampler |= {"promised_too_much": 0.0365, "promised_low": 0.0243, "promised_high": 0.0487}
    tables = {"searches.csv": searches, "samplers.csv": [sampler]}
    size = {"profile": "quick", "budget": "2,000 images", "network": "notebook network"}
    _study(tmp_path, "luck", "luck.svg", tables, search="joint", trials=32, **size)
    worth = {f"{way}{end}": 0.02 for way in ("first", "last") for end in ("", "_low", "_high")} | {"seeds": 5}
    groups = [worth | {"group": "weight_decay", "shapley": None, "shapley_low": None, "shapley_high": None}]
    groups += [groups[0] | {"group": "all together", "shapley": 0.02}]  # which is known, whatever was tried
    about = {"of": "gain-full", "network": "notebook network", "budget": "5,625 images"}
    about |= {"profile": "full", "share": "1/8"}
    _study(tmp_path, "attribution", "groups.svg", {"groups.csv": groups}, **about)
    text = studies.page(tmp_path)
    for words in (
        "| 1,406 | 8 | × 0.25 | 3,520 | 7 | 38 % | 81 % [70, 90] | 95 % | 9 | 6 | 2 | 1 |",
        "| 11,250 | 8 | × 0.25 | 3,520 | 7 | 38 % | – | 95 % | 9 | – | – | – |",
        "seeds and the other half agree in 95 % of pairs",
        "No smaller budget orders 90 % of the pairs as the largest does.",
        "Runs diverged, and effects are of the others: Kaiming initialisation on its own at 1,406 images, 3 of 9 with "
        "it and 0 of 5 without.",
        "| tpe | 2 | +5.92 pp [0.34, 11.50] | −0.41 pp to +11.73 pp | +3.65 pp [2.43, 4.87] |",
        "come from, at 1/8 of the profile full",
        "| what was changed | changed in the notebook's recipe | changed back in the tuned recipe |",
        "| weight decay | +2.00 pp [2.00, 2.00] | +2.00 pp [2.00, 2.00] |",
        *(f"torch 2.15.0; commit 0123456; numbers in `results/{kind}`" for kind in studies.KINDS),
    ):
        assert words in text
    assert text.count("<img ") == 3
    rows = [{"pairs_alike": share, "train_images": n, "seconds": n / 100} for n, share in ((700, 0.8), (1_400, 0.9))]
    said = studies._cheapest([*rows, rows[1] | {"train_images": 2_800}, {"seconds": 99.6}])
    assert said.endswith("has 1,400 images: 14 seconds a training against 100.")


BEFORE_PAGES = {"modern-quick", "optimizers-quick"}
"""Studies that were carried out before pages were kept, and not again."""


def test_every_plan_in_the_results_has_its_page_and_its_metrics() -> None:
    for about in (ROOT / "results").glob("*/about.toml"):
        if tomllib.loads(about.read_text(encoding="utf-8"))["kind"] == "plan":
            there = {name for name in ("page.html", "runs.parquet") if about.with_name(name).exists()}
            assert there == (set() if about.parent.name in BEFORE_PAGES else {"page.html", "runs.parquet"}), about


def test_every_such_folder_of_results_is_on_the_page() -> None:
    kinds = {
        about.parent.name: tomllib.loads(about.read_text())["kind"] for about in (ROOT / "results").glob("*/about.toml")
    }
    named = set(re.findall(r"numbers in `results/([^`]+)`", studies.page()))
    assert named == {name for name, kind in kinds.items() if kind in studies.KINDS}
    assert set(measured.APART) == set(studies.KINDS)
