"""W&B and TensorBoard, fed by a process of their own that reads what the run writes.

The training process starts it (before torch is imported, so that `import wandb` overlaps with it), never waits for it while it trains and
asks once at the end what became of the copy. The feeder may be slow, hang, crash or be killed: nothing here raises, and no step waits.
Protocol: the job as one JSON line on the feeder's stdin; a second line, or the end of the file, says that the run is over. On stdout the
feeder answers with {"ending": true} at once and {"lines": [...]} when the copy is complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BOOT = "import sys; sys.path.append(sys.argv[1]); from dlrun.sinks.feeder import main; main()"
"""Not `-m`: with `-P` the folder dlrun is called from, which may hold a `wandb.py` or a `wandb/`, is not imported from."""
PASSED = (
    "PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR TMP TEMP NETRC VIRTUAL_ENV LD_LIBRARY_PATH DYLD_LIBRARY_PATH "
    "HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE "
    "PYTHONPATH PYTHONHOME PYTHONNOUSERSITE PYTHONUSERBASE PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX"
).split()
"""Environment variables the feeder gets, beside WANDB_*, LC_* and XDG_*: what W&B needs, and no other secret."""
MODES = {"dryrun": "offline", "run": "online", "shared": "online"}
"""W&B's other words for its modes."""


def start(run_dir: Path, config_path: Path, wandb: Mapping[str, Any] | None, tensorboard: bool, run_name: str) -> Background:
    """Start the feeder of `run_dir`, which may not exist yet: nothing is written before `config_path` (the saved config) is there.

    `wandb` is the config's `log.wandb` (None: no W&B). WANDB_MODE and WANDB_DISABLED win over its mode. Costs a few milliseconds.
    """
    options = dict(wandb) if wandb else None
    notes = []
    if options is not None and (mode := wanted_mode(options, os.environ)) != options["mode"]:
        if options["mode"] != "disabled":
            notes.append(f"W&B: mode {mode} from the environment (log.wandb.mode={options['mode']})")
        options["mode"] = mode
    if options is not None and options["mode"] == "disabled":
        options = None
    job = {"run_dir": str(run_dir.absolute()), "config": str(config_path.absolute()), "wandb": options, "tensorboard": tensorboard}
    return Background({**job, "name": run_name, "parent": os.getpid()} if options or tensorboard else None, notes)


def wanted_mode(options: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """offline, online or disabled: what the environment says, else the config; a run whose config disables W&B stays without it."""
    if environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes") or options["mode"] == "disabled":
        return "disabled"
    mode = environ.get("WANDB_MODE", "").lower()
    mode = MODES.get(mode, mode)
    return mode if mode in ("offline", "online", "disabled") else str(options["mode"])


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that the feeder gets."""
    return {
        name: value
        for name, value in environ.items()
        if name in PASSED or name.upper() in PASSED or name.startswith(("WANDB_", "LC_", "XDG_"))
    }


class Background:
    """A running feeder, or none (`job` None, or it could not be started)."""

    def __init__(self, job: Mapping[str, Any] | None, notes: list[str]) -> None:
        self._notes, self._job = notes, job
        self._process: subprocess.Popen[bytes] | None = None
        if job is None:
            return
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT, str(Path(__file__).parents[2])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=passed_on(os.environ),
                start_new_session=True,  # Ctrl-C in the terminal is meant for the training
                bufsize=0,
            )
            self._send(json.dumps(job))
        except (OSError, ValueError) as error:
            self._notes.append(f"{self._what}: no copy, the process that writes it could not be started ({error}); metrics.jsonl has it all")

    @property
    def _what(self) -> str:
        job = self._job or {}
        return " and ".join(name for name, wanted in (("W&B", job.get("wandb")), ("TensorBoard", job.get("tensorboard"))) if wanted)

    @property
    def pid(self) -> int | None:
        """The feeder's process id, None where there is none."""
        return self._process.pid if self._process else None

    def finish(self, timeout: float) -> list[str]:
        """Say that the run is over and wait at most `timeout` seconds for the copy; returns lines to print. Never raises, may be repeated."""
        try:
            lines = self._finish(time.monotonic() + timeout)
        except Exception as error:  # whatever goes wrong with a copy, the run and its exit code stand
            lines = [f"{self._what}: copy incomplete ({type(error).__name__}: {error}); metrics.jsonl has it all"]
        notes, self._notes = self._notes, []
        return notes + lines

    def _send(self, line: str) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.write((line + "\n").encode())

    def _finish(self, deadline: float) -> list[str]:
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return []
        with contextlib.suppress(OSError):  # it may be dead already: that is seen below
            process.stdin.write(b"end\n")
            process.stdin.close()
        answers, ended = _answers(process.stdout.fileno(), deadline)
        process.stdout.close()
        lines: list[str] = next((answer["lines"] for answer in answers if "lines" in answer), [])
        if lines or ended:
            code = _reap(process, max(deadline, time.monotonic() + 0.2))
            return lines or [f"{self._what}: copy incomplete, its process ended early ({_how(code)}); metrics.jsonl has it all"]
        if any("ending" in answer for answer in answers):  # alive: it goes on for a bounded time of its own
            process.returncode = 0  # nobody waits for it any more, and Popen need not warn of that
            return [f"{self._what}: copy not complete yet; process {process.pid} goes on with it and stops by itself"]
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        _reap(process, time.monotonic() + 1)
        return [f"{self._what}: copy incomplete, its process did not answer and was stopped; metrics.jsonl has it all"]


def _answers(descriptor: int, deadline: float) -> tuple[list[dict[str, Any]], bool]:
    """Answers of the feeder until its last one, the end of the pipe (True) or the deadline."""
    text, ended = b"", False
    while not ended and b'"lines"' not in text.rpartition(b"\n")[0]:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        chunk = os.read(descriptor, 65536)
        text, ended = text + chunk, not chunk
    whole = text.rpartition(b"\n")[0].splitlines()
    return [json.loads(line) for line in whole], ended


def _reap(process: subprocess.Popen[bytes], deadline: float) -> int:
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.returncode = 0
        return 0


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
