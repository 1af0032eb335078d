"""What goes on around the loop of one run: rows, evaluations, checkpoints, the wish to stop, and the summary.

The loop trains; everything a user sees or keeps of it passes through here.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import torch

from dlrun import checkpoint
from dlrun.baselines import Baselines, baselines
from dlrun.checkpoint import Checkpoint, weights_sha256
from dlrun.checks import LOUD, Finding, during_training
from dlrun.errors import MissingError
from dlrun.evaluate import evaluate
from dlrun.events import Events
from dlrun.finite import NonFinite, Watch, broken_parameter
from dlrun.fitted import fitted
from dlrun.histograms import NAME, Histograms, cut_back
from dlrun.hosting import Host
from dlrun.run import Run
from dlrun.rundir import RunDir
from dlrun.signals import EXIT
from dlrun.sinks.console import Console
from dlrun.state import capture, check_session, restore
from dlrun.steplog import StepLog
from dlrun.stopwatch import Stopwatch, waiter
from dlrun.telemetry import Telemetry
from dlrun.unfit import say_undefined
from dlrun.watching import Watchers, findings_of


def facts_of(run: Run) -> str:
    """What baselines depend on: equal for runs that differ in networks, optimizers and seeds alone."""
    parts = {group: run.config.get(group) for group in ("dataset", "task", "loss", "metric", "augment", "device")}
    return json.dumps([parts, run.data.fingerprint, run.scores.name, run.scores.signed], sort_keys=True, default=str)


def chooser(run: Run) -> tuple[str, str]:
    """The validation metric that chooses `best` and its direction: the first metric with a direction, else the loss."""
    for name, metric in run.task.metrics.items():
        if metric.best:
            return f"val/{name}", metric.best
    return "val/loss", "min"


class Session:
    """One run in progress in its directory."""

    def __init__(self, run: Run, directory: RunDir, console: Console, host: Host | None = None) -> None:
        self.run, self.directory, self.console, self.host = run, directory, console, host or Host()
        self.stop = self.host.stop
        self.watch = Watch(run.device)
        log = run.config["log"]
        self.histograms = Histograms(directory.path, log["watch"], log["watch_every"]) if log["watch"] != "none" else None
        self.log = StepLog(self.histograms)
        self.events = Events(run.config.get("events") or {})
        self.clock = Stopwatch(waiter(run.device))
        self.telemetry = Telemetry(directory, self._show, self.histograms.flush if self.histograms else None)
        self.best: dict[str, Any] | None = None
        self.reason: str | None = None
        self.begin = 0
        self._evaluated: dict[str, int] = {}
        self._saved = -1
        self._deadline = math.inf
        self._summary: dict[str, Any] = {}
        self.findings: list[dict[str, Any]] = []
        self.baselines, self.fitted = Baselines(), dict[str, Any]()
        self.watchers = Watchers(run)

    # -- the loop's side

    def wants_row(self, step: int) -> bool:
        """Whether step `step` (from 1) gets a row of train metrics."""
        return step == 1 or step % self.run.train["log_every"] == 0 or step == self.run.steps

    def after_step(self, step: int) -> bool:
        """Log, evaluate, save as the step demands; False to stop."""
        if self.log.wanted:
            self.watch.read()  # waits for an accelerator, so that the row's time is that of steps done, not of steps queued
            self.telemetry.record(step, self.clock.seconds(), "train", self.log.values())
        if self._due(step, self.run.train["eval_every"]):
            self.evaluate(step)
        if self._due(step, self.run.train["checkpoint_every"]):
            self.save(step)
        if self.log.wanted and step < self.run.steps:  # the last row stays open for the last evaluation
            self.telemetry.breathe()
        if self.stop.signal:
            self.reason = self.stop.signal
        elif time.perf_counter() >= self._deadline:
            self.reason = "max_seconds"
        return self.reason is None or step == self.run.steps

    def _due(self, step: int, every: int) -> bool:
        return every > 0 and step % every == 0 and step < self.run.steps

    # -- beginning and end

    def start(self) -> None:
        """Evaluate before training (row 0) and start the clock."""
        self.evaluate(0)
        self._go()

    def go_on(self, saved: Checkpoint, changed: Mapping[str, Any]) -> None:
        """Take up the state of a checkpoint; logs are cut back to it."""
        restore(self.run, saved)
        try:
            self._take_up(saved.state["session"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MissingError(f"{saved.path}/state.json: session does not fit ({type(error).__name__}: {error})") from error
        cut_back(self.directory.path / NAME, saved.step)
        self.watchers.replay(self.directory.path / "metrics.jsonl")
        self.findings = findings_of(self.directory.path / "events.jsonl")
        self.begin = self._saved = saved.step
        self.directory.event("resumed", saved.step, self.clock.seconds(), changed=dict(changed))
        self._go()

    def _take_up(self, state: Mapping[str, Any]) -> None:
        check_session(state)
        self.clock.set(state["seconds"])
        self.best, self.events.happened = state["best"], dict(state["events"])
        self.log.load_state_dict(state["log"])
        self.telemetry.newest = dict(state["metrics"])
        self._evaluated = dict(state["evaluated"])
        self.directory.cut_back(state["metrics_bytes"])

    def _go(self) -> None:
        limit = self.run.train["max_seconds"]
        self._deadline = time.perf_counter() + limit if limit is not None else math.inf
        self.write_summary("running", self.begin)
        self.clock.start()

    def finish(self, step: int) -> str:
        """After the loop: last evaluation if it came to its end, last checkpoint, summary. Returns the status."""
        self.clock.pause()
        ended = step >= self.run.steps
        if ended:
            self.evaluate(step, final=True)
        self.save(step)
        if ended:
            self.baselines, self.fitted = self.host.once("baselines", facts_of(self.run), lambda: baselines(self.run)), fitted(self.run)
        status = "finished" if ended else "interrupted" if self.reason in EXIT else "stopped"
        self.directory.event(status, step, self.clock.seconds(), **({"reason": self.reason} if not ended else {}))
        self.write_summary(status, step)
        return status

    # -- evaluation, saving, summary

    def evaluate(self, step: int, final: bool = False) -> None:
        """Metrics of the evaluation splits after `step`; at the end of `test` as well. `best` is chosen on val alone."""
        wanted = [*self.run.train["eval_splits"], *(["test"] if final else [])]
        with self.clock.paused():
            metrics: dict[str, float] = {}
            for split in dict.fromkeys(wanted):
                if split in self.run.data.rows and self._evaluated.get(split) != step:
                    metrics |= self._split_metrics(split, step)
                    self._evaluated[split] = step
            if metrics:
                if step < self.run.steps:
                    self.telemetry.flush()
                self.console.evaluation(step, metrics)
                for at, finding in self.watchers.evaluated(step, final, {**self.telemetry.newest, **metrics}):
                    self.found(at, finding)
                self._note_best(step, metrics)
                if not final:
                    self.reason = self.host.evaluated(step, metrics) or self.reason

    def _split_metrics(self, split: str, step: int) -> dict[str, float]:
        run = self.run
        found = {split: evaluate(run, run.modules, split, step)}
        if run.ema is not None:
            run.ema.copy_buffers()
            found[f"{split}_ema"] = evaluate(run, run.ema.modules, split, step)
        for name, values in found.items():
            self.telemetry.record(step, self.clock.seconds(), name, values)
            say_undefined(run, name, values, self.console.line)
        return {f"{name}/{key}": value for name, values in found.items() for key, value in values.items()}

    def _note_best(self, step: int, metrics: Mapping[str, float]) -> None:
        name, direction = chooser(self.run)
        value = metrics.get(name)
        if step == 0 or value is None or not math.isfinite(value):
            return
        sign = 1 if direction == "max" else -1
        if self.best is None or sign * value > sign * self.best["value"]:
            self.best = {"step": step, "metric": name, "value": value}
            if step < self.run.steps:
                self.save(step)

    def save(self, step: int) -> None:
        """A checkpoint of `step`, once; refused if a parameter is not finite."""
        if step == self._saved:
            return
        with self.clock.paused():
            self.watch.read()
            broken = broken_parameter(self.run.modules)
            if broken:
                raise NonFinite(step, f"parameter {broken}")
            self.telemetry.flush()
            state, tensors = capture(self.run)
            state["session"] = {
                "seconds": self.clock.seconds(),
                "metrics_bytes": self.directory.metrics_length(),
                "metrics": self.telemetry.newest,
                "best": self.best,
                "events": self.events.happened,
                "evaluated": self._evaluated,
                "log": self.log.state_dict(),
            }
            checkpoint.save(self.directory.path, step, state, tensors)
            self._saved = step
            checkpoint.prune(self.directory.path, self.run.train["keep_last"], {self.best["step"]} if self.best else set())
            self.directory.event("checkpoint", step, self.clock.seconds())

    def write_summary(self, status: str, step: int, reason: str | None = None) -> None:
        """summary.json as it stands after `step`."""
        seconds = self.clock.seconds()
        trained = sum(p.numel() for module in self.run.modules.values() for p in module.parameters())
        self._summary = {
            "status": status,
            "reason": reason or self.reason,
            "step": step,
            "seconds": seconds,
            "metrics": self.telemetry.newest,
            "evaluated": dict(self._evaluated),
            "best": self.best,
            "events": self.events.happened,
            "parameters": trained,
            "steps_per_second": step / seconds if seconds > 0 and step else None,
            "weights_sha256": weights_sha256(self.run.modules) if status != "running" else None,
            "baselines": self.baselines.values,
            "baselines_skipped": self.baselines.skipped,
            "fitted": self.fitted,
            "findings": [finding for finding in self.findings if finding["level"] in LOUD],
            "clipped_share": self.log.clipped_share(),
            "skipped_objectives": self.run.precision.skipped,
            "peak_memory_bytes": peak_memory(self.run.device),
        }
        self.directory.write_json("summary.json", self._summary)

    @property
    def summary(self) -> dict[str, Any]:
        """The summary as last written."""
        return self._summary

    def found(self, step: int, finding: Finding, say: bool = True) -> None:
        """Record a finding of a check, and print it where `say`."""
        facts = {"check": finding.check, "level": finding.level, "message": finding.message}
        self.directory.event("finding", step, self.clock.seconds(), **facts)
        self.findings.append({**facts, "step": step})
        for line, style in during_training(finding, step, self.console.width) if say else ():
            self.console.line(line, style)

    def _show(self, rows: list[dict[str, Any]]) -> None:
        """A flush: the events the new rows make happen, what the watchers see in them, and the bar."""
        for row in rows:
            for name in self.events.see(row):
                self.directory.event(name, row["step"], row["time"])
        for at, finding in self.watchers.rows(rows):
            self.found(at, finding)
        step, seconds = rows[-1]["step"], self.clock.seconds()
        rate = step / seconds if seconds > 0 else 0.0
        self.console.progress(
            {
                "step": step,
                "steps": self.run.steps,
                "metrics": self.telemetry.newest,
                "steps_per_second": rate,
                "eta_seconds": (self.run.steps - step) / rate if rate else None,
            }
        )


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: by tensors on an accelerator, by the process (resident) on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
