"""What a check says (`Finding`), the facts it has (`@check`), and how values and tensors become plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dlrun.registry import facts

STAGES = ("data", "outputs", "loss", "gradient", "update", "learning")
LEVELS = ("not_applicable", "ok", "info", "warning", "error")
LOUD = ("warning", "error")


@dataclass
class Finding:
    """One verdict: level ok, info, warning, error or not_applicable, with its numbers, threshold, one cause and one next step."""

    level: str
    message: str
    cause: str = ""
    next: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    threshold: str = ""
    check: str = ""
    recipe: str = ""
    seconds: float = 0.0
    blocks: bool = False
    """True where nothing after this check can run."""
    symptom: bool = False
    """True where this says that something is wrong but not what, whatever the check's stage: any error before it explains it."""
    follows: str = ""
    """The check whose finding explains this one, which is folded under it; its level was lowered to info then."""

    def as_json(self) -> dict[str, Any]:
        """The finding as `dlrun check --json` prints it: numbers are plain, whatever a check put there."""
        named = ("check", "level", "message", "cause", "next", "numbers", "threshold", "recipe", "seconds", "follows")
        return {name: plain(getattr(self, name)) for name in named}


class NoCopy(Exception):
    """A part of the run cannot be copied, so that nothing can be tried on it."""


def check(
    *, stage: str, moment: str = "check", recipe: str = "", follows: Sequence[str] = (), shown: bool = False, first: bool = False
) -> Callable[[Any], Any]:
    """Facts about a check: its place in causal order, when it runs (fast, check, deep), the recipe it comes from.

    `follows` names the checks whose warning or error explains a warning or error of this one: the same fault seen again, later. The
    finding is then folded under that root. Only name a check whose every loud finding makes this one's verdict worthless.
    `shown`: its verdict is worth a line before every training, also where all is well. `first`: it runs before the others of its stage,
    which cannot do without what it looks at.
    """
    return facts(stage=stage, moment=moment, recipe=recipe, follows=tuple(follows), shown=shown, first=first)


def skipped(reason: str) -> Finding:
    """The verdict of a check that does not apply."""
    return Finding("not_applicable", reason)


class Declared(dict[str, Any]):
    """What `expects` declares; notes which facts a check asked for, so that a declaration which no check reads is said."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(facts)
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def unread(self) -> list[str]:
        """Declared facts that nobody asked for."""
        return [fact for fact in self if fact not in self.read]


def declared(fact: str, holds: bool, text: str, numbers: Mapping[str, Any] | None = None, threshold: str = "") -> Finding:
    """The verdict on what `expects.<fact>` declares: ok where it is so, a warning where it is not; `text` says what was seen."""
    if holds:
        return Finding("ok", f"{text}, as expects.{fact} declares", numbers=dict(numbers or {}), threshold=threshold)
    cause = "the set-up is not what was declared, or the declaration was carried over from another one"
    message = f"expects.{fact} is declared, yet {text}"
    return Finding("warning", message, cause, f"drop expects.{fact}, or look at why it does not hold", dict(numbers or {}), threshold)


def plain(value: Any) -> Any:
    """`value` as what JSON knows: tensors and numpy's numbers become numbers and lists, anything else text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def tensors(value: Any) -> list[Tensor]:
    """Every tensor in what a network returned: nested tuples, lists and mappings, and the attributes of other objects."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in tensors(item)]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in tensors(item)]
    return [item for item in getattr(value, "__dict__", {}).values() if isinstance(item, Tensor)]


def largest(value: Any) -> float:
    """The largest absolute value among the floating-point tensors in `value`; 0 where there is none."""
    found = [t.detach() for t in tensors(value) if t.numel() and t.is_floating_point()]
    return max((float(t.abs().max()) for t in found), default=0.0)


def gap(one: Any, other: Any) -> float:
    """The largest absolute difference between the tensors of two outputs; inf where their shapes differ or one alone is not finite."""
    mine, theirs = tensors(one), tensors(other)
    if [t.shape for t in mine] != [t.shape for t in theirs]:
        return float("inf")
    worst = 0.0
    for a, b in zip(mine, theirs, strict=True):
        if not a.numel():
            continue
        a, b = a.detach().to(torch.promote_types(a.dtype, torch.float32)), b.detach().to(torch.promote_types(b.dtype, torch.float32))
        same = (a == b) | (a.isnan() & b.isnan())
        apart = torch.where(same, torch.zeros_like(a), (a - b).abs())
        worst = max(worst, float(apart.nan_to_num(nan=float("inf"), posinf=float("inf")).max()))
    return worst
