"""The same network with other functions between its layers: would it learn where it does not learn now?

Two changes: a flat function (sigmoid, tanh, softmax) becomes SiLU wherever forward calls it on the way to the outputs; a ReLU is put behind
each layer but the last one that is called. Both networks take the same steps on the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dlrun.checks._dependence import calls
from dlrun.checks._flow import MATRICES
from dlrun.checks._frame import Subject
from dlrun.checks._functions import SQUASHES
from dlrun.run import Run


class _Steeper(TorchFunctionMode):
    """SiLU in the place of each flat function that a gradient passes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in SQUASHES and args and isinstance(args[0], Tensor):
            return F.silu(args[0])
        return func(*args, **dict(kwargs or {}))


def steeper(run: Run) -> None:
    """Every sigmoid and tanh of the networks becomes SiLU."""
    for module in run.modules.values():
        _inside(module, _Steeper)


def _inside(module: nn.Module, mode: Callable[[], Any]) -> None:
    """Call `module` under a mode from now on."""
    forward = module.forward

    def under(*given: Any, **named: Any) -> Any:
        with mode():
            return forward(*given, **named)

    module.forward = under


def rectified(subject: Subject) -> Callable[[Run], None]:
    """A change that puts a ReLU behind every linear layer and convolution but the last one that forward calls."""
    hidden = [name for name, _ in hidden_layers(subject)[:-1]]

    def change(run: Run) -> None:
        for name in hidden:
            slot, _, path = name.partition(".")
            run.modules[slot].get_submodule(path).register_forward_hook(lambda module, given, out: out.relu())

    return change


def hidden_layers(subject: Subject) -> list[tuple[str, nn.Module]]:
    """Linear layers and convolutions in the order of their first calls."""
    found: dict[str, nn.Module] = {}
    run = subject.copy()

    def note(name: str, module: nn.Module, given: Any, out: Any) -> None:
        if isinstance(module, MATRICES):
            found.setdefault(name, module)

    calls(subject, run, subject.prepared(run, subject.few), note)
    return list(found.items())


def narrow(layers: list[tuple[str, nn.Module]]) -> bool:
    """Whether a layer between is narrower than what goes in and what comes out: a factor of low rank, a code."""
    sizes = [tuple(weight.shape[:2]) for _, module in layers if isinstance(weight := module.weight, Tensor)]
    return any(size[0] < min(sizes[0][1], sizes[-1][0]) for size in sizes[:-1])


def affine(subject: Subject) -> bool:
    """Whether outputs of the mean of two rows are the mean of their outputs, for inputs of numbers, in evaluation."""
    run = subject.copy()
    batch = subject.prepared(run, subject.few)
    x = batch.get("x")
    if not isinstance(x, Tensor) or not x.is_floating_point() or len(x) < 4:
        return False
    other = x.roll(1, 0)
    made = [subject.outputs(run, batch.replace(x=given), training=False) for given in (x, other, 0.5 * (x + other), 3 * x - 2 * other)]
    if not all(isinstance(out, Tensor) and out.is_floating_point() for out in made):
        return False
    one, two, middle, beyond = made
    size = float((one - two).abs().max())
    errors = (float((middle - 0.5 * (one + two)).abs().max()), float((beyond - 3 * one + 2 * two).abs().max()) / 5)
    return size > 0 and max(errors) < 1e-4 * size
