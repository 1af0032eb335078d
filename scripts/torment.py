"""Promise R8 in its long form: a study whose workers and driver are killed at random moments ends in the table of an undisturbed one.

Every kill is SIGKILL, and comes while a job runs. At the end all values and weights are equal, each run was finished once, and no finished
run was trained again; exit code 1 where that does not hold. With `--reproduce` the same for `dlrun reproduce`, with an experiment whose
learning rate is tuned and one arm of which starts from the other.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

WORDS = ["dataset=moons", "model=mlp", "model.width=16", "optimizer.lr=1e-3,1e-2,3e-2,1e-1", "seed=range(3)", "train.steps=400"]
WORDS += ["train.checkpoint_every=50", "log.wandb.mode=disabled", "device=cpu"]
VARIES = ("attempts", "seconds", "run")
EXPERIMENT = """# @package _global_
defaults: [override /dataset: moons, override /model: mlp, _self_]
device: cpu
model: {width: 16}
log: {wandb: {mode: disabled}}
train: {steps: 400, checkpoint_every: 50, log_every: 50}
arms: {first: {}, second: {start: {from: first, step: last}}}
axes: {lr: {optimizer.lr: [1.0e-3, 1.0e-2]}}
tune: {axis: lr, by: val/loss, seeds: [100]}
seeds: 3
claims: ['second["val/loss"].final < 9']
"""


def driver(root: Path, name: str, reproduces: bool = False) -> subprocess.Popen[bytes]:
    """`dlrun sweep` or `dlrun reproduce` in a process of its own."""
    command = [sys.executable, "-m", "dlrun", "sweep", *WORDS, f"output_root={root}", "--name", name, "--workers", "2"]
    if reproduces:
        command = [sys.executable, "-m", "dlrun", "reproduce", "toy", "--config-dir", str(root / "conf"), f"output_root={root / name}"]
    with open(root / f"{name}.log", "ab") as log:
        return subprocess.Popen(command, cwd=root, stdout=log, stderr=log)


def table(folder: Path) -> list[dict[str, str]]:
    """results.csv without what differs from run to run."""
    with open(folder / "results.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key not in VARIES} for row in csv.DictReader(file)]


def ask(folder: Path, query: str) -> list[Any]:
    """Rows of the ledger; none while it is not there yet."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'study.db'}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def working(folder: Path) -> list[int]:
    """Process numbers of workers that train."""
    return [int(owner.split("/")[1]) for (owner,) in ask(folder, "select owner from dlrun_jobs where state = 'running'")]


def kill(processes: Sequence[int]) -> int:
    """Kill those that still live; returns how many."""
    done = 0
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
            done += 1
        except ProcessLookupError:
            pass
    return done


def torment(root: Path, seconds: float, draw: random.Random, reproduces: bool = False) -> int:
    """Kill for so many seconds, then let the study end; returns how many processes were killed."""
    kills, deadline = 0, time.monotonic() + seconds
    while True:
        process = driver(root, "wild", reproduces)
        while process.poll() is None:
            time.sleep(draw.uniform(0.02, 0.8))
            folders = (root / "wild" / "sweeps").glob("*") if reproduces else [root / "sweeps" / "wild"]
            at_work = [each for folder in folders for each in working(folder)]
            if time.monotonic() > deadline or not at_work:
                continue
            if draw.random() < 0.7:
                kills += kill([draw.choice(at_work)])
                continue
            kills += kill([process.pid, *(at_work if draw.random() < 0.5 else [])])
            process.wait()
        if process.returncode == 0:
            return kills
        print(f"{kills} killed; the driver ended with {process.returncode}, begun again", flush=True)


def runs_of(root: Path) -> dict[str, tuple[str, int]]:
    """Weights of every run of a reproduction, and how often it finished, by its name without the time at which it began."""
    found = {}
    for summary in sorted((root / "toy").glob("*/summary.json")):
        times = (summary.parent / "events.jsonl").read_text().count('"event": "finished"')
        found[summary.parent.name.split("-", 2)[2]] = (json.loads(summary.read_text())["weights_sha256"], times)
    return found


def reproduced(root: Path, seconds: float, draw: random.Random) -> int:
    """Two reproductions, one of them tormented; 0 where they end alike."""
    (root / "conf" / "experiment").mkdir(parents=True)
    (root / "conf" / "experiment" / "toy.yaml").write_text(EXPERIMENT)
    if driver(root, "calm", True).wait() != 0:
        print((root / "calm.log").read_text())
        return 1
    kills = torment(root, seconds, draw, True)
    calm, wild = runs_of(root / "calm"), runs_of(root / "wild")
    print(f"{kills} processes killed; {len(wild)} runs are {'equal' if calm == wild else 'NOT equal'} to the undisturbed {len(calm)}")
    return int(calm != wild or {times for _, times in wild.values()} != {1})


def main() -> int:
    """Run both studies and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to kill (default 120)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which")
    parser.add_argument("--reproduce", action="store_true", help="torment dlrun reproduce instead of dlrun sweep")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        if arguments.reproduce:
            return reproduced(root, arguments.seconds, random.Random(arguments.seed))
        if driver(root, "calm").wait() != 0:
            print((root / "calm.log").read_text())
            return 1
        kills = torment(root, arguments.seconds, random.Random(arguments.seed))
        calm, wild = root / "sweeps" / "calm", root / "sweeps" / "wild"
        finished = [(run / "events.jsonl").read_text().count('"event": "finished"') for run in sorted((wild / "runs").iterdir())]
        outcomes = dict(ask(wild, "select outcome, count(*) from dlrun_attempts group by outcome"))
        equal = table(calm) == table(wild)
        print(
            f"{kills} processes killed; attempts {outcomes}; the table is {'equal' if equal else 'NOT equal'}; each run finished {finished}"
        )
        return int(not equal or set(finished) != {1} or outcomes["finished"] != len(finished))


if __name__ == "__main__":
    sys.exit(main())
