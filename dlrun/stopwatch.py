"""Training seconds: the clock that evaluation, saving and start-up stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Training seconds: time in steps only; start-up, evaluation and saving do not count. Goes on over resumes."""

    def __init__(self) -> None:
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
        """Something else begins."""
        if self._since is not None:
            self._sum, self._since = self.seconds(), None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count; the clock goes on afterwards if it ran before."""
        ran = self._since is not None
        self.pause()
        yield
        if ran:
            self.start()
