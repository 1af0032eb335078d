"""Augmentations that do nothing: the same rows come out at every step, or every row gets the same noise.

Asked of augmentations that the config declares, on one batch as training would see it at other steps (noise is keyed by the step, so that
equal results mean that none was drawn), of Datasets that seed the generators themselves with a constant whenever an item is read, and of
noisy inputs beside clean targets: whether all have one noise.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._grain import one_grain
from dlrun.checks._inputs import parts
from dlrun.data.items import generators_kept
from dlrun.data.sources import Items
from dlrun.noise import seed_generators

STEPS, LEAST = 8, 4
RULE = (
    f"warning: over {STEPS} steps a batch comes out unchanged, always the same, or with one noise for all rows; or items set a fixed seed"
)


@check(stage="data", recipe="Hacker's Guide: look at what augmentation does", follows=("item_stability", "constant_input"))
def augmentation_alive(subject: Subject) -> Finding:
    """The first training batch as eight steps spread over the training augment it."""
    data = subject.run.data
    fixed = _fixed_seed(data.raw("train"))
    if fixed and not subject.expects.get("static_rows"):
        text = f"reading an item of train sets {fixed} to the same seed each time"
        cause = "manual_seed in __getitem__: whatever is drawn for an item is drawn alike for every item"
        return Finding("warning", text, cause, "leave seeding out of the dataset: items are read under seeds of their own", {}, RULE)
    grain = one_grain(subject) if subject.patience > 1 else None
    if grain is not None:
        text = f"all rows of train have one and the same noise ({grain:.2g} x the spread of the targets): input = target + one pattern"
        cause = "the noise is drawn once, or under a fixed seed: the network learns the pattern by heart"
        return Finding("warning", text, cause, "draw it anew for each item: torch.randn_like(x), without a generator of its own", {}, RULE)
    if not data.augments:
        return skipped("no augmentation is configured")
    plain = _plain(subject)
    steps = sorted({round(i * max(subject.run.steps - 1, STEPS) / (STEPS - 1)) for i in range(STEPS)})
    with generators_kept():
        drawn = [data.augmented(plain.map(torch.clone), step) for step in steps]
    changed = sum(not _equal(plain, one) for one in drawn)
    differ = any(not _equal(drawn[0], one) for one in drawn[1:])
    numbers: dict[str, Any] = {"rows": len(plain), "steps": len(steps), "changed": changed, "differ": differ}
    names = ", ".join(str(name) for name in (subject.run.config.get("augment") or {})) or "the augmentation"
    if subject.expects.get("static_rows"):
        return Finding("info", f"{names}: rows are declared static", numbers=numbers, threshold=RULE)
    if not changed:
        text = f"{names}: a batch of {len(plain)} rows comes out unchanged at all of {len(steps)} steps"
        return Finding(
            "warning", text, "its probability or strength is 0, or its result is dropped", "dlrun data --out draws it", numbers, RULE
        )
    if not differ and not all(_same(plain.get("x"), one.get("x")) for one in drawn):
        text = f"{names}: a batch comes out the same at all of {len(steps)} steps"
        cause = "its noise is drawn once, or under a fixed seed: it moves the data and adds no variety"
        return Finding("warning", text, cause, "draw it anew at each call, from torch's default generator", numbers, RULE)
    if _one_noise(plain.get("x"), [one.get("x") for one in drawn]):
        text = f"{names}: every row of a batch gets the same noise"
        return Finding(
            "warning", text, "noise is drawn with the shape of one row", "draw it with the shape of the batch: randn_like(x)", numbers, RULE
        )
    return Finding("ok", f"{names}: changes a batch at {changed} of {len(steps)} steps, not always alike", numbers=numbers, threshold=RULE)


def _plain(subject: Subject) -> Batch:
    """The first micro-batch without augmentation."""
    data = subject.run.data
    rows = data.order.indices(0)[: data.cuts[0][1]]
    return data._batch(data.raw("train").take(rows))


def _same(one: Any, two: Any) -> bool:
    mine, theirs = parts(one), parts(two)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def _equal(one: Batch, two: Batch) -> bool:
    return one.keys() == two.keys() and all(_same(one[name], two[name]) for name in one)


def _one_noise(plain: Any, drawn: list[Any]) -> bool:
    """Whether what is added to x is the same for every row, not one number, and another at another step."""
    if not isinstance(plain, Tensor) or len(plain) < LEAST or not plain.is_floating_point() or plain[0].numel() < LEAST:
        return False
    added = [x - plain for x in drawn if isinstance(x, Tensor) and x.shape == plain.shape]
    moved = [noise for noise in added if bool((noise != 0).any())]
    if len(moved) < 2:
        return False
    scale = max(float(noise.abs().max()) for noise in moved)
    alike = all(float((noise - noise[:1]).abs().max()) < 1e-4 * scale for noise in moved)
    varied = all(float(noise[0].std()) > 1e-2 * scale for noise in moved)
    return alike and varied


def _fixed_seed(source: Any) -> str:
    """Which generators reading any item leaves in one and the same state; "" for none."""
    if not isinstance(source, Items) or len(source) < 2:
        return ""
    states = []
    with generators_kept():
        for key, index in (("one", 0), ("two", 0), ("one", len(source) - 1), ("three", len(source) // 2)):
            seed_generators("stability", key, index)
            source[index]
            arrays: Any = np.random.get_state()
            states.append((torch.default_generator.get_state().numpy().tobytes(), arrays[1].tobytes(), random.getstate()[1]))
    names = ("torch's generator", "numpy's generator", "python's generator")
    return " and ".join(name for place, name in enumerate(names) if len({state[place] for state in states}) == 1)
