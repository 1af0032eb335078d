"""Batches are a pure function of (seed, step): order, micro-batches, resume, workers, augmentation noise."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.data import Data, prepare
from dlrun.noise import Noise
from dlrun.types import DataSpec, Splits

ROWS = 23


def pairs(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """x says its own row number, y is its class."""
    return torch.arange(rows, dtype=torch.float32)[:, None], torch.arange(rows) % 3


class Noisy:
    """A map-style dataset whose items draw from python, numpy and torch."""

    def __init__(self, rows: int = ROWS) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        return torch.tensor([float(index), *drawn]), index % 3


def data_of(splits: Splits | None = None, **changes: Any) -> Data:
    splits = splits or Splits(pairs(), pairs(6), pairs(6))
    settings: dict[str, Any] = {
        "seed": 3,
        "dataset_seed": 0,
        "batch_size": 5,
        "accumulate": 1,
        "workers": 0,
        "device": "cpu",
        "augments": (),
    }
    return prepare(splits, name="mine", **{**settings, **changes})


def noisy(**changes: Any) -> Data:
    return data_of(Splits(Noisy(), Noisy(6), Noisy(6)), **changes)


def rows_of(stream: Iterator[list[Batch]], steps: int) -> list[int]:
    return [int(row) for batches in islice(stream, steps) for batch in batches for row in batch["x"][:, 0]]


def same(one: Batch, other: Batch) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_an_epoch_is_a_permutation_whatever_the_batch_size() -> None:
    for size in (1, 4, 5, 7, 22, 23):
        rows = rows_of(data_of(batch_size=size).stream(0), 2 * ROWS)[: 2 * ROWS]
        assert sorted(rows[:ROWS]) == sorted(rows[ROWS:]) == list(range(ROWS)), size


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, second = (rows_of(data_of().stream(0), 12)[low : low + ROWS] for low in (0, ROWS))
    assert first != second and first != list(range(ROWS))
    assert rows_of(data_of(seed=4).stream(0), 12)[:ROWS] != first
    assert rows_of(data_of(dataset_seed=9).stream(0), 12)[:ROWS] == first  # dataset.seed splits, it does not order


def test_a_full_batch_keeps_the_order_and_too_large_a_batch_is_clamped_aloud() -> None:
    assert rows_of(data_of(batch_size="full").stream(7), 1) == list(range(ROWS))
    data = data_of(batch_size=1000)
    assert data.batch_size == ROWS and any("train.batch_size is 1000" in note for note in data.notes)


def test_steps_in_epochs_are_rounded_up() -> None:
    data = data_of()
    assert [data.steps_in(epochs) for epochs in (1, 2, 0.1, 10)] == [5, 10, 1, 46]


def test_micro_batches_are_the_global_batch_cut_up() -> None:
    whole, parts = data_of(batch_size=7), data_of(batch_size=7, accumulate=3)
    for step, (one, several) in enumerate(islice(zip(whole.stream(0), parts.stream(0)), 8)):
        assert [len(part) for part in several] == [2, 3, 2], step
        assert same(one[0], Batch.cat(several))


@pytest.mark.parametrize("make", [data_of, noisy])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stream_from_the_middle_equals_one_advanced_to_it(make: Any, accumulate: int) -> None:
    """Resume: also in the middle of an epoch, with all generators scrambled in between."""
    through = list(islice(make(accumulate=accumulate).stream(0), 12))
    for start in (0, 1, 4, 5, 11):
        random.seed(start), np.random.seed(start), torch.manual_seed(start)
        again = next(make(accumulate=accumulate).stream(start))
        assert all(same(one, other) for one, other in zip(through[start], again, strict=True)), start


def test_workers_change_nothing_at_any_step() -> None:
    """Items draw from three generators; 0 and 2 workers, a resume in between and other draws in the main process give the same batches."""
    here = list(islice(noisy().stream(0), 9))
    assert len({float(value) for batches in here for value in batches[0]["x"][:, 1]}) == 9 * 5  # the draws do differ
    with_workers = noisy(workers=2)
    stream, there = with_workers.stream(0), []
    for _ in range(6):
        there.append(next(stream))
        torch.rand(3), random.random(), np.random.rand()
    resumed = list(islice(noisy(workers=2).stream(6), 3))
    assert all(same(one[0], other[0]) for one, other in zip(here, there + resumed, strict=True))


def test_reading_shifts_no_generator_of_the_main_process() -> None:
    for workers in (0, 2):
        data = noisy(workers=workers)
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        next(data.stream(0)), list(data.evaluation("val", 4))
        found = random.random(), np.random.rand(), float(torch.rand(()))
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        assert found == (random.random(), np.random.rand(), float(torch.rand(())))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_gives_every_row_once_in_order(workers: int) -> None:
    data = noisy(workers=workers)
    batches = list(data.evaluation("train", 10))
    assert [len(batch) for batch in batches] == [10, 10, 3]
    assert [int(row) for batch in batches for row in batch["x"][:, 0]] == list(range(ROWS))
    assert all(same(one, other) for one, other in zip(batches, noisy().evaluation("train", 10), strict=True))
    assert all(
        same(one, other) for one, other in zip(batches, data.evaluation("train", 10), strict=True)
    )  # the workers stay for a second pass
    with pytest.raises(ValueError, match="no split 'extra'.*train, val, test"):
        next(data.evaluation("extra"))


def test_a_batch_may_be_written_to() -> None:
    """A network with an in-place first layer must not eat the data."""
    data = data_of(batch_size="full")
    for _ in range(2):
        for batch in [next(data.stream(0))[0], *data.evaluation("train", 30)]:
            assert batch["x"].sum() == ROWS * (ROWS - 1) / 2
            batch["x"].zero_()


def test_augments_see_train_batches_only_after_normalisation_under_keyed_noise() -> None:
    seen: list[tuple[Any, ...]] = []

    def augment(batch: Batch, noise: Noise) -> Batch:
        seen.append(noise.key)
        drawn = torch.rand(len(batch), generator=noise.generator("mine")) + torch.rand(len(batch)) + random.random() + np.random.rand()
        return batch.replace(x=batch["x"] + drawn[:, None])

    bytes_in = (torch.full((ROWS, 1), 255, dtype=torch.uint8), torch.zeros(ROWS, dtype=torch.int64))
    splits = Splits(bytes_in, bytes_in, spec=DataSpec(mean=(0.5,), std=(0.25,)))
    plain, noised = data_of(splits), data_of(splits, augments=(augment, augment), accumulate=2)
    assert bool((next(plain.stream(0))[0]["x"] == 2).all())  # (255 / 255 - 0.5) / 0.25
    through = list(islice(noised.stream(0), 4))
    torch.manual_seed(99), random.seed(99), np.random.seed(99)
    assert all(same(one, other) for one, other in zip(through[3], next(noised.stream(3)), strict=True))
    assert len(set(seen)) == 4 * 2 * 2  # step, micro-batch and augment each have noise of their own
    assert bool((next(noised.evaluation("val"))["x"] == 2).all())


def test_a_sampler_of_the_users_is_asked_for_each_epoch() -> None:
    class Weighted:
        def __iter__(self) -> Iterator[int]:
            return iter(torch.multinomial(torch.tensor([1.0] * 22 + [50.0]), 10, replacement=True).tolist())

    data = data_of(Splits(pairs(), pairs(6), pairs(6), sampler=Weighted()))
    assert any("own sampler Weighted, 10 an epoch" in note for note in data.notes) and data.steps_in(1) == 2
    rows = rows_of(data.stream(0), 6)
    assert rows.count(22) > 10 and rows[:10] != rows[10:20]
    assert rows_of(data.stream(2), 4) == rows[10:]
    keeps = torch.Generator()

    class Stateful(Weighted):
        def __iter__(self) -> Iterator[int]:
            return iter(torch.randperm(ROWS, generator=keeps).tolist())

    assert any("random state of its own" in note for note in data_of(Splits(pairs(), pairs(6), sampler=Stateful())).notes)
    with pytest.raises(ValueError, match="each in 0..22"):
        data_of(Splits(pairs(), pairs(6), sampler=[0, 23]))
    with pytest.raises(ValueError, match="own sampler and no val split"):
        data_of(Splits(pairs(), sampler=[0, 1]))


WORKER_SCRIPT = """
import os, sys, time, torch
sys.path.insert(0, sys.argv[1])
from test_data_stream import Noisy
from dlrun.data import prepare
from dlrun.types import DataSpec, Splits
MAIN = os.getpid()
class Slow(Noisy):
    read = 0
    def __getitem__(self, index):
        os.write(1, f"worker {os.getpid()} {torch.get_num_threads()}\\n".encode())  # one write: three processes share the pipe
        self.read += os.getpid() != MAIN
        if self.read > 5:
            time.sleep(60)  # so that only the kernel can end it
        return super().__getitem__(index)
spec = DataSpec(kind="classification", classes=3)  # else the targets of all items are read first
splits = Splits(Slow(400), Noisy(6), spec=spec)
data = prepare(splits, name="slow", seed=0, dataset_seed=0, batch_size=5, accumulate=1, workers=2, device="cpu", augments=())
for batches in data.stream(0):
    os.write(1, b"batch\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_workers_have_one_thread_and_die_with_the_main_process() -> None:
    here = os.path.dirname(__file__)
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(here), "OMP_NUM_THREADS": "2"}
    workers = {}
    command = [sys.executable, "-c", WORKER_SCRIPT, here]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            word, *numbers = line.split()
            if word == "worker" and int(numbers[0]) != process.pid:  # the main process reads the first items itself, to see what they are
                workers[numbers[0]] = numbers[1]
            if word == "batch" and len(workers) == 2:
                break
        process.kill()
    assert list(workers.values()) == ["1", "1"]
    deadline = time.monotonic() + 60
    while any(_alive(int(pid)) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = [pid for pid in workers if _alive(int(pid))]
    for pid in left:
        os.kill(int(pid), signal.SIGKILL)
    assert not left


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
