"""One call of `dlrun reproduce`: what it will cost, the study that trains what is missing, and the verdicts."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlrun.claims.evidence import SeedEvidence
from dlrun.errors import MissingError
from dlrun.reproduce.evidence_of import evidence_of
from dlrun.reproduce.leader import PREFIX, Lead, Runs, study_name
from dlrun.reproduce.outcome import lines, outcome, table
from dlrun.reproduce.sheet import Sheet, seeds_of
from dlrun.reproduce.wanted import judged
from dlrun.rundir import jsonable, read_json, safe_name, write_atomic
from dlrun.sinks.console import Console
from dlrun.sinks.terminal import duration
from dlrun.study.plan import Question

STOPPED = (130, 143)
ABANDONED_SECONDS = 600.0
NAME, PAGE = "reproduce.json", "report.html"
"""The document of an experiment's newest verdict, and its page, in `outputs/<experiment>/`."""


def whole(sheet: Sheet, runs: int) -> float:
    """How many runs the experiment has on its own seeds, for which its cost stands, where `runs` are those of the seeds asked for."""
    own = len(seeds_of(sheet.config["seeds"], None))
    return runs + len(judged(sheet)) * (own / len(sheet.seeds) - 1)


class Work:
    """Holds the documents of the experiments that are judged."""

    def __init__(self, runs: Runs, console: Console) -> None:
        self.runs, self.console = runs, console
        self.found: dict[str, dict[str, Any]] = {}

    def announce(self) -> None:
        """What there is to run, before it is."""
        for sheet in self.runs.sheets.values():
            mine = [wanted for wanted in self.runs.state if wanted.experiment == sheet.name]
            left = sum(not self.runs.state[wanted].done for wanted in mine)
            points = f" x {len(sheet.points)} points" if len(sheet.points) > 1 else ""
            tuning = f" and {len(mine) - len(judged(sheet))} to tune" if sheet.tune else ""
            seeds = f"{len(sheet.seeds)} seed{'s' * (len(sheet.seeds) != 1)}"
            size = f"{len(sheet.arms)} arm{'s' * (len(sheet.arms) != 1)}{points} x {seeds}{tuning}"
            cost = sheet.config.get("cost")
            time_ = f", about {duration(cost * left / max(1, whole(sheet, len(mine))))} on 2 cores" if cost and left else ""
            self.console.line(f"{sheet.name}: {size}: {len(mine)} runs, {len(mine) - left} there{time_}")
        for text in dict.fromkeys(note for sheet in self.runs.sheets.values() for note in sheet.base.notes):
            self.console.line(text)
        self._say()

    def _say(self) -> None:
        """What was found out about runs since it was last asked: other data, a probe that does not fit."""
        for text in dict.fromkeys(self.runs.lines):
            self.console.line(text, "warning")
        self.runs.lines.clear()

    def train(self, plugins: tuple[str, ...], config_dir: str | None) -> int:
        """Train what is missing; 0, or the exit code of a signal."""
        if not self.runs.missing:
            return 0
        from dlrun.config.memory import packed
        from dlrun.plugins import loaded
        from dlrun.study.engine import Means, run_study

        name = study_name(self.runs)
        folder = self.runs.root / "sweeps" / name
        pins = tuple((str(entry["name"]), str(entry["sha256"])) for entry in loaded())
        question = Question((name,), {"runs": [str(each) for each in self.runs.missing]}, (), None, plugins=pins)
        composed = packed({key: nodes for sheet in self.runs.sheets.values() for key, nodes in sheet.memory.items()})
        means = Means(plugins, config_dir, guide=Lead(self.runs, self.tell_now), valued=False, composed=composed)
        code = run_study(question, [], folder, None, None, self.console, means=means)[1]
        if code in STOPPED:
            self.console.line("stopped, all saved; the same command goes on", "warning")
        else:
            for used in (folder, *abandoned(folder.parent)):
                shutil.rmtree(used, ignore_errors=True)  # what it held stands in the run directories
        return code

    def tell_now(self, name: str) -> None:
        """While others are still trained: what fails here is tried, and raised, at the end."""
        try:
            self.tell(name)
        except Exception as error:
            self.console.line(f"{name} cannot be judged yet: {type(error).__name__}: {error}", "error")

    def tell(self, name: str) -> None:
        """Judge an experiment whose runs are all there, and show it."""
        if name in self.found:
            return
        sheet = self.runs.sheets[name]
        began = time.monotonic()
        if measures := sheet.config.get("measures"):
            self.console.line(f"{name}: measuring {', '.join(measures)}; what was measured before is kept")
        evidence = evidence_of(sheet, self.runs)
        found = self.found[name] = outcome(sheet, self.runs, evidence)
        found["seconds"] = self.runs.busy[name] / self.runs.workers + time.monotonic() - began
        self._say()
        columns, rows = table(found)
        self.console.table(name, columns, rows)
        for text, style in lines(name, found):
            self.console.line(text, *([style] if style else []))
        self._keep(name, evidence, found)

    def _keep(self, name: str, evidence: Sequence[SeedEvidence], found: dict[str, Any]) -> None:
        """Write the document, the figure and the page; what was judged before and came out alike is left as it is."""
        folder = self.runs.root / safe_name(name)
        folder.mkdir(parents=True, exist_ok=True)
        if same(found, folder / NAME) and (folder / PAGE).is_file():
            self.console.line(f"{folder / PAGE}")
            return
        write_atomic(folder / NAME, json.dumps(jsonable(found), indent=1, allow_nan=False) + "\n")
        from dlrun.reproduce.figure import draw
        from dlrun.reproduce.page import write

        sheet = self.runs.sheets[name]
        try:
            figures = draw(sheet, evidence, found, folder / "figures")
        except (OSError, RuntimeError, ValueError) as error:  # the verdict stands
            self.console.line(f"no figure: {type(error).__name__}: {error}", "warning")
            figures = []
        self.console.line(f"{write(sheet, evidence, found, figures, folder)}")

    def judge_all(self, *, stopped: bool = False) -> dict[str, dict[str, Any]]:
        """Every experiment's document, in the order they were named; of those whose runs are there, if it was `stopped`."""
        lacking = {wanted.experiment for wanted in self.runs.missing} if stopped else set()
        for name in self.runs.sheets:
            if name not in lacking:
                self.tell(name)
        return {name: self.found[name] for name in self.runs.sheets if name in self.found}


def abandoned(folder: Path) -> list[Path]:
    """Ledgers of calls that were killed, of which nothing has been heard for ten minutes: a call that begins has a new one."""
    ledgers = [path for path in folder.glob(f"{PREFIX}*/study.db*") if path.is_file()]
    newest = {path.parent: max(each.stat().st_mtime for each in ledgers if each.parent == path.parent) for path in ledgers}
    return [path for path, touched in newest.items() if time.time() - touched > ABANDONED_SECONDS]


def same(found: dict[str, Any], kept: Path) -> bool:
    """Whether the document in `kept` says what `found` says, the time it took aside."""
    try:
        before = read_json(kept)
    except MissingError:
        return False
    now = json.loads(json.dumps(jsonable(found)))
    return {**before, "seconds": 0} == {**now, "seconds": 0}
