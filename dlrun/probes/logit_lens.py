"""Logit lens: what a transformer would predict after each block, its hidden states read by the final norm and unembedding.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with
the Tuned Lens", section 2, eq. 2. B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.functional.masks import network_input
from dlrun.probes._blocks import anatomy_of, states_of
from dlrun.probes._features import chosen
from dlrun.ranges import Count
from dlrun.trained import Trained
from dlrun.types import Look

TOLERANCE = 1e-3


@torch.no_grad()
def logit_lens(
    run: Trained,
    *,
    network: str | None,
    blocks: str | None,
    norm: str | None,
    readout: str | None,
    split: Literal["train", "val", "test"],
    rows: Count | None,
) -> tuple[dict[str, float], dict[str, Look]]:
    """cross_entropy_l and entropy_l, in nats a predicted token, l = 0 (what goes into the first block) .. L (what comes out of the last);
    layers L. cross_entropy_L is the network's own, and held to it.

    Raises ValueError for a network without such parts, or one that does something else between its last block and its logits.
    """
    name, module = chosen(run, network)
    anatomy = anatomy_of(name, module, blocks, norm, readout)
    sums = torch.zeros(2, len(anatomy.blocks) + 1, dtype=torch.float64)
    tokens = 0
    for batch in run.prepared(split, rows, size=64):
        y = batch.get("y")
        states, final, own = states_of(module, network_input(module, batch, run.config["task"]["name"]), anatomy)
        if not isinstance(y, Tensor) or y.is_floating_point() or own.shape[:-1] != y.shape:
            raise ValueError(f"needs logits [B, T, V] and a token y [B, T] to predict at each position; logits are {list(own.shape)}")
        counted = y >= 0
        for layer, hidden in enumerate(states):
            logits = anatomy.readout(hidden if final is None else final(hidden))
            if layer == len(states) - 1 and not torch.allclose(logits, own, atol=TOLERANCE, rtol=TOLERANCE):
                raise ValueError(f"network {name} does something else between its last block and its logits: name norm= and readout=")
            chances = logits[counted].double().log_softmax(-1)
            sums[0, layer] += F.nll_loss(chances, y[counted], reduction="sum").cpu()
            sums[1, layer] -= (chances.exp() * chances).sum().cpu()
        tokens += int(counted.sum())
    if not tokens:
        raise ValueError(f"no token of {split} is to be predicted")
    found = {side: (sums[i] / tokens).tolist() for i, side in enumerate(("cross_entropy", "entropy"))}
    numbers = {f"{side}_{layer}": value for side, values in found.items() for layer, value in enumerate(values)}
    curves = {side.replace("_", "-"): values for side, values in found.items()}
    look = Look("lines", {**curves, "xlabel": "blocks passed", "ylabel": f"nats a token, {split}"}, "predictions read off after each block")
    return {**numbers, "layers": len(anatomy.blocks), "tokens": tokens}, {"logit_lens": look}
