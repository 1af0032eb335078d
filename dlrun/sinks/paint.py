"""What all figures share: style, colours, arrays made ready to be drawn, a grid of images, a table, and the way to disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from dlrun.sinks.terminal import clean, clip

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8a8a8a"
DOTS_PER_INCH = 160
LEAST_WIDTH = 4.2
"""Inches: room for a title."""
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "savefig.facecolor": "white",
    "path.simplify_threshold": 0.5,
}

Array = np.ndarray[Any, Any]


def literal(text: object) -> str:
    """`text` as matplotlib draws it letter by letter: `$` starts no formula, control codes are visible; line breaks stay."""
    return "\n".join(clean(line).replace("$", r"\$") for line in str(text).split("\n"))


def place(figure: Any, left: float, bottom: float, right: float, top: float) -> Any:
    """Axes with margins in inches: fixed ones, for matplotlib's layout engines take longer than the drawing."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / high, (wide - left - right) / wide, (high - bottom - top) / high))


def as_array(x: Any) -> Array:
    """A tensor (on any device, of any type) or array-like as a numpy array of numbers in double precision."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().double().numpy()
    return np.asarray(x, dtype=np.float64)


def mosaic(images: Sequence[Array], across: int, gap: float) -> tuple[Array, list[tuple[float, float]]]:
    """Images [H, W, C] of one shape in one picture, white between them, `gap` of their width above each; and their upper left corners."""
    height, width, channels = images[0].shape
    scale = max(1, 48 // width)  # small images are enlarged, so that gaps need not be whole pixels of theirs
    above, beside = int(np.ceil(gap * width * scale)), max(1, round(0.06 * width * scale))
    high, wide = height * scale, width * scale
    down = -(-len(images) // across)
    picture = np.ones((down * (high + above), across * (wide + beside), channels))
    places = []
    for i, image in enumerate(images):
        top, left = i // across * (high + above) + above, i % across * (wide + beside)
        picture[top : top + high, left : left + wide] = image.repeat(scale, 0).repeat(scale, 1)
        places.append((left - 0.5, top - 0.5))
    return (picture[..., 0] if channels == 1 else picture), places


def grid(figure: Figure, images: Sequence[Array], texts: Sequence[str], across: int | None = None, inches: float | None = None) -> Any:
    """One axes with all images [H, W, 1 or 3] in 0..1 in a grid, each with its text above it; `across` a line, else in a square; each
    `inches` wide."""
    across = across or max(int(np.ceil(np.sqrt(len(images)))), min(len(images), 4))
    lines = max((text.count("\n") + 1 for text in texts), default=0)
    cell = inches or (1.25 if texts else 0.95)
    picture, places = mosaic(images, across, 0.13 * lines / cell + 0.05)
    width = max(across * cell + 0.15, LEAST_WIDTH)
    figure.set_size_inches(width, across * cell * picture.shape[0] / picture.shape[1] + 0.6)
    axes = place(figure, 0.08, 0.07, width - across * cell - 0.08, 0.53)
    axes.imshow(picture, cmap="gray" if picture.ndim == 2 else None, vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")
    for text, (left, top) in zip(texts, places):
        axes.text(left, top, literal(text), ha="left", va="bottom", fontsize=7, linespacing=1.05)
    return axes


def table(figure: Figure, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """The whole figure as a table under a title."""
    cells = [[literal(clip(cell, 40)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) + 2 for i in range(len(columns))]
    figure.set_size_inches(max(0.085 * sum(widths) + 0.16, LEAST_WIDTH), 0.2 * (len(rows) + 1) + 0.6)
    axes = place(figure, 0.08, 0.1, 0.08, 0.5)
    axes.axis("off")
    axes.set_title(title)
    shares = [width / sum(widths) for width in widths]
    drawn = axes.table(cells, colLabels=list(columns), colWidths=shares, cellLoc="left", colLoc="left", bbox=[0, 0, 1, 1])
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    for (row, _), cell in drawn.get_celld().items():
        cell.visible_edges = "B"
        cell.set_edgecolor("0.3" if row == 0 else "0.85")


def _write(figure: Figure, path: Path) -> None:
    """The PNG, whole: two drivers of a study may draw it in the same moment."""
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        figure.savefig(part, dpi=DOTS_PER_INCH, format="png")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def save(path: Path, plan: Callable[[Figure], None], title: str) -> Path | None:
    """Let `plan` draw one figure and write it as the PNG `path`, with `title` at the top; None where there was nothing to draw."""
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # a name in a script the font lacks is drawn as boxes
        figure = Figure()
        plan(figure)
        if not figure.axes:
            return None
        wide, high = figure.get_size_inches()
        figure.text(0.08 / wide, 1 - 0.08 / high, literal(title), ha="left", va="top", fontsize=10, fontweight="bold")
        _write(figure, path)
    return path
