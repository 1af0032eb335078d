"""P12: peak memory of a whole training process over that of a bare script that holds the same uint8 images."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from measure import PYTHON, Promise, Result, Sample, compare, dlrun, environment
from training import HERE, LOOP, mlp

P12 = Promise("P12", 1.15, 1.0, at_least=False)
STEPS = 1000


def peak(command: Sequence[str]) -> Sample:
    """Largest resident memory of `command`, in MiB; it must exit with 0."""
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(), cwd=folder)
        assert child.stderr is not None
        with child.stderr:
            error = child.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"error: {' '.join(command)} exited with {child.returncode}:\n{error[-2000:]}")
    return {"MiB": usage.ru_maxrss / (1024 if os.uname().sysname == "Linux" else 1024 * 1024)}


def whole_process(rounds: int) -> Iterator[Result]:
    """P12: `dlrun train` with its figures and last checkpoint, W&B off, over the bare script."""
    ours = [*dlrun(), "train", f"train.steps={STEPS}", *LOOP, *mlp(), "log.wandb.mode=disabled"]
    theirs = [PYTHON, str(HERE / "bare_script.py"), str(STEPS)]
    yield from compare(P12, "peak memory of dlrun train, MLP / bare script", (lambda: peak(ours), lambda: peak(theirs)), rounds)
