"""Keys that nothing in this version reads while it trains: said before the first step, so that no key does nothing in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXPECTED = (
    "batch_coupled_loss",
    "causal",
    "frozen",
    "loss_may_rise",
    "pretrained",
    "repeated_inputs",
    "rows_interact",
    "static_rows",
    "stochastic_data",
    "stochastic_eval",
    "stochastic_train",
)
"""Keys of `expects` that a check reads (tested against the checks' source)."""


def unread(config: Mapping[str, Any]) -> list[str]:
    """A line for each key that has no effect on one training."""
    lines = [f"expects.{key}: no check of this version reads it" for key in config.get("expects") or {} if key not in EXPECTED]
    if config.get("seeds", 1) != 1 and not config.get("experiment"):
        lines.append(f"seeds={config['seeds']} has no effect on dlrun train: it is for studies; say seed=N")
    log = config.get("log") or {}
    if log.get("watch") == "none" and log.get("watch_every", 100) != 100:
        lines.append(f"log.watch_every={log['watch_every']} has no effect with log.watch=none: say log.watch=gradients, parameters or all")
    return lines
