"""What is known of a loss: facts noted on the loss function, found again on the criterion that was built from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dlrun.types import DataSpec


def reference(criterion: Any, fact: str, spec: DataSpec) -> float | None:
    """The number that `criterion`'s fact `initial` (loss of an unbiased, untrained network) or `floor` (least loss) gives for `spec`.

    A fact is a function of the spec and the loss's options. None where the loss says nothing, as a user's own mostly does.
    """
    options: dict[str, Any] = {}
    while isinstance(criterion, partial):
        options = {**criterion.keywords, **options}
        criterion = criterion.func
    known: Callable[..., float | None] | None = getattr(criterion, fact, None)
    return None if known is None else known(spec, **options)
