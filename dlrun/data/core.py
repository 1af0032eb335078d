"""`prepare` turns the splits a dataset gave into `Data`: completes the spec, cuts val if there is none, orders, normalises, augments.

Nothing here depends on what was drawn before: `stream(n)` gives what `stream(0)` gives after n steps, whoever reads the items and whatever
happened in between. What was assumed on the way stands in `Data.notes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count, islice, pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from dlrun.batch import Batch, Leaf, leaves, map_leaves
from dlrun.data.cut import cut_val
from dlrun.data.fingerprint import fingerprint
from dlrun.data.infer import check_labels, complete, scan_targets, widened
from dlrun.data.items import Key, generators_kept, is_image, named
from dlrun.data.loader import end, iterate, make_loader
from dlrun.data.normalise import normaliser
from dlrun.data.order import Order
from dlrun.data.sources import Items, Source, note_float64, open_source
from dlrun.noise import Noise, seed_generators
from dlrun.types import DataSpec, Splits

Augment = Callable[[Batch, Noise], Batch]


class _Steps:
    """Key lists of the micro-batches of step `start` and all later ones: what workers are told to read."""

    def __init__(self, data: Data, start: int) -> None:
        self.data, self.start = data, start

    def __iter__(self) -> Iterator[list[Key]]:
        for step in count(self.start):
            keys = self.data.order.keys(step)
            for low, high in self.data.cuts:
                yield keys[low:high]


class Data:
    """A dataset ready for the loop; batches come from `stream` and `evaluation`.

    `spec` is complete, `rows` counts each split, `notes` are lines to print, `fingerprint` is to be recorded.
    """

    def __init__(
        self, sources: Mapping[str, Source], spec: DataSpec, order: Order, seed: int, accumulate: int, device: torch.device
    ) -> None:
        self.sources, self.spec, self.order, self.seed, self.device = dict(sources), spec, order, seed, device
        self.rows = {split: len(source) for split, source in sources.items()}
        self.batch_size = order.batch_size
        edges = [round(i * self.batch_size / accumulate) for i in range(accumulate + 1)]
        self.cuts = list(pairwise(edges))
        self.workers = 0
        self.augments: Sequence[Augment] = ()
        self.mixed_labels = False
        """Whether augmentations mix the labels of training batches, so that a row belongs to several classes in part."""
        self.notes: list[str] = []
        self._items_have_classes = spec.kind == "classification" and isinstance(sources["train"], Items)
        self.fingerprint = ""
        self._normalise: Callable[[dict[str, Leaf]], dict[str, Leaf]] = lambda leaves: leaves
        self._loaders: dict[tuple[str, int], Any] = {}

    def steps_in(self, epochs: float) -> int:
        """Steps that see `epochs` times as many rows as train has, rounded up."""
        return math.ceil(epochs * self.order.length / self.batch_size)

    def stream(self, start: int) -> Generator[list[Batch], None, None]:
        """For step `start`, `start` + 1, ... without end: that step's micro-batches, on the device, normalised and augmented."""
        with closing(self._read_by_workers(start) if self.workers else self._read_here(start)) as taken:
            for step in count(start):
                yield self._micros(taken, step)

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of one step, read in this process: what `stream(step)` begins with."""
        with closing(self._read_here(step)) as taken:
            return self._micros(taken, step)

    def head(self, split: str, rows: int) -> Batch:
        """The first `rows` rows of `split` as one batch, normalised, not augmented."""
        return self.pick(split, torch.arange(min(rows, len(self.sources[split]))))

    def pick(self, split: str, rows: Tensor) -> Batch:
        """The rows of `split` with these numbers as one batch, normalised, not augmented."""
        source = self.sources[split]
        return self._batch(source.take(rows.to(source.device)))

    def close(self) -> None:
        """End the worker processes, if there are any."""
        for loader in self._loaders.values():
            end(loader)
        self._loaders.clear()

    def _micros(self, taken: Iterator[dict[str, Leaf]], step: int) -> list[Batch]:
        return [self._finish(leaves, step, micro) for micro, leaves in enumerate(islice(taken, len(self.cuts)))]

    def _read_here(self, start: int) -> Generator[dict[str, Leaf], None, None]:
        train = self.sources["train"]
        if isinstance(train, Items):
            yield from map(train.keyed, _Steps(self, start))
        for step in count(start):
            indices = self.order.indices(step)
            for low, high in self.cuts:
                yield train.take(indices if high - low == self.batch_size else indices[low:high])

    def _read_by_workers(self, start: int) -> Generator[dict[str, Leaf], None, None]:
        train = self.sources["train"]
        assert isinstance(train, Items)
        return iterate(make_loader(train, _Steps(self, start), self.workers), last=True)

    def _finish(self, leaves: dict[str, Leaf], step: int, micro: int) -> Batch:
        return self.augmented(self._batch(leaves), step, micro)

    def augmented(self, batch: Batch, step: int, micro: int = 0, only: int | None = None) -> Batch:
        """`batch` as training sees it as micro-batch `micro` of `step`: after all augmentations, or after the one numbered `only`."""
        key = (self.seed, step, micro, 0, "augment")
        if self.augments:
            seed_generators(*key)
        for number, augment in enumerate(self.augments):  # each with noise of its own: two flips must not draw the same
            batch = augment(batch, Noise(*key, number)) if only in (None, number) else batch
        return batch

    def _batch(self, leaves: dict[str, Leaf]) -> Batch:
        if self._items_have_classes:
            check_labels(leaves.get("y"), self.spec.classes, "a batch")
        if self.device.type != "cpu":
            leaves = {name: map_leaves(lambda tensor: tensor.to(self.device, non_blocking=True), leaf) for name, leaf in leaves.items()}
        return Batch(self._normalise(leaves))

    def evaluation(self, split: str, rows: int = 512) -> Iterator[Batch]:
        """Every row of `split` once, in order, `rows` at a time, normalised, not augmented; ValueError for an absent split."""
        if split not in self.sources:
            raise ValueError(f"no split {split!r} in this data: there are {', '.join(self.sources)}")
        source = self.sources[split]
        edges = range(0, len(source), rows)
        if self.workers and isinstance(source, Items) and len(edges) > 1:
            keys: list[list[Key]] = [[(split, i) for i in range(low, min(low + rows, len(source)))] for low in edges]
            loader = self._loaders.setdefault((split, rows), make_loader(source, keys, min(self.workers, len(edges))))
            yield from map(self._batch, iterate(loader))
            return
        for low in edges:
            yield self._batch(source.take(torch.arange(low, min(low + rows, len(source)), device=source.device)))

    def raw(self, split: str) -> Source:
        """The rows of `split` before normalisation: `len` and `take(indices) -> {name: tensor}`."""
        return self.sources[split]

    def targets(self, split: str) -> Tensor | None:
        """All y of `split` in row order on the CPU, or None where they are not in memory."""
        y = self.sources[split].targets() if split in self.sources else None
        return None if y is None else y.cpu()


def _open(splits: Splits, seed: int, notes: list[str]) -> dict[str, Source]:
    if splits.train is None:
        raise ValueError("the dataset gives no train split: expected Splits(train=...)")
    given = {"train": splits.train, "val": splits.val, "test": splits.test}
    sources = {name: open_source(name, split, seed, splits.collate, notes) for name, split in given.items() if split is not None}
    if "test" not in sources:
        notes.append("data: no test split, so there are no test metrics")
    return sources


def _look_at_items(source: Source, notes: list[str]) -> None:
    """Say what converting a user's items does to them, from the first one."""
    if not isinstance(source, Items):
        return
    with generators_kept():
        seed_generators(source.seed, "item", "train", 0)
        item = source[0]
    if source.collate is not None:
        own = getattr(source.collate, "__name__", source.collate)
        notes.append(f"data: batches are put together by the dataset's own collate function {own}")
        return
    values = named(item, "item 0 of train")
    if isinstance(item, Mapping) and "x" not in item and len(item) <= 2:
        notes.append("data: a dict without x: " + ", ".join(f"{key} is read as {name}" for key, name in zip(item, values)))
    for name, value in values.items():
        if is_image(value):
            scaled = " in 0..1" if value.mode != "F" else ""
            notes.append(f"data: {name} is a PIL image ({value.mode}) and becomes float32 [C, H, W]{scaled}")
        elif getattr(value, "dtype", None) is not None and str(value.dtype).endswith("float64"):
            note_float64("train", name, torch.empty(0, dtype=torch.float64), notes)


