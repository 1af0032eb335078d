"""Pictures whose axes are mixed up: a reshape where a permute was meant, channels last, rows as long as columns should be.

In a natural picture neighbours are alike along height and width. The catalogue also warns of pictures that are as rough as noise;
spectrograms, boards and made-up data are, so that is told. A warning takes another reading of the same numbers that is at least twice as
smooth, and a network that looks at neighbours (a convolution). Under much noise no reading is smooth; there neighbours must be alike along
both axes where channels are read as the last axis, and not be along one of them as the pictures are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import parts, sample
from dlrun.checks._pictures import alike, roughness
from dlrun.checks._views import mixing_view, told

LEAST, SIDE, FEW = 16, 4, 4
TWICE, NOISE, ORDER = 0.5, 0.8, 0.7
FAINT, TRIPLE, SIGMAS = 0.06, 3.0, 8.0
AGAINST = -0.1
"""Correlation of neighbours below which a pattern repeats itself: it is alike again some rows on, whichever way it is read."""
LAST = "with channels last in memory"
SLIDES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
RULE = (
    f"warning: read in another way, pictures are at most {TWICE:g} x as rough, below {ORDER:g}, or neighbours {TRIPLE:g} x as alike, over "
    f"{FAINT:g}, with {SIGMAS:g} standard errors; or forward exchanges axes of x by a view; note: as they are, over {NOISE:g}"
)


@check(stage="data", recipe="Hacker's Guide: reshape is no permute", follows=("item_stability", "constant_input"))
def layout(subject: Subject) -> Finding:
    """Views in forward that mix axes; differences of neighbours in up to 128 pictures [N, C, H, W], as they are and read in other ways."""
    view = mixing_view(subject) if subject.patience > 1 else None
    if view and view.of_input and view.rows_kept:
        return told(view, {}, RULE)
    rows = sample(subject, "train")
    images = {
        name: leaf.detach().cpu().float()
        for name, leaf in parts(rows.x).items()
        if leaf.dim() == 4 and leaf.is_floating_point() and leaf.shape[1:].numel() >= 4 * SIDE**2
    }
    if not images or len(rows) < LEAST:
        return skipped(f"there are no {LEAST} pictures [C, H, W]")
    name, x = next(iter(images.items()))
    here, shape = roughness(x), list(x.shape[1:])
    ways = {way: rough for way, picture in readings(x).items() if (rough := roughness(picture)) == rough}
    numbers: dict[str, Any] = {"roughness": here, "read_otherwise": ways, "shape": shape}
    if here != here:
        return skipped("the pictures are blank")
    best = min(ways, key=lambda way: ways[way], default="")
    text = f"pictures {name} {shape}: neighbours differ {here:.2f} x as much as any two pixels"
    faint = _faint(x)
    clear = bool(best) and ways[best] < min(TWICE * here, ORDER)
    if clear or faint:
        numbers["alike"] = faint
        text += f", {ways[best]:.2f} x {best}" if clear else f"; they are alike by {faint[0]:.2f}, by {faint[1]:.2f} {LAST}"
        slides = any(isinstance(part, SLIDES) for module in subject.run.modules.values() for part in module.modules())
        if slides:
            cause = "axes were mixed up on the way to the network: a reshape or view where a permute was meant"
            return Finding("warning", text, cause, "x.permute(0, 3, 1, 2) makes channels first; look: dlrun data --out", numbers, RULE)
        return Finding("info", f"{text}; no layer looks at neighbours", numbers=numbers, threshold=RULE)
    return Finding("info" if here > NOISE else "ok", text, numbers=numbers, threshold=RULE)


def _faint(x: Tensor) -> list[float]:
    """Correlations of neighbours along the worse axis, as pictures are and with channels last, where that is clearly better; else []."""
    other = readings(x).get(LAST)
    if other is None:
        return []
    (here, error), (there, more) = (min(alike(picture, axis) for axis in (-1, -2)) for picture in (x, other))
    clear = there - here > SIGMAS * (error**2 + more**2) ** 0.5
    return [here, there] if clear and there > max(FAINT, TRIPLE * here) and here > AGAINST else []


def readings(x: Tensor) -> dict[str, Tensor]:
    """Other ways to read the numbers of pictures [N, C, H, W], each as [N, C', H', W']."""
    rows, channels, height, width = x.shape
    found: dict[str, Tensor] = {}
    if 1 < channels <= FEW:
        found[LAST] = x.reshape(rows, height, width, channels).permute(0, 3, 1, 2)
    if width <= FEW < min(channels, height):
        found["with the last axis as channels"] = x.permute(0, 3, 1, 2)
    if height != width:
        found["with height and width exchanged in memory"] = x.reshape(rows, channels, width, height)
    size = height * width
    sides = [side for side in range(SIDE, size // SIDE + 1) if size % side == 0 and side not in (width, height)]
    for side in sides if len(sides) <= 12 else ():
        found[f"in rows of {side}"] = x.reshape(rows, channels, size // side, side)
    return {way: torch.as_tensor(picture) for way, picture in found.items() if min(picture.shape[-2:]) >= SIDE}
