"""Bits per byte: the cross-entropy a byte of the text itself, which compares language models with different tokens.

Source: Gao et al. 2020, "The Pile: An 800GB Dataset of Diverse Text for Language Modeling", section 3.1 (BPB).
"""

from __future__ import annotations

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.tokens import has_unknown
from dlrun.registry import facts
from dlrun.types import DataSpec, Mean


@facts(best="min", batches=False, reads=("classes",), logits=True, probabilities=True, undefined="no target is counted")
def bits_per_byte(out: Tensor, y: Tensor, spec: DataSpec) -> Mean:
    """Bits a byte >= 0: nats of the counted targets / ln 2 / UTF-8 bytes of these very targets; out [..., V] logits, y [...] (-100: no).

    An unknown token stands for bytes that the network does not predict: each costs 8 bits more, what writing it out would, at the mean
    length of unknowns in this data. Raises ValueError where shapes differ or the data does not say how many bytes its tokens have.
    """
    if not spec.token_bytes:
        raise ValueError("bits_per_byte needs tokens that stand for bytes of a text; this data does not say how many each has")
    if out.shape[:-1] != y.shape or out.shape[-1] != len(spec.token_bytes):
        raise ValueError(
            f"bits_per_byte: logits [..., {len(spec.token_bytes)}] go with tokens [...]; found {list(out.shape)} and {list(y.shape)}"
        )
    y = y.reshape(-1)
    nats = F.cross_entropy(out.reshape(-1, out.shape[-1]).float(), y, reduction="sum")
    # Uncounted targets (-100) go to a bin of their own, which weighs nothing: no boolean index, hence no wait for the device.
    sizes = torch.tensor((*spec.token_bytes, 0.0), device=y.device)[torch.where(y < 0, len(spec.token_bytes), y)]
    spelled = (sizes * (y == 0)).sum() * 8 if has_unknown(spec.tokens) else 0.0
    return Mean(nats / log(2) + spelled, sizes.sum())
