"""Augmentations that destroy what the label depends on: noise that drowns the signal, a flip of what left and right tell, rows moved apart
from their labels.

The catalogue compares nearest neighbours of augmented rows with clean ones; shifts and crops ruin these and are right. So models are fitted
to augmented rows and asked of other augmented rows: where clean rows tell the label clearly and augmented ones do not tell it at all, it is
gone. Pictures and masks that are flipped apart fit once they are flipped back (`_together.py`). That a row comes out as another row of the
batch, with its own label kept, is a fact. Two classes that an augmentation exchanges (a mirror of arrows) are asked for as well, of items
that draw it when they are read too: see `_swapped.py`.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.checks._blended import Seams, seams
from dlrun.checks._cropped import Cropped, cropped
from dlrun.checks._frame import Finding, Rows, Subject, check, skipped
from dlrun.checks._inputs import JUDGED, features, labels, sample
from dlrun.checks._mirrored import Against, against
from dlrun.checks._swapped import swapped
from dlrun.checks._together import Apart, apart
from dlrun.data.items import generators_kept
from dlrun.data.sources import Items
from dlrun.functional.relation import Relation, relation, within

LEAST, DRAWS, MOVED = 128, 3, 0.1
ITEMS, READS, WIDE, STILL, GONE = 240, 6, 50_000, 0.5, 0.1
TOGETHER = (
    "warning: in 20% of rows a target fits a model of its pixels better by 0.2 once it is flipped, turned or moved; or models of rows "
    "as they are say other things of mirrored or turned reads (correlation > 0.5, or other classes) than the targets do; or masks of "
    "train have numbers in between on over 15% of edges between classes, 4 x as many as val; or targets are totals over "
    "pictures that reads lack parts of"
)
EXCHANGES = "warning: a model that tells clean rows apart is as sure, and wrong in 25% of reads and more, in both directions"
RULE = (
    f"error: over {MOVED:.0%} of rows come out as rows of another class; warning: clean rows tell the label, augmented ones do not (z < 3)"
)


@check(
    stage="data", recipe="Hacker's Guide: look at what augmentation does", follows=("item_stability", "constant_input", "label_permutation")
)
def augmentation_keeps_label(subject: Subject) -> Finding:
    """Up to 512 rows of train in batches as training has them, augmented under three steps."""
    data = subject.run.data
    if found := _of_targets(subject):
        return found
    if not data.augments and not data.mixed_labels and isinstance(data.raw("train"), Items):
        return _items(subject)
    if not data.augments or data.mixed_labels or subject.kind not in ("classification", "binary", "regression"):
        return skipped("no augmentation is configured that keeps labels")
    rows = sample(subject, "train")
    known, clean = labels(subject, rows.y), features(rows)
    if known is None or clean is None or len(rows) < LEAST:
        return skipped(f"it takes {LEAST} rows with a class or number each")
    target, classes = known
    plain = rows.first(JUDGED).batch
    with generators_kept():
        drawn = [_augmented(subject, plain, step) for step in range(DRAWS)]
    moved = _moved(plain, drawn[0])
    numbers: dict[str, Any] = {"rows": len(plain), "moved": moved}
    names = ", ".join(str(name) for name in (subject.run.config.get("augment") or {})) or "the augmentation"
    if moved > MOVED:
        text = f"{names}: {moved:.0%} of the rows come out as other rows of the batch, with the label they had"
        return Finding("error", text, "x is shuffled in the batch and y is not", "index x and y by the same permutation", numbers, RULE)
    tables = [features(Rows(batch, rows.indices[: len(plain)], False)) for batch in drawn]
    if any(table is None or table.shape[0] != len(plain) for table in tables):
        return skipped("augmented rows are no rows of numbers")
    y = target[: len(plain)]
    before, after = within(clean[: len(plain)], y, classes), _across([table for table in tables if table is not None], y, classes)
    numbers |= {"clean": before.strength, "augmented": after.strength, "z": after.z}
    text = f"{names}: clean rows tell the label with strength {before.strength:.2f}, augmented ones with {after.strength:.2f}"
    if before.clear() and after.lost(before):
        cause = "the augmentation destroys what the label depends on"
        return Finding("warning", text, cause, "make it weaker: dlrun data --out draws it", numbers, RULE)
    one_tensor = isinstance(plain.get("x"), Tensor)
    if classes and one_tensor and (loud := _exchanged(plain["x"], y, [batch["x"] for batch in drawn], y, classes, numbers)):
        return loud
    return Finding("ok", text, numbers=numbers, threshold=RULE)


def _of_targets(subject: Subject) -> Finding | None:
    """The finding where targets should have gone through the transform, or went through another one."""
    if blended := seams(subject):
        return _blended(blended)
    if (subject.patience > 1 or subject.run.data.augments) and (moved_apart := apart(subject)):
        return _apart(moved_apart)
    if subject.patience > 1 and (mirrored := against(subject)):
        return _mirrored(mirrored)
    cut = cropped(subject) if subject.patience > 1 else None
    return _cropped(cut) if cut else None


def _apart(found: Apart) -> Finding:
    """The finding where pictures and their dense targets were transformed apart."""
    text = f"in {found.share:.0%} of {found.rows} rows of {found.split} the target fits its picture far better {found.how}: "
    text += f"correlation {found.there:.2f}, {found.here:.2f} as it is"
    cause = "picture and target are flipped, turned or cropped by random numbers of their own, or only one of them is"
    numbers: dict[str, Any] = {"share": found.share, "rows": found.rows, "as_it_is": found.here, "moved": found.there, "how": found.how}
    return Finding("warning", text, cause, "draw once, and apply it to both", numbers, TOGETHER)


def _blended(found: Seams) -> Finding:
    """The finding where masks were interpolated."""
    text = (
        f"between classes of train's masks that are two or more numbers apart, {found.train:.0%} of {found.edges} edges have a seam of a "
    )
    text += f"number in between, one pixel wide; in val {found.val:.0%} have"
    cause = "masks of class numbers are resized or turned with interpolation, which makes up classes along every edge"
    numbers: dict[str, Any] = {"train": found.train, "val": found.val, "edges": found.edges}
    return Finding("warning", text, cause, 'transform masks with mode="nearest"', numbers, TOGETHER)


def _cropped(found: Cropped) -> Finding:
    """The finding where a total is asked for of a part of the picture."""
    text = f"targets are totals over the whole picture (correlation {found.clean:.2f}), and reads of train are parts of it: there they are "
    text += f"told {found.drawn:.2f}, and totals of two reads of one row differ by {found.apart:.2f} sd"
    cause = "random crops leave out what the target still counts"
    numbers: dict[str, Any] = {"clean": found.clean, "reads": found.drawn, "apart_by_sd": found.apart}
    step = "crop the targets too (count what is left), or leave crops out: flips and turns lose nothing"
    return Finding("warning", text, cause, step, numbers, TOGETHER)


def _mirrored(found: Against) -> Finding:
    """The finding where pictures are mirrored or turned and answers that go with them are not."""
    cause = "the transform is applied to the picture alone: moves, coordinates (keypoints, boxes), angles go with it"
    step = "transform the targets too: x -> width - x, angle -> -angle, left <-> right"
    return Finding("warning", found.text, cause, step, found.numbers, TOGETHER)


def _items(subject: Subject) -> Finding:
    """The verdict on items of train that are drawn when they are read, beside those of val as clean rows; asked on request only."""
    data = subject.run.data
    nothing = skipped("no augmentation is configured that keeps labels")
    if subject.kind not in ("classification", "binary") or subject.patience < 1 or "val" not in data.rows:
        return nothing
    source, rows = data.raw("train"), sample(subject, "val", JUDGED)
    assert isinstance(source, Items)
    known = labels(subject, rows.y)
    x = rows.x
    if known is None or not known[1] or not isinstance(x, Tensor) or not x.is_floating_point() or len(rows) < LEAST // 2:
        return nothing
    drawn = _read(subject, source, subject.patience / 6)
    own = labels(subject, drawn[0].get("y")) if drawn else None
    if own is None or own[1] is None or any(_other(batch, drawn[0], x) for batch in drawn):
        return nothing
    if all(torch.equal(batch["x"], drawn[0]["x"]) for batch in drawn):
        return skipped("no augmentation: items of train are the same in every read")
    numbers: dict[str, Any] = {"rows": len(own[0]), "reads": len(drawn), "clean": len(rows)}
    loud = _exchanged(x, known[0], [batch["x"].detach().cpu() for batch in drawn], own[0], max(own[1], known[1]), numbers)
    loud = loud or _gone(rows, known[0], drawn, own[0], max(own[1], known[1]), numbers)
    return loud or Finding("ok", f"{len(drawn)} reads of {len(own[0])} items exchange no classes", numbers=numbers, threshold=RULE)


def _gone(clean: Rows, y: Tensor, drawn: list[Batch], drawn_y: Tensor, classes: int, numbers: dict[str, Any]) -> Finding | None:
    """The finding where rows as they are tell the label, and reads of other rows tell nothing of it."""
    table = features(clean)
    tables = [features(Rows(batch, torch.arange(len(drawn_y)), False)) for batch in drawn]
    if table is None or any(one is None or one.shape[1] != table.shape[1] for one in tables):
        return None
    before, after = within(table, y, classes), _across([one for one in tables if one is not None], drawn_y, classes)
    numbers |= {"clean_strength": before.strength, "augmented": after.strength, "z": after.z}
    if not (before.clear(0.5) and after.absent() and after.strength < GONE * before.strength):
        return None
    text = f"rows of val tell the label with strength {before.strength:.2f}, reads of train with {after.strength:.2f}"
    cause = "the random transforms of train destroy what the label depends on"
    return Finding("warning", text, cause, "make them weaker: dlrun data --out draws items", numbers, RULE)


def _other(batch: Batch, first: Batch, x: Tensor) -> bool:
    """Whether a read has other labels than the first one, or rows of another form than `x`."""
    mine, y, known = batch.get("x"), batch.get("y"), first.get("y")
    alike = isinstance(mine, Tensor) and mine.shape[1:] == x.shape[1:] and bool(mine.isfinite().all())
    return not alike or not isinstance(y, Tensor) or not isinstance(known, Tensor) or not torch.equal(y, known)


def _read(subject: Subject, source: Items, seconds: float) -> list[Batch]:
    """Six reads of up to 240 items of train, as many as some `seconds` allow; none where these are too few."""
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(len(source))).tolist()[:ITEMS]
    begun = time.perf_counter()
    source.keyed([("reads", row) for row in order[:8]])
    each = (time.perf_counter() - begun) / 8
    order = order[: int(seconds / max(each * READS, 1e-9))]
    if len(order) < LEAST // 2:
        return []
    return [subject.run.data._batch(source.keyed([(f"reads {number}", row) for row in order])) for number in range(READS)]


def _exchanged(x: Tensor, y: Tensor, reads: list[Tensor], drawn_y: Tensor, classes: int, numbers: dict[str, Any]) -> Finding | None:
    """The finding where reads of one class look like another class and the other way round."""
    if not x.is_floating_point() or any(read.shape[1:] != x.shape[1:] for read in reads) or x[0].numel() > WIDE:
        return None
    swap = swapped(x.detach().cpu(), y.long(), [read.detach().cpu() for read in reads], drawn_y.long(), classes)
    if swap is None:
        return None
    one, two = swap.classes
    pair = (drawn_y == one) | (drawn_y == two)
    apart = _across([read[pair.to(read.device)].flatten(1).cpu() for read in reads], (drawn_y[pair] == two).long(), 2)
    numbers["told_apart"] = apart.strength
    if apart.strength > STILL:  # a model of augmented rows tells them apart: a 6 turned round is not quite a 9
        return None
    numbers |= {"exchanged": list(swap.classes), "clean_exchanged": swap.clean, "reads_exchanged": swap.turned}
    text = f"the augmentation exchanges classes {one} and {two}: {swap.turned:.0%} of the reads of either look like the other, "
    text += f"{swap.clean:.0%} of rows as they are"
    cause = "a mirror or a turn (or the like) makes one class of the other, and the label is kept"
    return Finding("warning", text, cause, "leave this transform out, or exchange the labels with it", numbers, EXCHANGES)


def _augmented(subject: Subject, plain: Batch, step: int) -> Batch:
    """The rows augmented in batches of the training's size."""
    size = max(subject.run.data.cuts[0][1], 2)
    chunks = [plain[low : low + size].map(torch.clone) for low in range(0, len(plain) // size * size or len(plain), size)]
    found = [subject.run.data.augmented(chunk, step, micro) for micro, chunk in enumerate(chunks)]
    rest = plain[len(chunks) * size :] if len(chunks) * size < len(plain) else None
    joined: Batch = Batch.cat([*found, subject.run.data.augmented(rest.map(torch.clone), step, len(chunks))] if rest is not None else found)
    return joined


def _across(tables: list[Tensor], y: Tensor, classes: int | None) -> Relation:
    """What models of several draws of one half of the rows tell of the other half, both ways."""
    half = len(y) // 2
    ends = (slice(0, half), slice(half, None))
    found = []
    for known, asked in (ends, ends[::-1]):
        x, labels_of = torch.cat([table[known] for table in tables]), torch.cat([y[known]] * len(tables))
        found.append(relation(x, labels_of, tables[0][asked], y[asked], classes))
    return Relation(sum(one.strength for one in found) / 2, sum(one.z for one in found) / 2**0.5, len(y))


def _moved(plain: Batch, drawn: Batch) -> float:
    """The share of rows whose x is byte for byte that of another row with another label, while y is what it was."""
    x, new, y = plain.get("x"), drawn.get("x"), plain.get("y")
    if (
        not isinstance(x, Tensor)
        or not isinstance(new, Tensor)
        or not isinstance(y, Tensor)
        or x.shape != new.shape
        or drawn["y"].shape != y.shape
    ):
        return 0.0
    place: dict[bytes, int] = {row.numpy().tobytes(): i for i, row in enumerate(x.detach().cpu().contiguous())}
    kept = (drawn["y"] == y).reshape(len(y), -1).all(1).tolist()
    count = 0
    for i, row in enumerate(new.detach().cpu().contiguous()):
        j = place.get(row.numpy().tobytes(), i)
        count += j != i and kept[i] and not torch.equal(y[i], y[j]) and not torch.equal(x[i], x[j])
    return count / len(y)