def _with_val(
    splits: Splits, sources: dict[str, Source], targets: Tensor | None, kind: str, seed: int, notes: list[str]
) -> tuple[dict[str, Source], str]:
    """The sources with a val split, cut from train where the dataset gives none, and the rule in words."""
    train = sources["train"]
    if targets is None and "val" not in sources and kind == "classification":
        found, whole = scan_targets(train)
        targets = found if whole else None
    if targets is not None and isinstance(train, Items):
        train.known_targets = targets
    if "val" in sources:
        return sources, ""
    if splits.sampler is not None:
        raise ValueError("the dataset has its own sampler and no val split, whose rows it would name too: give Splits(val=...)")
    labels = targets if kind == "classification" and targets is not None and targets.dim() == 1 else None
    kept, held, rule = cut_val(len(train), labels, seed)
    line = f"{len(held)} of {len(train)} rows of train, {rule}, dataset seed {seed}"
    notes.append(f"data: no val split, so one is cut: {line}")
    rest = {name: source for name, source in sources.items() if name != "train"}
    val = train.subset(held)
    if isinstance(val, Items):
        val.split = "val"  # part of an item's seeds: under train's name row k of val would draw what row k of train draws
    return {"train": train.subset(kept), "val": val, **rest}, f"val is {line}"


