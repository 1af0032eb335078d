"""Pictures of the user's own, in a folder of class folders: the layout that most image collections come in.

Source: the layout of ImageNet's training set, O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015; scaling and
centre crop: A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet Classification with Deep Convolutional Neural Networks, 2012, section 2.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dlrun.datasets._kept import Kept, keep
from dlrun.datasets._listing import ORDER, Listing, Picture, listing, shown
from dlrun.datasets._pictures import REMARKS, decode, quiet
from dlrun.datasets._shares import cut
from dlrun.errors import MissingError
from dlrun.ranges import Count, Fraction, Seed
from dlrun.types import DataSpec, Splits

MOST_KEPT = 2**32
"""Bytes of decoded pictures that are kept in the cache unless the option says otherwise: 350,000 of 64 x 64 in colour."""
SAMPLED = 256
"""Pictures of train that mean and std come from where pictures are read one by one."""


class Files:
    """Some of the pictures as a map-style Dataset, read when asked for: (uint8 [C, H, W], class). `known_targets` are all classes."""

    def __init__(self, pictures: list[Picture], size: int | None, channels: int) -> None:
        self.pictures, self.size, self.channels = pictures, size, channels
        self.known_targets = torch.tensor([picture.label for picture in pictures])

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = self.pictures[index]
        with quiet():
            pixels, _ = decode(picture.path, self.size, self.channels)
        return torch.from_numpy(pixels), picture.label


def _folder(folder: Path | None) -> str:
    """The one place where the option becomes a path that is read."""
    if folder is None:
        raise ValueError("dataset image_folder needs a folder to read: say dataset.folder=FOLDER")
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise MissingError(
            f"dataset.folder={shown(folder)} is {'no folder' if path.exists() else 'not there'}: expected FOLDER/CLASS/x.png"
        )
    return str(path)


def _rows(found: Listing, val: float, test: float, seed: int) -> tuple[dict[str, Tensor], str, list[str]]:
    """Row numbers of each split, the rule in words, and what is to be said of options without effect."""
    labels = torch.tensor([picture.label for picture in found.pictures])
    if not found.has_splits:
        rows = cut(labels, len(labels), val, test, seed, found.classes)
        return rows, f"the same share of every class, dataset seed {seed}", []
    split_of = np.array([picture.split for picture in found.pictures])
    given = {split: torch.from_numpy(np.flatnonzero(split_of == split)) for split in ORDER if (split_of == split).any()}
    notes = [f"data: dataset.test={test:g} has no effect: the folder has splits"] if test > 0 and "test" in given else []
    if "val" in given:
        return given, "as the folder has them", [*notes, f"data: dataset.val={val:g} and dataset.seed have no effect: the folder has a val"]
    parts = cut(labels[given["train"]], len(given["train"]), val, 0.0, seed, found.classes)
    held = {split: given["train"][part] for split, part in parts.items()}
    return {**given, **held}, f"val is cut from train, the same share of every class, dataset seed {seed}; test as the folder has it", notes


def _moments(facts: Any, rows: Tensor, pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of each channel over `rows` of `facts` (see `Kept`), of values in 0..1."""
    channels = (facts.shape[1] - 1) // 2
    total = facts[rows.numpy(), 1:].sum(0) / (len(rows) * pixels)
    mean, square = total[:channels], total[channels:]
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return tuple(float(value) / 255 for value in mean), tuple(float(value) / 255 if value > 0 else 1.0 for value in std)


def _twins(facts: Any, rows: dict[str, Tensor], found: Listing) -> list[str]:
    """Pictures of val and test that train has too, equal in every pixel: a score on them is no score on something new."""
    notes, digests = [], {split: facts[part.numpy(), 0] for split, part in rows.items()}
    for split in ("val", "test"):
        if split in rows and (twins := np.isin(digests[split], digests["train"])).any():
            first = found.pictures[int(rows[split][int(np.argmax(twins))])].name
            notes.append(
                f"data: {int(twins.sum())} of {len(twins)} pictures of {split} are in train too, pixel for pixel: {shown(first)} first"
            )
    return notes


