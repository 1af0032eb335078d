"""Figures of a finished run as figures/*.png: curves, confusion matrix, worst errors, and what its task shows of itself.

Drawn from metrics.jsonl after the result is safe. matplotlib is imported by this module and its helpers alone, without pyplot: no global
state, no display. Colours are those of Okabe and Ito 2008, "Color Universal Design", told apart with any colour vision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dlrun.rundir import safe_name
from dlrun.sinks.confusion import draw_confusion
from dlrun.sinks.curves import draw_curves
from dlrun.sinks.paint import COLOURS, GREY, Array, as_array, grid, literal, place, save, table
from dlrun.sinks.terminal import clip, number
from dlrun.types import Look

MOST_ERRORS = 16
MOST_IMAGES = 64
MOST_TEXT_LINES, TEXT_COLUMNS = 40, 100

Draw = Callable[[Figure], None]


def draw(
    run_dir: Path,
    looks: Mapping[str, Look],
    confusion: Any = None,
    names: Sequence[str] = (),
    errors: Sequence[Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Draw all that there is to draw; returns the files written.

    `confusion` holds counts [C true, C predicted], `names` the classes. An error has `x` (the row as the network got it, or None), `true`,
    `predicted`, `probability` of what was predicted, and `row` in its split. ValueError for a look of a kind that nobody can draw, once all
    else is drawn.
    """
    title = "/".join(Path(run_dir).absolute().parts[-2:])
    plans: dict[str, Draw] = {"curves": partial(draw_curves, run_dir=Path(run_dir))}
    if confusion is not None:
        plans["confusion"] = partial(draw_confusion, counts=as_array(confusion), names=names)
    if errors:
        plans["worst-errors"] = partial(draw_errors, errors=errors[:MOST_ERRORS], names=names)
    plans |= {safe_name(name): partial(KINDS[look.kind], look=look) for name, look in looks.items() if look.kind in KINDS}
    folder = Path(run_dir) / "figures"
    folder.mkdir(exist_ok=True)
    paths = [path for name, plan in plans.items() if (path := save(folder / f"{name}.png", plan, title))]
    unknown = [f"{name} ({look.kind})" for name, look in looks.items() if look.kind not in KINDS]
    if unknown:
        raise ValueError(f"cannot draw {', '.join(unknown)}: a Look is one of {', '.join(KINDS)}")
    return paths


def draw_look(path: Path, look: Look, title: str) -> Path:
    """Draw one look as the PNG `path`; ValueError for a look of a kind that nobody can draw."""
    if look.kind not in KINDS:
        raise ValueError(f"cannot draw {look.kind}: a Look is one of {', '.join(KINDS)}")
    save(path, partial(KINDS[look.kind], look=look), title)
    return path


