"""What is found is what lies in the folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_ablations import ablations
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.errors import AblateError

FOLDER = Path(str(ablations.__file__)).parent


def _files(folder: str) -> set[str]:
    return {path.stem for path in (FOLDER / folder).glob("*.py")} - {"__init__"}


def test_a_technique_is_a_file() -> None:
    assert set(catalog.techniques()) == _files("techniques")
    assert list(catalog.techniques()) == sorted(catalog.techniques())


def test_a_plan_is_a_file_or_a_variant_of_one() -> None:
    found = {name.partition("/")[0].replace("-", "_") for name in catalog.plan_names()}
    assert found == _files("plans")
    assert len(catalog.plan_names()) == len(set(catalog.plan_names()))


def test_a_search_is_a_file() -> None:
    assert {name.replace("-", "_") for name in catalog.search_names()} == _files("searches")


def test_the_notebooks_recipe_has_every_technique_once() -> None:
    assert [t.name for t in catalog.notebook_recipe().techniques] == list(catalog.techniques())


@pytest.mark.parametrize(
    ("find", "near"), [(catalog.plan_module, "no plan 'tecniques'"), (catalog.search_module, "no search 'tecniques'")]
)
def test_an_unknown_name_is_refused(find, near: str) -> None:
    with pytest.raises(AblateError, match=near):
        find("tecniques")
