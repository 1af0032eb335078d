"""W&B and TensorBoard, fed by a process of their own that reads what the run writes.

The training process starts it (before torch is imported, so that `import wandb` overlaps with it), never waits for it while it trains and
asks once at the end what became of the copy. The feeder may be slow, hang, crash or be killed: nothing here raises, and no step waits.
Protocol, lines on the feeder's stdin: the kinds of copy as JSON, so that it can import what they need; the run's directory as JSON; then
anything, or the end of the file, says that the run is over. On stdout it answers {"ending": ...} at once and {"lines": [...]} when all is
copied.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BOOT = "import sys; sys.path.append(sys.argv[1]); from dlrun.sinks.feeder import main; main()"
"""Not `-m`: with `-P` the folder dlrun is called from, which may hold a `wandb.py` or a `wandb/`, is not imported from."""
PASSED = frozenset(
    """PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR TMP TEMP NETRC VIRTUAL_ENV LD_LIBRARY_PATH DYLD_LIBRARY_PATH
    HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    PYTHONPATH PYTHONHOME PYTHONNOUSERSITE PYTHONUSERBASE PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX""".split()  # noqa: SIM905
)
"""Environment variables the feeder gets, beside WANDB_*, LC_* and XDG_*: what W&B needs, and no other secret."""
WITHHELD = frozenset(f"WANDB_{name}" for name in ("MODE", "DISABLED", "RESUME", "RUN_ID", "DIR", "SERVICE", "DEBUG", "CORE_DEBUG"))
"""Of W&B's variables: those that `wandb_options` has read, the address of another process's W&B service, and what makes W&B log the key."""


def start(
    run_dir: Path | None,
    config_path: Path | None,
    wandb: Mapping[str, Any] | None,
    tensorboard: bool,
    run_name: str = "",
    notes: Sequence[str] = (),
) -> Background:
    """Start the feeder. Where the run's directory is not known yet, `attach` names it later: until then it imports and writes nothing.

    `wandb` is what `wandb_options` gives (None: no W&B); `notes` are lines to print, which `attach` gives back. Costs a millisecond.
    """
    options = dict(wandb) if wandb and wandb["mode"] != "disabled" else None
    background = Background({"wandb": options, "tensorboard": tensorboard, "parent": os.getpid()}, list(notes))
    if run_dir is not None:
        background.say_at_end(background.attach(run_dir, config_path=config_path, run_name=run_name))
    return background


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that the feeder gets."""
    return {
        name: value
        for name, value in environ.items()
        if name not in WITHHELD and (name in PASSED or name.upper() in PASSED or name.startswith(("WANDB_", "LC_", "XDG_")))
    }


class Background:
    """A running feeder, or none: nothing is to be copied, or it could not be started."""

    def __init__(self, job: Mapping[str, Any], notes: list[str]) -> None:
        self._notes, self._job, self._attached = notes, job, False
        self._process: subprocess.Popen[bytes] | None = None
        if not (job["wandb"] or job["tensorboard"]):
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
        except (OSError, ValueError) as error:
            self._notes.append(f"{self._what}: no copy, its process could not be started ({error}); {self._rest}")
        self._send(job)

    def attach(self, run_dir: Path, step: int = 0, *, config_path: Path | None = None, run_name: str = "") -> list[str]:
        """Name the run's directory, which may not exist yet: nothing is written before the saved config stands in it.

        `step` is the checkpoint a resumed run goes on from; `run_name` is the run's directory with its parent unless given. Returns what
        there is to say at the beginning.
        """
        self._attached = True
        config = config_path or run_dir / "config.yaml"
        name = run_name or "/".join(run_dir.absolute().parts[-2:])
        self._send({"run_dir": str(run_dir.absolute()), "config": str(config.absolute()), "name": name, "step": step})
        notes, self._notes = self._notes, []
        return notes

    def say_at_end(self, lines: Sequence[str]) -> None:
        """Lines that `finish` gives back with its own."""
        self._notes += lines

    @property
    def _what(self) -> str:
        return " and ".join(name for name, key in (("W&B", "wandb"), ("TensorBoard", "tensorboard")) if self._job[key])

    @property
    def _rest(self) -> str:
        return "metrics.jsonl has it all" + (", dlrun sync RUN uploads it" if self._job["wandb"] else "")

    @property
    def pid(self) -> int | None:
        """The feeder's process id, None where there is none."""
        return self._process.pid if self._process else None

    def finish(self, timeout: float) -> list[str]:
        """Say that the run is over and wait at most `timeout` seconds for the copy; returns lines to print. Never raises."""
        try:
            lines = self._finish(time.monotonic() + timeout)
        except Exception as error:  # whatever goes wrong with a copy, the run and its exit code stand
            lines = [f"{self._what}: copy incomplete ({type(error).__name__}: {error}); {self._rest}"]
        notes, self._notes = self._notes, []
        return notes + lines

    def __del__(self) -> None:
        """Never finished (the build failed, say): the pipe's end tells the feeder; nobody waits for it."""
        process = getattr(self, "_process", None)
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
            process.returncode = process.poll() or 0

    def _send(self, line: Mapping[str, Any]) -> None:
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):  # it may be dead already: `finish` says so
                self._process.stdin.write((json.dumps(line) + "\n").encode())

    def _finish(self, deadline: float) -> list[str]:
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return []
        if not self._attached:
            self._notes.append(f"{self._what}: nothing was copied, its process was never told which run to copy")
        with contextlib.suppress(OSError):  # it may be dead already: that is seen below
            process.stdin.close()
        answers, ended = _answers(process.stdout.fileno(), deadline)
        process.stdout.close()
        lines: list[str] | None = next((answer["lines"] for answer in answers if "lines" in answer), None)
        if lines is not None or ended:
            code = _reap(process, max(deadline, time.monotonic() + 0.2))
            early = f"{self._what}: copy incomplete, its process ended early ({_how(code)}); {self._rest}"
            return [early] if lines is None else lines
        doing = next((answer["ending"] for answer in answers if "ending" in answer), None)
        if doing is not None:  # alive: it goes on for a bounded time of its own
            process.returncode = 0  # nobody waits for it any more, and Popen need not warn of that
            later = "; if something is missing then: dlrun sync RUN" if self._job["wandb"] else ""
            return [f"{self._what}: copy not complete yet ({doing}); process {process.pid} goes on with it and stops by itself{later}"]
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        _reap(process, time.monotonic() + 1)
        return [f"{self._what}: copy incomplete, its process did not answer and was stopped; {self._rest}"]


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
