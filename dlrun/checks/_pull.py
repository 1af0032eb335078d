"""How a loss over classes pulls at outputs: the target's up and all others down, and at which place of the targets it looks.

A loss is asked where all classes are nearly alike and where the target's class is far behind. There every loss over classes agrees
(cross-entropy, smoothed, weighted, focal, hinge, squares): the target's output is the one pulled up most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from dlrun.checks._forms import Form
from dlrun.checks._probe import Probe
from dlrun.checks._targets import Layout, Targets

NOISE, BEHIND = 0.01, 2.0
RIGHT = 0.99
LEAST = 6
SHIFTS = (0, 1, -1, 2)

_PULLS: WeakKeyDictionary[Probe, list[tuple[Tensor, Tensor]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Fit:
    """How well a reading of the targets explains the pull: share of rows whose target is pulled up most, of `rows` pulled at all."""

    layout: Layout
    shift: int
    share: float
    rows: int
    off: int = 0
    rolled: int = 0

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.rows >= LEAST and self.share >= RIGHT


def refusal(probe: Probe | None, known: int | None) -> str | None:
    """Why a loss is not to be judged as one over classes; None where it is. `known`: how many classes the data has."""
    if probe is None:
        return "there is no single loss of tensors"
    targets = probe.targets
    if targets.mode != "classes":
        return "targets are no classes, one for each row of outputs"
    layout, index = targets.layouts[0], targets.index()
    above = index[(index >= layout.classes) & (index != 255)]
    if above.numel():
        return "targets name classes that the outputs do not have"
    criterion = getattr(probe.run.task, "criterion", None)
    if isinstance(criterion, nn.Module) and any(p.dim() > 1 for p in criterion.parameters()):
        return "the loss has weights of its own between outputs and classes"
    sure = probe.kind in ("classification", "language_model") and layout.classes == known
    if not sure and not is_likelihood(probe, layout) and not _along_another_axis(probe, layout) and not _is_share(probe, layout):
        return "the loss does not read outputs as logits of classes"
    return None


def is_likelihood(probe: Probe, layout: Layout) -> bool:
    """Whether outputs that are all alike cost ln C, and a little else where they are others: the loss is the cross-entropy of C classes.

    Of logits nothing changes, log-probabilities that are smaller by 1 cost 1 more, probabilities half as large cost ln 2 more.
    """
    ln, share = math.log(layout.classes), 1 / layout.classes
    readings = (((0.0, 0.0), (1.0, 0.0)), ((-ln, 0.0), (-ln - 1, 1.0)), ((share, 0.0), (share / 2, math.log(2))))
    return any(all(_costs(probe, value, ln + more, 0.02 * ln) for value, more in reading) for reading in readings)


def _along_another_axis(probe: Probe, layout: Layout) -> bool:
    """Whether logits that are all alike cost the ln of the length of another axis than that of the classes: the softmax went along it."""
    lengths = {length for axis, length in enumerate(probe.out.shape) if axis != layout.axis % probe.out.dim() and length > 1}
    return any(all(_costs(probe, value, math.log(length), 0.02 * math.log(length)) for value in (0.0, 1.0)) for length in lengths)


def _is_share(probe: Probe, layout: Layout) -> bool:
    """Whether outputs that are all alike cost minus 1 / C, and sure ones -1: minus the probability stands where its logarithm belongs."""
    if not all(_costs(probe, value, -1 / layout.classes, 0.02 / layout.classes) for value in (0.0, 1.0)):
        return False
    return abs(probe.at(50 * hot(probe.targets, layout).to(probe.out.dtype)) + 1) < 0.02


def _costs(probe: Probe, value: float, expected: float, slack: float) -> bool:
    """Whether outputs that are all `value` cost what is expected."""
    try:
        loss = probe.at(torch.full_like(probe.out, value))
    except Exception:
        return False
    return math.isfinite(loss) and abs(loss - expected) < slack


def pulls(probe: Probe, form: Form) -> list[tuple[Tensor, Tensor]]:
    """(numbers behind the outputs, the loss's slope there) at three places; at the network's own outputs where the loss takes no others."""
    if probe not in _PULLS:
        _PULLS[probe] = _ask(probe, form)
    return _PULLS[probe]


def _ask(probe: Probe, form: Form) -> list[tuple[Tensor, Tensor]]:
    layout = probe.targets.layouts[0]
    at = [NOISE * probe.noise(name) for name in ("one", "two", "three")]
    at[2] = at[2] - BEHIND * hot(probe.targets, layout)
    found = []
    for u in at:
        try:
            slope = probe.slope(u, through=form.of)
        except Exception:
            continue
        if bool(torch.isfinite(slope).all()):
            found.append((u, slope))
    if not found:
        slope = probe.slope(probe.out)
        found = [(probe.out, slope)] if bool(torch.isfinite(slope).all()) else []
    return found


def hot(targets: Targets, layout: Layout, index: Tensor | None = None) -> Tensor:
    """1 at the class of each counted target, 0 elsewhere, in the shape of the outputs."""
    counted = targets.counted(layout)
    index = targets.index() if index is None else index
    rows = torch.zeros(len(index), layout.classes, device=index.device)
    rows.scatter_(1, index.clamp(0, layout.classes - 1)[:, None], counted[:, None].float())
    return layout.back(rows)


def fit(targets: Targets, layout: Layout, found: list[tuple[Tensor, Tensor]], *, shift: int = 0, off: int = 0, rolled: int = 0) -> Fit:
    """How well targets explain the pull where they are read `shift` places on, `off` classes higher, of the row `rolled` before."""
    assert targets.value is not None
    right, rows = 0, 0
    shape = tuple(targets.value.shape)
    index = targets.index().reshape(shape).roll(rolled, 0)
    counted = targets.counted(layout).reshape(shape).roll(rolled, 0)
    if off:
        index = (index + off) % layout.classes
    for _, slope in found:
        by_row = layout.flat(slope).reshape(*shape, -1)
        mine, its, count = _shifted(by_row, index, counted, shift)
        pulled = count & (mine.abs().amax(-1) > 0)
        own = mine.gather(-1, its.clamp(0, layout.classes - 1)[..., None])[..., 0]
        right += int(((own < 0) & (own <= mine.amin(-1)) & pulled).sum())
        rows += int(pulled.sum())
    return Fit(layout, shift, right / max(rows, 1), rows, off, rolled)


def _shifted(pull: Tensor, index: Tensor, counted: Tensor, shift: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions t of the pull beside positions t + shift of the targets."""
    if shift > 0:
        return pull[:, :-shift], index[:, shift:], counted[:, shift:]
    if shift < 0:
        return pull[:, -shift:], index[:, :shift], counted[:, :shift]
    return pull, index, counted


def best(targets: Targets, found: list[tuple[Tensor, Tensor]]) -> Fit:
    """The reading of the targets that explains the pull best, the usual one where several do."""
    assert targets.value is not None
    tried = []
    for layout in targets.layouts:
        shifts = SHIFTS if targets.value.dim() == 2 and targets.value.shape[1] > 3 and layout.name == "last" else (0,)
        for shift in shifts:
            tried.append(fit(targets, layout, found, shift=shift))
            if tried[-1].holds:
                return tried[-1]
    return max(tried, key=lambda entry: entry.share)


def uphill(fitted: Fit, targets: Targets, found: list[tuple[Tensor, Tensor]]) -> Fit:
    """The same reading of the opposite pull."""
    return replace(fit(targets, fitted.layout, [(u, -slope) for u, slope in found], shift=fitted.shift))
