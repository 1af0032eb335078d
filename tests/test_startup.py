"""What a start costs, held by what it does not import; the time itself is measured by scripts/bench (P7)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import gc, sys
from dlrun import cli
gc.disable()                                # as the console script does
code = cli.main(sys.argv[1:])
import torch
heavy = [name for name in ("torch._dynamo", "torch._inductor", "sympy", "wandb", "torchvision", "rich", "pandas") if name in sys.modules]
sys.stderr.write(f"{code} {heavy} {gc.isenabled()} {torch.are_deterministic_algorithms_enabled()} {gc.get_freeze_count() > 1000}")
"""


def test_a_whole_run_imports_nothing_it_does_not_need(tmp_path: Path) -> None:
    words = ["train", "train.steps=1", "log.wandb.mode=disabled"]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", CODE, *words], env=paths, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == "0 [] True True True"
