"""Ways in which parts of one data set come apart without being lost: numbers laid out by reshape, nodes in another order than their edges.

Each way is undone, and simple models are asked whether they find the labels then. A way that was not taken destroys what there is to find.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from dlrun.checks._frame import Subject
from dlrun.checks._inputs import JUDGED, features, graph_sums, graphs, labels, parts, sample
from dlrun.functional.relation import Relation, within

LEAST, TRIED, MOST = 100, 8, 2**17
GAIN, NODES = 0.25, 8


def turned(subject: Subject, own: Relation) -> tuple[str, Relation] | None:
    """("targets" or "inputs", how well labels are told) where these were made [N, K] from [K, N] by reshape; None where not."""
    rows = sample(subject, "train")
    given, known = features(rows), labels(subject, rows.y)
    whole = _whole(subject) if given is not None and known is not None else None
    if given is None or known is None or whole is None:
        return None
    (y, classes), at = known, rows.indices[:JUDGED]
    for name, table in (("targets", whole[1]), ("inputs", whole[0])):
        if table is None or table.dim() != 2 or not 1 < table.shape[1] <= 16 or not bool(table.isfinite().all()):
            continue
        other = table.reshape(table.shape[1], -1).T[at].float()
        if name == "targets" and classes is None:
            found = within(given[:JUDGED], other, None)
        elif name == "inputs":
            found = within(other, y[:JUDGED], classes)
        else:
            continue
        if found.clear() and found.strength > own.strength + GAIN:
            return name, found
    return None


def _whole(subject: Subject) -> tuple[Tensor | None, Tensor | None] | None:
    """(x, y) of all of train in order; items that are read one by one where a quarter of the check's time allows."""
    data = subject.run.data
    source, count = data.raw("train"), data.rows["train"]
    if not LEAST <= count <= MOST:
        return None
    begun = time.thread_time()
    first = data.head("train", min(TRIED, count))
    each = (time.thread_time() - begun) / TRIED
    small = [leaf for name in ("x", "y") for leaf in parts(first.get(name)).values() if leaf.dim() == 2 and 1 < leaf.shape[1] <= 16]
    if not small or (not getattr(source, "in_memory", False) and each * count > subject.patience / 4):
        return None
    whole = data.head("train", count)
    x, y = whole.get("x"), whole.get("y")
    return (x.cpu() if isinstance(x, Tensor) else None), (y.cpu() if isinstance(y, Tensor) else None)


def misordered(subject: Subject, own: Relation) -> tuple[str, Relation] | None:
    """(order, how well labels are told) where graphs tell them once their edges, not their nodes, are put in another order; else None."""
    rows = sample(subject, "train")
    graph, known = graphs(rows.x), labels(subject, rows.y)
    if graph is None or known is None or len(rows) < LEAST:
        return None
    (nodes, adj), (y, classes) = (part[:JUDGED] for part in graph), known
    found = []
    for name, order in _orders(adj):
        moved = adj.gather(1, order[:, :, None].expand_as(adj)).gather(2, order[:, None, :].expand_as(adj))
        table = graph_sums(nodes, moved)
        if table is not None and not torch.equal(moved, adj):
            found.append((name, within(table, y[:JUDGED], classes)))
    best = max(found, key=lambda pair: pair[1].strength, default=None)
    return best if best and best[1].clear() and best[1].strength > own.strength + GAIN else None


def misplaced(subject: Subject) -> tuple[str, Relation, Relation] | None:
    """(order, how well nodes tell their own targets, and how well once the edges' nodes stand in that order); None where none is better."""
    rows = sample(subject, "train", JUDGED)
    graph, y = graphs(rows.x), rows.y
    whole = isinstance(y, Tensor) and y.is_floating_point() and graph is not None and y.shape[:2] == graph[0].shape[:2]
    if graph is None or not isinstance(y, Tensor) or not whole or len(rows) < LEAST or not bool(y.isfinite().all()):
        return None
    (nodes, adj), target = graph, y.detach().cpu().reshape(*y.shape[:2], -1)
    own, found = _by_node(nodes, adj, target), []
    if own.strength > 1 - GAIN:
        return None
    for name, order in _orders(adj):
        moved = adj.gather(1, order[:, :, None].expand_as(adj)).gather(2, order[:, None, :].expand_as(adj))
        if not torch.equal(moved, adj):
            found.append((name, own, _by_node(nodes, moved, target)))
    best = max(found, key=lambda one: one[2].strength, default=None)
    return best if best and best[2].clear() and best[2].strength > own.strength + GAIN else None


def _by_node(nodes: Tensor, adj: Tensor, target: Tensor) -> Relation:
    """What a node and its neighbours tell of its own target, up to eight nodes of a graph."""
    near = adj @ nodes
    table = torch.cat((nodes, near, adj @ near, adj.sum(2, keepdim=True)), 2)[:, :NODES]
    return within(table.flatten(0, 1), target[:, :NODES].flatten(0, 1), None)


def _orders(adj: Tensor) -> Iterator[tuple[str, Tensor]]:
    degrees, here = adj.sum(2), torch.arange(adj.shape[1]).expand(len(adj), -1)
    yield "one place on", here.roll(1, 1)
    yield "one place back", here.roll(-1, 1)
    yield "by falling degree", degrees.argsort(1, descending=True)
    yield "by rising degree", degrees.argsort(1)
    yield "reversed", torch.arange(adj.shape[1] - 1, -1, -1).expand(len(adj), -1)
