"""Skipped layers: the likeliest token where embedding meets unembedding at once, all blocks left out. Itself, or what follows it?

Source: nostalgebraist 2020, "interpreting GPT: the logit lens" (the first hidden state is the token read, the last the one to come);
Press, Wolf 2017, "Using the Output Embedding to Improve Language Models" (tied). B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dlrun.functional.masks import network_input
from dlrun.probes._blocks import anatomy_of, states_of
from dlrun.probes._features import chosen
from dlrun.ranges import Count
from dlrun.trained import Trained


@torch.no_grad()
def skip_layers(
    run: Trained,
    *,
    network: str | None,
    blocks: str | None,
    norm: str | None,
    readout: str | None,
    split: Literal["train", "val", "test"],
    rows: Count | None,
) -> dict[str, float]:
    """Shares of the tokens t of `split` (so that frequent ones count more) for which argmax readout(norm(embed(t) + position)) is t,
    `itself`; the token that follows t most often in train, `successor`; another, `other`. They add up to 1 over the tokens that are not
    their own commonest successor; told_apart is the share of those.

    Raises ValueError for a network without such parts, data that are no tokens, and where no token tells the answers apart.
    """
    name, module = chosen(run, network)
    anatomy = anatomy_of(name, module, blocks, norm, readout)
    if run.spec.vocab is None:
        raise ValueError("needs tokens of a vocabulary; this data has none")
    after = torch.from_numpy(_commonest(run, run.spec.vocab)).to(run.device)
    seen = itself = successor = apart = 0
    for batch in run.prepared(split, rows, size=64):
        states, final, _ = states_of(module, network_input(module, batch, run.config["task"]["name"]), anatomy)
        told = anatomy.readout(states[0] if final is None else final(states[0])).argmax(-1)
        tokens = _tokens(batch["x"], told)
        differs = (after[tokens] != tokens) & (after[tokens] >= 0)
        seen, apart = seen + tokens.numel(), apart + int(differs.sum())
        itself += int((told == tokens)[differs].sum())
        successor += int((told == after[tokens])[differs].sum())
    if not apart:
        raise ValueError(f"each token of {split} is its own commonest successor, or has none in train: nothing to tell apart")
    other = apart - itself - successor
    return {"itself": itself / apart, "successor": successor / apart, "other": other / apart, "told_apart": apart / seen}


def _tokens(x: Tensor, told: Tensor) -> Tensor:
    if x.shape != told.shape:
        raise ValueError(f"needs logits [B, T, V] for tokens x [B, T]; x is {list(x.shape)}, logits are [{list(told.shape)}, V]")
    return x


def _commonest(run: Trained, vocab: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each token the one that follows it most often in train, of equals the last; -1 where nothing does."""
    pairs = [(batch["x"] * vocab + batch["y"])[batch["y"] >= 0].cpu().numpy() for batch in run.prepared("train")]
    kinds, times = np.unique(np.concatenate(pairs), return_counts=True)
    kinds = kinds[np.argsort(times, kind="stable")]
    found = np.full(vocab, -1, dtype=np.int64)
    found[kinds // vocab] = kinds % vocab  # of a token's pairs the last one stays, the commonest
    return found
