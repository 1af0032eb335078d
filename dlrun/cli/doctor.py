"""`dlrun doctor`: what this machine has, and whether a 20-step training comes through and resumes to the same bits."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.errors import DlrunError


def run(arguments: Arguments) -> int:
    """Print the report; exit 3 where the self-training fails."""
    report = environment()
    try:
        report["self_training"] = self_training()
    except DlrunError as error:
        report["self_training"] = {"ok": False, "error": error.lines[0]}
    ok = bool(report["self_training"]["ok"])
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json({"ok": ok, **report})
        return 0 if ok else 3
    for name, value in report.items():
        shown = value if not isinstance(value, dict) else ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
        print(f"{name.replace('_', ' '):14} {shown}")
    print("all well" if ok else "the self-training failed: see above")
    return 0 if ok else 3


def environment() -> dict[str, Any]:
    """Versions, device, threads, memory, disk, data cache."""
    import torch

    from dlrun.config import conf_dir
    from dlrun.data import cache_root
    from dlrun.manifest import versions

    cache = Path(cache_root())
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "versions": versions(),
        "device": cuda or ("mps" if torch.backends.mps.is_available() else "cpu"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "free_disk_GiB": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "conf": str(conf_dir()),
        "data_cache": {str(cache): ", ".join(sorted(p.name for p in cache.iterdir() if p.is_dir())) if cache.is_dir() else "empty"},
    }


def self_training() -> dict[str, Any]:
    """Train digits for 20 steps, fall back to the checkpoint of step 10, resume, compare the weights."""
    import io

    from dlrun import checkpoint
    from dlrun.config import compose
    from dlrun.sinks.console import Console
    from dlrun.train import resume, train

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        words = ["train.steps=20", "train.checkpoint_every=10", "train.eval_every=0", "log.wandb.mode=disabled", "checks=none"]
        first, _ = train(compose([*words, f"run_dir={path}"]), Console(stream=io.StringIO(), live=False))
        shutil.rmtree(checkpoint.step_directory(path, 20))
        again, _ = resume(path, compose([], from_file=path / "config.yaml"), {}, Console(stream=io.StringIO(), live=False))
    same = first["weights_sha256"] == again["weights_sha256"]
    return {
        "ok": same,
        "steps": 20,
        "steps_per_second": round(first["steps_per_second"] or 0.0, 1),
        "resumed_to_the_same_bits": same,
        "seconds": round(time.perf_counter() - begun, 2),
    }
