"""Optimizers, schedules and networks with one fault each, for tests of the checks about updates."""

from __future__ import annotations

from typing import Any

import torch
from checks_found import CLOUDS, built, plug
from checks_healthy import Net
from torch import Tensor, nn

from dlrun import registry
from dlrun.checks import Finding, Subject
from dlrun.data.items import generators_kept


def asked(name: str, *words: str, patience: float = 5.0) -> Finding:
    """The verdict of one check as `dlrun check` gives it."""
    add()
    with generators_kept():
        return Subject(built(*CLOUDS, *words), patience).judge(name, registry.get("check", name))


class descends:
    """Plain gradient descent, right in every respect."""

    def __init__(self, named_parameters: Any, *, lr: float = 0.05) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": [p for _, p in named_parameters], "lr": lr}]

    @property
    def held(self) -> list[Tensor]:
        found: list[Tensor] = self.param_groups[0]["params"]
        return found

    def zero_grad(self) -> None:
        for p in self.held:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for place, p in enumerate(self.held):
            if p.grad is not None:
                self.move(place, p, p.grad, self.param_groups[0]["lr"])

    def move(self, place: int, p: Tensor, slope: Tensor, lr: float) -> None:
        p.sub_(lr * slope)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


class keeps_gradients(descends):
    def zero_grad(self) -> None:
        pass


class keeps_some(descends):
    def zero_grad(self) -> None:
        self.held[0].grad = None


class adds_up_four(descends):
    """Steps with the sum of four gradients, and says so by keeping the weights still meanwhile."""

    calls = 0

    def zero_grad(self) -> None:
        if self.calls % 4 == 0:
            super().zero_grad()

    def step(self) -> None:
        self.calls += 1
        if self.calls % 4 == 0:
            super().step()


class goes_up(descends):
    def move(self, place: int, p: Tensor, slope: Tensor, lr: float) -> None:
        p.add_(lr * slope)


class out_of_place(descends):
    def move(self, place: int, p: Tensor, slope: Tensor, lr: float) -> None:
        p = p - lr * slope


class without_biases(descends):
    def move(self, place: int, p: Tensor, slope: Tensor, lr: float) -> None:
        if p.dim() > 1:
            p.sub_(lr * slope)


class own_rate(descends):
    def move(self, place: int, p: Tensor, slope: Tensor, lr: float) -> None:
        p.sub_(0.05 * slope)


class sums(descends):
    """Never forgets a gradient."""

    def __init__(self, named_parameters: Any, *, lr: float = 0.05) -> None:
        super().__init__(named_parameters, lr=lr)
        self.total = [torch.zeros_like(p) for p in self.held]

    def move(self, place: int, p: Tensor, slope: Tensor, lr: float) -> None:
        p.sub_(lr * self.total[place].add_(slope))

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: Any) -> None:
        self.total = list(state["total"])


class with_momentum(sums):
    def __init__(self, named_parameters: Any, *, lr: float = 0.02) -> None:
        super().__init__(named_parameters, lr=lr)
        self.param_groups[0]["momentum"] = 0.9

    def move(self, place: int, p: Tensor, slope: Tensor, lr: float) -> None:
        p.sub_(lr * self.total[place].mul_(0.9).add_(slope))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


class saved_momentum(with_momentum):
    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: Any) -> None:
        self.total = list(state["total"])


class unloaded_momentum(saved_momentum):
    def load_state_dict(self, state: Any) -> None:
        pass


class object_in_state(with_momentum):
    def state_dict(self) -> dict[str, Any]:
        return {"what": object()}


class forgets(saved_momentum):
    def move(self, place: int, p: Tensor, slope: Tensor, lr: float) -> None:
        self.total[place].zero_()
        super().move(place, p, slope, lr)


class stuck_adam(torch.optim.Adam):
    """Makes its state anew in every step."""

    def __init__(self, named_parameters: Any, *, lr: float = 1e-3) -> None:
        super().__init__([p for _, p in named_parameters], lr=lr)

    def step(self, closure: Any = None) -> Any:
        self.state.clear()
        return super().step(closure)


class Resets(Net):
    """Its first layer is initialised in forward."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.body[0].weight.copy_(torch.randn(32, 8, generator=torch.Generator().manual_seed(0)) * 0.3)
        return super().forward(x)


class Rebuilds(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.head.weight = nn.Parameter(self.head.weight.detach().clone())
        return super().forward(x)


class OnSphere(Net):
    """Normalises a weight in forward, as is right."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.head.weight.div_(self.head.weight.norm())
        return super().forward(x)


class Frozen(Net):
    def __init__(self, *frozen: str) -> None:
        super().__init__(8, 4)
        for name, p in self.named_parameters():
            p.requires_grad_(not any(part in name for part in frozen))


class Drifts(Net):
    """Keeps a running mean as a plain attribute."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self.mean = torch.zeros(8)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return super().forward(x - self.mean)


class Counts(Net):
    """Counts its calls, which changes nothing."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Unseeded(Net):
    draws = 0

    def __init__(self) -> None:
        super().__init__(8, 4)
        Unseeded.draws += 1
        nn.init.normal_(self.head.weight, std=0.1, generator=torch.Generator().manual_seed(Unseeded.draws))


class Keeps(Net):
    """Keeps the outputs of all its calls in a list that copies share."""

    def __init__(self, detached: bool) -> None:
        super().__init__(8, 4)
        self.detached, self.kept = detached, Shared()

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        self.kept.append(out.detach() if self.detached else out)
        return out


class Shared(list[Tensor]):
    def __deepcopy__(self, memo: Any) -> Shared:
        return Shared()


class cleared_early(descends):
    """Gradients are set to zero before they are used: what moves the weights is decay alone."""

    def step(self) -> None:
        self.zero_grad()
        for p in self.param_groups[0]["params"]:
            p.data.mul_(1 - 0.01 * self.param_groups[0]["lr"])


class Untuned(Net):
    """A narrow body that is frozen as it was drawn."""

    def __init__(self) -> None:
        super().__init__(8, 4, width=3)
        self.body.requires_grad_(False)


OPTIMIZERS = (
    descends, keeps_gradients, keeps_some, adds_up_four, goes_up, out_of_place, without_biases, own_rate, sums, with_momentum,
    cleared_early, saved_momentum, unloaded_momentum, object_in_state, forgets, stuck_adam,
)  # fmt: skip
MODELS = {
    "resets": lambda: Resets(8, 4), "rebuilds": lambda: Rebuilds(8, 4), "on_sphere": lambda: OnSphere(8, 4), "drifts": Drifts,
    "all_frozen": lambda: Frozen(""), "middle_frozen": lambda: Frozen("body.3.weight"), "matrices_frozen": lambda: Frozen("weight"),
    "first_frozen": lambda: Frozen("body.0"), "counts": lambda: Counts(8, 4), "unseeded": Unseeded,
    "untuned": Untuned, "keeps_graphs": lambda: Keeps(False), "keeps_values": lambda: Keeps(True),
}  # fmt: skip


def add() -> None:
    """Put all of them where plugins stand."""
    for part in OPTIMIZERS:
        plug("optimizer", part.__name__, part)
    for name, make in MODELS.items():
        plug("model", name, make)
