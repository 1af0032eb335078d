"""Pictures, boards and series that are mirrored, turned or inverted when they are read, and answers that should go with them and do not.

Two reads of one item of train that are mirror images of each other (or turned, or upside down) show, as a fact, what the transform is.
What it does to answers is asked of rows that nobody transforms: simple models learn the answer of one half of them and judge the other
half, as it is and transformed. A model that says of transformed rows what it says of the rows has an answer that stays (an age, a price,
most classes). Where it says, as clearly, another class, or of a number the opposite or what another column says, the answer goes with the
picture: a move on a board, a keypoint, a box, an angle. Then the answers of the two reads must differ just so.

Columns of answers that have an order in every row that nobody transforms (the left edge of a box and its right one) keep it in all reads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.checks._frame import Subject
from dlrun.checks._inputs import JUDGED, is_integer, sample
from dlrun.data.items import generators_kept
from dlrun.data.sources import Items
from dlrun.functional.relation import guesses, within

ITEMS, READS, LEAST, PAIRS, MOST = 240, 4, 48, 12, 64
LIKE, TOLD, OWN, OTHER, FOLLOWS = 0.9, 0.5, 0.3, 0.5, 0.3
CLASS, GAIN, SURE, SIGMAS, STILL = 10, 0.1, 0.2, 3.5, 0.5
FULL = 0.6
"""Share of what tells two classes apart that must tell the contrary of transformed rows."""
ORDERED, BROKEN = 0.999, 0.1
NOT = ("gan", "diffusion", "contrastive", "vae", "language_model")


@dataclass
class Read:
    """Rows: x, numbers that are asked for [N, K] (K may be 0), and classes [N] where there are any."""

    x: Tensor
    numbers: Tensor
    classes: Tensor | None


@dataclass
class Against:
    """What is wrong: in words, with numbers."""

    text: str
    numbers: dict[str, Any]


def against(subject: Subject) -> Against | None:
    """What answers of train do not go with pictures that are transformed; None where they do, or nothing is seen."""
    if subject.kind in NOT or subject.loss_task is None or subject.run.data.mixed_labels:
        return None
    given = _given(subject)
    if given is None or min(len(read.x) for read in given) < PAIRS:
        return None
    clean, drawn, *reads = given
    for name, way in _ways(clean.x):
        one, two = _pairs(reads, way)
        if len(one.x) < PAIRS:
            continue
        found = _of_numbers(name, clean, one, two) or _of_classes(name, way, clean, (one, two), drawn)
        if found:
            return found
    return _of_order(clean, reads)


def _given(subject: Subject) -> list[Read] | None:
    """Rows that nobody transforms, many rows of train as training gets them, several reads of fewer; None where there is no transform."""
    data = subject.run.data
    source = data.raw("train")
    if data.augments:
        clean = sample(subject, "train").batch
        with generators_kept():
            batches = [data.augmented(clean[:rows].map(torch.clone), step) for step, rows in enumerate((len(clean), *[ITEMS] * READS))]
    elif isinstance(source, Items) and "val" in data.rows:
        clean = sample(subject, "val", JUDGED).batch
        batches = [sample(subject, "train").batch, *_read(subject, source, subject.patience / 6)]
    else:
        return None
    made = [_made(batch) for batch in (clean, *batches)]
    known = [read for read in made if read is not None]
    shapes = {(read.x.shape[1:], read.numbers.shape[1], read.classes is None) for read in known}
    return known if len(known) == len(made) and len(shapes) == 1 else None


def _read(subject: Subject, source: Items, seconds: float) -> list[Any]:
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0)).tolist()[:ITEMS]
    begun = time.perf_counter()
    source.keyed([("mirror", row) for row in order[:8]])
    each = (time.perf_counter() - begun) / min(8, len(order))
    order = order[: max(int(seconds / max(each * READS, 1e-9)), 2 * PAIRS)]
    return [subject.run.data._batch(source.keyed([(f"mirror {number}", row) for row in order])) for number in range(READS)]


def _made(batch: Any) -> Read | None:
    """Rows as a `Read`: of answers in several tensors all numbers side by side, and the one tensor of classes."""
    x, y = batch.get("x"), [leaf.detach().cpu() for leaf in leaves(batch.get("y", ()))]
    if not isinstance(x, Tensor) or not x.is_floating_point() or not bool(x.isfinite().all()) or any(len(leaf) != len(x) for leaf in y):
        return None
    numbers = [leaf.reshape(len(leaf), -1).float() for leaf in y if leaf.is_floating_point() and leaf[0].numel() <= MOST]
    classes = [leaf.long() for leaf in y if is_integer(leaf) and leaf.dim() == 1 and int(leaf.min()) >= 0 and int(leaf.max()) < MOST]
    table = torch.cat(numbers, 1) if numbers else torch.zeros(len(x), 0)
    return Read(x.detach().cpu().float(), table, classes[0] if classes else None) if bool(table.isfinite().all()) else None


def _ways(x: Tensor) -> Iterator[tuple[str, Any]]:
    """Transforms that keep the shape of rows, by name."""
    if x.dim() == 4:
        yield "mirrored (left and right)", lambda rows: rows.flip(-1)
        yield "mirrored (upside down)", lambda rows: rows.flip(-2)
        yield "turned by half", lambda rows: rows.flip(-1, -2)
        if x.shape[-1] == x.shape[-2]:
            yield "turned by a quarter", lambda rows: rows.rot90(1, (-2, -1))
            yield "transposed", lambda rows: rows.transpose(-2, -1)
    else:
        yield "reversed", lambda rows: rows.flip(-1)
        if x.dim() == 3:
            yield "reversed", lambda rows: rows.flip(-2)
    yield "inverted (their sign)", lambda rows: -rows


def _pairs(reads: list[Read], way: Any) -> tuple[Read, Read]:
    """Pairs of reads of one row of which the second is the first, transformed."""
    first, places = reads[0], list[tuple[int, int]]()
    turned, same = way(first.x), []
    for read in reads[1:]:
        like, still = _alike(turned, read.x), _alike(first.x, read.x)
        same.append((like > LIKE) & (like > still + 1e-6))
    for row in range(len(first.x)):
        hit = next((number for number, rows in enumerate(same) if bool(rows[row])), None)
        places += [(row, hit)] if hit is not None else []
    kept = [row for row, _ in places]
    x, y = first.x[kept], first.numbers[kept]
    others = [(reads[hit + 1].x[row], reads[hit + 1].numbers[row]) for row, hit in places]
    classes = None if first.classes is None else first.classes[kept]
    theirs = None if classes is None else torch.tensor([int(reads[hit + 1].classes[row]) for row, hit in places])  # type: ignore[index]
    if not places:
        return Read(x, y, classes), Read(x, y, theirs)
    return Read(x, y, classes), Read(torch.stack([one for one, _ in others]), torch.stack([one for _, one in others]), theirs)


def _alike(one: Tensor, two: Tensor) -> Tensor:
    """Correlation of rows, about the mean over all rows: what all rows have in common is no likeness."""
    middle = (one.mean(0, keepdim=True) + two.mean(0, keepdim=True)) / 2
    a, b = (one - middle).flatten(1), (two - middle).flatten(1)
    both: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-9)
    return both


def _of_numbers(name: str, clean: Read, one: Read, two: Read) -> Against | None:
    """Columns that models say go with the transform, and that do not in the reads."""
    if not clean.numbers.shape[1] or len(one.x) < 2 * PAIRS:
        return None
    table, half = clean.x.flatten(1), len(clean.x) // 2
    told = _best(guesses(table[:half], clean.numbers[:half], table[half:], None), clean.numbers[half:])
    if float(told[1].max()) < TOLD:
        return None
    said = [guesses(table, clean.numbers, read.x.flatten(1), None)[told[0]] for read in (one, two)]
    across = _correlations(said[1], said[0])
    for column in (told[1] > TOLD).nonzero().flatten().tolist():
        row = torch.where(told[1] > TOLD, across[column], torch.zeros(()))
        other = int(row.abs().argmax())
        sign = 1.0 if float(row[other]) > 0 else -1.0
        if (other == column and sign > 0) or abs(float(row[other])) < OTHER or float(row[column]) > OWN:
            continue
        varies = float(two.numbers[:, column].std()) > 0 and float(one.numbers[:, other].std()) > 0
        follows = float(_correlations(two.numbers[:, [column]], sign * one.numbers[:, [other]])) if varies else 0.0
        if follows < FOLLOWS:
            way = "the opposite" if other == column else f"what column {other} says"
            text = (
                f"items of train are {name}, and target {column} goes with the picture: models of val ({float(told[1][column]):.2f}) say "
            )
            text += f"{way} of a transformed picture (correlation {float(row[other]):+.2f}), the targets do not ({follows:+.2f})"
            return Against(text, {"target": column, "told": float(told[1][column]), "correlation": float(row[other]), "targets": follows})
    return None


def _best(found: list[Tensor], truth: Tensor) -> tuple[int, Tensor]:
    """(which of the models tells most, correlations of its columns with the truth)."""
    each = [_correlations(guess, truth).diag() for guess in found]
    number = max(range(len(each)), key=lambda place: float(each[place].clamp(min=0).sum()))
    return number, each[number]


def _correlations(one: Tensor, two: Tensor) -> Tensor:
    """[K, L]: of each column of the one with each of the other."""
    one, two = ((part - part.mean(0)).double() for part in (one, two))
    table: Tensor = one.T @ two / (one.norm(dim=0)[:, None] * two.norm(dim=0)).clamp(min=1e-9)
    return table


def _of_classes(name: str, way: Any, clean: Read, pairs: tuple[Read, Read], drawn: Read) -> Against | None:
    """Classes of which models say, as clearly, another one where rows are transformed, and whose labels the reads keep."""
    one, two = pairs
    if clean.classes is None or one.classes is None or two.classes is None:
        return None
    y, table, turned = clean.classes, clean.x.flatten(1), way(clean.x).flatten(1)
    moved: dict[int, int] = {}
    for c, d in _nearly(table, turned, y):
        kept = float((two.classes[one.classes == c] != d).float().mean()) if bool((one.classes == c).any()) else 0.0
        if c in moved or kept <= 0.5:
            continue
        ways = _becomes(table, turned, y, c, d)
        if ways and not _still(clean, drawn, c, d):
            moved |= {c: d, d: c} if ways == 2 else {c: d}
    if len(moved) < 2:
        return None
    swaps = [f"exchanges classes {c} and {d}" for c, d in sorted(moved.items()) if c < d and moved.get(d) == c]
    turns = [f"makes class {d} of class {c}" for c, d in sorted(moved.items()) if moved.get(d) != c]
    text = f"items of train are {name}, which {', '.join(swaps + turns)} to models of rows as they are; they keep their labels"
    return Against(text, {"classes": list(moved), "become": list(moved.values())})


def _crossed(table: Tensor, turned: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(truth, guesses of rows as they are, of transformed ones): each half by the best model of the other."""
    half = len(table) // 2
    ends = (slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))
    said = [[guesses(table[fit], y[fit], rows[held], count) for rows in (table, turned)] for fit, held in ends]
    truth = torch.cat([y[held] for _, held in ends])
    asked = [[torch.cat([part[rows][model].argmax(1) for part in said]) for rows in range(2)] for model in range(3)]
    here, there = max(asked, key=lambda pair: float((pair[0] == truth).float().mean()))
    return truth, here, there


