"""The style of all figures, and their export as reproducible SVG that fits into a page, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import numpy as np

from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# Each colour also names a CSS variable of the page (--figure-ink, …), which sets it anew for a dark background.
# The hues are Okabe and Ito's, safe for colour-blind eyes, darkened until text in them can be read.
COLOURS = {
    "ink": "#1c2128",
    "muted": "#5c6673",
    "grid": "#dfe3e8",
    "treatment": "#0072b2",
    "control": "#b04e0a",
    "accent": "#96407a",
    "second": "#00745a",
    "band": "#cfe6dc",
    "paper": "#fefefe",
}
INK, MUTED, GRID, BAND, PAPER = (COLOURS[name] for name in ("ink", "muted", "grid", "band", "paper"))
TREATMENT, CONTROL = COLOURS["treatment"], COLOURS["control"]
"""With a technique, and without it. Nothing else has these colours."""
ACCENT, SECOND = COLOURS["accent"], COLOURS["second"]
"""What a figure wants to be seen, and what else it tells apart by colour."""

WIDTH = 9.4
"""Inches, of a figure that is as wide as the page."""

TARGET = "row-"
"""How the gid begins of what a person can point at in a page."""

CELLS: dict[str, Any] = {
    "fmt": "",
    "cbar": False,
    "linewidths": 1.5,
    "linecolor": PAPER,
    "annot_kws": {"color": INK, "fontsize": 9},
}
"""Of a heat map with a text in each cell."""

SVG_DPI = 72
"""In SVG an inch is always as long, and text is measured accordingly."""
MOST_ELEMENTS, MANY, IMAGE_DPI = 5_000, 200, 200
"""Points and lines of a figure that are elements of its SVG; of one that has more, those that are MANY of a kind are
drawn as an image, since each takes a hundred bytes and more of a page; and how finely."""

SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "figure.constrained_layout.h_pad": 0.07,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 10,
    "ytick.left": False,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    # Names of classes and arms are anybody's: "a$_$" is one, and no mathematics.
    "text.parse_math": False,
    "text.usetex": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """The theme's settings, for the time of drawing; nothing outside is changed."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context(sns.axes_style("ticks", rc=None) | SETTINGS):
        yield


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure, in inches, known to no global state. Call it and draw on it within `styled()`."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", **options)
    FigureCanvasSVG(figure)
    return figure


def shades(high: str, low: str = "") -> Colormap:
    """From a colour at half its strength, for the lowest value, over nothing to another one; or from nothing.

    More strength would take the contrast from a number in the cell.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    stops = [(0.0, to_rgba(high, 0)), (1.0, to_rgba(high, 0.5))]
    if low:
        below = 0.5 - 1e-6  # matplotlib 3.11.0 wants each place beyond the one before
        stops = [(0.0, to_rgba(low, 0.5)), (below, to_rgba(low, 0)), (0.5, to_rgba(high, 0)), (1.0, to_rgba(high, 0.5))]
    return LinearSegmentedColormap.from_list("shades", stops)


def listed(axes: Axes, labels: Sequence[str]) -> None:
    """A line per label from the top down, at 0, 1, …, with the label at its left."""
    axes.set_yticks(range(len(labels)), [phrases.sentence_case(label.removeprefix("the ")) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)


def upright(axes: Axes) -> None:
    """An axes whose values are read at its left."""
    axes.grid(True, axis="y")
    axes.tick_params(axis="y", labelsize=9, labelcolor=MUTED)


def note(axes: Axes, text: str) -> None:
    """A sentence in place of a plot that has nothing to show."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=axes.transAxes)


def nothing(text: str, width: float = WIDTH) -> Figure:
    """A figure that says why there is none. Call it within `styled()`."""
    figure = new_figure(width, 1.0)
    note(figure.add_subplot(), text)
    return figure


def svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element: text as text, ids that begin with `name`, colours as variables, no date.

    What has a gid that begins with TARGET can be reached by the keyboard, and its label is read out.
    """
    import matplotlib as mpl

    assert re.fullmatch(r"[A-Za-z0-9_-]+", name), f"{name!r} cannot begin an id"
    buffer = io.StringIO()
    with styled(), mpl.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        _lay_out(without_mathematics(figure))
        many = _many_as_images(figure)
        figure.savefig(buffer, format="svg", metadata=nothing, dpi=IMAGE_DPI if many else "figure")
    text = NOT_OF_XML.sub("�", buffer.getvalue())
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The page styles every <svg> at once; a <style> of matplotlib's would reach out of its own figure.
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'xlink:href="#{name}-')
    # matplotlib measures with its own font; the page sets its own, which is narrower.
    text = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;\"]*", _font, text)
    for variable, colour in COLOURS.items():
        text = text.replace(colour, f"var(--figure-{variable}, {colour})")
    if many:  # a page turns its colours around where it is dark
        text = text.replace("<image ", '<image class="of-many" ')
    for target in figure.findobj(lambda artist: (artist.get_gid() or "").startswith(TARGET), include_self=False):
        place = f'<g id="{name}-{target.get_gid()}"'
        text = text.replace(place, f'{place} tabindex="0" role="img" aria-label={quoteattr(str(target.get_label()))}')
    return text


def _many_as_images(figure: Figure) -> bool:
    """Have what there is very many of drawn as an image; whether there is. What can be pointed at stays as it is."""
    from matplotlib.collections import LineCollection, PathCollection
    from matplotlib.lines import Line2D

    def count(artist: Artist) -> int:
        if isinstance(artist, PathCollection):
            return len(np.asarray(artist.get_offsets()))
        if isinstance(artist, LineCollection):
            return len(artist.get_paths())
        return 1

    kinds: list[tuple[int, list[Artist]]] = []
    for axes in figure.axes:
        free = [artist for artist in (*axes.lines, *axes.collections) if artist.get_gid() is None]
        plain = [artist for artist in free if isinstance(artist, Line2D) and artist.get_marker() == "None"]
        marked = [artist for artist in free if isinstance(artist, Line2D) and artist.get_marker() != "None"]
        kinds.append((len(plain), [*plain]))
        kinds += [(np.size(line.get_xdata()), [line]) for line in marked]
        kinds += [(count(artist), [artist]) for artist in free if not isinstance(artist, Line2D)]
    if sum(number for number, _ in kinds) <= MOST_ELEMENTS:
        return False
    for artist in (artist for number, artists in kinds if number >= MANY for artist in artists):
        artist.set_rasterized(True)
    return True


def without_mathematics(figure: Figure) -> Figure:
    """The figure with powers at its logarithmic axes written as text, 10⁻³, which matplotlib writes as mathematics."""
    from matplotlib.ticker import Formatter, LogFormatterMathtext

    class Plain(Formatter):
        def __init__(self, of: Formatter):
            self._of = of

        def set_locs(self, locs: list[float]) -> None:
            super().set_locs(locs)
            self._of.set_locs(locs)

        def __call__(self, x: float, pos: int | None = None) -> str:
            text = self._of(x, pos).removeprefix(r"$\mathdefault{").removesuffix("}$").replace(r"\times", "×")
            return re.sub(r"\^\{([^}]*)\}", lambda power: power[1].translate(RAISED), text)

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_formatter(), LogFormatterMathtext):
            axis.set_major_formatter(Plain(axis.get_major_formatter()))
        if isinstance(axis.get_minor_formatter(), LogFormatterMathtext):
            axis.set_minor_formatter(Plain(axis.get_minor_formatter()))
    return figure


RAISED = str.maketrans("-−0123456789", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOT_OF_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
"""Signs that no SVG may hold, and those that a terminal would obey."""


def _lay_out(figure: Figure) -> None:
    """Have the parts of a figure take their places, and leave no engine: with one, saving draws everything twice."""
    engine = figure.get_layout_engine()
    if engine is not None:
        figure.dpi = SVG_DPI
        engine.execute(figure)
        figure.set_layout_engine(None)


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match[1]}; " if match[1] else ""
    return f"{weight}font-size: {match[2]}px; font-family: inherit"
