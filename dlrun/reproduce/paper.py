"""A figure that is filled from the top down, in inches: text wrapped to its width, axes, lines; its height is known when all is on it."""

from __future__ import annotations

import textwrap
from functools import cache
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from dlrun.sinks.paint import DOTS_PER_INCH, literal
from dlrun.sinks.terminal import clean

MARGIN = 0.08
LEADING = 1.3
"""Height of a line of text over the size of its letters."""
MONO = "monospace"


@cache
def _renderer() -> Any:
    return FigureCanvasAgg(Figure(dpi=DOTS_PER_INCH)).get_renderer()


def width_of(text: str, size: float, family: str = "sans-serif", weight: str = "normal") -> float:
    """Inches that one line of text needs."""
    wide, _, _ = _renderer().get_text_width_height_descent(clean(text), FontProperties(family=family, size=size, weight=weight), False)
    return float(wide) / DOTS_PER_INCH


def wrapped(text: str, room: float, size: float, family: str = "sans-serif") -> list[str]:
    """`text` in lines of at most `room` inches; a word that is longer is broken."""
    text = clean(" ".join(text.split()))
    count = max(10, int(room * 72 / (0.4 * size)))
    while True:
        lines = textwrap.wrap(text, count, break_on_hyphens=False) or [""]
        widest = max(width_of(line, size, family) for line in lines)
        if widest <= room or count <= 10:
            return lines
        count = max(10, min(count - 1, int(count * room / widest)))


class Paper:
    """`y` is where the next thing goes, in inches from the top."""

    def __init__(self, figure: Figure, wide: float, top: float) -> None:
        self.figure, self.wide, self.y = figure, wide, top
        self._axes: list[tuple[Any, float, float, float, float]] = []
        self._texts: list[tuple[float, float, str, dict[str, Any]]] = []
        self._lines: list[tuple[float, float, float, dict[str, Any]]] = []
        figure.set_size_inches(wide, 10.0)

    def axes(self, left: float, top: float, wide: float, high: float) -> Any:
        """New axes with their upper left corner `left` from the left and `top` from the top."""
        found = self.figure.add_axes((0.1, 0.1, 0.5, 0.5), label=str(len(self._axes)))
        self._axes.append((found, left, top, wide, high))
        return found

    def text(self, left: float, top: float, text: str, size: float, **style: Any) -> None:
        """One line of text, its upper left corner there."""
        self._texts.append((left, top, text, {"fontsize": size, "va": "top", **style}))

    def paragraph(self, text: str, size: float, left: float = MARGIN, **style: Any) -> None:
        """Wrapped text at `y`, which moves below it."""
        for line in wrapped(text, self.wide - left - MARGIN, size, style.get("family", "sans-serif")):
            self.text(left, self.y, line, size, **style)
            self.y += LEADING * size / 72

    def line(self, left: float, right: float, y: float, **style: Any) -> None:
        """A level line."""
        self._lines.append((left, right, y, style))

    def finish(self) -> None:
        """Give the figure its height and put everything in its place."""
        high = self.y + MARGIN
        self.figure.set_size_inches(self.wide, high)
        for axes, left, top, wide, tall in self._axes:
            axes.set_position((left / self.wide, 1 - (top + tall) / high, wide / self.wide, tall / high))
        for left, top, text, style in self._texts:
            self.figure.text(left / self.wide, 1 - top / high, literal(text), **style)
        for left, right, y, style in self._lines:
            ends = [left / self.wide, (left + right) / 2 / self.wide, right / self.wide]
            self.figure.add_artist(Line2D(ends, [1 - y / high] * 3, transform=self.figure.transFigure, markevery=[1], **style))
