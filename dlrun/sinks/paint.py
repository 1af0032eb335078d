"""What all figures share: style, colours, and arrays made ready to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlrun.sinks.terminal import clean

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8a8a8a"
DOTS_PER_INCH = 160
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
