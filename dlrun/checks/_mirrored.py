"""Pictures, boards and series that are mirrored, turned or inverted when they are read, and answers that should go with them and do not.

Two reads of one item of train that are mirror images of each other (or turned, or upside down) show, as a fact, what the transform is.
What it does to answers is asked of rows that nobody transforms: simple models learn the answer of one half of them and judge the other
half, as it is and transformed. A model that says of transformed rows what it says of the rows has an answer that stays (an age, a price,
most classes). Where it says, as clearly, another class, or of a number the opposite or what another column says, the answer goes with the
picture: a move on a board, a keypoint, a box, an angle. Then the answers of the two reads must differ just so.

Columns of answers that have an order in every row that nobody transforms (the left edge of a box and its right one) keep it in all reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Subject
from dlrun.checks._reads import LEAST, PAIRS, Read, given, pairs, ways
from dlrun.functional.relation import guesses, within

TOLD, OWN, OTHER, FOLLOWS = 0.5, 0.3, 0.5, 0.3
CLASS, GAIN, SURE, SIGMAS, STILL, CELLS = 10, 0.1, 0.2, 3.5, 0.5, 6.0
FULL = 0.6
"""Share of what tells two classes apart that must tell the contrary of transformed rows."""
ORDERED, BROKEN = 0.999, 0.1
NOT = ("gan", "diffusion", "contrastive", "vae", "language_model")


@dataclass
class Against:
    """What is wrong: in words, with numbers."""

    text: str
    numbers: dict[str, Any]


def against(subject: Subject) -> Against | None:
    """What answers of train do not go with pictures that are transformed; None where they do, or nothing is seen."""
    if subject.kind in NOT or subject.loss_task is None or subject.run.data.mixed_labels:
        return None
    known = given(subject)
    if known is None or min(len(read.x) for read in known) < PAIRS:
        return None
    clean, drawn, *reads = known
    for name, way in ways(clean.x):
        one, two = pairs(reads, way)
        if len(one.x) < PAIRS:
            continue
        found = _of_numbers(name, clean, one, two) or _of_cells(name, way, clean, one, two)
        found = found or _of_classes(name, way, clean, (one, two), drawn)
        if found:
            return found
    return _of_order(clean, reads)


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


def _of_cells(name: str, way: Any, clean: Read, one: Read, two: Read) -> Against | None:
    """Classes that are cells of a board (as many as it has, and the answer's cell is unlike others), and stay where the board turns."""
    if clean.classes is None or one.classes is None or two.classes is None or clean.x.dim() != 4:
        return None
    cells = clean.x.shape[-2] * clean.x.shape[-1]
    if not cells - 1 <= int(clean.classes.max()) <= cells or name.startswith("inverted"):
        return None
    known = clean.classes < cells
    planes = clean.x.flatten(2)[known]
    there = planes.gather(2, clean.classes[known][:, None, None].expand(-1, planes.shape[1], 1))[..., 0]
    apart = there - planes.mean(2)
    sigmas = float((apart.mean(0).abs() / (planes.std(2).mean(0) / len(planes) ** 0.5).clamp(min=1e-9)).max())
    place = way(torch.arange(cells, dtype=torch.float32).reshape(1, 1, *clean.x.shape[-2:])).flatten()
    goes = place.argsort()[one.classes.clamp(max=cells - 1)]
    kept = float(((two.classes == one.classes) & (goes != one.classes)).float().mean())
    right = float((two.classes == goes).float().mean())
    if sigmas < CELLS or kept < 0.5 or right > 0.5:
        return None
    text = f"items of train are {name}, and their classes, which are the board's {cells} cells, stay in {kept:.0%} of the reads"
    return Against(text, {"kept": kept, "gone_along": right, "sigmas": sigmas})


def _of_classes(name: str, way: Any, clean: Read, both: tuple[Read, Read], drawn: Read) -> Against | None:
    """Classes of which models say, as clearly, another one where rows are transformed, and whose labels the reads keep."""
    one, two = both
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
