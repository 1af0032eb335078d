"""What augmentations do: a line an example, in the first column as it is, in the others as training sees it in its first steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from dlrun.batch import Batch
from dlrun.data import Data
from dlrun.errors import UsageError
from dlrun.look.pixels import Pixels, are_images, label
from dlrun.sinks.paint import COLOURS, GREY, as_array, grid, literal, place, save

EXAMPLES, DRAWS = 6, 6
MOST_VALUES = 4096
"""Values of a row that are drawn as a curve."""


def plain_batch(data: Data) -> Batch:
    """The first training micro-batch as it is before any augmentation."""
    bare = copy.copy(data)
    bare.augments = ()
    return bare.batches(0)[0]


def draw_augments(data: Data, slots: Mapping[str, str], folder: Path, title: str) -> dict[str, Path]:
    """One picture for each augmentation of `slots` (slot -> name) by itself, and of several one for all together (`augments.png`).

    The whole micro-batch is augmented, as in training (partners of a mixture are rows of it), and its first rows are shown: draw 1 is what
    step 1 sees, draw 2 what step 2 would make of the same rows, and so on. UsageError for rows that cannot be drawn.
    """
    plain = plain_batch(data)
    if not isinstance(plain["x"], Tensor) or not plain["x"].is_floating_point():
        raise UsageError("--out draws what augmentations do to rows of floating-point numbers; x here is none")
    plans: dict[str, int | None] = {f"augment-{slot}": number for number, slot in enumerate(slots)}
    plans |= {"augments": None} if len(slots) > 1 else {}
    paths = {}
    for name, only in plans.items():
        draws = [data.augmented(plain, step, only=only)[:EXAMPLES] for step in range(DRAWS)]
        what = "all augmentations in order" if only is None else list(slots.values())[only]
        paths[name] = folder / f"{name}.png"
        save(paths[name], partial(draw_draws, data=data, plain=plain, draws=draws, what=what), title)
    return paths


def draw_draws(figure: Figure, data: Data, plain: Batch, draws: Sequence[Batch], what: str) -> None:
    """The first rows of the micro-batch `plain`: images as a grid, points of a plane as a scatter, other rows as curves."""
    reference, plain = plain["x"], plain[: len(draws[0])]
    if are_images(reference):
        _images(figure, data, Pixels(data, reference), [plain, *draws], what)
    elif plain["x"].dim() == 2 and plain["x"].shape[1] == 2:
        _points(figure, plain, draws, what)
    else:
        _curves(figure, data, plain, draws, what)


def _images(figure: Figure, data: Data, pixels: Pixels, batches: Sequence[Batch], what: str) -> None:
    columns, rows = [pixels.show(batch["x"]) for batch in batches], range(len(batches[0]))
    texts = [[_label(batch, row, data) for batch in batches] for row in rows]
    cells = [column[row] for row in rows for column in columns]
    axes = grid(figure, cells, [text for line in texts for text in line], across=len(columns))
    axes.set_title(literal(f"{what}: first as it is, then {len(batches) - 1} draws ({pixels.words})"))


def _points(figure: Figure, plain: Batch, draws: Sequence[Batch], what: str) -> None:
    figure.set_size_inches(4.8, 4.9)
    axes = place(figure, 0.65, 0.5, 0.12, 0.55)
    here = as_array(plain["x"])
    for i, batch in enumerate(draws):
        points = as_array(batch["x"])
        for (x, y), (to_x, to_y) in zip(here, points):
            axes.plot([x, to_x], [y, to_y], color=GREY, lw=0.5, zorder=1)
        named = {"label": f"{len(draws)} draws"} if i == 0 else {}
        axes.scatter(points[:, 0], points[:, 1], s=14, color=COLOURS[1], alpha=0.6, linewidths=0, **named)
    axes.scatter(here[:, 0], here[:, 1], s=26, color="black", label="as it is", zorder=3)
    axes.set(xlabel="first coordinate", ylabel="second coordinate")
    axes.set_title(literal(f"{what}: {len(plain)} rows"))
    axes.legend(loc="upper right")


def _curves(figure: Figure, data: Data, plain: Batch, draws: Sequence[Batch], what: str) -> None:
    rows, high = len(plain), 1.0
    figure.set_size_inches(6.4, rows * high + 1.0)
    for row in range(rows):
        axes = place(figure, 0.6, 0.45 + (rows - 1 - row) * high, 0.1, 0.62 + row * high)
        for batch in draws:
            axes.plot(as_array(batch["x"][row]).reshape(-1)[:MOST_VALUES], color=COLOURS[1], lw=0.6, alpha=0.6)
        axes.plot(as_array(plain["x"][row]).reshape(-1)[:MOST_VALUES], color="black", lw=1.0)
        axes.set_xticks([]) if row < rows - 1 else axes.set_xlabel("value of the row")
        axes.text(1, 1, literal(_label(plain, row, data).replace("\n", " + ")), transform=axes.transAxes, ha="right", va="top", fontsize=7)
        if row == 0:
            axes.set_title(literal(f"{what}: black as it is, orange {len(draws)} draws"))


def _label(batch: Batch, row: int, data: Data) -> str:
    y = batch.get("y")
    return label(y[row], data.spec.names) if isinstance(y, Tensor) else ""
