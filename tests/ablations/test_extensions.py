"""Extensions: which folders are asked, what is found in them, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_ablations.ablations import catalog, extensions, metrics
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.study.training import model
from tests.own_extension import FILES, METRIC, PLAN, TECHNIQUE, named, put_extension


@pytest.fixture
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with an extension, of another name in each test: Python keeps modules by their names."""
    return put_extension(tmp_path / f"lab_{request.node.name.partition('[')[0]}_{abs(hash(tmp_path))}")


@pytest.fixture
def known(lab: Path) -> Iterator[Path]:
    with named(lab):
        yield lab


def test_what_lies_in_a_named_folder_is_found_and_nothing_else(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.parent)
    before = (set(catalog.techniques()), set(catalog.plan_names()), set(catalog.search_names()), set(metrics.known()))
    with named(lab):
        assert set(catalog.techniques()) - before[0] == {"fade"}
        assert set(catalog.plan_names()) - before[1] == {"fading", "levels/fade"}
        assert set(catalog.search_names()) - before[2] == {"fading"}
        assert set(metrics.known()) - before[3] == {"surprise"}
        assert set(model.networks()) - set(model.NETWORKS) == {"patches"}
        assert catalog.origin(extensions.PLANS, "fading") == f"the folder {lab}"
        assert catalog.origin(extensions.PLANS, "techniques") == ""
        assert metrics.metric("surprise").title == "the surprise"
    assert set(catalog.techniques()) == before[0]
    assert "surprise" not in metrics.known()


def _all_of_it() -> None:
    catalog.techniques(), catalog.plan_names(), catalog.search_names(), metrics.known(), model.networks()
    catalog.plan_module("fading")


