"""All that a resume needs, as tensors and JSON: networks, optimizers, schedules, averages, scaler, task state, counters.

No generator state: noise is keyed by step (`noise.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dlrun.checkpoint import Checkpoint, pack, unpack
from dlrun.errors import MissingError
from dlrun.functional.likeness import misfit
from dlrun.run import Run

SESSION: dict[str, Any] = {"seconds": 0.0, "metrics_bytes": 0, "metrics": {}, "events": {}, "evaluated": {}, "log": {}}


def capture(run: Run) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The state of a run's parts: (JSON, tensors by file)."""
    optimizer: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    state = {
        "optimizers": {name: pack(part.state_dict(), optimizer, name) for name, part in run.optimizers.items()},
        "schedulers": {name: pack(part.state_dict(), rest, f"schedule/{name}") for name, part in run.schedulers.items()},
        "precision": pack(run.precision.state_dict(), rest, "precision"),
        "task": pack(run.task.state_dict(), rest, "task"),
    }
    files: dict[str, dict[str, Tensor]] = {name: dict(module.state_dict()) for name, module in run.modules.items()}
    files |= {"optimizer": optimizer, "ema": run.ema.state_dict() if run.ema else {}, "state": rest}
    return state, files


def restore(run: Run, saved: Checkpoint) -> None:
    """Put a checkpoint's state into freshly built parts; MissingError naming what does not fit."""
    where = saved.path
    restore_networks(run, saved)
    state, tensors = saved.state, {**saved.tensors.get("optimizer", {}), **saved.tensors.get("state", {})}
    for key, parts in (("optimizers", run.optimizers), ("schedulers", run.schedulers)):
        found = state.get(key)
        if not isinstance(found, dict) or sorted(found) != sorted(parts):
            have = ", ".join(found) if isinstance(found, dict) else "no mapping"
            raise MissingError(f"{where}/state.json: {key} are {have}, the config builds {', '.join(parts)}")
        for name, part in parts.items():
            _load(f"{where}/state.json {key}.{name}", part, state[key][name], tensors)
    for optimizer in run.optimizers.values():
        lay_out(optimizer)
    _load(f"{where}/state.json precision", run.precision, state.get("precision"), tensors)
    restore_task(run, saved)


def restore_task(run: Run, saved: Checkpoint) -> None:
    """What the task keeps of its own (queues, centres, a closed-form fit), as evaluating a checkpoint needs it too."""
    _load(f"{saved.path}/state.json task", run.task, saved.state.get("task"), saved.tensors.get("state", {}))


def check_session(state: Mapping[str, Any]) -> None:
    """ValueError where a checkpoint's `session` has not the form in which `Session.save` writes it; its tables may have any keys."""
    reason = misfit(SESSION, state)
    for name, like in (("metrics", 0.0), ("events", 0), ("evaluated", 0)) if not reason else ():
        reason = reason or next((said for key, value in state[name].items() if (said := misfit(like, value, f"{name}.{key}"))), "")
    if not reason and state["best"] is not None:
        reason = misfit({"step": 0, "metric": "", "value": 0.0}, state["best"], "best")
    if not reason and not (state["metrics_bytes"] >= 0 and 0 <= state["seconds"] < math.inf):
        reason = "metrics_bytes, seconds: expected no negative number"
    if reason:
        raise ValueError(reason)


def lay_out(optimizer: Any) -> None:
    """Give an optimizer's state the memory layout of the parameter it belongs to.

    Files hold tensors in plain order, a channels_last parameter does not, and torch's fused kernels walk both by address: a state in
    another order would be applied to the wrong weights, without an error.
    """
    state = getattr(optimizer, "state", None)
    if not isinstance(state, Mapping):
        return
    for parameter, entries in state.items():
        for name, value in entries.items() if isinstance(parameter, Tensor) and isinstance(entries, dict) else ():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def restore_networks(run: Run, saved: Checkpoint) -> None:
    """The weights alone: every network and, where the run has them, the averages."""
    where = saved.path
    networks = sorted(saved.networks())
    if networks != sorted(run.modules):
        raise MissingError(f"{where} holds networks {', '.join(networks)}, the config builds {', '.join(sorted(run.modules))}")
    for name, module in run.modules.items():
        fill(f"{where}/{name}.safetensors", module, saved.tensors[name])
    if (run.ema is None) != ("ema" not in saved.tensors):
        raise MissingError(f"{where}: ema.safetensors and train.ema={run.train['ema']} do not fit")
    if run.ema is not None:
        run.ema.load_state_dict(saved.tensors["ema"])


def fill(label: str, module: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = module.state_dict()
    odd = sorted(set(own) ^ set(tensors)) or sorted(key for key in own if own[key].shape != tensors[key].shape)
    if odd:
        raise MissingError(f"{label} and the network differ in {', '.join(odd[:5])}: the code or its options changed since the run")
    module.load_state_dict(tensors)


def _load(label: str, part: Any, tree: Any, tensors: Mapping[str, Tensor]) -> None:
    try:
        part.load_state_dict(unpack(tree, tensors))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        raise MissingError(f"{label} does not fit what the config builds ({type(error).__name__}: {error})") from error
