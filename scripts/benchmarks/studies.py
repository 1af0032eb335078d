"""P8 to P10: wall time of a study of 32 short runs on two cores, up to its result table.

Against Hydra's basic multirun of a plain script (P8), against 32 processes of it (P9), two workers against one (P10). Fashion-MNIST comes
through the same cached reader on both sides; it has to be in the cache.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from measure import PYTHON, Promise, Result, Sample, compare, dlrun, environment

P8 = Promise("P8", 2.0, 4.0, at_least=True)
P9 = Promise("P9", 15.0, 30.0, at_least=True)
P10 = Promise("P10", 1.7, 1.95, at_least=True)

SCRIPT = Path(__file__).parent / "plain_study.py"
RATES = ("1e-4", "3e-4", "1e-3", "2e-3", "3e-3", "5e-3", "1e-2", "3e-2")
SEEDS = 4
OPTIONS = [
    "dataset=fashion_mnist",
    "model=mlp",
    "model.width=32",
    "model.depth=1",
    "train.steps=200",
    "train.batch_size=32",
    "optimizer=adam",
]


def seconds(command: Sequence[str], folder: Path, until: str | None = None) -> float:
    """Wall time of `command`, which must succeed; or its time up to the line that has `until` in it, while it still draws figures."""
    start, wall, said = time.perf_counter(), None, list[str]()
    piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=folder, env=environment(), text=True, **piped) as process:  # type: ignore[call-overload]
        for line in process.stdout:
            said.append(line)
            if until is not None and wall is None and until in line:
                wall = time.perf_counter() - start
    if process.returncode or (until is not None and wall is None):
        raise SystemExit(f"error: {' '.join(command)} exited with {process.returncode}:\n{''.join(said)[-2000:]}")
    return wall or time.perf_counter() - start


def study(workers: int | None = None) -> Sample:
    """Runs a second of `dlrun sweep`, of which every cell has a value."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [*OPTIONS, f"optimizer.lr={','.join(RATES)}", f"seed=range({SEEDS})"]
        placed = [] if workers is None else ["--workers", str(workers)]
        wall = seconds([*dlrun(), "sweep", *words, *placed], folder, until=": results.csv, runs/")
        runs = [json.loads(path.read_text("utf-8"))["status"] for path in folder.glob("outputs/sweeps/*/runs/*/summary.json")]
    if runs != ["finished"] * len(RATES) * SEEDS:
        raise SystemExit(f"error: {len(runs)} runs, not {len(RATES) * SEEDS} finished ones: what was measured is not what was promised")
    return {"runs/s wall": len(runs) / wall}


def multirun() -> Sample:
    """Runs a second of Hydra's basic multirun of the plain script."""
    with tempfile.TemporaryDirectory() as name:
        words = [f"lr={','.join(RATES)}", f"seed=range({SEEDS})", f"hydra.sweep.dir={name}/runs"]
        wall = seconds([PYTHON, str(SCRIPT), "-m", *words], Path(name))
    return {"runs/s wall": len(RATES) * SEEDS / wall}


def processes() -> Sample:
    """Runs a second of the plain script in a process each, one after another."""
    with tempfile.TemporaryDirectory() as name:
        jobs = [(rate, seed) for rate in RATES for seed in range(SEEDS)]
        walls = [seconds([PYTHON, str(SCRIPT), f"lr={lr}", f"seed={s}", f"hydra.run.dir={name}/{lr}-{s}"], Path(name)) for lr, s in jobs]
    return {"runs/s wall": len(jobs) / sum(walls)}


def over_multirun(rounds: int) -> Iterator[Result]:
    """P8."""
    yield from compare(P8, "dlrun sweep, 32 runs / Hydra's multirun", (study, multirun), rounds)


def over_processes(rounds: int) -> Iterator[Result]:
    """P9: a round takes minutes, so at most two."""
    yield from compare(P9, "dlrun sweep, 32 runs / 32 processes", (study, processes), min(rounds, 2))


def over_one_worker(rounds: int) -> Iterator[Result]:
    """P10."""
    yield from compare(P10, "dlrun sweep, two workers / one", (lambda: study(2), lambda: study(1)), rounds)