@pytest.mark.parametrize("way", ["variable", "pyproject", "of a parent"])
def test_the_environment_names_folders(lab: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = lab.parent / "deep" / "inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(lab.parent if way == "pyproject" else inside)
    if way == "variable":
        monkeypatch.setenv(extensions.VARIABLE, f"{lab}{os.pathsep}")
    else:
        (lab.parent / "pyproject.toml").write_text(f"[tool.ablate]\nextensions = [{json.dumps(lab.name)}]\n")
        (inside / "pyproject.toml").write_text('[project]\nname = "ablate-nothing"\n')
    assert [one.folder for one in extensions.known()] == [lab]
    with named(lab):
        assert len(extensions.known()) == 1, "named twice, it is there once"


def test_a_project_that_anybody_may_write_is_passed_over(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab.parent / "pyproject.toml").write_text(f"[tool.ablate]\nextensions = [{json.dumps(lab.name)}]\n")
    monkeypatch.chdir(lab.parent)
    lab.parent.chmod(0o777)
    assert extensions.known() == ()
    lab.parent.chmod(0o700)
    extensions._found.cache_clear()
    assert len(extensions.known()) == 1


BROKEN = "raise LookupError('no such thing')\n"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"techniques/fade.py": f"\n\n{BROKEN}"}, r"techniques/fade\.py, line 3: LookupError: no such thing"),
        (
            {"techniques/fade.py": "def f(:\n"},
            r"techniques/fade\.py, line 1: SyntaxError: invalid syntax \(of the folder",
        ),
        ({"techniques/fade.py": "import nowhere_at_all\n"}, r"line 1: ModuleNotFoundError: No module named 'nowhere"),
        ({"techniques/fade.py": "import sys; sys.exit(3)\n"}, "line 1: SystemExit: 3"),
        ({"techniques/fade.py": "x = 1\n"}, "must define one class derived from Technique, not 0"),
        ({"techniques/faded.py": TECHNIQUE}, "called 'fade', and must be called as the file is, 'faded'"),
        ({"techniques/fade.py": TECHNIQUE.replace("(frozen=True)", "")}, "must be a frozen dataclass"),
        ({"techniques/fade.py": TECHNIQUE.replace('"off"', '"of"')}, "needs 'off'"),
        ({"techniques/fade.py": TECHNIQUE + '    notebook = "on"\n'}, "notebook must be 'off'"),
        ({"techniques/fade.py": TECHNIQUE.replace('"share": 0.5', '"share": 5')}, r"at 'on': fade\.share must lie"),
        ({"techniques/dropout.py": TECHNIQUE}, "the suite has a technique 'dropout' of its own"),
        ({"techniques/model.py": TECHNIQUE}, "the suite has a technique 'model' of its own"),
        ({"techniques/my-fade.py": TECHNIQUE}, r"my-fade\.py: a file's name must be letters"),
        ({"plans/fading.py": "QUESTION = 'Why?'\n"}, "defines no plan; its kind needs QUESTION, plan"),
        ({"plans/techniques.py": PLAN}, "the suite has a plan 'techniques' of its own"),
        ({"searches/joint.py": ""}, "the suite has a search 'joint' of its own"),
        ({"metrics/surprise.py": "METRIC = 3\n"}, "METRIC must be a Metric, not int"),
        ({"metrics/epochs.py": METRIC}, "the suite has a metric 'epochs' of its own"),
        ({"metrics/surprise.py": METRIC.replace("ENDING", "CURVE")}, "must be an ENDING with a function of_training"),
        ({"networks/resnet9.py": ""}, "the suite has a network 'resnet9' of its own"),
        ({"networks/other.py": ""}, "defines no network"),
        ({}, "is no extension: it has none of techniques, plans"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(files: dict[str, str], said: str, lab: Path) -> None:
    folder = lab.parent / f"{lab.name}_broken"
    folder.mkdir()
    with named(put_extension(folder, files)), pytest.raises(AblateError, match=said) as raised:
        _all_of_it()
    assert "\n" not in str(raised.value)


def test_one_name_in_two_places_is_said(lab: Path) -> None:
    other = put_extension(lab.parent / "other", {"techniques/fade.py": TECHNIQUE})
    with (
        named(lab, other),
        pytest.raises(AblateError, match=r"technique 'fade' is there twice, in .*lab_.* and in .*oth"),
    ):
        catalog.techniques()
    alike = put_extension(lab.parent / "else" / lab.name, {"techniques/other.py": ""})
    with named(lab, alike), pytest.raises(AblateError, match="two extensions are called lab_"):
        catalog.techniques()
    with named(lab.parent / lab.name[:-1]), pytest.raises(AblateError, match=f"no folder .*did you mean {lab.name}"):
        catalog.techniques()


@pytest.mark.parametrize("text", ["[tool.ablate]\nextensions = 3\n", "[tool.ablate\n"])
def test_a_project_that_cannot_be_read_is_named(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AblateError, match=r"pyproject\.toml"):
        extensions.known()


def test_plans_that_use_nothing_of_an_extension_stay_the_same(lab: Path) -> None:
    size = profile("quick")

    def digests() -> dict[str, str]:
        recipe = size.apply(catalog.notebook_recipe())
        names = ("techniques", "levels/dropout", "factorial")
        return {name: catalog.make_plan(name, recipe, size, (0, 1)).digest() for name in names}

    before = digests()
    with named(lab):
        assert digests() == before
        recipe = size.apply(catalog.notebook_recipe().set("fade=on"))
        plan = catalog.make_plan("techniques", recipe, size, (0,))
        assert any(arm.recipe == recipe for arm in plan.arms)
        assert "without fading" in [arm.name for arm in plan.arms]


def test_the_code_of_a_training_is_that_of_what_it_uses(known: Path) -> None:
    recipe = catalog.notebook_recipe()
    (extension,) = extensions.known()
    assert extensions.code_of(recipe) == "", "a technique that is off is not used"
    assert extensions.code_of(recipe.set("fade=on")) == extension.code
    assert extensions.code_of(recipe.set("model.name=patches")) == extension.code
    assert extensions.code_of(recipe.set(f"model.name={known.name}.networks.patches:network")) == extension.code
    assert extensions.versions(extensions.code_of(recipe.set("fade=on"))) == {known.name: extension.digest}


def test_the_version_is_of_what_trains(known: Path) -> None:
    (extension,) = extensions.known()
    (known / "plans" / "more.py").write_text(PLAN)
    (known / ".hidden").mkdir()
    (known / ".hidden" / "scratch.py").write_text("x = 1")
    extension.check_unchanged()
    (known / "_shared.py").write_text("x = 1")
    with pytest.raises(AblateError, match="has changed since it was read"):
        extension.check_unchanged()
    with pytest.raises(AblateError, match="has changed since it was read"):
        extensions.code_here()


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("", "", True),
        ("", "lab 1", True),
        ("lab 1", "lab 1", True),
        ("lab 1", "lab 2", False),
        ("lab 1, other 5", "lab 1, third 9", True),
        ("lab 1, other 5", "lab 1, other 6", False),
    ],
)
def test_versions_agree_where_no_extension_has_two(one: str, other: str, agree: bool) -> None:
    assert extensions.agree(one, other) is agree
    assert extensions.agree(other, one) is agree


