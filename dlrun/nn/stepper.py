"""What dlrun's own optimizers share: torch's `Optimizer` with its state, groups and hooks, without what constructing one in torch costs.

Constructing any optimizer of `torch.optim` imports `torch._dynamo` and sympy (about 1 s of CPU), and torch wraps every step in a profiler
scope. The private part of torch this leans on: `Optimizer`'s methods without their dynamo wrapper (`__wrapped__`).

Source: torch.optim.Optimizer (state, groups and their format).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dlrun.functional.likeness import misfit

FLAGS = {"maximize": False, "foreach": None, "differentiable": False}
"""What torch's groups hold beside the options, so that states are exchanged with torch.optim in both directions."""


LARGEST = 1e30
"""What no option of an optimizer reaches; beyond 3e38 torch's kernels raise an error of their own."""


def _bare(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method without the wrapper that imports `torch._dynamo`; as it is where torch does not wrap it."""
    return getattr(method, "__wrapped__", method)


class Stepper(Optimizer):
    """An optimizer as one method: `_update(group, parameters)` steps parameters of one device and dtype that have gradients."""

    note: str = ""
    """What a user should know of this optimizer beside its options; printed before training."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's."""
        _bare(Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As torch's; dropping the gradients, the usual case, costs a loop and nothing else."""
        if not set_to_none:
            _bare(Optimizer.zero_grad)(self, set_to_none=False)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """In torch's format; tensors are the optimizer's own, as in torch."""
        return _bare(Optimizer.state_dict)(self)  # type: ignore[no-any-return]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state in torch's format, from this class or torch's own. Unlike torch's, keeps no reference to what it is given.

        ValueError where it is not what a step would leave: fused kernels walk memory by address and would go beyond a tensor too small.
        """
        state = {key: {name: _copied(value) for name, value in entry.items()} for key, entry in state_dict["state"].items()}
        groups = [self._loaded(group) for group in state_dict["param_groups"]]
        if reason := misfit_of_state(self, groups, state):
            raise ValueError(reason)
        _bare(Optimizer.load_state_dict)(self, {**state_dict, "state": state, "param_groups": groups})

    def _loaded(self, group: dict[str, Any]) -> dict[str, Any]:
        """A group from a state, as this class wants it."""
        return group

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; gives what `closure` gives."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for before in self._optimizer_step_pre_hooks.values():
            before(self, (), {})
        for group in self.param_groups:
            live = [parameter for parameter in group["params"] if parameter.grad is not None]
            for bucket in _buckets(live):
                self._update(group, bucket)
            # Fused kernels do not tell autograd that they wrote: a graph that still needs the old weights would silently use the new ones.
            torch.autograd.graph.increment_version(live)
        for after in self._optimizer_step_post_hooks.values():
            after(self, (), {})
        return loss

    # torch would wrap `step` in a profiler scope, several microseconds a step.
    step.hooked = True  # type: ignore[attr-defined]

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        raise NotImplementedError

    def _states(self, parameters: Sequence[Tensor], name: str, value: float = 0.0) -> list[Tensor]:
        """The entry `name` of each parameter's state; one that is not there begins as `value` everywhere, laid out like its parameter."""
        entries: list[dict[str, Tensor]] = [self.state[parameter] for parameter in parameters]
        for entry, parameter in zip(entries, parameters, strict=True):
            if name not in entry:
                entry[name] = torch.full_like(parameter, value, memory_format=torch.preserve_format)
        return [entry[name] for entry in entries]

    def _counted(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Each parameter's `step`, a float32 on the CPU as in torch's unfused optimizers, one up."""
        for parameter in parameters:
            if "step" not in self.state[parameter]:
                self.state[parameter]["step"] = torch.zeros((), dtype=torch.float32)
        steps = [self.state[parameter]["step"] for parameter in parameters]
        torch._foreach_add_(steps, 1)
        return steps


def misfit_of_state(optimizer: Stepper, groups: Sequence[Mapping[str, Any]], state: Mapping[Any, Mapping[str, Any]]) -> str:
    """How a state in torch's format differs from what a step of `optimizer` leaves; "" where it does not."""
    number = 0
    if [len(own["params"]) for own in optimizer.param_groups] != [len(group["params"]) for group in groups]:
        return ""  # torch says it better
    for own, group in zip(optimizer.param_groups, groups, strict=True):
        plain = {name: value for name, value in own.items() if name not in ("params", "param_names", "initial_lr")}
        if reason := misfit(plain, group) or _misfit_of_options(plain, group):
            return f"param_groups: {reason}"
        expected = _left_by_a_step(optimizer, own)
        if list(group["params"]) != list(range(number, number + len(own["params"]))):
            return "param_groups: params are not numbered in order"
        for key, parameter in zip(group["params"], own["params"], strict=True):
            if reason := _misfit_of_entry(expected[parameter.dim()], state.get(key, {}), parameter):
                return f"state of parameter {key}: {reason}"
        number += len(own["params"])
    return "" if all(type(key) is int and 0 <= key < number for key in state) else "state of a parameter that is not there"


def _misfit_of_options(own: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    """Rates and moments move with a schedule, within bounds; counts, flags and words are what the options say."""
    for name, value in own.items():
        if type(value) in (int, bool, str) and group[name] != value:
            return f"{name}: expected {value!r}, as the options say"
        for number in group[name] if isinstance(group[name], (list, tuple)) else [group[name]]:
            if isinstance(number, (int, float)) and not abs(number) < LARGEST:
                return f"{name}: expected a number below {LARGEST:g}"
    return ""


def _left_by_a_step(optimizer: Stepper, group: Mapping[str, Any]) -> dict[int, dict[str, Tensor]]:
    """The state that one step leaves for parameters of one element, by their number of axes."""
    small = {parameter.dim(): torch.ones([1] * parameter.dim(), requires_grad=True) for parameter in group["params"]}
    for parameter in small.values():
        parameter.grad = torch.ones_like(parameter)
    options = {name: value for name, value in group.items() if name not in ("params", "param_names")}
    probe = type(optimizer)([{**options, "params": list(small.values())}], dict(optimizer.defaults))
    Stepper.step(probe)  # not `sam`'s, which climbs first
    return {axes: probe.state[parameter] for axes, parameter in small.items()}


def _misfit_of_entry(expected: Mapping[str, Tensor], entry: Mapping[str, Any], parameter: Tensor) -> str:
    found = {name: value for name, value in entry.items() if value is not None or name in expected}  # torch notes a missing buffer as None
    if found and set(found) != set(expected):
        return f"has {', '.join(map(str, found))}, expected {', '.join(expected) or 'nothing'}"
    for name, value in found.items():
        scalar = name == "step"
        shape = torch.Size() if scalar else parameter.shape
        if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point() or value.layout != torch.strided:
            return f"{name}: expected a tensor of {tuple(shape)}, found {_described(value)}"
        if scalar and value.dtype != torch.float32:
            return f"{name}: expected float32, found {_described(value)}"
    return ""


def _described(value: Any) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _buckets(parameters: list[Tensor]) -> Iterable[list[Tensor]]:
    """Parameters by device and dtype: a kernel takes one of each."""
    kinds = {(parameter.device, parameter.dtype) for parameter in parameters}
    if len(kinds) <= 1:
        return [parameters] if parameters else []
    return [[p for p in parameters if (p.device, p.dtype) == kind] for kind in sorted(kinds, key=str)]


def gradients(parameters: Sequence[Tensor], weight_decay: float = 0.0) -> list[Tensor]:
    """The gradients, with `weight_decay` x parameter added where it is not 0 (L2, the coupled form)."""
    found: list[Tensor] = [parameter.grad for parameter in parameters]  # type: ignore[misc]
    return list(torch._foreach_add(found, list(parameters), alpha=weight_decay)) if weight_decay else found


def checked(kind: str, named: Iterable[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    """The parameters as a list; ValueError where there is none, or one that is not of real floating-point numbers."""
    found = list(named)
    if not found:
        raise ValueError(f"optimizer {kind}: there is no trainable parameter to optimise")
    for name, parameter in found:
        if not parameter.is_floating_point():
            kinds = str(parameter.dtype).removeprefix("torch.")
            raise ValueError(f"optimizer {kind}: parameter {name} is {kinds}, expected real floating-point numbers: take adam or sgd")
    return found


def decayed(named: Sequence[tuple[str, Tensor]], weight_decay: float, decay: str) -> list[dict[str, Any]]:
    """Parameter groups for decoupled weight decay: on parameters with two or more axes only (`decay` matrices), or on all of them."""
    shrunk = [(name, p) for name, p in named if decay == "all" or p.dim() >= 2]
    rest = [(name, p) for name, p in named if decay == "matrices" and p.dim() < 2]
    groups = [{"params": shrunk, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