def _nearly(table: Tensor, turned: Tensor, y: Tensor) -> list[tuple[int, int]]:
    """Pairs of classes of which the first is taken for the second more often once it is transformed, the clearest first."""
    count = int(y.max()) + 1
    truth, here, there = _crossed(table, turned, y, count)
    found = []
    for c in range(count):
        mine = truth == c
        if int(mine.sum()) >= CLASS:
            before, after = (torch.bincount(said[mine], minlength=count) / int(mine.sum()) for said in (here, there))
            found += [(float(gain), c, d) for d, gain in enumerate(after - before) if d != c and float(gain) > GAIN]
    return [(c, d) for _, c, d in sorted(found, reverse=True)[:CLASS]]


def _becomes(table: Tensor, turned: Tensor, y: Tensor, c: int, d: int) -> int:
    """2 where a model that tells rows of two classes apart takes transformed rows of either for the other, about as surely; 1 where it does
    so with those of the first; 0 where it does not."""
    pair = (y == c) | (y == d)
    if min(int((y == one).sum()) for one in (c, d)) < CLASS:
        return 0
    truth, here, there = _crossed(table[pair], turned[pair], (y[pair] == d).long(), 2)
    first = truth == 0
    right = [float((here[mine] == truth[mine]).float().mean()) - 0.5 for mine in (first, ~first)]
    wrong = [float((there[mine] != truth[mine]).float().mean()) - 0.5 for mine in (first, ~first)]
    error = 0.5 / int(pair.sum()) ** 0.5
    both = min(sum(right), sum(wrong)) / 2 > max(SIGMAS * error, SURE / 2), min(wrong) > FULL / 2 * sum(right) / 2, min(right) > 0
    alone = min(right) > max(SIGMAS * error, SURE), wrong[0] > max(FULL * min(right), SIGMAS * error)
    return 2 if all(both) and sum(wrong) > FULL * sum(right) else 1 if all(alone) else 0


