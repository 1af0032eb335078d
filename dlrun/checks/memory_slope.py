"""Steps leave nothing behind: a graph that is kept from step to step fills the memory, slowly and without a word.

Bytes of the process say little on a CPU (allocators keep what they got), so what is alive is counted: tensors after 6, 10 and 14 steps,
and the nodes of the graphs that hang on them. Tensors without a graph (a cache, a log of losses) are a note. Where nothing grew from step 2
to step 4, no more is asked.
"""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._rates import idle
from dlrun.checks._trial import steps_on
from dlrun.finite import NonFinite
from dlrun.run import Run

Alive = tuple[int, int, int, Counter[tuple[int, ...]]]
SOON, AT, NODES = (2, 4), (6, 10, 14), 20_000
RULE = "no more tensors with a graph, and no larger graphs, after 14 steps than after 10 and 6"


@check(stage="learning", moment="check", recipe="loss.item() for a log, never the loss itself")
def memory_slope(subject: Subject) -> Finding:
    """Live tensors by shape, and nodes of graphs, at three points of a short training."""
    reason = idle(subject)
    if reason or subject.run.steps < AT[-1]:
        return skipped(reason or f"train.steps is below {AT[-1]}")
    try:
        run = subject.copy()
        at: tuple[int, ...] = SOON
        points = _watched(run, 0, SOON)
        if any(later > sooner for sooner, later in zip(points[0][:3], points[1][:3], strict=True)):
            at, points = AT, _watched(run, SOON[-1], AT)
    except NonFinite as error:
        return skipped(f"{error}: see step_lowers_loss")
    numbers: dict[str, Any] = {"steps": list(at), "with_graph": [p[0] for p in points], "nodes": [p[1] for p in points]}
    numbers["bytes_without_graph"] = [p[2] for p in points]
    text = f"live tensors with a graph after {', '.join(map(str, at))} steps: {', '.join(map(str, numbers['with_graph']))}"
    cause = "a tensor that carries its graph is kept: a list of outputs or losses, or a running sum of them"
    if at == SOON:
        return Finding("ok", f"steps leave nothing behind: {text}", numbers=numbers, threshold=RULE)
    if _grows(numbers["with_graph"]) or _grows(numbers["nodes"]):
        shape = (points[-1][3] - points[0][3]).most_common(1)
        text += f" (shape {list(shape[0][0])})" if shape else f"; nodes of their graphs {', '.join(map(str, numbers['nodes']))}"
        return Finding("warning", f"{text}: every step leaves its graph behind", cause, "keep x.detach() or x.item()", numbers, RULE)
    weights = sum(p.numel() * p.element_size() for module in run.modules.values() for p in module.parameters())
    more = (numbers["bytes_without_graph"][-1] - numbers["bytes_without_graph"][1]) / (AT[2] - AT[1])
    if _grows(numbers["bytes_without_graph"]) and more > max(0.01 * weights, 1e5):
        text = f"every step leaves {more / 1e3:.0f} kB in tensors behind"
        return Finding("info", f"{text}: a cache that fills?", numbers=numbers, threshold=RULE)
    return Finding("ok", f"steps leave nothing behind: {text}", numbers=numbers, threshold=RULE)


def _watched(run: Run, done: int, at: tuple[int, ...]) -> list[Alive]:
    """What is alive after each number of steps in `at`, `done` of which the run has taken already."""
    points = []
    for end in at:
        done = steps_on(run, done, end)
        points.append(_alive())
    return points


def _grows(values: list[int]) -> bool:
    """Whether each span of four steps added at least four."""
    return all(b - a >= 4 for a, b in zip(values, values[1:], strict=False))


def _alive() -> Alive:
    """(tensors with a graph, nodes of these graphs, bytes of the other tensors, shapes of the first)."""
    gc.collect(1)  # a whole collection takes half a second beside torch; what is young is enough
    objects = gc.get_objects()
    kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, Tensor)}
    tensors = [item for item in objects if type(item) in kinds]
    live = [t for t in tensors if t.grad_fn is not None]
    rest = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.grad_fn is None and t.layout == torch.strided
    }
    return len(live), _nodes([t.grad_fn for t in live]), sum(rest.values()), Counter(tuple(t.shape) for t in live)


def _nodes(roots: list[Any]) -> int:
    """How many nodes the graphs have, up to 20,000."""
    seen: set[Any] = set()
    todo = [node for node in roots if node is not None]
    while todo and len(seen) < NODES:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        todo += [parent for parent, _ in node.next_functions if parent is not None]
    return len(seen)
