"""Runs the process of `dlrun sync` (`upload.py`) and hands out its answers: W&B may hang or crash, and no secret but its own gets there."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dlrun.sinks.background import passed_on

BOOT = "import sys; sys.path.append(sys.argv[1]); from dlrun.sinks.upload import main; main()"
SECONDS, MODEL_SECONDS = 120.0, 900.0
"""How long one run may take, without and with checkpoints."""

Row = dict[str, Any]


def upload_all(jobs: Sequence[Row]) -> Iterator[Row]:
    """One answer for each of `jobs` ({"run_dir", "options", "fresh"}), in their order: {"ok", "message", ...}."""
    if not jobs:
        return
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", BOOT, str(Path(__file__).parents[2])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=passed_on(os.environ),
        start_new_session=True,
    )
    try:
        yield from _answers(process, jobs)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def _answers(process: subprocess.Popen[bytes], jobs: Sequence[Row]) -> Iterator[Row]:
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write((json.dumps(list(jobs)) + "\n").encode())
        process.stdin.flush()
    text, lost = b"", ""
    for job in jobs:
        deadline = time.monotonic() + (MODEL_SECONDS if job["options"]["log_model"] else SECONDS)
        while b"\n" not in text and not lost:
            if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                lost = "W&B did not answer in time"
            elif chunk := os.read(process.stdout.fileno(), 65536):
                text += chunk
            else:
                lost = f"the process that uploads ended early (exit code {process.wait()})"
        line, _, text = text.partition(b"\n")
        yield {"ok": False, "message": lost} if lost else json.loads(line)
