"""What charts have in common: the paper and the ink, the axes, the SVG text and the words."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, unescape

from audit_dagster.escaping import visible
from audit_dagster.render import number
from audit_dagster.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PAPER = "#1a1b1c", "#fefeff"  # nothing else has these two, so that `inline` finds them
FAINT = 0.25
_TITLE = 0.25  # inches
_LONGEST_NAME = 30
_NO_XML = re.compile("[\ufffe\uffff]")
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "hatch.linewidth": 0.9,
    "svg.fonttype": "none",
}


@cache
def _find_place_for_fonts() -> None:
    """matplotlib keeps a list of them below the home, and complains where it cannot."""
    home = os.path.expanduser("~")  # noqa: PTH111 - the other one raises where there is none
    if not os.access(home, os.W_OK):
        os.environ.setdefault("MPLCONFIGDIR", str(Settings.load().state_dir / "matplotlib"))


@contextmanager
def drawing(width: float, height: float, salt: str) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes, in inches without its title. `salt` keeps the ids of a page's charts apart."""
    _find_place_for_fonts()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's fonts are asked, not these
        matplotlib.rcdefaults()  # a person's matplotlibrc is for that person's charts
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": f"audit-dagster {salt}"})
        figure = Figure(figsize=(width, height + _TITLE), layout="constrained")
        yield figure, figure.add_subplot()


def as_svg(figure: Figure, title: str, words: str) -> str:
    """The figure's text, with its title above it, and both with the numbers in words for who does not see it."""
    from io import StringIO

    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.axes[0].set_title(title, parse_math=False)
    made = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure)
    layout = figure.get_layout_engine()
    if layout:  # here, since savefig would draw it all once more for that
        layout.execute(figure)
        figure.set_layout_engine("none")
    figure.savefig(made, format="svg", metadata=nothing)
    text = made.getvalue()
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
    text = re.sub(r"<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", text, count=1)  # its rule is for all of a page
    head = f'role="img" fill="{INK}" stroke-linejoin="round" stroke-linecap="butt"'
    alternative = f"<title>{escape(title)}</title>\n <desc>{escape(words)}</desc>"
    start = text.index(">") + 1
    return f'<?xml version="1.0" encoding="utf-8"?>\n<svg {head}{text[4 : start - 1]}>\n {alternative}{text[start:]}'


def words_of(svg: str) -> str:
    """The words of a chart that `as_svg` made."""
    return unescape(svg.partition("<desc>")[2].partition("</desc>")[0])


def label(name: str) -> str:
    """A tool's name as a chart shows it, at most thirty letters."""
    shown = _NO_XML.sub(lambda match: f"<U+{ord(match[0]):04X}>", visible(name)) or "(unnamed)"
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME - 1]}…"


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """A name at each height from 0 up; where there is none, that."""
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if not names:
        axes.text(0.5, 0.5, "no operations", transform=axes.transAxes, ha="center", va="center")


def count_axis(axes: Axes, most: int) -> None:
    """Operations on the y axis, from none to a little above `most`."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_ylim(0, max(most * 1.15, 1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylabel("operations")


def time_axis(axes: Axes, least: float, most: float) -> None:
    """Seconds on a logarithmic x axis, marked as people say them."""
    from matplotlib.ticker import NullLocator

    marks = [0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 360_000]
    names = ["1 ms", "10 ms", "0.1 s", "1 s", "10 s", "1 min", "10 min", "1 h", "10 h", "100 h"]
    low = max((mark for mark in marks if mark <= least * 0.9), default=0.0009)
    high = min((mark for mark in marks if mark >= most * 1.1), default=most * 1.2)
    shown = [(mark, name) for mark, name in zip(marks, names, strict=True) if low <= mark <= high]
    axes.set_xlim(low * 0.95, high * 1.05)
    axes.set_xticks([mark for mark, _ in shown], [name for _, name in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color=INK, alpha=FAINT, linewidth=0.5)


def rgb(colour: str) -> tuple[float, float, float]:
    """#ff0000 becomes (1.0, 0.0, 0.0)."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red / 255, green / 255, blue / 255


def counted(what: str, operations: int, failed: int) -> str:
    """decode: 12 operations, 1 failed"""
    return f"{what}: {number(operations)} operations, {number(failed)} failed"


def sentence(start: str, parts: Sequence[str]) -> str:
    """The start, and the parts between semicolons."""
    return f"{start}. {'; '.join(parts)}." if parts else f"{start}."
