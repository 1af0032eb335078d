"""Settings of torch that hold for the whole process, and lines for those that have no effect on this device or model."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dlrun.errors import UsageError


def set_up(train: Mapping[str, Any], device: torch.device) -> list[str]:
    """Apply threads, determinism and cuDNN's autotuner; returns lines for what has no effect, UsageError for what cannot be."""
    collect_garbage()
    lines = []
    if train["threads"] is not None:
        torch.set_num_threads(int(train["threads"]))
    if train["deterministic"] and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    be_deterministic(bool(train["deterministic"]), bool(train["compile"]))
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # only hides bugs of torch itself, and costs a write per allocation
    if train["cudnn_benchmark"] and train["deterministic"] and device.type == "cuda":
        raise UsageError("train.cudnn_benchmark=true picks kernels by timing them: it needs train.deterministic=false")
    torch.backends.cudnn.benchmark = bool(train["cudnn_benchmark"]) and device.type == "cuda"
    if train["cudnn_benchmark"] and device.type != "cuda":
        lines.append(f"train.cudnn_benchmark has no effect on {device.type}: it is a setting of CUDA's convolutions")
    if train["precision"] == "fp16" and device.type != "cuda":
        raise UsageError(f"train.precision=fp16 needs a CUDA device, this is {device.type}: say train.precision=bf16 or fp32")
    return lines


def collect_garbage() -> None:
    """Start the garbage collector that the console script held back; what was imported by now is not looked through again."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def be_deterministic(wanted: bool, compiled: bool) -> None:
    """`torch.use_deterministic_algorithms(wanted)` without its import of all of torch._inductor, for one switch there (0.9 s CPU).

    Inductor is told through its environment variable instead, which it reads when something is compiled later; where something will be
    compiled, is loaded already, or torch has no such function below its public one, the public one is called.
    """
    quick = getattr(torch._C, "_set_deterministic_algorithms", None)
    if compiled or quick is None or "torch._inductor.config" in sys.modules:
        torch.use_deterministic_algorithms(wanted)
        return
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1" if wanted else "0"
    quick(wanted, warn_only=False)


def shape_modules(train: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> list[str]:
    """Apply channels_last and compile to built networks, in place; returns lines for what has no effect."""
    lines = []
    if train["channels_last"]:
        images = [name for name, module in modules.items() if any(p.dim() == 4 for p in module.parameters())]
        for name in images:
            modules[name].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not images:
            lines.append("train.channels_last has no effect: no network has a 2-d convolution")
    if train["compile"]:
        for module in modules.values():
            module.compile()
    return lines
