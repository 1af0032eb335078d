"""What train() and eval() do to the layers of a network, and what an evaluation writes into it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.checks._frame import Subject
from dlrun.run import Run

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
NORMS = nn.modules.batchnorm._NormBase
ACTS_BY_MODE = (*DROPOUTS, NORMS)


def named(modules: Mapping[str, nn.Module]) -> list[tuple[str, nn.Module]]:
    """Every layer with its full name."""
    return [(f"{name}.{path}".rstrip("."), part) for name, module in modules.items() for path, part in module.named_modules()]


def stuck(modules: Mapping[str, nn.Module]) -> tuple[str, nn.Module] | None:
    """The first layer that stays in train mode after eval(), those that act by mode first. Leaves `modules` in eval mode."""
    for module in modules.values():
        module.train()
        module.eval()
    found = [(name, part) for name, part in named(modules) if part.training]
    return next((pair for pair in found if isinstance(pair[1], ACTS_BY_MODE)), found[0] if found else None)


def asleep(modules: Mapping[str, nn.Module]) -> list[str]:
    """Layers that stay in eval mode after train() though they are to act there. Leaves `modules` in train mode.

    A batch norm whose scale is frozen, or that has statistics of another training, may rest by design, and so may a dropout among
    layers of which none is trained.
    """
    for module in modules.values():
        module.eval()
        module.train()
    parts = dict(named(modules))
    return [name for name, part in parts.items() if not part.training and _should_act(part, _around(name, parts))]


def _around(name: str, parts: Mapping[str, nn.Module]) -> nn.Module:
    """The nearest module around `name` that holds parameters."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in parts and any(True for _ in parts[name].parameters()):
            return parts[name]
    return parts.get(name, nn.Identity())


def _should_act(part: nn.Module, around: nn.Module) -> bool:
    trained = any(p.requires_grad for p in around.parameters())
    if isinstance(part, DROPOUTS):
        return part.p > 0 and trained
    if isinstance(part, NORMS):
        own = list(part.parameters())
        moving = any(p.requires_grad for p in own) if own else trained
        return part.track_running_stats and moving and fresh_statistics(part)
    return False


def fresh_statistics(norm: nn.Module) -> bool:
    """Whether a batch norm's running statistics are those it was made with: 0 and 1."""
    mean, var = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    return isinstance(mean, Tensor) and isinstance(var, Tensor) and not bool(mean.any()) and bool((var == 1).all())


def state(run: Run) -> dict[str, Tensor]:
    """A copy of all buffers and parameters, by full name; buffers that are not saved as well."""
    found: dict[str, Tensor] = {}
    for name, module in run.modules.items():
        found.update({f"{name}.{key}": t.detach().clone() for key, t in (*module.named_buffers(), *module.named_parameters())})
    return found


def changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every floating-point tensor that was there before and is another one now."""
    pairs = [(name, old, after.get(name)) for name, old in before.items() if old.is_floating_point()]
    return [(name, tuple(old.shape)) for name, old, new in pairs if new is not None and (old.shape != new.shape or not _equal(old, new))]


def _equal(one: Tensor, two: Tensor) -> bool:
    return torch.equal(torch.nan_to_num(one), torch.nan_to_num(two))


def written(subject: Subject, batch: Batch) -> list[tuple[str, tuple[int, ...]]]:
    """What an evaluation of `batch` writes into the state of a copy of the networks, the second time it is run.

    The first may fill a cache (positions, masks), which is no state: it would be filled with the same again.
    """
    run = subject.copy()
    subject.outputs(run, batch, training=False)
    before = state(run)
    subject.outputs(run, batch, training=False, key="again")
    return changes(before, state(run))