def test_files_of_an_extension_import_each_other(lab: Path) -> None:
    (lab / "_amount.py").write_text("HALF = 0.5\n")
    path = lab / "techniques" / "fade.py"
    path.write_text("from .._amount import HALF\n" + TECHNIQUE.replace('"share": 0.5', '"share": HALF'))
    with named(lab):
        assert catalog.techniques()["fade"].at("on").share == 0.5  # type: ignore[attr-defined]


IN_ANOTHER = """
import pickle, sys
from cifar_ablations.ablations import catalog, extensions
given, recipe = pickle.load(open(sys.argv[1], "rb"))
extensions.only(pickle.loads(given))
recipe = pickle.loads(recipe)
print(extensions.code_of(recipe), recipe.digest(), "fade" in catalog.techniques())
"""


@pytest.mark.exhaustive
def test_another_process_is_given_extensions_and_asks_nobody_else(known: Path, tmp_path: Path) -> None:
    recipe = catalog.notebook_recipe().set("fade=on")
    (tmp_path / "given").write_bytes(pickle.dumps((pickle.dumps(extensions.known()), pickle.dumps(recipe))))
    command = [sys.executable, "-c", IN_ANOTHER, str(tmp_path / "given")]
    environment = os.environ | {extensions.VARIABLE: "/nowhere/at/all"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.stdout.split() == [*extensions.code_of(recipe).split(), recipe.digest(), "True"], done.stderr


def test_an_installed_package_names_itself(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "site"
    package = put_extension(place / f"package_{lab.name}", {**FILES, "__init__.py": "LOADED = True\n"})
    about = place / "own_lab-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-lab\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{extensions.GROUP}]\nown_lab = {package.name}\n")
    monkeypatch.syspath_prepend(str(place))
    for cached in (extensions._installed, extensions._found):
        cached.cache_clear()
    try:
        (extension,) = extensions.known()
        assert (extension.name, extension.installed) == ("own_lab", True)
        assert catalog.techniques()["fade"].__module__ == f"{package.name}.techniques.fade"
        assert catalog.origin(extensions.TECHNIQUES, "fade") == f"the package {package.name}"
        assert extensions.code_of(catalog.notebook_recipe().set("fade=on")) == extension.code
    finally:
        monkeypatch.undo()
        for cached in (extensions._installed, extensions._found):
            cached.cache_clear()


def test_what_no_folder_or_package_holds_is_found_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_me.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    assert extensions.holding("beside_me.something") is None
    assert extensions.holding("os") is None or not extensions.holding("os").folder.is_relative_to(tmp_path)  # type: ignore[union-attr]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = extensions.holding("beside_me")
    assert found is not None
    assert found.folder == tmp_path / "beside_me.py"


def test_a_changed_extension_is_another_value(known: Path) -> None:
    (extension,) = extensions.known()
    assert replace(extension, digest="0" * 16).code != extension.code


def test_links_in_a_circle_are_no_folder(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with named(loop), pytest.raises(AblateError, match=r"no folder '.*loop' for an extension"):
        extensions.known()


def test_a_folder_of_nobody_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_EXTENSIONS", "~nobody-of-that-name")
    with pytest.raises(AblateError, match=r"no folder '.*~nobody-of-that-name' for an extension"):
        extensions.known()
