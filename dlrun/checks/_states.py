"""What the outputs are read off: steps that were recorded or the filler behind them, every feature of a step or only their mean.

Where rows end is known: of a tail (or a head) of one value, or of a tensor of 0 and 1 beside the series. The outputs' gradient, in float64,
then says exactly which steps they see. Filler alone is a mask the wrong way round; filler a hundred times more than any recorded step is a
last place behind the padding, which a recurrent network reaches when it has forgotten what it read. Of an embedding whose features are
averaged one number is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import leaves
from dlrun.checks._dependence import Dependence
from dlrun.checks._frame import Finding, Subject, tensors
from dlrun.checks._padding import lengths
from dlrun.noise import seed_generators

SEEN, ITSELF, FAINT, LEAST, FEATURES = 0.9, 1, 0.02, 3, 4
RULE = f"recorded steps reach the outputs; one of them by > {FAINT:g} of what filler does; not the mean of features alone"


def misread(subject: Subject, probe: Dependence) -> Finding | None:
    """The finding where outputs are read off filler, or off the mean of the features of each step."""
    return of_filler(probe) or _of_layers(subject, probe)


def of_filler(probe: Dependence) -> Finding | None:
    """The same of filler alone."""
    pairs = ((leaf, there) for leaf in leaves(probe.x) for there in recorded(probe.x, leaf))
    return next((found for leaf, there in pairs if (found := _beside_filler(probe, leaf, there))), None)


def recorded(x: Any, leaf: Tensor) -> Iterator[Tensor]:
    """[B, T]: which steps of a leaf were recorded, by its own tail or head of one value, and by tensors of 0 and 1 beside it."""
    if leaf.dim() not in (2, 3) or leaf.dtype == torch.bool or leaf.shape[1] < 4:
        return
    steps = torch.arange(leaf.shape[1], device=leaf.device)[None]
    for turned in (False, True):
        ends = lengths(leaf.flip(1) if turned else leaf)
        if ends is not None:
            there = steps < ends[:, None]
            yield there.flip(1) if turned else there
    flat = leaf.reshape(*leaf.shape[:2], -1)
    for mask in leaves(x):
        if mask is leaf or mask.shape != leaf.shape[:2] or not bool(((mask == 0) | (mask == 1)).all()):
            continue
        for there in (mask.bool(), ~mask.bool()):
            rows = there.sum(1)
            if int(rows.min()) < LEAST or bool(there.all()) or int((~there).sum()) < LEAST:
                continue
            if bool((flat[~there] == flat[~there][:1]).all()) and len(flat[there].unique(dim=0)) > LEAST:
                yield there


def _beside_filler(probe: Dependence, leaf: Tensor, there: Tensor) -> Finding | None:
    """The verdict by how much recorded steps and filler move the outputs."""
    try:
        slope = probe.slopes.get(id(leaf))
    except Exception:  # a network that takes no float64
        return None
    if slope is None or slope.shape[:2] != there.shape or not bool((~there).any()):
        return None
    size = slope.abs().reshape(*there.shape, -1).amax(-1)
    known = there.any(1) & ~there.all(1)
    by_step, by_filler = (size.masked_fill(~where, 0)[known].amax(1) for where in (there, ~there))
    if not bool((by_filler > 0).all()):
        return None
    reached = ((size > 0) & there).sum(1)[known]
    filler = float((size[~there] > 0).float().mean())
    faint = float((by_step / by_filler).median())
    numbers: dict[str, Any] = {"filler": filler, "recorded": float(reached.float().mean()), "step_to_filler": faint}
    if filler >= SEEN and int(reached.max()) <= ITSELF and int(there.sum(1)[known].min()) >= LEAST:
        text = (
            f"the outputs see the filler of rows ({filler:.0%} of it), and of the recorded steps {'one' if int(reached.max()) else 'none'}"
        )
        cause = "the mask is upside down: True hides a step in key_padding_mask, and shows it in others"
        return Finding("error", text, cause, "negate the mask, and print it beside a row", numbers, RULE)
    if faint < FAINT and int(known.sum()) * 2 >= len(known):
        text = f"the filler of rows moves the outputs, recorded steps hardly do ({faint:.1%} as much as it, in the middle row)"
        cause = "the last place of a padded row is read, [:, -1], far behind its last recorded step"
        step = "read the state at lengths - 1, or give the layer rows packed by pack_padded_sequence"
        return Finding("warning", text, cause, step, numbers, RULE)
    return None


def _of_layers(subject: Subject, probe: Dependence) -> Finding | None:
    """The verdict by how the outputs hang on what embeddings and recurrent layers give."""
    heard = _gradients(subject, probe)
    for name, slope in heard:
        top = float(slope.abs().max())
        if top == 0 or slope.dim() != 3:
            continue
        if slope.shape[-1] >= FEATURES and float((slope - slope[..., :1]).abs().max()) <= 1e-5 * top:
            text = f"all {slope.shape[-1]} numbers that {name} gives for a step count alike, wherever the step is: only their mean is read"
            cause = "a mean or sum over the features (dim=-1), where the one over the steps (dim=1) was meant"
            return Finding("warning", text, cause, "print the shapes before and after it", {"layer": name}, RULE)
    return None


def _gradients(subject: Subject, probe: Dependence) -> list[tuple[str, Tensor]]:
    """(name, gradient of the outputs) for what each embedding and recurrent layer gives, called once each."""
    run, given = probe.run, list[tuple[str, nn.Module, Tensor]]()

    def hook(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, out: Any) -> None:
            first = out[0] if isinstance(out, tuple) else out
            if isinstance(first, Tensor) and first.requires_grad:
                given.append((name, module, first))

        return note

    named = [(f"{name}.{path}", part) for name in run.nets for path, part in run.modules[name].named_modules()]
    handles = [part.register_forward_hook(hook(name)) for name, part in named if isinstance(part, (nn.Embedding, nn.RNNBase))]
    if not handles:
        return []
    try:
        with torch.enable_grad(), run.precision.autocast():
            seed_generators(run.seed, "check")
            found = tensors(run.task.outputs(run.nets, probe.batch.map(torch.clone)))  # type: ignore[attr-defined]
            total = sum((_drawn(t) * t).sum() for t in found if t.is_floating_point() and t.requires_grad)
    finally:
        for handle in handles:
            handle.remove()
    once = [entry for entry in given if sum(entry[1] is other[1] for other in given) == 1]
    if not once or not isinstance(total, Tensor):
        return []
    slopes = torch.autograd.grad(total, [out for _, _, out in once], allow_unused=True)
    return [(name, slope) for (name, _, _), slope in zip(once, slopes, strict=True) if slope is not None]


def _drawn(t: Tensor) -> Tensor:
    return torch.randn(t.shape, generator=torch.Generator().manual_seed(3)).to(t)
