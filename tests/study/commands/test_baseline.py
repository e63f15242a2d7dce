"""The recipe that plans and searches start from, and how what was changed of it is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.adopted import adopted_from
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.record import AdoptionRecord
from cifar_ablations.study.commands.baseline import adopted_recipe, baseline_recipe, overrides_of, settings_named
from cifar_ablations.study.store.home import Home

CPU = torch.device("cpu")
SMOKE = profile("smoke")


def test_by_default_it_is_the_notebooks_at_the_profiles_size() -> None:
    assert baseline_recipe(SMOKE, None, (), CPU) == SMOKE.apply(catalog.notebook_recipe())


def test_settings_are_applied_in_their_order() -> None:
    recipe = baseline_recipe(SMOKE, None, ("dropout=off", "dropout.p=0.3", "budget.epochs=7"), CPU)
    assert recipe.knobs()["dropout.p"] == 0.3
    assert recipe.budget == replace(SMOKE.budget, epochs=7)


def test_a_setting_that_cannot_be_is_named_as_it_was_typed() -> None:
    with pytest.raises(AblateError, match=r"^--set dropuot\.p=0\.3: "):
        baseline_recipe(SMOKE, None, ("dropuot.p=0.3",), CPU)


def test_what_is_found_wrong_later_says_how_settings_are_changed() -> None:
    with pytest.raises(AblateError, match=r"^too long \(--set changes a setting\)$"), settings_named():
        raise AblateError("too long.")


def test_an_adopted_recipe_is_found_by_name_and_replaces_the_techniques(tmp_path: Path) -> None:
    home = Home(tmp_path)
    wanted = catalog.notebook_recipe().set("dropout.p=0.45")
    found = adopted_from("mine", wanted, {}, AdoptionRecord())
    home.recipes.mkdir()
    (home.recipes / "mine.toml").write_text(found.as_toml(), encoding="utf-8")
    adopted = adopted_recipe(home, "mine")
    assert baseline_recipe(SMOKE, adopted, (), CPU) == SMOKE.apply(wanted)
    assert adopted_recipe(home, None) is None


def test_overrides_name_an_adopted_recipe_by_its_content() -> None:
    assert overrides_of(None, ["dropout=off"]) == ("dropout=off",)
    recipe = catalog.notebook_recipe()
    one, same, other = (
        adopted_from("mine", recipe.set(f"dropout.p={p}"), {}, AdoptionRecord()) for p in (0.2, 0.2, 0.3)
    )
    first, *settings = overrides_of(one, ["dropout=off"])
    assert settings == ["dropout=off"]
    assert first.startswith("baseline=mine (")
    assert overrides_of(same, [])[0] == first
    assert overrides_of(other, [])[0] != first


@pytest.mark.parametrize(
    "setting", ["model.name", "budget.epochs", "optimizer.nothing", "seed", "dropout.p\nmodel.name"]
)
def test_a_recipe_of_somebody_else_sets_knobs_of_techniques_alone(setting: str, tmp_path: Path) -> None:
    """By model.name under [retuned], `ablate plan` imported and called any function that the recipe named."""
    written = adopted_from("mine", catalog.notebook_recipe(), {"dropout": {setting: "shutil:rmtree"}}, AdoptionRecord())
    (tmp_path / "mine.toml").write_text(written.as_toml(), encoding="utf-8")
    adopted = adopted_recipe(Home(tmp_path), str(tmp_path / "mine.toml"))
    with pytest.raises(AblateError, match=r"^mine: \[retuned\.dropout\] may set knobs of techniques, and not '"):
        baseline_recipe(SMOKE, adopted, (), CPU)


@pytest.mark.parametrize(
    "text",
    [
        b"[techniques.optimizer]\nkind = 5",
        b"[techniques.optimizer]\nrate = [1]",
        b"[techniques.optimizer]\nrate = nan",
        b"[techniques]\noptimizer = 1979-05-27",
        b"techniques = 5",
        b"[retuned]\ndropout = 5",
        b"[provenance]\nseeds = 5",
        b"format = 'x'",
        b"[techniques.dropout]\np = " + b"9" * 5_000,
        b"a = " + b"[" * 100_000,
        b"a." * 20_000 + b"b = 1",
        b"a = '\xff'",
        b'["\\u001b[31m"]',
        b"\x00",
    ],
)
def test_whatever_a_recipe_says_it_is_taken_or_refused_in_a_sentence(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(text)
    with pytest.raises(AblateError, match=r"mine|optimizer") as refused:
        baseline_recipe(SMOKE, adopted_recipe(Home(tmp_path), str(tmp_path / "mine.toml")), (), CPU)
    assert len(str(refused.value)) < 600
    assert str(refused.value).isprintable()


def test_a_setting_of_any_length_is_shown_by_its_beginning() -> None:
    with pytest.raises(
        AblateError, match=r"^--set dropout\.p=9+… \(5010 signs\): dropout\.p must be a number, not inf$"
    ):
        baseline_recipe(SMOKE, None, (f"dropout.p={'9' * 5_000}",), CPU)
