"""Hears whether any dropout acts during a forward, whoever calls it and by whatever function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

FUNCTIONS = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    torch.dropout,
    F.scaled_dot_product_attention,
)


class Dropouts(TorchFunctionMode):
    """`active` is true once a dropout function dropped anything under this mode."""

    active = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func in FUNCTIONS:
            self.active = self.active or _acts(func, args, named)
        return func(*args, **named)


def _acts(func: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Whether a call of one of `FUNCTIONS` drops anything; all but attention take (input, p, training)."""
    if func is F.scaled_dot_product_attention:
        return bool(named.get("dropout_p", args[4] if len(args) > 4 else 0.0) > 0)
    usual = 0.5 if func is not F.alpha_dropout and func is not F.feature_alpha_dropout else 0.0
    p = named.get("p", args[1] if len(args) > 1 else usual)
    training = named.get("training", named.get("train", args[2] if len(args) > 2 else func in (F.dropout, *FUNCTIONS[1:4])))
    return bool(training) and p > 0
