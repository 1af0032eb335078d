"""Labels that are numbered otherwise in val than in train, or whose columns stand in another order.

Models of train are asked for val. Which class (or column) of val each guess stands for is read off one half of val and judged on the other,
so that a new numbering must earn what it gains, and be told as well as train tells its own; inside train, where none can be right, the same
must gain nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlrun.checks._inputs import Table
from dlrun.functional.relation import guesses

LEAST, FEWEST = 100, 25
KNOWN, WHOLE, AS_WELL, CERTAIN, CHANCE, STILL = 0.15, 0.5, 0.8, 4.5, 3.0, 0.4


@dataclass(frozen=True)
class Renamed:
    """What train tells of val as its labels are numbered (`plain`), and numbered anew by `order` (`moved`), `z` standard errors apart."""

    plain: float
    moved: float
    z: float
    order: list[int]

    @property
    def told(self) -> str:
        """Which label of train is which of val, of those that moved."""
        pairs = [f"{one} -> {two}" for one, two in enumerate(self.order) if one != two]
        return ", ".join(pairs[:6]) + (" ..." if len(pairs) > 6 else "")

    @property
    def clear(self) -> bool:
        """Whether the labels that moved are told by their new numbers, and hardly by their old ones."""
        return self.z > CERTAIN and self.moved > KNOWN and self.plain < WHOLE * self.moved


def renamed(train: Table, val: Table) -> Renamed | None:
    """The clearest new numbering of val's labels; None where there is none."""
    columns = 1 if train.y.dim() == 1 else train.y.shape[1]
    if min(len(train), len(val)) < LEAST or (train.classes is None and columns < 2) or _moved(train.x, val.x) > STILL:
        return None
    asked = guesses(train.x, train.y, val.x, train.classes)
    half = len(train) // 2
    inside = guesses(train.x[:half], train.y[:half], train.x[half:], train.classes)
    found = []
    for guess, within in zip(asked, inside, strict=True):
        new, own = _judged(guess, val.y, train.classes), _judged(within, train.y[half:], train.classes)
        usual = _usual(within, train.y[half:], train.classes, new.order) if new else 0.0
        if new and new.clear and new.moved > AS_WELL * usual and usual > KNOWN and not (own and own.z > CHANCE):
            found.append(new)
    return max(found, key=lambda one: one.moved, default=None)


def _moved(one: Tensor, two: Tensor) -> float:
    """How far the inputs moved, in standard deviations of the mean column: new numbers of labels leave inputs as they are."""
    spread = one.std(0, correction=0)
    kept = spread > 1e-9
    return float(((two.mean(0) - one.mean(0)).abs() / spread.clamp(min=1e-9))[kept].mean()) if bool(kept.any()) else 0.0


def _usual(guess: Tensor, y: Tensor, classes: int | None, order: list[int]) -> float:
    """What the same model tells inside train of the labels that move."""
    moved = [place for place, new in enumerate(order) if place != new]
    found = _of_classes(guess, y, list(range(len(order))), moved) if classes else _of_columns(guess, y, list(range(len(order))), moved)
    return found.plain if found else 0.0


def _judged(guess: Tensor, y: Tensor, classes: int | None) -> Renamed | None:
    """Guesses [N, K] read anew: what each half says of the numbering, judged on the other. None where nothing moves."""
    half = len(y) // 2
    parts = [slice(None, half), slice(half, None)]
    orders = [_order(guess[part], y[part], classes) for part in parts]
    moved = [place for place in range(guess.shape[1]) if orders[0][place] == orders[1][place] != place]
    if not moved:
        return None
    order = [orders[0][place] if place in moved else place for place in range(guess.shape[1])]
    return _of_classes(guess, y, order, moved) if classes else _of_columns(guess, y, order, moved)


def _order(guess: Tensor, y: Tensor, classes: int | None) -> list[int]:
    """Which label of `y` each column of guesses stands for, the surest pair first."""
    if classes:
        said = torch.nn.functional.one_hot(guess.argmax(1), classes).double()
        true = torch.nn.functional.one_hot(y.long(), classes).double()
        table = said.T @ true - said.sum(0)[:, None] * true.sum(0) / len(y)
    else:
        table = _correlations(guess, y)
    order = list(range(guess.shape[1]))
    free_rows, free_columns = set(order), set(order)
    for pair in table.flatten().argsort(descending=True).tolist():
        row, column = divmod(pair, table.shape[1])
        if row in free_rows and column in free_columns and float(table[row, column]) > 0:
            order[row] = column
            free_rows.discard(row)
            free_columns.discard(column)
    return order


def _correlations(guess: Tensor, y: Tensor) -> Tensor:
    one, two = (part.double() - part.double().mean(0) for part in (guess, y))
    one, two = (part / part.norm(dim=0).clamp(min=1e-9) for part in (one, two))
    table: Tensor = one.T @ two
    return table


def _of_classes(guess: Tensor, y: Tensor, order: list[int], moved: list[int]) -> Renamed | None:
    """On the rows whose guess moves: how often it is right as it is and anew, beyond chance."""
    said = guess.argmax(1)
    rows = torch.isin(said, torch.tensor(moved))
    if int(rows.sum()) < FEWEST:
        return None
    said, true = said[rows], y[rows]
    anew = torch.tensor(order)[said]
    right, instead = (said == true).double(), (anew == true).double()
    shares = torch.bincount(y.long(), minlength=len(order)).double() / len(y)
    chance = [float(shares[label].mean()) for label in (said, anew)]
    plain, new = ((float(hit.mean()) - low) / max(1 - low, 1e-9) for hit, low in zip((right, instead), chance, strict=True))
    gain = instead - right - (chance[1] - chance[0])
    return Renamed(plain, new, float(gain.sum() / gain.square().sum().sqrt().clamp(min=1e-9)), order)


def _of_columns(guess: Tensor, y: Tensor, order: list[int], moved: list[int]) -> Renamed:
    """Mean correlation of the columns that move with those of the same number and with those of the new one."""
    table = _correlations(guess, y)
    plain = float(torch.stack([table[place, place] for place in moved]).mean())
    new = float(torch.stack([table[place, order[place]] for place in moved]).mean())
    return Renamed(plain, new, (new - max(plain, 0.0)) * len(y) ** 0.5, order)
