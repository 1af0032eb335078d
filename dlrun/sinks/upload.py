"""The process of `dlrun sync`: completes runs at W&B from their own files, one after the other, and answers a line of JSON for each.

It builds what is missing from metrics.jsonl, not from W&B's local files: W&B says which step it holds last, the rows after it follow. So a
run that was offline, killed, cut back or uploaded in part ends up complete, and a second time nothing is sent. Jobs come on stdin as one
line of JSON: a list of {"run_dir", "options", "fresh"}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlrun.sinks import wandb_run
from dlrun.sinks.tail import Rows, events_of, summary_of
from dlrun.sinks.wandb_copy import WandbCopy
from dlrun.sinks.wandb_query import NotOnlineError
from dlrun.sinks.wandb_run import ConflictError
from dlrun.sinks.wandb_state import State, extent

Row = dict[str, Any]
LOCK_SECONDS = 20.0


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = ["dlrun"]
    failed = ""
    for job in json.loads(sys.stdin.readline()):
        result: Row = {"ok": False, "message": f"not tried ({failed})"} if failed else attempt(job)
        failed = failed or (result.pop("everywhere", "") if not result["ok"] else "")
        os.write(answer, (json.dumps(result) + "\n").encode())
    os._exit(0)


def attempt(job: Row) -> Row:
    """`upload`, with whatever goes wrong as a message; `everywhere` is why no other run could be uploaded either."""
    try:
        return {"ok": True, **upload(Path(job["run_dir"]), job["options"], bool(job["fresh"]))}
    except ConflictError as error:
        return {"ok": False, "message": str(error)}
    except NotOnlineError as error:
        return {"ok": False, "message": str(error), "everywhere": str(error)}
    except Exception as error:
        return {"ok": False, "message": f"{type(error).__name__}: {wandb_run.why(error)}"}


def upload(directory: Path, options: Row, fresh: bool) -> Row:
    """Complete one run at W&B; returns how many rows were sent, up to which step, where, and a message."""
    (directory / "wandb").mkdir(exist_ok=True)
    with open(directory / "wandb" / ".lock", "w") as lock, held(lock.fileno()):
        copy = WandbCopy({"wandb": {**options, "mode": "online", "strict": True, "silent": False}})
        state = State(directory)
        if fresh:
            state.renew()
        before = dict(state.values)
        state.identify(options)
        reach = extent(directory, copy.server(), options["log_model"])
        if before.get("uploaded") == reach and before == state.values:
            return {"rows": 0, "url": before.get("url"), "message": f"nothing to send, W&B has it all: {before.get('url')}"}
        state.save()
        name = "/".join(directory.absolute().parts[-2:])
        last = copy.open({"run_dir": str(directory), "config": str(directory / "config.yaml"), "name": name, "step": 0})
        for rows in Rows(directory, last).read(over=True):
            copy.add(rows)
        step = max(last, copy.last)
        note = copy.close(summary_of(directory), events_of(directory), sorted(directory.glob("figures/*.png")))
    sent = f"{copy.rows} row{'' if copy.rows == 1 else 's'} sent" + (f", after step {last} which W&B had" if last >= 0 else "")
    return {
        "rows": copy.rows,
        "step": step,
        "url": copy.url,
        "message": f"{sent}; complete up to step {step}: {note.removeprefix('W&B: ')}",
    }


@contextlib.contextmanager
def held(descriptor: int) -> Iterator[None]:
    """The lock of the run's copy: its feeder may still be at work."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise BlockingIOError("another process is copying this run to W&B: try again in a minute") from None
            time.sleep(0.2)
    yield


if __name__ == "__main__":
    main()
