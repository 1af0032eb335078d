"""A fingerprint of the data: equal content gives equal text on every machine; its cost is bounded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from dlrun.batch import leaves
from dlrun.data.sources import Source, Tensors

WHOLE_BYTES = 2**26
"""Splits in memory up to 64 MiB are hashed whole (about 40 ms), of larger ones 4096 rows."""
SAMPLED_ROWS = 4096
FIRST_ITEMS = 16


def _update(digest: hashlib._Hash, tensor: Tensor) -> None:
    plain = tensor.detach().cpu().contiguous()
    digest.update(f"{plain.dtype}|{tuple(plain.shape)}|".encode())
    if plain.numel():
        digest.update(plain.flatten().view(torch.uint8).numpy().data)


def _probe(source: Source) -> tuple[str, Tensor]:
    if not isinstance(source, Tensors):
        return f"first {FIRST_ITEMS} items", torch.arange(min(FIRST_ITEMS, len(source)))
    if source.nbytes() <= WHOLE_BYTES:
        return "all rows", torch.arange(len(source))
    return f"{SAMPLED_ROWS} rows", torch.linspace(0, len(source) - 1, SAMPLED_ROWS).long()


def fingerprint(sources: Mapping[str, Source]) -> str:
    """`sha256:<hex> (what of each split was hashed)` over names, lengths, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    covered = []
    for split, source in sources.items():
        what, rows = _probe(source)
        whole = isinstance(source, Tensors) and source.rows is None and what == "all rows"
        taken = source.leaves if whole else source.take(rows.to(source.device))  # type: ignore[union-attr]
        digest.update(f"{split}|{len(source)}|".encode())
        for name in sorted(taken):
            digest.update(f"{name}|".encode())
            for tensor in leaves(taken[name]):
                _update(digest, tensor)
        covered.append(f"{split}: {what}")
    return f"sha256:{digest.hexdigest()} ({', '.join(covered)})"
