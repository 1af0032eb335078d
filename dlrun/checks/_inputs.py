"""What checks of the data share: the tensors of x by name, rows as features, whether rows are so rich that equal ones must be copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dlrun.checks._frame import Rows, Subject
from dlrun.functional.nearest import row_sums
from dlrun.functional.relation import Relation, relation, within

SAMPLE = 1024
"""Rows of a split that most checks look at."""
ITEMS = 4096
"""Items of a user's Dataset that are read, once for all checks and as far as time allows, by a check that needs many."""
JUDGED = 512
MOST_CLASSES = 200
MOST_FEATURES = 12
WORDS = 4096
"""Tokens of a vocabulary above which rows of tokens are not counted as bags of words."""


def sample(subject: Subject, split: str, most: int = SAMPLE) -> Rows:
    """Up to `most` random rows of a split; items that are read one by one are read once for all checks, 4,096 at most."""
    at_once = getattr(subject.run.data.raw(split), "in_memory", False)
    return subject.rows(split, max(most, SAMPLE) if at_once else ITEMS).first(most)


def parts(x: Any, name: str = "x") -> dict[str, Tensor]:
    """The tensors of x by name: `x`, `x[0]`, `x.nodes`; {} where there are none."""
    return dict(_parts(x, name))


def _parts(x: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(x, Tensor):
        yield name, x
    elif isinstance(x, Mapping):
        for key, item in x.items():
            yield from _parts(item, f"{name}.{key}")
    elif isinstance(x, (tuple, list)):
        for place, item in enumerate(x):
            yield from _parts(item, f"{name}[{place}]")


def inputs(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every tensor of a batch that may enter the network: all but y and mask."""
    return {key: leaf for name in batch if name not in ("y", "mask") for key, leaf in parts(batch[name], name).items()}


def is_integer(tensor: Tensor) -> bool:
    """Whether it holds whole numbers by type (tokens, classes, counts)."""
    return not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool


def features(rows: Rows) -> Tensor | None:
    """Rows as [N, D] floats: all of x side by side, tokens as counts of words, graphs as sums over nodes and over edges.

    None where that says nothing or values are not finite.
    """
    columns, graph = [], graphs(rows.x)
    if graph is not None:
        return graph_sums(*graph)
    for leaf in parts(rows.x).values():
        flat = leaf.detach().reshape(len(leaf), -1).cpu()
        if is_integer(leaf):
            if leaf.dim() > 2 or not flat.numel() or int(flat.min()) < 0 or int(flat.max()) >= WORDS:
                return None
            flat = _counted(flat) if leaf.dim() == 2 else flat
        columns.append(flat.float())
    table = torch.cat(columns, 1) if columns else None
    return table if table is not None and table.shape[1] and bool(table.isfinite().all()) else None


def graphs(x: Any) -> tuple[Tensor, Tensor] | None:
    """(features of nodes [B, N, F], adjacency [B, N, N]) where x holds these two and no other numbers; else None."""
    found = [leaf.detach().cpu().float() for leaf in parts(x).values() if leaf.dim() == 3 and leaf.dtype != torch.bool]
    for matrix in found:
        nodes = [leaf for leaf in found if leaf is not matrix and leaf.shape[1] == matrix.shape[1] == matrix.shape[2]]
        if len(found) == 2 and nodes:
            return nodes[0], matrix
    return None


def graph_sums(nodes: Tensor, adj: Tensor) -> Tensor | None:
    """Graphs as rows that no order of nodes changes: sums of features, of features of neighbours, and of products along edges."""
    nodes = nodes[..., :MOST_FEATURES]
    along = nodes.transpose(1, 2) @ adj @ nodes
    degrees = adj.sum(2, keepdim=True)
    table = torch.cat([nodes.sum(1), (degrees * nodes).sum(1), along.flatten(1), degrees.sum(1), degrees.square().sum(1)], 1)
    return table if bool(table.isfinite().all()) else None


def _counted(tokens: Tensor) -> Tensor:
    """How often each token stands in a row, [N, vocabulary]."""
    table = torch.zeros(len(tokens), int(tokens.max()) + 1)
    return table.scatter_add_(1, tokens.long(), torch.ones(tokens.shape))


def labels(subject: Subject, y: Any) -> tuple[Tensor, int | None] | None:
    """y as (classes [N], how many) or (numbers [N, K], None) for `relation`; None where it is neither or not one a row."""
    if not isinstance(y, Tensor) or not y.numel() or y.dim() > 2 or (y.dim() == 2 and y.shape[1] > 16):
        return None
    y = y.detach().cpu()
    kind = one_a_row(subject, y)
    if kind == "binary" and y.numel() == len(y):
        flat = y.reshape(-1)
        return (flat.long(), 2) if bool(((flat == 0) | (flat == 1)).all()) else None
    if kind == "classification" and is_integer(y) and y.dim() == 1:
        top = int(y.max()) + 1
        return (y, top) if int(y.min()) >= 0 and top <= MOST_CLASSES else None
    if kind in ("regression", "binary") and bool(y.float().isfinite().all()):
        return y.float().reshape(len(y), -1), None
    return None


def one_a_row(subject: Subject, y: Any) -> str:
    """classification, binary or regression where a row (a series, a graph) has one class, yes or no, or some numbers; else ""."""
    kind = subject.kind
    if kind not in ("sequence", "graph"):
        return kind if kind in ("classification", "binary", "regression") else ""
    if not isinstance(y, Tensor) or y.dim() > 2 or (y.dim() == 2 and is_integer(y)) or len(y) < 2:
        return ""
    return "regression" if y.is_floating_point() else "classification" if is_integer(y) else ""


class Table:
    """Features and labels of a split's sample, in random order."""

    def __init__(self, x: Tensor, y: Tensor, classes: int | None) -> None:
        self.x, self.y, self.classes = x[:JUDGED], y[:JUDGED], classes

    def __len__(self) -> int:
        return len(self.x)

    def within(self) -> Relation:
        """What the inputs tell of the labels inside this split."""
        return within(self.x, self.y, self.classes)

    def tells(self, other: Table, x: Tensor | None = None) -> Relation:
        """What models of this split tell of `other`, whose inputs may be given anew."""
        return relation(self.x, self.y, other.x if x is None else x, other.y, self.classes)


TABLES: WeakKeyDictionary[Subject, dict[str, Table]] = WeakKeyDictionary()


def tables(subject: Subject) -> dict[str, Table]:
    """`train` and `val` as tables with equally many columns and classes; {} where inputs or labels have no such form."""
    if subject not in TABLES:
        TABLES[subject] = _tables(subject)
    return TABLES[subject]


TOLD: WeakKeyDictionary[Subject, dict[str, Relation]] = WeakKeyDictionary()


def told(subject: Subject) -> dict[str, Relation]:
    """What inputs tell of labels within `train` and `val`, and from one to the other (`train to val`, `val to train`)."""
    if subject not in TOLD:
        known = tables(subject)
        TOLD[subject] = {split: table.within() for split, table in known.items()}
        if len(known) == 2:
            train, val = known["train"], known["val"]
            TOLD[subject] |= {"train to val": train.tells(val), "val to train": val.tells(train)}
    return TOLD[subject]


def _tables(subject: Subject) -> dict[str, Table]:
    found: dict[str, tuple[Tensor, Tensor, int | None]] = {}
    for split in ("train", "val"):
        if split not in subject.run.data.rows:
            continue
        rows = sample(subject, split)
        x, y = features(rows), labels(subject, rows.y)
        if x is None or y is None:
            return {}
        found[split] = (x, *y)
    wide = max((x.shape[1] for x, _, _ in found.values()), default=0)
    many = [classes for _, _, classes in found.values()]
    if len({classes is None for classes in many}) > 1 or (many and many[0] is None and len({y.shape[1] for _, y, _ in found.values()}) > 1):
        return {}
    top = None if not many or many[0] is None else max(c for c in many if c is not None)
    return {split: Table(torch.nn.functional.pad(x, (0, wide - x.shape[1])), y, top) for split, (x, y, _) in found.items()}


MOST_BYTES, CHUNK = 2**28, 4096
SUMS: WeakKeyDictionary[Subject, dict[str, tuple[list[bytes], Tensor | None]]] = WeakKeyDictionary()


def sums(subject: Subject, split: str) -> tuple[list[bytes], Tensor | None]:
    """(sums over the bytes of the inputs, row by row as the dataset gives them; their targets if these are one tensor).

    All rows in memory up to 256 MiB, else a sample. [] where a row has no inputs.
    """
    known = SUMS.setdefault(subject, {})
    if split not in known:
        known[split] = _sums(subject, split)
    return known[split]


def _sums(subject: Subject, split: str) -> tuple[list[bytes], Tensor | None]:
    source, found, targets = subject.run.data.raw(split), [], []
    if getattr(source, "in_memory", False):
        row = sum(leaf.numel() * leaf.element_size() for leaf in inputs(source.take(torch.zeros(1).long().to(source.device))).values())
        count = min(len(source), MOST_BYTES // max(row, 1))
        chunks = (source.take(rows.to(source.device)) for rows in torch.arange(count).split(CHUNK))
    else:
        chunks = (dict(batch) for batch in [sample(subject, split, ITEMS).batch])
    for chunk in chunks:
        found += row_sums(list(inputs(chunk).values()))
        targets.append(chunk.get("y"))
    tensors = [y.cpu() for y in targets if isinstance(y, Tensor)]
    return found, torch.cat(tensors) if tensors and len(tensors) == len(targets) else None


BITS = 40.0
"""Entropy of a row's columns, added up, above which equal rows are copies: 2^40 rows are possible."""


def rich(rows: Rows) -> bool:
    """Whether rows of x hold so much that equal ones are copies, not chance: two columns of many fractions, or 40 bits in all columns.

    A few categories, a grid of one or two numbers, one-hot codes repeat by themselves; so do tokens, where a text does.
    """
    leaves = [leaf.detach()[:JUDGED].cpu() for leaf in parts(rows.x).values() if leaf.numel()]
    if not leaves or any(is_integer(leaf) for leaf in leaves):
        return False
    flat = torch.cat([leaf.reshape(len(leaf), -1).float() for leaf in leaves], 1)
    some = flat[:, torch.linspace(0, flat.shape[1] - 1, min(flat.shape[1], 128)).long()].unique(dim=0)
    if len(some) < 3:
        return False
    counts = [column.unique(return_counts=True)[1] / len(some) for column in some.unbind(1)]
    fractions = (some != some.round()).any(0).tolist()
    varied = sum(len(shares) > 0.5 * len(some) and fraction for shares, fraction in zip(counts, fractions))
    bits = sum(float(-(shares * shares.log2()).sum()) for shares in counts) * flat.shape[1] / some.shape[1]
    return bool(varied >= 2 or bits >= BITS)
