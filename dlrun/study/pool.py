"""The worker processes of one driver on this machine: started early, told their study later, replaced where they die."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from dlrun.study.owners import owner_of
from dlrun.study.setting import Setting

BOOT = "import sys; sys.path.append(sys.argv[1]); from dlrun.study.worker import main; main()"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")
LARGEST_OUTPUT = 1 << 20


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


class Process:
    """One worker process: what it says, how it ended."""

    def __init__(self, threads: int, device: str | None = None) -> None:
        environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT, str(Path(__file__).parents[2])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal reaches the driver, which asks each worker once
            bufsize=0,
        )
        self.owner, self.told, self.useful = owner_of(self.process.pid), False, False
        self._text = b""

    def tell(self, setting: Setting) -> None:
        """Name the study; a process that is dead already is found out when it is read."""
        assert self.process.stdin is not None
        self.told = True
        with contextlib.suppress(OSError):
            self.process.stdin.write((json.dumps(asdict(replace(setting, owner=self.owner))) + "\n").encode())

    def fileno(self) -> int:
        """What it says comes from here."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self) -> list[dict[str, Any]] | None:
        """What it said since; None at its end."""
        chunk = os.read(self.fileno(), 65536)
        *whole, self._text = (self._text + chunk).split(b"\n")
        found = [json.loads(line) for line in whole]
        self.useful = self.useful or any(message["event"] == "began" for message in found)
        return found if chunk else None

    def signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        with contextlib.suppress(OSError):
            self.process.send_signal(number)

    def output(self) -> str:
        """What was printed by it or by parts."""
        self.errors.seek(0)
        return self.errors.read(LARGEST_OUTPUT).decode("utf-8", "replace")

    def close(self) -> int:
        """Wait for its end; its exit code, or minus the signal it died of."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return self.process.wait()


class Pool:
    """Up to `count` processes with `threads` threads each."""

    def __init__(self, count: int, threads: int, devices: list[str] | None = None) -> None:
        self.count, self.threads, self.devices = count, threads, devices or []
        self.processes: list[Process] = []
        self.outputs: list[str] = []
        self._started = 0

    def start(self, wanted: int | None = None) -> None:
        """Start what is missing of `wanted` processes."""
        while len(self.processes) < min(self.count, self.count if wanted is None else wanted):
            device = self.devices[self._started % len(self.devices)] if self.devices else None
            self._started += 1
            self.processes.append(Process(self.threads, device))

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
