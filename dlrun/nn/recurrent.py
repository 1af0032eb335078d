"""What recurrent networks share: layers of one of torch's cells over a sequence, dropout between them, one output a row or a step.

Source: Zaremba, Sutskever, Vinyals 2014, "Recurrent Neural Network Regularization", section 3.1 (dropout on what is not recurrent);
Schuster, Paliwal 1997, "Bidirectional Recurrent Neural Networks", section II.B. The cells are torch.nn's, with its initialisation.
B batch, T steps, F features of a step, H width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlrun.nn.layers import Readout, shape_text
from dlrun.nn.sequence import lengths, mean_of, unpacked


@dataclass(frozen=True)
class Form:
    """The options that recurrent networks have in common."""

    width: int
    depth: int
    dropout: float
    bidirectional: bool
    pool: str | None


class Recurrent(nn.Module):
    """Sequences -> [B, *out_shape], or [B, T, *out_shape] where `pool` is None. Every call begins with a state of zeros.

    Layers are cells of one layer each: torch's own dropout between layers draws from a stream that a resumed run on a GPU cannot restore.
    """

    takes_mask = True

    def __init__(
        self, model: str, cell: Callable[..., nn.RNNBase], features: int, vocab: int | None, out_shape: tuple[int, ...], form: Form
    ) -> None:
        super().__init__()
        self.model, self.pool, self.causal = model, form.pool, not form.bidirectional
        self.tokens = nn.Embedding(vocab, form.width) if vocab is not None else None
        wide = form.width * (2 if form.bidirectional else 1)
        inputs = [features if vocab is None else form.width, *[wide] * (form.depth - 1)]
        self.layers = nn.ModuleList(cell(size, form.width, batch_first=True, bidirectional=form.bidirectional) for size in inputs)
        self.drop = nn.Dropout(form.dropout)
        self.readout = Readout(wide, out_shape)

    def forward(self, x: Any) -> Tensor:
        rows, mask = unpacked(self.model, x)
        hidden: Any = self._steps(rows)
        counts = None if mask is None else lengths(mask)
        state = hidden
        for number, layer in enumerate(self.layers):
            hidden, state = _through(layer, self.drop(hidden) if number else hidden, counts)
        if self.pool == "last":
            state = state[0] if isinstance(state, tuple) else state  # of an LSTM the output, not the cell
            hidden = torch.cat(tuple(state), 1)  # forwards at the last step, backwards at the first
        elif self.pool == "mean":
            hidden = mean_of(hidden, mask)
        out: Tensor = self.readout(self.drop(hidden))
        return out

    def _steps(self, rows: Tensor) -> Tensor:
        """[B, T, F]: embedded tokens, rows of images from top to bottom, or what stands there."""
        if self.tokens is not None:
            embedded: Tensor = self.tokens(rows)
            return embedded
        if rows.dim() == 4:
            return rows.transpose(1, 2).flatten(2)
        return rows[..., None] if rows.dim() == 2 else rows


def _through(layer: nn.Module, hidden: Tensor, counts: Tensor | None) -> tuple[Tensor, Any]:
    """One layer over all steps: (outputs [B, T, H], last state); backwards it begins at each row's last real step."""
    if counts is None:
        return layer(hidden)  # type: ignore[no-any-return]
    packed, state = layer(pack_padded_sequence(hidden, counts.cpu(), batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(packed, batch_first=True, total_length=hidden.shape[1])[0], state


def recurrent(
    model: str, cell: Callable[..., nn.RNNBase], in_shape: tuple[int, ...], out_shape: tuple[int, ...], vocab: int | None, form: Form
) -> Recurrent:
    """The network `model` of `cell`s for rows of `in_shape`: tokens (T,), numbers (T,) or (T, F), images (C, H, W) as H rows of C W.

    One output a step where out_shape is (T, ...) with more axes than one, or pool is none; else one a row. ValueError where that cannot be.
    """
    if (vocab is not None and len(in_shape) != 1) or not 1 <= len(in_shape) <= 3:
        what = "tokens (T,)" if vocab is not None else "sequences: (T,), (T, F), or images (C, H, W) as H rows"
        raise ValueError(f"{model} takes {what}; this dataset's rows are {shape_text(in_shape)}")
    steps = in_shape[1] if len(in_shape) == 3 else in_shape[0]
    features = in_shape[0] * in_shape[2] if len(in_shape) == 3 else (*in_shape, 1)[1]
    aligned = len(out_shape) > 1 and out_shape[0] == steps
    pool = form.pool or ("none" if aligned else "last")
    if pool == "none" and (not out_shape or out_shape[0] != steps):
        raise ValueError(
            f"pool=none gives one output a step; found {steps} steps and outputs {shape_text(out_shape)}: say pool=last or mean"
        )
    if pool != "none" and vocab is not None and out_shape == (steps, vocab):
        raise ValueError(f"pool={pool} would show each prediction the tokens after it: one output a step is needed, say pool=null")
    settled = Form(form.width, form.depth, form.dropout, form.bidirectional, None if pool == "none" else pool)
    return Recurrent(model, cell, features, vocab, out_shape[1:] if pool == "none" else out_shape, settled)
