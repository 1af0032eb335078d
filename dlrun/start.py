"""Runs that start from runs: `start: {from: RUN, step: best|last|N, networks: {mine: theirs}, freeze: [globs], strict: true}`.

Takes weights, never code or optimizer state: what a fine-tuning, a probe or a teacher needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dlrun import checkpoint
from dlrun.errors import MissingError, UsageError
from dlrun.plain_files import only_plain
from dlrun.rundir import read_json


def find_checkpoint(run: Path, step: str | int) -> checkpoint.Checkpoint:
    """The checkpoint of `run` at a step, its last, or the one its best validation value came from."""
    if not (run / "checkpoints").is_dir():
        raise MissingError(f"{run} is no run directory: it has no checkpoints/")
    only_plain(run)
    if step == "last":
        return checkpoint.newest(run)[0]
    if step == "best":
        try:
            step = int(read_json(run / "summary.json")["best"]["step"])
        except (MissingError, ValueError, KeyError, TypeError, OverflowError):
            raise MissingError(f"{run / 'summary.json'} names no best step: take step last") from None
    path = checkpoint.step_directory(run, int(step))
    if not path.is_dir():
        have = ", ".join(map(str, checkpoint.steps(run))) or "none"
        raise MissingError(f"{run} has no checkpoint of step {step}; there are: {have}")
    return checkpoint.read(path)


def refuse_arm(config: Mapping[str, Any]) -> None:
    """UsageError where `start.from` names an arm: which of its runs is meant only `dlrun reproduce` knows."""
    origin, name = config["start"]["from"], config.get("experiment")
    if origin in (config.get("arms") or {}) and not Path(origin).is_dir():
        raise UsageError(f"start.from: {origin} is an arm of {name}, not a run: dlrun reproduce {name} trains both, or say start.from=RUN")


def begin_from(start: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> list[str]:
    """Load weights into `modules` and freeze what `start.freeze` names; returns lines that say what happened."""
    run = Path(start["from"]).expanduser()
    source = find_checkpoint(run, start.get("step") or "best")
    mapping = start.get("networks") or {name: name for name in modules if name in source.tensors}
    if not mapping:
        raise UsageError(
            f"start: {run} has networks {', '.join(source.networks())}, this task has {', '.join(modules)}: set start.networks"
        )
    lines = []
    for mine, theirs in mapping.items():
        if mine not in modules or theirs not in source.tensors:
            raise UsageError(
                f"start.networks: {mine}: {theirs} does not fit; here: {', '.join(modules)}, in {run}: {', '.join(source.networks())}"
            )
        lines.append(
            _load(mine, modules[mine], source.tensors[theirs], strict=start.get("strict", True), origin=f"{run} step {source.step}")
        )
    return lines + freeze(start.get("freeze") or [], modules)


def _load(name: str, module: nn.Module, weights: Mapping[str, Tensor], *, strict: bool, origin: str) -> str:
    own = module.state_dict()
    fitting = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    odd = sorted({*own, *weights} - set(fitting))
    if odd and strict:
        raise UsageError(
            f"start: network {name} and {origin} differ in {', '.join(odd[:4])}{' ...' if len(odd) > 4 else ''}: say start.strict=false"
        )
    module.load_state_dict({**own, **fitting})
    left = f"; left as initialised or dropped: {', '.join(odd)}" if odd else ""
    return f"network {name} starts from {origin}: {len(fitting)} of {len(own)} entries{left}"


def freeze(globs: list[str], modules: Mapping[str, nn.Module]) -> list[str]:
    """Set `requires_grad=False` on every parameter (`network.key`) that a glob matches; a glob that matches nothing is an error."""
    named = {f"{name}.{key}": parameter for name, module in modules.items() for key, parameter in module.named_parameters()}
    frozen: list[str] = []
    for pattern in globs:
        hit = [name for name in named if fnmatchcase(name, pattern)]
        if not hit:
            raise UsageError(f"start.freeze: {pattern} matches no parameter; they are named like {', '.join(list(named)[:3])}")
        frozen += hit
    for name in frozen:
        named[name].requires_grad_(False)
    return [f"frozen: {', '.join(frozen)}"] if frozen else []
