"""Slopes that a network or a loss takes by autograd and then reads as numbers: without create_graph nothing learns from them.

A penalty on a slope (Gulrajani et al. 2017) or the residual of an equation (Raissi et al. 2019) is a term of the loss like any other; its
slopes need a graph of their own. `retain_graph=True` keeps the old graph and makes none. Slopes that are fed back into a network (first
steps of meta-learning, adversarial inputs) are read without a graph by design, and are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dlrun.batch import Batch
from dlrun.checks._frame import Finding, Subject, tensors
from dlrun.noise import seed_generators
from dlrun.run import Run
from dlrun.task import LossTask

RULE = "the loss hangs on no slope that was taken without create_graph=True"


class _Slopes(TorchFunctionMode):
    """Notes what `torch.autograd.grad` gives without a graph, as leaves, so that it can be asked whether the loss reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Tensor] = []
        self.fed_back = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        out = func(*args, **given)
        if func is torch.autograd.grad:
            self.fed_back |= any(isinstance(t, nn.Parameter) for t in tensors(given.get("inputs", args[1:2])))  # steps of a learner
            self.taken += [t.requires_grad_() for t in out if isinstance(t, Tensor) and not t.requires_grad and t.is_floating_point()]
        return out

    def hear(self, module: nn.Module, inputs: Any) -> None:
        """A layer is called: is what it gets made of a slope?"""
        live = [t for t in tensors(inputs) if t.requires_grad] if self.taken and not self.fed_back else []
        if live:
            with torch.enable_grad():
                total = sum((t.sum() for t in live), torch.zeros(()))
                read = torch.autograd.grad(total, self.taken, retain_graph=True, allow_unused=True)
            self.fed_back = any(t is not None for t in read)


def without_graph(subject: Subject) -> Finding | None:
    """The finding where an objective reads such a slope directly; None where none does, or networks read it first."""
    run = subject.copy()
    batch, slopes = subject.prepared(run, subject.few), _Slopes()
    handles = [module.register_forward_pre_hook(slopes.hear) for name in run.nets for module in run.modules[name].modules()]
    try:
        with subject.forward(run, True), torch.enable_grad(), run.precision.autocast(), slopes:
            seed_generators(run.seed, "check")
            losses = [_of(subject, run, batch)] if subject.loss_task else [each.loss for each in run.task.objectives(run.nets, batch)]
        if not slopes.taken or slopes.fed_back:
            return None
        read = [t for loss in losses if loss.requires_grad for t in torch.autograd.grad(loss.sum(), slopes.taken, allow_unused=True)]
    except Exception:  # an order of operations that this question does not allow for
        return None
    finally:
        for handle in handles:
            handle.remove()
    if not any(slope is not None and bool((slope != 0).any()) for slope in read):
        return None
    text = "the loss reads a slope (torch.autograd.grad) that has no graph: no parameter learns from that term"
    cause = "create_graph=True is missing: retain_graph=True keeps the old graph and makes none of the slope"
    return Finding("error", text, cause, "torch.autograd.grad(..., create_graph=True)", {"slopes": len(slopes.taken)}, RULE)


def _of(subject: Subject, run: Run, batch: Batch) -> Tensor:
    assert isinstance(run.task, LossTask)
    return subject.live_loss(run, run.task.outputs(run.nets, batch), batch)
