"""P13: what grows with the number of steps or runs, and must not: the cost of logging a step, and of listing runs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import PYTHON, Promise, Result, Sample, compare, dlrun, environment, milliseconds, results
from training import HERE

STEPS = Promise("P13", 1.1, 1.0, at_least=False)
RUNS = Promise("P13", 3.0, 1.0, at_least=False)
FEW, MANY = 100, 10_000


def logging(rounds: int) -> Iterator[Result]:
    """What a step with its row costs near step 10^6 over near step 10^3, each against a bare loop in turn, in one training."""
    pairs = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "times.json"
            done = subprocess.run(
                [PYTHON, str(HERE / "long_run.py"), str(result)], cwd=folder, env=environment(), capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(f"error: long_run.py exited with {done.returncode}:\n{done.stderr[-2000:]}")
            times = json.loads(result.read_text("utf-8"))
        pairs.append(({"bare steps a step": times["late"]}, {"bare steps a step": times["early"]}))
    yield from results(STEPS, "a logged step near 10^6 / near 10^3", pairs)


def _runs(folder: Path, number: int) -> None:
    """`number` run directories as dlrun leaves them."""
    for i in range(number):
        run = folder / "outputs" / "default" / f"20261121-{i // 3600:02}{i // 60 % 60:02}{i % 60:02}-s{i}"
        run.mkdir(parents=True)
        summary = {"status": "finished", "step": 600, "seconds": 2.0, "best": {"step": 500, "metric": "val/accuracy", "value": 0.98}}
        (run / "summary.json").write_text(json.dumps(summary | {"metrics": {"test/accuracy": 0.98}}), "utf-8")
        (run / "config.yaml").write_text(f"experiment: null\nseed: {i}\n", "utf-8")
        (run / "metrics.jsonl").write_text("", "utf-8")


def listing(rounds: int) -> Iterator[Result]:
    """Processor time of `dlrun ls runs`, and with --json, of 10^4 runs over 10^2."""
    with tempfile.TemporaryDirectory() as name:
        for number in (FEW, MANY):
            _runs(Path(name) / str(number), number)
        for words in (["ls", "runs"], ["ls", "runs", "--json"]):

            def side(number: int, words: list[str] = words) -> Sample:
                return milliseconds([*dlrun(), *words], cwd=Path(name) / str(number))

            yield from compare(RUNS, f"dlrun {' '.join(words)}, 10^4 runs / 10^2", (lambda: side(MANY), lambda: side(FEW)), rounds)


def all_of_it(rounds: int) -> Iterator[Result]:
    """P13: both; the long training is run once, for it takes minutes."""
    yield from listing(rounds)
    yield from logging(1)
    sys.stdout.flush()
