"""manifest.json: what one must know to repeat a run: versions, platform, device, threads, git, data, seed, command line, plugins."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from dlrun.plugins import loaded
from dlrun.run import Run
from dlrun.rundir import command_line

PACKAGES = ("dlrun", "torch", "torchvision", "numpy", "hydra-core", "omegaconf", "safetensors", "wandb", "scikit-learn")


@functools.cache
def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that a result may depend on."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


@functools.cache
def git(folder: Path) -> dict[str, Any] | None:
    """Commit and dirtiness of the checkout that `folder` lies in, when first asked; None outside one."""
    base = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*base, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2)
        if commit.returncode:
            return None
        status = subprocess.run([*base, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=2)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def manifest(run: Run) -> dict[str, Any]:
    """Everything manifest.json holds."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "device": str(run.device),
        "device_name": torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "git": {"dlrun": git(Path(__file__).parent), "folder": git(Path.cwd())},
        "data": {
            "name": run.config["dataset"]["name"],
            "fingerprint": run.data.fingerprint,
            "source": run.data.spec.source,
            "split_rule": run.data.spec.split_rule,
            "rows": dict(run.data.rows),
        },
        "seed": run.config["seed"],
        "command_line": command_line(),
        "plugins": loaded(),
        "start": start_facts(run.config.get("start")),
        "notes": run.notes,
    }


def start_facts(start: dict[str, Any] | None) -> dict[str, Any] | None:
    """Which checkpoint a run started from, with the sum of its manifest."""
    if not start:
        return None
    import hashlib

    from dlrun.start import find_checkpoint

    source = find_checkpoint(Path(start["from"]).expanduser(), start.get("step") or "best")
    return {
        "path": str(source.path),
        "step": source.step,
        "sha256": hashlib.sha256((source.path / "MANIFEST.json").read_bytes()).hexdigest(),
    }
