"""What is known of a loss: facts noted on the loss function or class, found again on the criterion that was built from it.

`initial(spec, **options)` is the loss of an unbiased, untrained network, `floor(spec, **options)` the least there can be, `count(y,
**options)` how many units it is a mean over, `kind` what it is made for, `couples_rows` whether the loss of one row depends on the others,
`shares` False where targets that are shares of classes (mixed labels) would be read as labels, `signed` False where labels of -1 would be
read as numbers, `margins` True where outputs mean nothing but a side,
`plain(**options)` whether it is the mean of -ln p and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from dlrun.types import DataSpec


def unwrap(criterion: Any) -> tuple[Any, dict[str, Any]]:
    """The loss below its bound options, and these."""
    options: dict[str, Any] = {}
    while isinstance(criterion, partial):
        options = {**criterion.keywords, **options}
        criterion = criterion.func
    return criterion, options


def reference(criterion: Any, fact: str, spec: DataSpec) -> float | None:
    """The number that `criterion`'s fact `initial` (loss of an unbiased, untrained network) or `floor` (least loss) gives for `spec`.

    A fact is a function of the spec and the loss's options. None where the loss says nothing, as a user's own mostly does.
    """
    loss, options = unwrap(criterion)
    known: Callable[..., float | None] | None = getattr(loss, fact, None)
    return None if known is None else known(spec, **options)


def units(criterion: Any, y: Any) -> Tensor | float | None:
    """How many units `criterion` is a mean over for the targets `y`; None where it does not say (then these are rows)."""
    loss, options = unwrap(criterion)
    known: Callable[..., Tensor | float | None] | None = getattr(loss, "count", None)
    return known(y, **options) if callable(known) and isinstance(y, Tensor) else None


def is_plain(criterion: Any) -> bool:
    """Whether `criterion` is the mean of -ln p over the targets it counts, so that metrics of just that need not compute it again."""
    loss, options = unwrap(criterion)
    known: Callable[..., bool] | None = getattr(loss, "plain", None)
    return callable(known) and known(**options)


def couples_rows(criterion: Any) -> bool:
    """Whether the loss of one row depends on the others; of several losses, whether one does so."""
    if isinstance(criterion, Mapping):
        return any(couples_rows(one) for one in criterion.values())
    return bool(getattr(unwrap(criterion)[0], "couples_rows", False))


def reads_shares(criterion: Any) -> bool:
    """Whether targets may be shares of classes, as mixed labels are; what a loss does not say is its author's to know."""
    return bool(getattr(unwrap(criterion)[0], "shares", True))
