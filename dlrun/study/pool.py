"""The worker processes of one driver on this machine: started early, told their study later, replaced where they die."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from dlrun.study.process import Forked, Process, Warm
from dlrun.study.setting import Setting


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def thread_budget(workers: int, environment: Mapping[str, str]) -> int:
    """Threads of one of so many workers; OMP_NUM_THREADS, where it asks for fewer, holds as it does for a single run."""
    share = max(1, cores() // workers)
    asked = environment.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdecimal() and int(asked) else share


class Pool:
    """Up to `count` processes with `threads` threads each: forks of one warm process, except where each has to be new.

    A fork of a process that uses Apple's libraries may fail at any time, and with GPUs nobody tried.
    """

    def __init__(self, count: int, threads: int, devices: list[str] | None = None) -> None:
        self.count, self.threads, self.devices = count, threads, devices or []
        self.processes: list[Process] = []
        self.outputs: list[str] = []
        self._warm: list[Warm] = []  # the last one forks; those before have died

    def start(self, wanted: int | None = None) -> None:
        """Start what is missing of `wanted` processes."""
        while len(self.processes) < min(self.count, self.count if wanted is None else wanted):
            self.processes.append(self._new())

    def _new(self) -> Process:
        if self.devices:
            busy = [process.device for process in self.processes]
            return Process(self.threads, min(self.devices, key=busy.count))  # whoever replaces a dead one gets its GPU
        if sys.platform != "linux":
            return Process(self.threads)
        if not self._warm or not self._warm[-1].alive():
            self._warm.append(Warm(self.threads))
        return Forked(self._warm[-1])

    def keep(self, wanted: int) -> None:
        """Let go of those beyond `wanted` that have been told nothing."""
        for process in self.processes[wanted:]:
            if not process.told:
                self.processes.remove(process)
                process.signal(signal.SIGKILL)  # it may be in the middle of importing torch
                self.end(process)

    def tell(self, setting: Setting) -> None:
        """Name the study to those that do not know it."""
        for process in self.processes:
            if not process.told:
                process.tell(setting)

    def listen(self, seconds: float) -> Iterator[tuple[Process, list[dict[str, Any]] | None]]:
        """Whoever says something within so many seconds; None is a process's end, and it is taken off the list."""
        for process in select.select(self.processes, [], [], seconds)[0]:
            said = process.read()
            if said is None:
                self.processes.remove(process)
            yield process, said

    def signal(self, number: int) -> None:
        """Send a signal to all."""
        for process in self.processes:
            process.signal(number)

    def end(self, process: Process) -> int:
        """The exit code of a process that has said its last."""
        code = process.close()
        text = process.output()
        process.errors.close()
        self.outputs += [text] if text.strip() else []
        return code

    def close(self, grace: float = 0.0) -> None:
        """Stop whatever still runs, within so many seconds by itself (saving what it does), else at once."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.processes and time.monotonic() < deadline:
            for process, said in self.listen(0.1):
                if said is None:
                    self.end(process)
        self.signal(signal.SIGKILL)
        for process in self.processes:
            self.end(process)
        self.processes.clear()
        while self._warm:
            self._warm.pop().close()


def gpus(environment: Mapping[str, str], listing: str = "/proc/driver/nvidia/gpus") -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; asked of the driver, for torch is not loaded here."""
    said = environment.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name.strip() for name in said.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(os.listdir(listing)))] if os.path.isdir(listing) else []


def make_pool(workers: int | None, device: str = "auto") -> Pool:
    """Worker processes that begin to import torch once started; `run_study` tells them what for.

    One a GPU where there are GPUs and `device` leaves the choice, else one a core. More workers than GPUs share them in turn.
    """
    devices = gpus(os.environ) if device in ("auto", "cuda") else []
    count = workers or len(devices) or cores()
    return Pool(count, thread_budget(count, os.environ), devices)
