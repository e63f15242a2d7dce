"""From a store with demonstrations, written as `ablate foundations` writes it, to their page, which is parsed."""

import dataclasses
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlparse

import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import LinkRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.pages import foundations_page
from cifar_ablations.reports.reading import load
from cifar_ablations.study.commands import demonstrate
from cifar_ablations.study.commands.demonstrate import run_foundations
from cifar_ablations.study.foundations import catalog, dropout, exercises, exploding, l2_regression, sgd_noise, variance
from cifar_ablations.study.foundations.demonstration import Demonstration, between, near
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store
from tests.reports.pages.test_plan_page import Parsed

pytestmark = pytest.mark.exhaustive

HOSTILE = "<script>alert('one & two')</script>"


def hostile():
    check = near(HOSTILE, 1, 1, 0, HOSTILE)
    frame = pd.DataFrame({"x": [1]})
    return Demonstration("hostile", HOSTILE, HOSTILE, HOSTILE, {"x": frame}, (check,), (LinkRecord(HOSTILE, HOSTILE),))


@pytest.fixture(scope="module")
def demonstrations():
    """All of them, the slow ones with fewer seeds, and one that this version has no figures for."""
    with pytest.MonkeyPatch.context() as patch:
        sizes = {
            l2_regression: {"SEEDS": 39},
            dropout: {"STEPS": 40},
            exploding: {"STACKS": 2},
            variance: {"SEEDS": 39, "STACKS": 2},
            sgd_noise: {"ORDERS": 20, "REPEATS": 2},
            exercises: {"REPEATS": 2},
        }
        for module, values in sizes.items():
            for name, value in values.items():
                patch.setattr(module, name, value)
        return {name: module.run(0) for name, module in catalog.demonstrations().items()} | {"hostile": hostile()}


@pytest.fixture(scope="module")
def home(demonstrations, tmp_path_factory):
    """A store with a finished run of all, and a newer one that was stopped after the first."""
    home = Home(put_fresh_store(tmp_path_factory.mktemp("foundations")))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        modules = {name: SimpleNamespace(run=lambda seed, one=one: one) for name, one in demonstrations.items()}
        patch.setattr(demonstrate, "demonstrations", lambda: modules)
        run_foundations(home, lambda text: None, 3)
        modules["dropout"] = SimpleNamespace(run=lambda seed: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_foundations(home, lambda text: None, 4)
        yield home


@pytest.fixture(scope="module")
def path(home, tmp_path_factory):
    (path,) = foundations_page.write_foundations_report(home.tracking_uri, tmp_path_factory.mktemp("reports") / "new")
    return path


@pytest.fixture(scope="module")
def parsed(path):
    return Parsed(path.read_text("utf-8"))


def test_every_chapter_and_statement_is_there(parsed, demonstrations):
    shown = " ".join(parsed.text.split())
    for number, one in enumerate(demonstrations.values(), start=1):
        assert f"{number}. {one.title}" in shown
        assert one.question in shown
        for check in one.checks:
            assert check.statement in shown
            assert check.source in shown
        for link in one.links:
            assert f"make ablate PLAN={link.plan}" in shown
    checks = [check for one in demonstrations.values() for check in one.checks]
    holding = sum(check.holds for check in checks)
    assert f"{holding} of {len(checks)} statements hold" in shown
    assert shown.count("does not hold") == len(checks) - holding
    assert "Why need the test images not be shuffled?" in shown


def test_the_finished_run_is_shown(parsed):
    assert "seed 3" in parsed.text
    assert "Finished" in parsed.text


def test_the_page_loads_nothing_and_runs_nothing(path, parsed):
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.all("script") == []
    assert HOSTILE not in path.read_text("utf-8")
    policy = next(a["content"] for a in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    for tag, attributes in parsed.elements:
        for name in {"src", "href", "xlink:href"} & set(attributes):
            address = attributes[name]
            assert address.startswith(("#", "data:")) or (tag == "a" and address.startswith("http://127.0.0.1:5000/"))
    anchors = {a["href"][1:] for a in parsed.all("a") if a.get("href", "").startswith("#")}
    assert anchors <= set(parsed.ids)


def test_every_figure_is_described(parsed):
    drawn = [a for a in parsed.all("div") if a.get("role") == "img"]
    assert len(drawn) == sum(len(module.PARTS) for module in foundations_page.figure_modules().values())
    assert len(parsed.all("svg")) == len(drawn)
    for one in drawn:
        assert one["aria-label"].endswith(".")
        assert "nan" not in one["aria-label"]


def test_the_same_store_gives_the_same_page(home, tmp_path, monkeypatch):
    """Without figures, each of which is drawn twice elsewhere."""
    monkeypatch.setattr(foundations_page, "figure_modules", dict)
    (first,) = foundations_page.write_foundations_report(home.tracking_uri, tmp_path / "one")
    (again,) = foundations_page.write_foundations_report(home.tracking_uri, tmp_path / "two")
    assert again.read_bytes() == first.read_bytes()
    (other,) = foundations_page.write_foundations_report(home.tracking_uri, tmp_path, ui_address="https://ui.example/")
    assert "https://ui.example/#/experiments/" in other.read_text("utf-8")
    with pytest.raises(ValueError, match="ui_address must begin with"):
        foundations_page.write_foundations_report(home.tracking_uri, tmp_path, ui_address="javascript:alert(1)")


def test_every_demonstration_has_figures_and_no_figure_is_left_over():
    modules = foundations_page.figure_modules()
    assert set(modules) == set(catalog.demonstrations())
    assert all(caption.endswith(".") for module in modules.values() for caption in module.PARTS.values())


@pytest.mark.parametrize("name", ["augmentation", "exercises", "l2_regression", "landscapes"])
def test_figures_are_drawn_from_what_comes_back(demonstrations, path, name, tmp_path):
    """Frames as CSV returns them, which must not be changed by what draws them."""
    page_text = path.read_text("utf-8")
    module, frames = foundations_page.figure_modules()[name], {}
    for frame, value in demonstrations[name].frames.items():
        value.to_csv(tmp_path / f"{frame}.csv", index=False)
        frames[frame] = pd.read_csv(tmp_path / f"{frame}.csv")
    before = {frame: value.copy() for frame, value in frames.items()}
    for part in module.PARTS:
        data = module.data(frames, part)
        assert not data.empty
        text = theme.svg(module.draw(data, part), f"{name}-{part}")
        ET.fromstring(text)
        assert text in page_text, "the page has the same figure, drawn before"
    for frame, value in frames.items():
        pd.testing.assert_frame_equal(value, before[frame])


def test_data_steps(demonstrations):
    modules = foundations_page.figure_modules()
    frames = demonstrations["l2_regression"].frames
    curves = modules["l2_regression"].data(frames, "curves")
    assert set(zip(curves["strength"], curves["start"], strict=True)) == {
        (0.0, "from torch's first weights"),
        (5.0, "going on, as in the notebook"),
    }
    assert sorted(curves["printed"].dropna()) == sorted(frames["printed"]["printed"])
    frames = demonstrations["variance"].frames
    depth = modules["variance"].data(frames, "depth").set_index(["initialisation", "relu", "depth"])
    own = frames["depth"].query("initialisation == 'He' and relu and depth == 30")["log10_variance"].mean()
    assert depth.loc[("He", True, 30), "log10_variance"] == pytest.approx(own)
    adam = modules["descent"].data(demonstrations["descent"].frames, "adam")
    assert set(adam[adam["kind"] == "path"]["figure"]) == {"adam", "adam_corrected"}


def test_words(demonstrations):
    modules = foundations_page.figure_modules()
    square = modules["descent"].data(demonstrations["descent"].frames, "square")
    assert "rate 1 at 1.50" in modules["descent"].describe(square, "square")
    flip = modules["augmentation"].data(demonstrations["augmentation"].frames, "flip")
    assert modules["augmentation"].describe(flip, "flip").endswith("whose first row is 4, 3, 2 and 1.")
    digits = modules["augmentation"].data(demonstrations["augmentation"].frames, "digits")
    assert "mirrored: 0 and 8 keep their label" in modules["augmentation"].describe(digits, "digits")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (-1.5, "−1.5"), (19736.84, "19,737"), (2.2e-16, "2.2 · 10⁻¹⁶"), (None, "–")],
)
def test_quantities(value, text):
    assert foundations_page.quantity(value) == text


