"""Training seconds: the clock that evaluation, saving and start-up stop.

An accelerator works through a queue: a clock read while steps are still in it would count them as done. Source: Isola's Hacker's Guide
(synchronise before you read a clock).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Training seconds: time in steps only; start-up, evaluation and saving do not count. Goes on over resumes.

    `wait` returns when all steps so far are done; it is called where the clock stops.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None) -> None:
        self._wait = wait
        self._sum = 0.0
        self._since: float | None = None

    def seconds(self) -> float:
        """Seconds so far."""
        return self._sum + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def set(self, seconds: float) -> None:
        """Go on from `seconds`."""
        self._sum = seconds

    def start(self) -> None:
        """Steps begin."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Something else begins: what was queued until now belongs to the steps."""
        if self._since is not None:
            self._wait()
            self._sum, self._since = self.seconds(), None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count; the clock goes on afterwards if it ran before."""
        ran = self._since is not None
        self.pause()
        yield
        if ran:
            self.start()


def waiter(device: torch.device) -> Callable[[], None]:
    """What waits until everything queued on `device` is done; nothing on a CPU, which has no queue."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if device.type == "mps" else lambda: None