def _still(clean: Read, drawn: Read, c: int, d: int) -> bool:
    """Whether models of reads tell two classes apart, half as well as those of rows as they are: a 6 turned round is not quite a 9."""
    told = []
    for read in (clean, drawn):
        assert read.classes is not None
        pair = (read.classes == c) | (read.classes == d)
        if int(pair.sum()) < 2 * CLASS:
            return True
        told.append(within(read.x[pair].flatten(1), (read.classes[pair] == d).long(), 2))
    return told[1].strength > STILL * told[0].strength


def _of_order(clean: Read, reads: list[Read]) -> Against | None:
    """Two columns that have an order in every clean row, and in many reads of train have not."""
    y = clean.numbers
    if not 2 <= y.shape[1] <= 16 or len(y) < LEAST:
        return None
    all_reads = torch.cat([read.numbers for read in reads])
    for i in range(y.shape[1]):
        for j in range(y.shape[1]):
            above = float((y[:, i] < y[:, j]).float().mean())
            broken = float((all_reads[:, i] > all_reads[:, j]).float().mean())
            if i != j and above > ORDERED and broken > BROKEN:
                text = f"target {i} is below target {j} in every row that is not transformed, and above it in {broken:.0%} of reads"
                return Against(text, {"columns": [i, j], "broken": broken})
    return None
