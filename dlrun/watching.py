"""The checks that look on while a run trains: fed with rows as they are written and with evaluations, never by the loop.

What they find is said once, at the step it was seen. After a resume the rows up to the checkpoint are shown to them again, in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dlrun.checks._finding import Finding
from dlrun.checks._moments import known
from dlrun.checks._watch_players import Players
from dlrun.checks._watch_val import Guessing, TooGood
from dlrun.checks._watcher import Evaluation, Watcher
from dlrun.data.items import generators_kept
from dlrun.run import Run
from dlrun.sinks.tail import Tail, events_of

ALSO: Mapping[str, type[Watcher]] = {"gan_balance": Players, "label_permutation": Guessing, "too_good": TooGood}
"""What checks before training look for, looked for again while it goes on: check -> watcher."""


class Watchers:
    """Every check of the moment `training`; none with checks=none."""

    def __init__(self, run: Run) -> None:
        self.run = run
        wanted = {**known(("training",)), **ALSO} if run.config["checks"] != "none" else {}
        self.watchers: dict[str, Watcher] = {name: make(run) for name, make in wanted.items()}
        self._said: set[tuple[str, str]] = set()

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Finding]]:
        """(step, finding) of rows just written."""
        for row in rows:
            for name, watcher in self.watchers.items():
                yield from self._new(row["step"], name, watcher, watcher.row(row))

    def evaluated(self, step: int, final: bool, metrics: Mapping[str, float]) -> Iterator[tuple[int, Finding]]:
        """(step, finding) after an evaluation; whatever is drawn or computed for them leaves no trace."""
        seen = Evaluation(self.run, step, final, metrics)
        with generators_kept():
            for name, watcher in self.watchers.items():
                yield from self._new(step, name, watcher, watcher.evaluated(seen))

    def replay(self, path: Path) -> None:
        """Show the rows of a metrics.jsonl again; what was found in them has been said."""
        for rows in Tail(path).read():
            numbers = [{name: value for name, value in row.items() if isinstance(value, (int, float))} for row in rows]
            for _ in self.rows([row for row in numbers if isinstance(row.get("step"), int)]):
                pass

    def _new(self, step: int, name: str, watcher: Watcher, finding: Finding | None) -> Iterator[tuple[int, Finding]]:
        if finding is None or (name, finding.cause) in self._said:
            return
        self._said.add((name, finding.cause))
        finding.check, finding.recipe = name, watcher.recipe
        yield step, finding


def findings_of(events: Path) -> list[dict[str, Any]]:
    """The findings that a run's events.jsonl tells of."""
    keys = ("check", "level", "message", "step")
    return [{key: event.get(key) for key in keys} for event in events_of(events.parent) if event.get("event") == "finding"]