def test_what_is_expected():
    shown = foundations_page.expected
    assert shown(near("", 2, 2, 0.5)) == ("2", "± 0.5")
    assert shown(near("", 2, 2, 0)) == ("2", "exactly")
    assert shown(between("", 1, 2, 0.5, None)) == ("at least 0.5", "")
    assert shown(between("", 1, 2, None, 3)) == ("at most 3", "")
    assert shown(between("", 1, 2, 0, 8)) == ("0 to 8", "")


def test_what_cannot_be_read_is_said_and_the_rest_is_shown(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    names = ["whole", "cut short", "no check", "no frame", "no table"]
    ones = {name: dataclasses.replace(hostile(), name=name, title=f"The {name} one") for name in names}
    modules = {name: SimpleNamespace(run=lambda seed, one=one: one) for name, one in ones.items()}
    monkeypatch.setattr(demonstrate, "demonstrations", lambda: modules)
    home = Home(put_fresh_store(tmp_path))
    run_foundations(home, lambda text: None, 3)
    folder = {
        run.data.tags[schema.DEMONSTRATION]: Path(unquote(urlparse(run.info.artifact_uri).path))
        for run in load.search(load.connect(home.tracking_uri), f"tags.{schema.KIND} = '{schema.KIND_FOUNDATION}'")
    }
    cut = folder["cut short"] / schema.DEMONSTRATION_FILE
    cut.write_text(cut.read_text()[:100])
    wrong = folder["no check"] / schema.DEMONSTRATION_FILE
    wrong.write_text(wrong.read_text().replace('"holds"', '"held"'))
    (folder["no frame"] / schema.FRAMES_FOLDER / "x.csv").unlink()
    (folder["no table"] / schema.FRAMES_FOLDER / "x.csv").write_text("")
    (page,) = foundations_page.write_foundations_report(home.tracking_uri, home.reports)
    text = " ".join(Parsed(page.read_text("utf-8")).text.split())
    assert "1. The whole one" in text
    assert "1 of 1 statements hold" in text
    assert "2. The" not in text
    for said in (
        "demonstration.json of “cut short” (run ",
        "was changed or damaged since it was logged",
        "demonstration.json of “no check” (run ",
        "the files of “no frame” (run ",
        "x.csv of “no table” (run ",
    ):
        assert said in text
    assert text.count("Not shown: ") == 4


def test_a_store_without_demonstrations(written, tmp_path):
    with pytest.raises(ValueError, match="there is no store"):
        foundations_page.write_foundations_report(f"sqlite:///{tmp_path / 'none.db'}", tmp_path)
    assert foundations_page.write_foundations_report(written.uri, tmp_path / "reports") == []
    assert not (tmp_path / "reports").exists()
