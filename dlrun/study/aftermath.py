"""What is made once a study's table is out: figures, results.html, the public record. None of it can change or lose a result."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dlrun.rundir import write_atomic
from dlrun.signals import EXIT
from dlrun.sinks.console import Console
from dlrun.study.guide import first_line
from dlrun.study.ledger import Ledger
from dlrun.study.owners import owner_of
from dlrun.study.plan import Goal
from dlrun.study.results import remarks
from dlrun.study.space import Space
from dlrun.study.tables import sqlite_url

LEAST_TRIALS = 16
"""Finished cells below which importances would be guesses; with many axes, four an axis."""


def tidy(
    found: Mapping[str, Any], folder: Path, storage: str | None, space: Space, console: Console, *, draw: bool, said: list[str]
) -> None:
    """Bring the record level; with `draw` make figures and results.html, in which `said` stands. What goes wrong is told, no more."""
    goal = None if found["goal"] is None else Goal(*str(found["goal"]).rsplit(":", 1))
    if goal is None or not any(cell["value"] is not None for cell in found["cells"]):
        return
    ledger = Ledger(storage or sqlite_url(folder / "study.db"), folder.name, make=False)
    before = signal.signal(signal.SIGINT, _leave) if threading.current_thread() is threading.main_thread() else None
    try:
        if draw:
            made = _told(console, "figures", partial(_draw, ledger, folder, found, space, goal)) or []
            text = _told(console, "results.html", partial(_page, found, said, made, folder))
            _told(console, "results.html", partial(write_atomic, folder / "results.html", text or ""))
            console.line(f"{folder / 'results.html'}, figures/")
        _told(console, "the Optuna record", partial(_record, ledger, space, goal))
    finally:
        ledger.close()
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _leave(number: int, frame: object) -> None:
    """Ctrl-C: at once, for an interrupt in the middle of an import would be lost or leave half a module."""
    os.write(2, b"stopped: the results are whole; the same command makes the figures and the record\n")
    os._exit(EXIT["SIGINT"])


def _told(console: Console, name: str, do: Callable[[], Any]) -> Any:
    try:
        return do()
    except Exception as error:  # the results are safe; this is beside them
        console.line(f"{name}: not made: {first_line(error)}", "warning")
        return None


def _record(ledger: Ledger, space: Space, goal: Goal) -> None:
    from dlrun.study.record import Record

    record = Record(ledger, space, goal, owner_of(os.getpid()))
    try:
        record.sync()
    finally:
        record.close()


def _page(found: Mapping[str, Any], said: list[str], figures: list[Path], folder: Path) -> str:
    from dlrun.study.page import page

    return page(found, [*remarks(found), *said], figures, folder)


def _draw(ledger: Ledger, folder: Path, found: Mapping[str, Any], space: Space, goal: Goal) -> list[Path]:
    from dlrun.study.drawing import Shown, draw_study

    curves: dict[int, list[list[tuple[int, float]]]] = {}
    readings = ledger.readings()
    for job in ledger.jobs():
        points = dict(readings.get(job["id"], ()))
        if job["state"] == "finished" and job["summary"]:
            points[job["summary"]["step"]] = job["value"]
        curves.setdefault(job["cell"], []).append(sorted(points.items()))
    cells = [
        Shown(cell["number"], cell["params"], cell["state"], cell["value"], cell["interval"], curves.get(cell["number"], []))
        for cell in found["cells"]
    ]
    return draw_study(folder / "figures", cells, goal, f"study {found['study']}", importances(ledger, space, goal))


def importances(ledger: Ledger, space: Space, goal: Goal) -> dict[str, float]:
    """The share of each axis in the variance of the values, by Optuna's fANOVA; empty where there are too few cells to tell."""
    from dlrun.study.record import direction, frozen, trials_of

    trials = [trial for trial in trials_of(space, ledger) if trial.state == "COMPLETE"]
    varied = [name for name in {name for trial in trials for name in trial.params} if len({repr(t.params.get(name)) for t in trials}) > 1]
    if len(varied) < 2 or len(trials) < max(LEAST_TRIALS, 4 * len(varied)) or len({trial.value for trial in trials}) < 2:
        return {}
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numbers as categories are meant
            study = optuna.create_study(direction=direction(goal))
            study.add_trials([frozen(space, trial) for trial in trials])
            return dict(optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)))
    finally:
        optuna.logging.set_verbosity(verbosity)
