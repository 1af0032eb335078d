"""Logit lens: what a transformer would predict after each block, its hidden states read by the final norm and unembedding.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with
the Tuned Lens", section 2, eq. 2. B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun.functional.masks import network_input
from dlrun.probes._features import chosen
from dlrun.ranges import Count
from dlrun.trained import Trained
from dlrun.types import Look

BLOCKS = ("blocks", "layers", "h", "encoder.layers", "transformer.h", "decoder.layers")
NORMS = ("norm", "ln_f", "norm_f", "final_norm", "encoder.norm", "transformer.ln_f", "decoder.norm")
READOUTS = ("readout", "head", "lm_head", "unembed", "unembedding", "decoder", "output", "fc")
"""Where such parts usually are; a network of one's own may say."""
TOLERANCE = 1e-3


class Anatomy(NamedTuple):
    """The blocks, the norm behind them (None: none), and what reads logits off."""

    blocks: list[nn.Module]
    norm: nn.Module | None
    readout: nn.Module


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
    anatomy = _anatomy(name, module, blocks, norm, readout)
    sums = torch.zeros(2, len(anatomy.blocks) + 1, dtype=torch.float64)
    tokens = 0
    for batch in run.prepared(split, rows, size=64):
        y = batch.get("y")
        states, final, own = _states(module, network_input(module, batch, run.config["task"]["name"]), anatomy)
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


def _anatomy(name: str, module: nn.Module, blocks: str | None, norm: str | None, readout: str | None) -> Anatomy:
    def part(given: str | None, usual: tuple[str, ...], what: str) -> Any:
        found: Any = None
        for path in (given,) if given is not None else usual:
            found = found if found is not None else _attribute(module, str(path))
        if found is None and (given is not None or what != "norm"):
            have = ", ".join(child for child, _ in module.named_children())
            raise ValueError(
                f"network {name} has no {what}{f' {given!r}' if given else ' under a usual name'}: say {what}=PATH; it has {have}"
            )
        return found

    stack = part(blocks, BLOCKS, "blocks")
    if not isinstance(stack, (nn.Sequential, nn.ModuleList)):
        raise ValueError(f"blocks of network {name} is a {type(stack).__name__}, expected an nn.Sequential or nn.ModuleList of them")
    return Anatomy(list(stack), part(norm, NORMS, "norm"), part(readout, READOUTS, "readout"))


def _attribute(module: nn.Module, path: str) -> Any:
    """The module at `path`; None where there is none."""
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def _states(module: nn.Module, x: Any, anatomy: Anatomy) -> tuple[list[Tensor], nn.Module | None, Tensor]:
    """(hidden states [B, T, D] into the first block and out of each; the norm, if it comes after the last; the network's own logits)."""
    seen: list[tuple[str, Any]] = []

    def note(what: str, part: nn.Module, before: bool) -> Any:
        if before:
            return part.register_forward_pre_hook(lambda _, inputs: seen.append((what, inputs[0])))
        return part.register_forward_hook(lambda _, __, out: seen.append((what, out)))

    hooks = [note("state", block, False) for block in anatomy.blocks]
    hooks += [note("state", anatomy.blocks[0], True)] if anatomy.blocks else []
    hooks += [note("norm", anatomy.norm, True)] if anatomy.norm is not None else []
    hooks += [note("readout", anatomy.readout, True)]
    try:
        own = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    names = [what for what, _ in seen]
    last = max((i for i, what in enumerate(names) if what == "state"), default=-1)
    used = "norm" in names[last + 1 :]
    states = [_first(tensor) for what, tensor in seen if what == "state"]
    if not states:  # no blocks: what is read is what came in
        states = [next(_first(tensor) for what, tensor in seen if what == ("norm" if used else "readout"))]
    if len(states) != max(len(anatomy.blocks) + 1, 1) or "readout" not in names[last + 1 :] or not isinstance(own, Tensor):
        raise ValueError(
            "the network does not pass through its blocks once, one after another, and then through its readout: no lens fits it"
        )
    return states, anatomy.norm if used else None, own


def _first(hidden: Any) -> Tensor:
    """Hidden states, where a block gives a tuple its first entry."""
    found: Tensor = hidden[0] if isinstance(hidden, tuple) else hidden
    return found
