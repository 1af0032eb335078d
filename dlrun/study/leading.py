"""What a driver asks of whoever decides which cells there are: a search (`guide.py`), or experiments with runs that wait for runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dlrun.sinks.console import Console
from dlrun.study.backend import Backend
from dlrun.study.ledger import Ledger
from dlrun.study.plan import Cell, Goal


class Leader(Protocol):
    """Made before the study is opened, told where it lies (`begin`), asked at every look (`tick`) and at the end (`remarks`)."""

    @property
    def stays(self) -> bool:
        """Whether more jobs may come once all are done, so that idle workers stay."""

    @property
    def goes_on(self) -> bool:
        """Whether more jobs may still come."""

    @property
    def every(self) -> int:
        """Steps between evaluations where runs that lie behind are given up; 0: none is."""

    @property
    def planned(self) -> int | None:
        """Runs there will be; 0: nobody knows; None: those that were entered."""

    @property
    def problem(self) -> str | None:
        """Why the study makes no sense any longer."""

    def settle(self, ledger: Ledger) -> Goal | None:
        """What cells are compared by, where it has to be known before the first run."""

    def begin(self, ledger: Ledger, folder: Path, pool: Backend, console: Console, first: Callable[[Cell], bool]) -> None:
        """The study is open: the first cells are entered."""

    def tick(self, rows: Sequence[Mapping[str, Any]], stopped: bool) -> bool:
        """Do what is due; True where the study is not at its end though every job is done."""

    def remarks(self, found: Mapping[str, Any]) -> list[str]:
        """Lines below the table."""