def _in_cache(found: Listing, rows: dict[str, Tensor], kept: Kept) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits of the decoded pictures, without a copy, and mean, std and fingerprint."""
    from torch.utils.data import Subset, TensorDataset

    x, y = torch.from_numpy(kept.pixels), torch.tensor([picture.label for picture in found.pictures])
    mean, std = _moments(kept.facts, rows["train"], x[0, 0].numel())
    every = TensorDataset(x, y)
    splits = {split: Subset(every, part) for split, part in rows.items()}  # type: ignore[arg-type]
    names = [[picture.name, picture.label] for picture in found.pictures]
    content = json.dumps([kept.sha256, names, {split: part.tolist() for split, part in rows.items()}])
    mark = hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()
    return splits, {
        "mean": mean,
        "std": std,
        "fingerprint": f"sha256:{mark} (names and decoded pixels of {len(x)} pictures, and their split)",
    }


def _one_by_one(found: Listing, rows: dict[str, Tensor], size: int | None, channels: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits whose pictures are read when asked for; mean and std of `SAMPLED` pictures of train."""
    splits = {split: Files([found.pictures[row] for row in part.tolist()], size, channels) for split, part in rows.items()}
    train = splits["train"]
    sample = [train[int(row)][0] for row in torch.linspace(0, len(train) - 1, min(SAMPLED, len(train))).round()]
    values = [picture.flatten(1).double() / 255 for picture in sample]
    joined = torch.cat(values, 1)
    mean, std = joined.mean(1), joined.std(1, correction=0)
    content = json.dumps(
        [size, channels, [[p.name, p.label, p.state[0]] for p in found.pictures], {s: r.tolist() for s, r in rows.items()}]
    )
    mark = hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()
    return splits, {
        "mean": tuple(mean.tolist()),
        "std": tuple(value if value > 0 else 1.0 for value in std.tolist()),
        "fingerprint": f"sha256:{mark} (names and sizes of {len(found.pictures)} files, not their content, and their split)",
        "notes": (
            f"data: mean and std are those of {len(sample)} pictures of train",
            f"data: {len(found.pictures)} pictures are read from their files at each step: train.workers=N reads them in N processes",
        ),
    }


def _notes(found: Listing, remarks: dict[str, int], size: int | None) -> list[str]:
    left_out = found.left_out
    notes = [f"data: dataset.skip leaves out {len(left_out)} by name, first {shown(left_out[0])}"] if left_out else []
    scaled = "as they are" if size is None else f"scaled and cut to {size} x {size}"
    notes.append(f"data: {len(found.pictures)} pictures of {len(found.classes)} classes, {scaled}")
    return notes + [f"data: {count} of the pictures {REMARKS[flag]}" for flag, count in sorted(remarks.items())]


def _wanted(found: Listing, size: int | None, channels: int, cache: bool | None) -> bool:
    """Whether the pictures are kept decoded: what `cache` says, else if they are few enough."""
    if cache is not None:
        return cache
    with quiet():
        first, _ = decode(found.pictures[0].path, size, channels)
    return first.size * len(found.pictures) <= MOST_KEPT


def image_folder(
    root: str,
    *,
    folder: Path | None,
    size: Count | None,
    channels: Literal[1, 3],
    skip: list[str],
    val: Fraction,
    test: Fraction,
    cache: bool | None,
    seed: Seed,
) -> Splits:
    """x uint8 [channels, size, size] (size null: [channels, height, width]), standardised on the device with train's mean and std; y the
    number of the class folder in the order of names. `root` is the data cache.

    Transparent parts become white, 16 bits are scaled to 8, pictures are turned upright by their EXIF tag, of several frames the first is
    taken; each is said. MissingError (one line) names a file that is no picture or cannot be read, a link out of the folder, a class
    without pictures: nothing is skipped that `skip` does not name.
    """
    path = _folder(folder)
    found = listing(path, skip)
    rows, rule, notes = _rows(found, val, test, seed)
    remarks: dict[str, int] = {}
    if _wanted(found, size, channels, cache):
        kept = keep(found.pictures, size, channels, Path(root), path)
        splits, facts = _in_cache(found, rows, kept)
        remarks, notes = kept.remarks, [*kept.notes, *_twins(kept.facts, rows, found), *notes]
        shape = tuple(kept.pixels.shape[1:])
    else:
        splits, facts = _one_by_one(found, rows, size, channels)
        notes += facts.pop("notes")
        shape = tuple(splits["train"][0][0].shape)
    counts = " / ".join(str(len(rows[split])) for split in ORDER if split in rows)
    spec = DataSpec(
        in_shape=shape,
        out_shape=(len(found.classes),),
        kind="classification",
        classes=len(found.classes),
        names=found.classes,
        split_rule=f"{counts} rows, {rule}",
        source=f"folder {shown(path)}",
        notes=(*_notes(found, remarks, size), *notes),
        **facts,
    )
    return Splits(splits["train"], splits["val"], splits.get("test"), spec)
