"""Where workers run: what the driver of a study needs of a place that starts them. `pool.py` (this machine) and `ray_pool.py` are such;
Slurm would be a third: an array job whose tasks start `worker.main` and are told their study through a file.

Nothing of a study goes through here but the `Setting`: jobs, results, leases and fencing are the ledger's. So a backend may lose a worker,
hear its end late, or place fewer than asked for; whatever happens is made good when a lease runs out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from dlrun.study.setting import Setting


class Place(Protocol):
    """One worker, wherever it is. `owner` is its name in the ledger; `useful`: it has begun a job."""

    owner: str
    told: bool
    useful: bool

    def output(self) -> str:
        """What was printed by it or by parts."""


Said = list[dict[str, Any]] | None
"""What a worker said, message by message; None is its end."""


class Backend(Protocol):
    """Up to `count` workers of one driver. `outputs` are what ended ones printed."""

    count: int
    outputs: list[str]

    @property
    def processes(self) -> list[Any]:
        """Those that were started and have not ended, as `Place`."""

    def start(self, wanted: int | None = None) -> None:
        """Start what is missing of `wanted` workers (all, without a number); returns before they are ready."""

    def keep(self, wanted: int) -> None:
        """Let go of those beyond `wanted` that have been told nothing."""

    def tell(self, setting: Setting) -> None:
        """Name the study to those that do not know it: they begin to work."""

    def listen(self, seconds: float) -> Iterator[tuple[Any, Said]]:
        """Whoever says something within so many seconds; a worker that ended is taken off `processes` before it is given out."""

    def signal(self, number: int) -> None:
        """Send a signal to all: SIGINT and SIGTERM have them save and give their jobs back. Called from a signal handler."""

    def end(self, process: Any) -> int:
        """The exit code of a worker that has ended, or minus the signal it died of; what it printed goes to `outputs`."""

    def close(self, grace: float = 0.0) -> None:
        """Stop whatever still runs, within so many seconds by itself (saving what it does), else at once."""