def _order(splits: Splits, rows: int, seed: int, batch_size: int | Literal["full"], notes: list[str], device: torch.device) -> Order:
    order = Order(rows, seed, splits.sampler, device)
    if splits.sampler is not None:
        notes.append(f"data: rows are drawn by the dataset's own sampler {type(splits.sampler).__name__}, {order.length} an epoch")
    if not order.repeats_itself():
        notes.append("data: that sampler keeps random state of its own: a resumed run will not see the same order")
    wanted = order.length if batch_size == "full" else batch_size
    if wanted > order.length:
        notes.append(f"data: train.batch_size is {wanted}, train has {order.length} rows: every step takes all of them")
    order.batch_size = min(wanted, order.length)
    return order


def prepare(
    splits: Splits,
    *,
    dataset_seed: int,
    seed: int,
    batch_size: int | Literal["full"],
    accumulate: int,
    workers: int,
    device: torch.device | str,
    augments: Sequence[Augment],
    name: str,
) -> Data:
    """`Data` of `splits`. `dataset_seed` cuts val, `seed` drives order and noise, `batch_size` is rows a step over all `accumulate` parts.

    Raises ValueError (one line) where a split is empty, its tensors differ in rows, or rows cannot be read by number.
    """
    device = torch.device(device)
    notes = list(splits.spec.notes) if splits.spec else []
    sources = _open(splits, seed, notes)
    _look_at_items(sources["train"], notes)
    sample = sources["train"].take(torch.arange(min(2, len(sources["train"]))))
    spec, targets = complete(splits.spec, sources["train"], sample, notes)
    sources, rule = _with_val(splits, sources, targets, spec.kind, dataset_seed, notes)
    _check_names(sources, sample, spec.sizes_differ)
    spec = widened(spec, splits.spec, sources["val"].targets(), notes)
    if spec.kind == "classification":
        for split, source in sources.items():
            check_labels(source.targets(), spec.classes, f"split {split}")
    mark = spec.fingerprint or fingerprint(sources)
    spec = replace(spec, fingerprint=mark, split_rule="; ".join(filter(None, (spec.split_rule, rule))))
    sources = {split: source.to(device) for split, source in sources.items()}
    order = _order(splits, len(sources["train"]), seed, batch_size, notes, sources["train"].device)
    if accumulate > order.batch_size:
        raise ValueError(f"train.accumulate is {accumulate}, a step has {order.batch_size} rows: expected at most one part a row")
    data = Data(sources, spec, order, seed, accumulate, device)
    data._normalise = normaliser(spec, sample, device, notes)
    data.workers = workers if isinstance(sources["train"], Items) else 0
    if workers and not data.workers:
        notes.append(f"data: train.workers={workers} has no effect: {name} is held in memory, a batch is one index-select")
    data.augments, data.notes, data.fingerprint = tuple(augments), notes, mark
    return data


def _check_names(sources: Mapping[str, Source], sample: Mapping[str, Leaf], sizes_differ: bool) -> None:
    """Every split holds the same names and row shapes as train; a difference would only show at the first evaluation."""
    for split, source in sources.items():
        if split == "train":
            continue
        other = source.take(torch.arange(1))
        if other.keys() != sample.keys():
            raise ValueError(f"split {split} holds {', '.join(other)}, train holds {', '.join(sample)}: expected the same names")
        if sizes_differ or (isinstance(source, Items) and source.collate is not None):
            continue  # a collate function may pad each batch to a length of its own
        for key, leaf in sample.items():
            mine, theirs = ([tuple(t.shape[1:]) for t in leaves(value)] for value in (leaf, other[key]))
            if mine != theirs:
                raise ValueError(f"rows of split {split} have shape {theirs} under {key}, those of train {mine}: expected equal shapes")
