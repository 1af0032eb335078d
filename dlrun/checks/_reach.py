"""Which trainable parameters the gradient of a step reaches, over several batches, and which leaves of the graph belong to no network.

Gradients are taken of an awake copy (zero tensors filled): below a head that starts at zero every gradient is zero at step 0, and a look
again after a few steps would hang on the learning rate and its warm-up. One backward suffices where all is reached; where not, up to 20
batches are looked at before a parameter counts as out of reach: experts, branches and layers may be skipped for a batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import leaves
from dlrun.checks._dependence import awaken
from dlrun.checks._frame import Subject, tensors
from dlrun.checks._trial import once
from dlrun.noise import seed_generators
from dlrun.run import Run

BATCHES, SECONDS, LEAST = 20, 3.0, 4
NODES = 200_000


@dataclass
class Reach:
    """What the gradient of one objective after another reached."""

    names: list[str]
    sizes: list[int]
    """Numbers in each parameter."""
    got: list[bool]
    """Whether a gradient, zero or not, came."""
    moved: list[bool]
    """Whether one that is not all zero came."""
    batches: int = 0
    severed: bool = False
    """Whether no loss has a gradient at all."""
    loss: float = float("nan")
    called: set[str] = field(default_factory=set)
    """Layers that forward called."""
    partial: set[str] = field(default_factory=set)
    """Layers that were called with fewer rows than the largest call, or not in every batch: conditional computation."""
    foreign: list[str] = field(default_factory=list)
    """Tensors with a gradient that belong to no network and stay from step to step: where they are kept, or their shape."""
    anew: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes of parameters with a gradient that were drawn anew in each step; a state that begins with constants is none."""


@once
def reach(subject: Subject) -> Reach:
    """Look at one batch, and at more where something was not reached."""
    run = awaken(subject.copy())
    known = subject.parameters(run)
    parameters = list(known.values())
    found = Reach(list(known), [p.numel() for p in parameters], [False] * len(parameters), [False] * len(parameters))
    counted: dict[str, int] = {}
    kept: list[list[Tensor]] = []
    begun = time.perf_counter()
    for step in range(BATCHES):
        seen = _Calls(run)
        strangers = _backward(subject, run, step, parameters, found)
        found.batches += 1
        rows = seen.end()
        for name, share in rows.items():
            counted[name] = counted.get(name, 0) + 1
            found.partial |= {name} if share < 1 else set()
        if len(kept) < 2:
            kept.append(strangers)
        done = all(found.moved) or (step >= LEAST and time.perf_counter() - begun > SECONDS)
        if done and (len(kept) > 1 or not strangers):
            break
    found.called = set(counted)
    found.partial |= {name for name, times in counted.items() if times < found.batches}
    lasting = [t for t in kept[0] if any(t is other for other in kept[-1])] if len(kept) > 1 else []
    found.foreign = [_where(run, t) for t in lasting]
    passing = kept[0] if len(kept) > 1 and not lasting else []
    found.anew = [tuple(t.shape) for t in passing if isinstance(t, nn.Parameter) and bool((t != t.flatten()[:1]).any())]
    return found


class _Calls:
    """Hears which layers are called, and with what share of the rows of the largest call."""

    def __init__(self, run: Run) -> None:
        self.rows: dict[str, int] = {}
        self.handles = [
            part.register_forward_hook(self._hook(f"{name}.{path}".rstrip(".")))
            for name, module in run.modules.items()
            for path, part in module.named_modules()
        ]

    def _hook(self, name: str) -> Any:
        def hear(module: nn.Module, inputs: Any, out: Any) -> None:
            first = next(iter(tensors(inputs)), None)
            self.rows[name] = max(self.rows.get(name, 0), len(first) if first is not None and first.dim() else 1)

        return hear

    def end(self) -> dict[str, float]:
        """Name -> rows over those of the layer around it, where that was called."""
        for handle in self.handles:
            handle.remove()
        return {name: rows / max(self.rows.get(name.rpartition(".")[0], rows), 1) for name, rows in self.rows.items()}


def _backward(subject: Subject, run: Run, step: int, parameters: list[nn.Parameter], found: Reach) -> list[Tensor]:
    """Gradients of every objective of one batch, written into `found`; gives the leaves of the graph that nobody knows."""
    batch = subject.prepared(run, subject.raw if step == 0 else run.data.batches(step)[0])
    for module in run.modules.values():
        module.train()
    seed_generators(run.seed, step, "reach")
    own, strangers, severed = {id(p) for module in run.modules.values() for p in module.parameters()}, [], True
    own |= {id(leaf) for leaf in leaves(dict(batch))}
    with torch.enable_grad(), run.precision.autocast():
        for objective in run.task.objectives(run.nets, batch):
            if not isinstance(objective.loss, Tensor) or not objective.loss.requires_grad:
                continue
            severed, found.loss = False, float(objective.loss.detach().sum())
            strangers += [leaf for leaf in _leaves(objective.loss) if id(leaf) not in own]
            mine = [n for n, name in enumerate(found.names) if name.split(".")[0] in (*objective.update, "loss")]
            chosen = [parameters[n] for n in mine]
            if not chosen:
                continue
            slopes = torch.autograd.grad(objective.loss.sum(), chosen, retain_graph=True, allow_unused=True)
            for n, slope in zip(mine, slopes, strict=True):
                found.got[n] |= slope is not None
                found.moved[n] |= slope is not None and _any(slope)
    found.severed = severed
    return strangers


def _any(slope: Tensor) -> bool:
    """Whether a gradient (dense or sparse) is not all zero."""
    return bool((slope.coalesce().values() if slope.is_sparse else slope).any())


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """The tensors at which the graph of `loss` ends."""
    waiting: list[Any] = [loss.grad_fn]
    seen: set[Any] = set()
    while waiting and len(seen) < NODES:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            yield leaf
        waiting += [following for following, _ in node.next_functions]


def _where(run: Run, tensor: Tensor) -> str:
    """Where a tensor is kept in the networks or the task: `model.layers[0].weight`; its shape where it is not found."""
    holders: list[tuple[str, Any]] = [
        (f"{name}.{path}".rstrip("."), part) for name, m in run.modules.items() for path, part in m.named_modules()
    ]
    kept = ((f"{name}.{key}", value) for name, holder in [*holders, ("task", run.task)] for key, value in _attributes(holder).items())
    for path, value in kept:
        found = _inside(value, tensor, path, 3)
        if found:
            return found
    return f"a tensor of shape {tuple(tensor.shape)}"


def _attributes(holder: Any) -> dict[str, Any]:
    """What an object holds beside what torch registered."""
    return {key: value for key, value in vars(holder).items() if key not in ("_parameters", "_buffers", "_modules")}


def _inside(value: Any, tensor: Tensor, path: str, depth: int) -> str:
    """Where `tensor` stands in lists, dicts and modules; "" where it does not."""
    if value is tensor:
        return path
    if isinstance(value, nn.Module):
        return next((f"{path}.{key}" for key, p in value.named_parameters() if p is tensor), "")
    if depth == 0 or not isinstance(value, (list, tuple, dict)):
        return ""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return next((where for key, item in items if (where := _inside(item, tensor, f"{path}[{key}]", depth - 1))), "")
