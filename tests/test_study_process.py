"""Worker processes are forks of one warm process: there at once, dying one by one, and each told what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from dlrun.config.memory import packed, unpacked
from dlrun.study.freezing import Freezer
from dlrun.study.owners import is_gone
from dlrun.study.pool import Pool
from dlrun.study.process import Forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each worker is a new process")


@pytest.fixture
def pool() -> Iterator[Pool]:
    found = Pool(2, 1)
    found.start()
    yield found
    found.close()


def hear(pool: Pool, until: Callable[[], object]) -> None:
    """Listen, as the driver does, until something holds; ended ones are taken off."""
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        for process, said in pool.listen(0.1):
            if said is None:
                ended.append(pool.end(process))


ended: list[int] = []


def here(pool: Pool) -> list[str]:
    return [process.owner for process in pool.processes if process.owner]


def parent(owner: str) -> str:
    return Path(f"/proc/{owner.split('/')[1]}/stat").read_text().rpartition(")")[2].split()[1]


def test_whoever_replaces_a_dead_worker_gets_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlrun.study.pool.Process", lambda threads, device: SimpleNamespace(device=device))
    pool = Pool(5, 1, ["0", "1", "2"])
    pool.start()
    assert [worker.device for worker in pool.processes] == ["0", "1", "2", "0", "1"]
    del pool.processes[1]
    pool.start()
    assert sorted(str(worker.device) for worker in pool.processes) == ["0", "0", "1", "1", "2"]


def test_workers_are_forks_of_a_process_without_threads(pool: Pool) -> None:
    hear(pool, lambda: len(here(pool)) == 2)
    warm = {parent(owner) for owner in here(pool)}
    assert len(warm) == 1 and str(os.getpid()) not in warm
    assert len(os.listdir(f"/proc/{warm.pop()}/task")) == 1, "what threads hold would be lost in a fork"


def test_a_killed_worker_is_told_of_and_replaced_in_no_time(pool: Pool) -> None:
    hear(pool, lambda: len(here(pool)) == 2)
    ended.clear()
    killed = here(pool)[0]
    pool.processes[0].signal(signal.SIGKILL)
    hear(pool, lambda: ended)
    assert ended == [-signal.SIGKILL] and is_gone(killed) and len(pool.processes) == 1
    pool.start()
    hear(pool, lambda: len(here(pool)) == 2)
    assert len({parent(owner) for owner in here(pool)}) == 1


def test_without_the_warm_process_workers_go_on_and_new_ones_come_from_another(pool: Pool) -> None:
    hear(pool, lambda: len(here(pool)) == 2)
    ended.clear()
    first = parent(here(pool)[0])
    os.kill(int(first), signal.SIGKILL)
    pool.processes[0].signal(signal.SIGTERM)
    hear(pool, lambda: ended)
    assert ended == [-signal.SIGKILL], "nobody knows what it died of: as if killed from outside"
    assert len(pool.processes) == 1 and not is_gone(here(pool)[0])
    pool.start()
    hear(pool, lambda: len(here(pool)) == 2)
    assert first not in {parent(owner) for owner in here(pool)[1:]}


def test_what_is_asked_of_a_worker_before_it_is_there_reaches_it(pool: Pool) -> None:
    ended.clear()
    assert here(pool) == []
    pool.signal(signal.SIGTERM)
    hear(pool, lambda: len(ended) == 2)
    assert ended == [143, 143]


def test_where_nothing_can_be_forked_the_workers_end_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlrun.study.process.BOOT", "raise SystemExit('no torch here') # {}")
    pool = Pool(2, 1)
    pool.start()
    ended.clear()
    process = pool.processes[0]
    hear(pool, lambda: len(ended) == 2)
    assert ended == [1, 1] and isinstance(process, Forked)
    assert "no torch here" in pool.outputs[0]
    pool.close()


@pytest.mark.slow
def test_two_threads_in_a_fork_give_the_bits_of_a_run_alone(tmp_path: Path) -> None:
    words = ["dataset=digits", "model=mlp", "model.width=512", "train.batch_size=512", "train.steps=20", "checks=none", "device=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(Path(__file__).parents[1])}
    dlrun = [sys.executable, "-m", "dlrun"]
    for command in ([*dlrun, "sweep", *words, "seed=0,1", "--workers", "1"], [*dlrun, "train", *words, "seed=1", "run_dir=alone"]):
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    (swept,) = tmp_path.glob("outputs/sweeps/*/runs/00000-s1/checkpoints/*/model.safetensors")
    (alone,) = tmp_path.glob("alone/checkpoints/*/model.safetensors")
    assert swept.read_bytes() == alone.read_bytes()


def test_what_hydra_composed_is_handed_on_whole_or_not_at_all() -> None:
    model, task = (("model",), "mlp"), (("task",), "classification")
    nodes = {("model",): {"width": 8, "lr": 0.1, "none": None, "deep": {"list": [1, 2.5, "a"]}}, ("task",): {"nan": "x"}}
    memory = {(model, task): nodes, (task,): {("task",): {"weights": {0: 1.0}}}}
    entries = packed(memory)
    assert unpacked(json.loads(json.dumps(entries))) == {(model, task): nodes}, "JSON would make the key 0 a text"


def test_a_worker_that_was_given_it_composes_without_hydra(tmp_path: Path) -> None:
    freezer = Freezer(("dataset=moons", "model=mlp", "model.width=16", "optimizer.lr=0.5"))
    text = freezer.cell(0, []).jobs[0].text
    (tmp_path / "config.yaml").write_text(text)
    code = """
import json, sys
from dlrun.config.dump import dump
from dlrun.config.composing import compose
from dlrun.config.memory import unpacked
config = compose([], from_file="config.yaml", memory=unpacked(json.loads(sys.argv[1])))
assert not [name for name in sys.modules if name.split(".")[0] in ("hydra", "omegaconf", "torch")]
print(dump(config.saved), end="")
"""
    command = [sys.executable, "-P", "-c", code, json.dumps(packed(freezer.memory))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    said = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert said.stdout == text


def test_a_worker_with_a_gpu_is_a_new_process_that_sees_no_other() -> None:
    pool = Pool(1, 1, ["7"])
    pool.start()
    ended.clear()
    try:
        (process,) = pool.processes
        number = int(process.owner.split("/")[1])
        hear(pool, lambda: b"CUDA_VISIBLE_DEVICES=7\0" in Path(f"/proc/{number}/environ").read_bytes())
        assert parent(process.owner) == str(os.getpid()) and not isinstance(process, Forked)
        process.signal(signal.SIGKILL)
        hear(pool, lambda: ended)
        assert ended == [-signal.SIGKILL]
    finally:
        pool.close()
