"""The few types that all layers share: data (`Splits`, `DataSpec`), learning (`Objective`, `Mean`, `Metric`), looking (`Look`).

A task never sees the loop and the loop never asks which task it runs: what passes between them stands here, in `batch.py` and `task.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


def _quotient(total: Tensor, count: Tensor) -> float:
    return float(total / count) if count else float("nan")


@dataclass(frozen=True)
class Mean:
    """A sum with its count: means over unequal batches add up exactly. Both are kept as float64 tensors until `value` is asked for.

    `sum` and `count` may be vectors (say, per class); `finish(sum, count)` then says how they become one number.
    """

    sum: Tensor | float
    count: Tensor | float
    finish: Callable[[Tensor, Tensor], float] = _quotient

    def __add__(self, other: Mean) -> Mean:
        return Mean(double(self.sum) + double(other.sum), double(self.count) + double(other.count), self.finish)

    @property
    def simple(self) -> bool:
        """Whether it is one sum over one count."""
        return self.finish is _quotient

    def value(self) -> float:
        """The mean (or what `finish` makes of it), a plain float."""
        return self.finish(double(self.sum), double(self.count))


@dataclass(frozen=True)
class Whole:
    """A metric that needs every row at once (AUC, F1 ...): keeps outputs and targets and applies `function` at the end."""

    outputs: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    function: Callable[[Tensor, Tensor], Any]

    def __add__(self, other: Whole) -> Whole:
        return Whole(self.outputs + other.outputs, self.targets + other.targets, self.function)

    def value(self) -> float:
        """The metric over all rows."""
        return float(self.function(torch.cat(self.outputs), torch.cat(self.targets)))


def double(value: Tensor | float) -> Tensor:
    """`value` in float64: sums of many rows stay exact enough. Apple's MPS has no float64, so there it moves to the CPU."""
    if not isinstance(value, Tensor):
        return torch.tensor(value, dtype=torch.float64)
    return value.cpu().double() if value.device.type == "mps" else value.double()


class NetworkShape(NamedTuple):
    """What one row of a network's input and output looks like, without the batch axis; () is a single number."""

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]


@dataclass(frozen=True)
class DataSpec:
    """What a dataset says of itself; whatever it leaves out is inferred from the first items and printed.

    `mean` and `std` (one number, or one a channel) are fitted on train and applied to uint8 inputs as (x / 255 - mean) / std.
    `tokens` are the texts that tokens stand for, by number (`functional/tokens.py` joins them), `token_bytes` their lengths in UTF-8.
    `sizes_differ`: splits are padded each to a size of its own, so that their rows need not have one shape (graphs, with a mask).
    `target_mean` and `target_std` (one number, or one an output) say that y was standardised with them: metrics are then computed in the
    target's own unit. `features` names the columns of a table.
    """

    in_shape: tuple[int, ...] = ()
    out_shape: tuple[int, ...] = ()
    kind: str = "other"
    classes: int | None = None
    names: tuple[str, ...] = ()
    vocab: int | None = None
    tokens: tuple[str, ...] = ()
    token_bytes: tuple[float, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    target_mean: tuple[float, ...] | None = None
    target_std: tuple[float, ...] | None = None
    features: tuple[str, ...] = ()
    split_rule: str = ""
    source: str = ""
    fingerprint: str = ""
    notes: tuple[str, ...] = ()
    sizes_differ: bool = False

    def own_unit(self, values: Tensor) -> Tensor:
        """Standardised targets, or predictions of them, as values x target_std + target_mean in float64: the unit of the data's source."""
        if self.target_std is None:
            return values
        values = double(values)
        mean, std = (torch.tensor(fact, dtype=values.dtype, device=values.device) for fact in (self.target_mean or (0.0,), self.target_std))
        return values * std.squeeze() + mean.squeeze()


@dataclass(frozen=True)
class Splits:
    """A dataset: its splits and what is known of them.

    A split is a map-style torch Dataset giving (x, y) or a dict, a tuple or dict of tensors, or an object with `__len__` and
    `take(indices) -> dict of tensors` (rows cut on demand, as from a token stream).
    """

    train: Any
    val: Any = None
    test: Any = None
    spec: DataSpec | None = None
    collate: Callable[[list[Any]], Any] | None = None
    sampler: Any = None


@dataclass(frozen=True)
class Objective:
    """One loss to apply now: the loop runs backward and steps the optimizers of the networks named in `update` before it goes on.

    `count` is the number of units `loss` is a mean over (rows; predicted tokens), `terms` are parts of it to log.
    """

    loss: Tensor
    update: tuple[str, ...]
    count: Tensor | float = 1.0
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: Any = None


@dataclass(frozen=True)
class Look:
    """Something a task shows of itself: `kind` is one of images, scatter, lines, text; `data` is what that kind needs."""

    kind: str
    data: Any
    title: str = ""


class Network:
    """A network as a task sees it: a thing to call. `net(x, parameters=p)` calls it with other parameters (inner loops)."""

    __slots__ = ("module",)

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *inputs: Any, parameters: Mapping[str, Tensor] | None = None, **named: Any) -> Any:
        if parameters is None:
            return self.module(*inputs, **named)
        return torch.func.functional_call(self.module, dict(parameters), inputs, named)

    def __getattr__(self, name: str) -> Any:
        if name == "module":  # a copy in the making has none yet
            raise AttributeError(name)
        return getattr(self.module, name)


class Networks(Mapping[str, Network]):
    """The networks of a task by name: `nets.model(x)`, `nets["critic"](x)`."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._networks = {name: Network(module) for name, module in modules.items()}

    def __getitem__(self, name: str) -> Network:
        return self._networks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)

    def __getattr__(self, name: str) -> Network:
        try:
            return self.__dict__["_networks"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"no network {name!r}; this task has {', '.join(self.__dict__.get('_networks', {}))}") from None


@dataclass(frozen=True)
class Metric:
    """A metric ready for use: `function(out, y)` with its options bound. `best` is max, min or None (not for choosing).

    `whole` metrics need every row of a split at once; those with `batches` False (or `whole`) say nothing of a single training batch.
    `reads` names the forms of targets it is made for (see `dlrun/unfit.py`; () for any), `undefined` says when its value is NaN,
    `probabilities` that outputs have to stand for some, not for margins or numbers, `logits` that it reads these and labels of 0 and 1,
    whatever the network gives and the loss takes (`dlrun/scoring.py`).
    """

    name: str
    function: Callable[..., Any]
    best: str | None = None
    whole: bool = False
    batches: bool = True
    reads: tuple[str, ...] = ()
    undefined: str = ""
    probabilities: bool = False
    logits: bool = False

    def __call__(self, out: Any, y: Any, rows: int) -> Mean | Whole:
        """What this batch of `rows` rows adds to the split's value."""
        if self.whole:
            return Whole((out.detach(),), (y,), self.function)
        value = self.function(out, y)
        return value if isinstance(value, Mean) else Mean(double(value).detach() * rows, float(rows))
