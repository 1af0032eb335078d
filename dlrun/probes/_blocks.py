"""Where a network's blocks, its norm behind them and its readout are, and the hidden states between them. B batch, T tokens, D width."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

BLOCKS = ("blocks", "layers", "h", "encoder.layers", "transformer.h", "decoder.layers")
NORMS = ("norm", "ln_f", "norm_f", "final_norm", "encoder.norm", "transformer.ln_f", "decoder.norm")
READOUTS = ("readout", "head", "lm_head", "unembed", "unembedding", "decoder", "output", "fc")
"""Where such parts usually are; a network of one's own may say."""


class Anatomy(NamedTuple):
    """The blocks, the norm behind them (None: none), and what reads logits off."""

    blocks: list[nn.Module]
    norm: nn.Module | None
    readout: nn.Module


def anatomy_of(name: str, module: nn.Module, blocks: str | None, norm: str | None, readout: str | None) -> Anatomy:
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


def states_of(module: nn.Module, x: Any, anatomy: Anatomy) -> tuple[list[Tensor], nn.Module | None, Tensor]:
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
