"""Axes exchanged inside a network by view or reshape, which move no number: what was a step is then a mixture of steps and features.

One forward, in which every reshape is seen. The shape [B, T, C] made [B, C, T] (or [T, B, C]) is no regrouping where neither size is a
multiple of the other: nothing else gives these axes. Where one is, steps may have been stacked on purpose; then the fact that decides is
who reads it (a convolution slides along what is in no order) or who wrote it (a convolution's channels). Heads of attention are split from
[T, H D] as [T, H, D]; a view as [H, T, D] mixes steps, as does a merge of [H, T, D] into [T, H D].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, equal, nn
from torch.overrides import TorchFunctionMode

from dlrun.batch import leaves
from dlrun.checks._dependence import sample
from dlrun.checks._frame import Finding, Subject, tensors
from dlrun.checks._trial import once

ROWS = (7, 11, 13, 17)
"""Rows of the batch: the first of these that divides no axis, so that it is known by its size."""
VIEWS = ("view", "reshape", "view_as", "reshape_as", "unflatten")
SLIDES = ("conv1d", "conv2d", "conv3d", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d")
STEPS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
PRODUCTS = ("matmul", "__matmul__", "bmm", "einsum", "scaled_dot_product_attention")


@dataclass
class View:
    """A view that mixed axes: shapes before and after, whether it was one of the inputs, and who reads it ("" where that is no matter)."""

    old: tuple[int, ...]
    new: tuple[int, ...]
    of_input: bool
    reader: str = ""

    @property
    def longer(self) -> bool:
        """Whether there are more steps than before: fewer may be steps stacked on purpose."""
        return self.new[1] > self.old[1]

    @property
    def rows_kept(self) -> bool:
        """Whether rows stay apart."""
        return self.old[0] == self.new[0]


@dataclass
class Note:
    """What is known of one tensor: a convolution, or a product of two tensors, wrote it; a view in doubt."""

    by: str = ""
    doubt: View | None = None


@dataclass
class Seen(TorchFunctionMode):
    """Watches calls of torch's functions; `found` is the first view that mixed axes."""

    rows: int
    inputs: list[Tensor]
    found: View | None = None
    notes: dict[int, Note] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, then note what it did."""
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        given = [t for t in args if isinstance(t, Tensor)] if isinstance(args, tuple) else []
        if self.found is None and given:
            self._look(name, given[0], out, [t for t in given if id(t) in self.notes])
        return out

    def _look(self, name: str, first: Tensor, out: Any, known: list[Tensor]) -> None:
        mine = self.notes.get(id(first), Note())
        if mine.doubt and (name in SLIDES or (name in STEPS and mine.doubt.longer)):
            self.found = replace(mine.doubt, reader="a convolution slides" if name in SLIDES else "a recurrent layer steps")
        for t in tensors(out):
            if name in VIEWS and not isinstance(first, nn.Parameter) and self.rows in first.shape:
                self._viewed(first, t, mine)
            elif name in SLIDES or name in PRODUCTS:
                self._keep(t, Note("convolution" if name in SLIDES else "product"))
            elif known:
                self._inherit(known, t)

    def _inherit(self, known: list[Tensor], t: Tensor) -> None:
        """A result of the same leading axes is still a convolution's; one of the same shape still in doubt."""
        for one in known:
            note = self.notes[id(one)]
            same = one.shape == t.shape
            by = note.by if same or (note.by == "convolution" and one.shape[:2] == t.shape[:2] and t.dim() > 2) else ""
            if by or (same and note.doubt):
                self._keep(t, Note(by, note.doubt if same else None))
                return

    def _keep(self, t: Tensor, note: Note) -> None:
        self.notes[id(t)] = note
        self.alive.append(t)  # so that no other tensor gets its id

    def _viewed(self, first: Tensor, t: Tensor, mine: Note) -> None:
        old, new = tuple(first.shape), tuple(t.shape)
        how = mixed(old, new)
        made = View(old, new, any(first.shape == leaf.shape and equal(first, leaf) for leaf in self.inputs)) if how else None
        if how == "certain" or (how == "exchanged" and mine.by == "convolution") or (how == "merged" and mine.by == "product"):
            self.found = made
        elif how:
            self._keep(t, Note(doubt=made))
        elif mine.by and (old[:2] == new[:2] or old == new):
            self._keep(t, mine)


def mixed(old: tuple[int, ...], new: tuple[int, ...]) -> str:
    """What a view of `old` as `new` does: "certain" where axes were exchanged and nothing else explains it, "exchanged" or "merged" (as
    heads are) where something may, "" where it is none of these.
    """
    one, two = ([n for n in shape if n > 1] for shape in (old, new))
    while one and two and one[0] == two[0]:
        one, two = one[1:], two[1:]
    while one and two and one[-1] == two[-1]:
        one, two = one[:-1], two[:-1]
    if sorted(one) == sorted(two) and len(one) > 1:
        return "certain" if len(one) == 2 and one[0] % one[1] and one[1] % one[0] else "exchanged"
    one, two = ([n for n in shape if n > 1] for shape in (old, new))
    while one and two and one[0] == two[0]:
        one, two = one[1:], two[1:]
    if len(one) == 2 and len(two) == 3 and two[1] == one[0] and two[0] * two[2] == one[1]:
        return "certain"
    if len(one) == 3 and len(two) == 2 and two[0] == one[1] and two[1] == one[0] * one[2]:
        return "certain" if one[0] % two[0] and two[0] % one[0] else "merged"
    return ""


@once
def mixing_view(subject: Subject) -> View | None:
    """The first view in forward that mixed axes; None where there is none."""
    if subject.loss_task is None or subject.run.task.couples_rows:
        return None
    run = subject.copy()
    batch = sample(subject, run, max(ROWS))
    sizes = {n for leaf in leaves(batch.get("x", ())) for n in leaf.shape[1:]}
    rows = next((n for n in ROWS if n <= len(batch) and all(size % n for size in sizes)), 0)
    if not rows or "x" not in batch:
        return None
    few = batch[:rows]
    seen = Seen(rows, list(leaves(few["x"])))
    with seen:
        try:
            subject.outputs(run, few, training=False)
        except Exception:  # a network that takes no such batch: prime_dims says so
            return None
    return seen.found


def told(view: View, numbers: dict[str, Any], rule: str) -> Finding:
    """The finding about such a view."""
    numbers |= {"shape": list(view.old), "viewed_as": list(view.new)}
    what = "the input" if view.of_input else "a tensor"
    text = (
        f"forward makes {what} of shape {list(view.old)} one of {list(view.new)} by view or reshape, which exchanges axes without moving "
    )
    text += f"a number: rows of the one axis are mixed with the other{f', and {view.reader} along it' if view.reader else ''}"
    cause = "axes were exchanged by view or reshape where transpose or permute was meant"
    return Finding("warning", text, cause, "x.transpose(1, 2), or x.permute(...), moves axes; view only cuts anew", numbers, rule)
