"""How figures become SVG: laid out once, drawn once, in a style that is all their own."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from cifar_ablations.reports.figures import theme


def _figure() -> Figure:
    """Panels, a legend, a colour bar and long labels: what a layout has to make room for."""
    with theme.styled():
        figure = theme.new_figure(6, 4)
        for panel, axes in enumerate(figure.subplots(2, 2).flat):
            axes.plot([0, 1, 2], [panel, 1e6, 3], label="a line of panel $x^2$")
            axes.set(title=f"panel {panel}", xlabel="epochs", ylabel="loss")
        axes.legend(loc="best")
        figure.colorbar(axes.scatter([0, 1], [0, 1], c=[0, 1]), ax=axes)
        figure.supylabel("a label of all panels")
    return figure


def test_a_figure_that_is_drawn_once_is_the_one_that_matplotlib_draws_in_two_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once = theme.svg(_figure(), "a")
    monkeypatch.setattr(theme, "_lay_out", lambda figure: None)
    assert theme.svg(_figure(), "a") == once


def test_a_figure_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda figure, renderer: drawn.append(1) or draw(figure, renderer))
    theme.svg(_figure(), "a")
    assert drawn == [1]


def test_a_persons_own_settings_of_matplotlib_do_not_show() -> None:
    plain = theme.svg(_figure(), "a")
    own = {"xtick.direction": "in", "ytick.right": True, "lines.solid_capstyle": "butt", "patch.edgecolor": "red"}
    with mpl.rc_context(own):
        assert theme.svg(_figure(), "a") == plain


def test_ids_begin_with_the_figures_name_and_nothing_reaches_out_of_it() -> None:
    text = theme.svg(_figure(), "one")
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert ids
    assert all(name.startswith("one-") for name in ids)
    assert "<style" not in text
    assert "<metadata" not in text


@pytest.mark.parametrize("kind", ["points", "marks", "lines", "pairs"])
@pytest.mark.parametrize("many", [False, True])
def test_very_many_points_are_an_image_and_few_are_not(kind: str, many: bool) -> None:
    """A page of 100,000 runs had 43 MB: every point was an element."""
    count = theme.MOST_ELEMENTS + (1 if many else -3)
    xs = list(range(count))
    with theme.styled():
        figure = theme.new_figure(4, 3)
        axes = figure.add_subplot()
        axes.plot(range(10_000), range(10_000))  # a line is one element, whatever its length
        if kind == "points":
            axes.scatter(xs, xs)
        elif kind == "marks":
            axes.plot(xs, xs, "o", ls="")
        elif kind == "lines":
            axes.vlines(xs, 0, 10_000)
        else:
            axes.plot([xs, xs], [[0] * count, [10_000] * count], color="black")
    text = theme.svg(figure, "a")
    assert text.count('<image class="of-many"') == text.count("<image") == many
    assert (len(re.findall("<(?:use|path)", text)) < 100) == many


def test_cells_and_what_can_be_pointed_at_are_no_image() -> None:
    xs = list(range(theme.MOST_ELEMENTS + 1))
    with theme.styled():
        figure = theme.new_figure(4, 3)
        axes = figure.add_subplot()
        axes.pcolormesh([[1.0] * 100] * 100)
        assert "<image" not in theme.svg(figure, "a")
        axes.plot(xs, xs, "o", ls="", gid="seeds-0")
        axes.scatter(xs, xs)
    text = theme.svg(figure, "a")
    assert text.count("<image") == 1
    assert len(re.findall("<use", text)) > theme.MOST_ELEMENTS


def test_shades_are_of_one_colour_on_each_side_and_leave_a_number_to_be_read() -> None:
    shade = theme.shades(theme.SECOND, theme.ACCENT)
    for value, colour, strength in ((0.0, theme.ACCENT, 0.5), (0.25, theme.ACCENT, 0.25), (1.0, theme.SECOND, 0.5)):
        assert mpl.colors.to_hex(shade(value)) == colour
        assert shade(value)[3] == pytest.approx(strength, abs=0.01)
    assert shade(0.5)[3] == pytest.approx(0, abs=0.01)
    assert theme.shades(theme.ACCENT)(0.0)[3] == 0


def test_names_are_listed_from_the_top_down() -> None:
    with theme.styled():
        axes = theme.new_figure(4, 2).add_subplot()
        theme.listed(axes, ["the first", "second"])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["First", "Second"]
    assert axes.get_yticks().tolist() == [0, 1]
    assert axes.yaxis_inverted()


NAMES = ["a$_$", "$x^2$", r"\$", "$\\frac{1}$", "50 % & <b>", "{", "a_b", "\x1b[31m", "]]>", "<script>", "'\""]


@pytest.mark.filterwarnings("ignore:Glyph")  # of a sign that no font has
@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_mathematics_or_breaks_a_figure(name: str) -> None:
    """Of a class called a$_$ no page could be written, after all training."""
    with theme.styled():
        figure = theme.new_figure(6, 4)
        axes = figure.add_subplot()
        axes.plot([0, 1], [1, 2], label=name)
        axes.set(title=name, xlabel=name)
        axes.set_yticks([1, 2], [name, "b"])
        axes.annotate(name, (0, 1))
        axes.legend()
        figure.suptitle(name)
    text = theme.svg(figure, "a")
    said = ["".join(one.itertext()) for one in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert said.count(name.replace("\x1b", "\ufffd")) == 6
    assert "<script" not in text


def test_powers_at_a_logarithmic_axis_are_text() -> None:
    with theme.styled():
        axes = theme.new_figure(6, 4).add_subplot()
        axes.loglog([1e-3, 1e2], [1, 8])
        axes.set_yscale("log", base=2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(type(axis.get_major_formatter())(minor_thresholds=(9, 9)))
    text = theme.svg(axes.figure, "a")
    assert "10⁻³" in text
    assert "2³" in text
    assert "2×10" in text
    assert "mathdefault" not in text
    assert "$" not in text
