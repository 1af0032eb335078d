"""The copy for Weights & Biases: an offline run inside the run's directory, or a live one where `log.wandb.mode=online`.

All comes from the run's own files, so that a run that was offline, killed or cut off is completed whenever W&B can be reached: online, W&B
says which step it holds last, and the rows after it follow (history is only ever appended in the order of steps: no gap, no double). What
cannot go online is recorded offline. A resumed run goes on under its id.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlrun.sinks import wandb_query, wandb_run
from dlrun.sinks.wandb_models import Models
from dlrun.sinks.wandb_query import NotOnlineError
from dlrun.sinks.wandb_run import ConflictError
from dlrun.sinks.wandb_state import State, extent, row_at

Row = dict[str, Any]
FINISH_SECONDS = 45.0
MODEL_SECONDS = 540.0
"""For the last upload, without and with checkpoints; less than the feeder's own limit, so that W&B can still say what is missing."""


class WandbCopy:
    """Writes rows to one W&B run. `wandb.json` in the run's directory keeps its id, folders and how far it reaches."""

    name, folder = "W&B", "wandb"

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            if error.name not in (None, "wandb"):
                raise
            raise NotOnlineError("the package wandb is not installed: pip install wandb, then dlrun sync RUN uploads the run") from None
        self._wandb: Any = wandb
        wandb_run.lighten(wandb)
        self._options = dict(kinds["wandb"])
        self._options["seconds"] = MODEL_SECONDS if self._options["log_model"] else FINISH_SECONDS
        self._job: Row = {}
        self._directory = Path()
        self._notes: list[str] = []
        self._run: Any = None
        self._logged = 0

    @property
    def rows(self) -> int:
        """How many rows this process has added."""
        return self._logged

    @property
    def last(self) -> int:
        """The last step it holds."""
        return int(self._state.values.get("step", -1))

    @property
    def url(self) -> str | None:
        """Where the run is to be seen."""
        return str(self._run.url) if self._run.url else None

    def server(self) -> str:
        """The address of the W&B server."""
        return wandb_run.server_of(self._wandb)

    def open(self, job: Row) -> int:
        """Start the W&B run; returns the last step that it holds already (-1: none): W&B online, its local files offline."""
        self._job, self._directory = job, Path(job["run_dir"])
        self._state = State(self._directory)
        self._state.identify(self._options)
        if job["step"]:
            self._state.values["resumed_at"] = [*self._state.values.get("resumed_at", []), job["step"]]
        last = self._online() if self._options["mode"] == "online" else None
        if last is None:
            self._options["mode"] = "offline"
            last = self._state.last_step(self._options.get("dir"))
            self._run = self._begin("offline")
        folder = os.path.relpath(Path(self._run.settings.sync_dir), self._directory)
        wanted = self._options["log_model"] if self._options["mode"] == "online" else False
        self._models = Models(self._wandb, self._run, self._directory, wanted, self._state.values.get("artifacts") or [])
        self._state.save(folders=[*self._state.values.get("folders", []), folder], mode=self._options["mode"], step=last, complete=False)
        return last

    def add(self, rows: list[Row]) -> None:
        """Log rows at their steps; values that are mappings are histograms."""
        for row in rows:
            self._run.log({name: self._value(value) for name, value in row.items() if name != "step"}, step=row["step"])
        self._logged += len(rows)
        self._state.save(step=rows[-1]["step"], complete=False)
        self._models.as_saved()

    def close(self, summary: Row | None, events: list[Row], figures: list[Path]) -> str:
        """Log figures and models, set the summary, end the run. Without a summary the run is in other hands: only this part ends."""
        if summary is None:
            self._end({})
            return ""
        images = {f"figures/{path.stem}": self._wandb.Image(str(path)) for path in figures}
        if images and self._logged:  # the last row is still open
            self._run.log(images, step=self._state.values["step"])
        self._run.summary.update({**at_end(summary, events), **({} if self._logged else images)})
        if self._options["mode"] != "online":
            self._end(summary)
            return self._said(f"W&B: offline; upload with: dlrun sync {short(self._directory)}")
        try:
            server = self.server()
            wandb_query.reach(server)
            self._notes.append(self._models.at_end(summary, events))
            self._end(summary)
        except Exception as error:
            reason = str(error) if isinstance(error, NotOnlineError) else wandb_run.why(error)
            self._state.save(artifacts=self._models.done)
            raise NotOnlineError(f"not all was uploaded ({reason}); the rest with: dlrun sync {short(self._directory)}") from error
        place = {"entity": self._run.entity, "project": self._run.project, "url": self._run.url}
        self._state.save(**place, artifacts=self._models.done, uploaded=extent(self._directory, server, self._options["log_model"]))
        return self._said(f"W&B: {self._run.url}")

    def _end(self, summary: Row) -> None:
        self._run.finish(exit_code=0 if summary.get("status") in ("finished", "stopped", "interrupted") else 1)
        self._state.save(complete=True)

    def _said(self, line: str) -> str:
        notes = "".join(self._notes)
        return "" if self._options.get("silent") and not notes else line + notes

    def _begin(self, mode: str) -> Any:
        return wandb_run.begin(self._wandb, mode, self._directory, self._state.values, self._options, self._job)

    def _online(self) -> int | None:
        """Start online; the last step that W&B holds, or None, with a note, where it cannot be used."""
        try:
            held = wandb_query.last_row(self.server(), wandb_run.account(self._wandb), self._state.values)
            try:
                self._run = self._begin("online")
            except NotOnlineError as error:
                if not self._state.values.get("id_given") or "already exists" not in str(error):
                    raise
                self._notes.append(f" (WANDB_RUN_ID={self._state.values['id']} is the id of another run: not used)")
                self._state.renew()
                held, self._run = {}, self._begin("online")
            self._state.save(online=True)
            last = int(self._run.starting_step) - 1
            self._compare(last, dict(self._run.summary) if held is None else held)
            return last
        except NotOnlineError as error:
            if self._options.get("strict"):
                raise
            self._notes.append(f" (online did not work: {error})")
            return None

    def _compare(self, last: int, held: Row) -> None:
        """ConflictError where W&B's last row is of an attempt with other numbers: a run that was cut back and trained on differently."""
        for name, value in row_at(self._directory, last).items() if last >= 0 else ():
            if name not in ("step", "time") and differ(value, held.get(name)):
                self._run.finish(exit_code=1)
                self._wandb.teardown()
                place = f"dlrun sync --fresh {short(self._directory)}"
                raise ConflictError(f"W&B holds another {name} for step {last}, of an attempt that was cut back: upload anew with {place}")

    def _value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        counts, low, high = value["counts"], value["low"], value["high"]
        edges = [low + (high - low) * i / len(counts) for i in range(len(counts) + 1)]
        return self._wandb.Histogram(np_histogram=(counts, edges))


def differ(mine: Any, other: Any) -> bool:
    """Whether two values are different finite numbers, beyond what a change of format does to them."""
    if not (isinstance(mine, (int, float)) and isinstance(other, (int, float))):
        return False
    return math.isfinite(mine) and math.isfinite(other) and not math.isclose(mine, other, rel_tol=1e-6)


def at_end(summary: Row, events: list[Row]) -> Row:
    """What W&B's summary shows beside the last values: best, status, speed, hash, the last step of each kind of event."""
    chosen = ("status", "reason", "seconds", "steps_per_second", "parameters", "weights_sha256")
    values = {name: summary[name] for name in chosen if summary.get(name) is not None}
    best = summary.get("best") or {}
    values |= {f"best/{name}": value for name, value in best.items()}
    values |= {f"events/{event['event']}": event.get("step") for event in events if "event" in event}
    return values | {f"events/{name}": step for name, step in (summary.get("events") or {}).items()}


def short(path: Path) -> str:
    """`path` from the current folder where it lies below it, as a shell takes it."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)