def draw_errors(figure: Figure, errors: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """The rows a classifier was most sure of and wrong about: as images where they are, else as a table."""

    def label(number_: int) -> str:
        return str(names[number_]) if number_ < len(names) else str(number_)

    images = [_image(error.get("x")) for error in errors]
    if all(image is not None for image in images) and len({image.shape for image in images if image is not None}) == 1:
        texts = [
            f"true {clip(label(e['true']), 12)}\npred. {clip(label(e['predicted']), 12)}  {float(e['probability']):.2f}" for e in errors
        ]
        axes = grid(figure, [image for image in images if image is not None], texts)
        axes.set_title("worst errors: true class, predicted class and its probability")
        return
    labels = [(label(e["true"]), label(e["predicted"])) for e in errors]
    numbers = [(number(float(e["probability"]), 3), _values(e.get("x"))) for e in errors]
    rows = [[str(e.get("row", "")), *words, *values] for e, words, values in zip(errors, labels, numbers)]
    table(figure, ["row", "true", "predicted", "probability", "input"], rows, "worst errors")


def _image(x: Any) -> Array | None:
    """`x` as [H, W, 1 or 3] in 0..1, stretched to its own range; None if it is no image."""
    if x is None:
        return None
    array = as_array(x)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] not in (1, 3) or min(array.shape[1:]) < 4:
        return None
    finite = array[np.isfinite(array)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    stretched: Array = np.clip(np.nan_to_num((array - low) / (high - low if high > low else 1.0)), 0, 1)
    return stretched.transpose(1, 2, 0)


def _values(x: Any) -> str:
    flat = as_array(x).reshape(-1) if x is not None else np.zeros(0)
    return ", ".join(number(float(value), 3) for value in flat[:6]) + (" …" if flat.size > 6 else "")


def draw_images(figure: Figure, look: Look) -> None:
    """`data`: images [N, C, H, W] or [N, H, W], or {"images": them, "captions": texts, "across": count in a line, "inches": width}."""
    data = look.data if isinstance(look.data, Mapping) else {"images": look.data}
    captions = [clip(str(text), 18) for text in data.get("captions", ())][:MOST_IMAGES]
    images = [_image(image) for image in as_array(data["images"])[:MOST_IMAGES]]
    if not images or any(image is None for image in images):
        shape = as_array(data["images"]).shape
        raise ValueError(f"look {look.title!r}: images are [N, C, H, W] with C = 1 or 3, or [N, H, W]; found {shape}")
    axes = grid(figure, [image for image in images if image is not None], captions, data.get("across"), data.get("inches"))
    axes.set_title(literal(look.title))


def draw_scatter(figure: Figure, look: Look) -> None:
    """`data`: points [N, 2], or several under their names; of more than two columns the first two are shown, and that is said."""
    groups = look.data if isinstance(look.data, Mapping) else {"": look.data}
    figure.set_size_inches(4.8, 4.9)
    axes = place(figure, 0.65, 0.5, 0.12, 0.55)
    cut = False
    for (name, points), colour in zip(groups.items(), [GREY, *COLOURS] if len(groups) > 1 else COLOURS):
        array = as_array(points).reshape(len(points), -1)
        cut |= array.shape[1] > 2
        second = array[:, 1] if array.shape[1] > 1 else np.zeros(len(array))
        size = float(np.clip(4000 / max(len(array), 1), 3, 18))
        axes.scatter(array[:, 0], second, s=size, color=colour, alpha=0.6, linewidths=0, label=literal(f"{name} ({len(array)})"))
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel="first coordinate", ylabel="second coordinate")
    axes.set_title(literal(look.title + (" (first 2 coordinates)" if cut else "")))
    if len(groups) > 1:
        axes.legend(loc="upper right", markerscale=2)


def draw_lines(figure: Figure, look: Look) -> None:
    """`data`: name -> y, or name -> (x, y); the keys `xlabel`, `ylabel` name the axes."""
    data = dict(look.data)
    labels = {key: literal(str(data.pop(key, ""))) for key in ("xlabel", "ylabel")}
    figure.set_size_inches(4.8, 3.5)
    axes, counted = place(figure, 0.7, 0.5, 0.12, 0.55), True
    for i, (name, curve) in enumerate(data.items()):
        x, y = (as_array(curve[0]), as_array(curve[1])) if isinstance(curve, tuple) else (np.arange(len(curve)), as_array(curve))
        axes.plot(x, y, color=COLOURS[i % len(COLOURS)], ls=("-", "--", ":")[i // len(COLOURS) % 3], label=literal(name))
        counted = counted and np.issubdtype(x.dtype, np.integer)
    if counted:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(**labels)
    axes.set_title(literal(look.title))
    if len(data) > 1:
        axes.legend()


def draw_text(figure: Figure, look: Look) -> None:
    """`data`: a text or a list of texts; at most `MOST_TEXT_LINES` lines of `TEXT_COLUMNS` columns are shown."""
    texts = [look.data] if isinstance(look.data, str) else [str(text) for text in look.data]
    lines = [line[i : i + TEXT_COLUMNS] for text in texts for line in text.split("\n") for i in range(0, max(len(line), 1), TEXT_COLUMNS)]
    lines = [literal(line) for line in lines]
    shown = lines if len(lines) <= MOST_TEXT_LINES else [*lines[: MOST_TEXT_LINES - 1], f"… {len(lines) - MOST_TEXT_LINES + 1} more lines"]
    figure.set_size_inches(7.4, 0.137 * len(shown) + 0.65)
    axes = place(figure, 0.08, 0.1, 0.08, 0.55)
    axes.axis("off")
    axes.set_title(literal(look.title))
    axes.text(0, 1, "\n".join(shown), family="monospace", fontsize=8, va="top", ha="left", transform=axes.transAxes)


KINDS: dict[str, Callable[..., None]] = {"images": draw_images, "scatter": draw_scatter, "lines": draw_lines, "text": draw_text}
