"""Pixels of masks as rows: what the picture holds there and around it, and the class of the pixel, as many of each class as there are."""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.checks._frame import Subject
from dlrun.checks._inputs import JUDGED, Table, is_integer, parts, sample
from dlrun.checks._together import around

ROWS, CLASSES, LEAST = 64, 32, 3


def pixels(subject: Subject) -> list[Table]:
    """Tables of train and of val, up to 512 pixels each; [] where targets are no masks of pictures."""
    found = [_table(sample(subject, split, ROWS).x, sample(subject, split, ROWS).y) for split in ("train", "val")]
    known = [one for one in found if one is not None]
    if len(known) < 2 or known[0][0].shape[1] != known[1][0].shape[1]:
        return []
    classes = int(max(y.max() for _, y in known)) + 1
    return [Table(x, y, classes) for x, y in known] if LEAST <= classes <= CLASSES else []


def _table(x: object, y: object) -> tuple[Tensor, Tensor] | None:
    leaves = [leaf.detach().cpu() for leaf in parts(x).values() if leaf.dim() == 4 and leaf.is_floating_point()]
    if len(leaves) != 1 or not isinstance(y, Tensor) or not is_integer(y) or y.dim() != 3 or y.shape[-2:] != leaves[0].shape[-2:]:
        return None
    if min(y.shape[-2:]) < 8 or not bool(leaves[0].isfinite().all()):
        return None
    flat, target = around(leaves[0].float()).movedim(1, -1).flatten(0, 2), y.detach().cpu().long().flatten()
    generator = torch.Generator().manual_seed(0)
    classes = [label for label in target[target >= 0].unique().tolist() if label < CLASSES]
    each = max(JUDGED // max(len(classes), 1), 1)
    chosen = []
    for label in classes:
        places = (target == label).nonzero().flatten()
        chosen.append(places[torch.randperm(len(places), generator=generator)[:each]])
    if not chosen:
        return None
    place = torch.cat(chosen)
    place = place[torch.randperm(len(place), generator=generator)]
    return flat[place], target[place]
