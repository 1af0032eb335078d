"""Attention whose weights are made to sum to 1 over one axis and then summed over another, or that sees nothing but itself.

Heard is every softmax of forward whose result, dropout and masks behind it or not, stands first in a matrix product: what is summed there
are its columns, so these must be what the softmax went over. Square ones alone are judged, steps by steps: an assignment of nodes to
clusters is summed over its other axis, transposed, and is no attention (Ying et al. 2018, "DiffPool", equation 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dlrun.checks._dependence import Dependence, exchanged
from dlrun.checks._finding import Finding
from dlrun.checks._frame import Subject

SOFTMAX = {torch.softmax, Tensor.softmax, F.softmax}
KEPT = {F.dropout, torch.dropout, Tensor.masked_fill, Tensor.to, Tensor.float, Tensor.contiguous, torch.nan_to_num, Tensor.nan_to_num}
PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm}
ATTENTION = {F.scaled_dot_product_attention, F.multi_head_attention_forward, torch._native_multi_head_attention}
RULE = "a softmax goes over the axis that its weights are summed over"


class _Weights(TorchFunctionMode):
    """(axes, axis) of square softmaxes that are summed over another axis than they went over."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, tuple[Tensor, int]] = {}
        self.wrong: list[tuple[tuple[int, ...], int]] = []
        self.sizes: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        out = func(*args, **named)
        first = args[0] if args else named.get("input")
        if func in ATTENTION and isinstance(first, Tensor):
            self.sizes |= {*first.shape[:-1]}
        if not isinstance(out, Tensor) or not isinstance(first, Tensor):
            return out
        if func in SOFTMAX:
            axis = named.get("dim", args[1] if len(args) > 1 else None)
            if isinstance(axis, int) and out.dim() > 2 and out.shape[-1] == out.shape[-2] > 2:
                self.known[id(out)] = out, axis % out.dim()
                self.sizes.add(out.shape[-1])
        elif func in KEPT and id(first) in self.known and out.shape == first.shape:
            self.known[id(out)] = out, self.known[id(first)][1]
        elif func in PRODUCTS and id(first) in self.known:
            axis = self.known[id(first)][1]
            if axis != first.dim() - 1:
                self.wrong.append((tuple(first.shape), axis))
        return out


def itself_alone(subject: Subject, probe: Dependence) -> Finding | None:
    """The finding on attention after which each position's output depends on no other position; None where it does, or nothing attends."""
    x = probe.x
    if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[1] < 4:
        return None
    outputs = [out for out in probe.base if out.dim() > 2 and out.shape[:2] == x.shape[:2]]
    if not outputs or len(outputs) < len(probe.base):
        return None
    run, heard = subject.copy(), _Weights()
    with heard:
        subject.outputs(run, subject.prepared(run, subject.few), training=False)
    if x.shape[1] not in heard.sizes or any(_reached(probe, x, at) for at in (x.shape[1] // 2, x.shape[1] - 1)):
        return None
    text = "there is attention, yet the output at each position depends on the input at that position alone"
    cause = "the mask is inverted or diagonal, so that every query sees itself and nothing else"
    step = "print one head's weights; True in attn_mask hides in MultiheadAttention and shows in scaled_dot_product_attention"
    return Finding("warning", text, cause, step, {"steps": x.shape[1]}, "another position moves an output")


def _reached(probe: Dependence, x: Tensor, at: int) -> bool:
    """Whether other inputs everywhere but at one position move a bit of the outputs there."""
    place = (slice(None), slice(at, at + 1))
    kept = exchanged(x).clone()
    kept[place] = x[place]
    moved = probe.out(probe.batch.replace(x=kept))
    return any(not torch.equal(new[place], old[place]) for new, old in zip(moved, probe.base, strict=True))


def wrong_axis(subject: Subject) -> Finding | None:
    """The finding on a softmax over the wrong axis of attention weights; None where there is none."""
    run, heard = subject.copy(), _Weights()
    batch = subject.prepared(run, subject.few)
    with heard:
        subject.outputs(run, batch, training=False)
    if not heard.wrong:
        return None
    shape, axis = heard.wrong[0]
    text = f"attention weights of shape {list(shape)} come from a softmax over axis {axis}, and are summed over axis {len(shape) - 1}: "
    text += "the weights of one query do not sum to 1"
    cause = "softmax(dim=-2), or another axis than that of the keys, in the attention"
    numbers = {"shape": shape, "softmax": axis, "summed": len(shape) - 1}
    return Finding("warning", text, cause, "softmax(dim=-1) of the scores [.., queries, keys]", numbers, RULE)
