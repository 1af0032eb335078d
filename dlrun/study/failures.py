"""Why a job failed: its class, one line, and what makes two failures the same.

Classes: `config` (the set-up cannot be built, or a check refused it), `bug` (code raised), `out_of_memory`, `non_finite`, `machine` (a
worker died, or something needed is missing or broken).
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrun.errors import AnswerNo, DlrunError, UsageError
from dlrun.study.ledger import Failure

LOG_LINES, LOG_BYTES = 15, 4000
COMMON = ("bug", "config", "machine")
"""Classes in which two failures of one signature say that the others will meet it too."""
AGAIN = ("bug", "machine", "out_of_memory")
"""Classes that may go otherwise when the study is begun again."""
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
"""Signals by which a process dies of what it does itself; others are sent."""


def classed(error: BaseException, log: Path) -> Failure:
    """The failure that `error` is; `log` is the run's log.txt."""
    from dlrun.redact import redact
    from dlrun.train import out_of_memory

    cause = error.__cause__
    kind = "bug"
    if type(cause).__name__ == "NonFinite":
        kind = "non_finite"
    elif out_of_memory(error) or (cause is not None and out_of_memory(cause)):
        kind = "out_of_memory"
    elif isinstance(error, (UsageError, AnswerNo)):
        kind = "config"
    elif isinstance(error, DlrunError):
        kind = "machine"
    reason = error.lines[0] if isinstance(error, DlrunError) else f"{type(error).__name__}: {error}"
    return Failure(kind, redact(" ".join(reason.split()))[:500], signature(error), tail(log))


def signature(error: BaseException) -> str:
    """The type of `error` and the innermost line of code it comes from."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {last[0].filename}:{last[0].lineno}" if last else ""
    return f"{type(error).__name__}{where}"


def note(error: BaseException, log: Path) -> None:
    """Append the traceback of an error that is nobody's message to the run's log.txt."""
    if isinstance(error, DlrunError) or not log.parent.is_dir():
        return
    from dlrun.redact import redact

    with open(log, "a", encoding="utf-8") as file:
        file.write(redact("".join(traceback.format_exception(error))))


def tail(log: Path) -> str:
    """The last lines of a log; nothing where there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            text = file.read(LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-LOG_LINES:])


def common(rows: Sequence[Mapping[str, Any]], since: float) -> list[Mapping[str, Any]]:
    """Two jobs that failed alike since then, where nothing has finished: what one met, all will meet."""
    if any(row["state"] == "finished" for row in rows):
        return []
    seen: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["state"] != "failed" or row["failure"] not in COMMON or not row["signature"] or row["ended"] < since:
            continue
        if row["signature"] in seen:
            return [seen[row["signature"]], row]
        seen[row["signature"]] = row
    return []


def diagnosis(code: int, output: str) -> tuple[str, bool, Failure | None]:
    """What a worker died of: (words, whether the job is to blame, the failure after too many)."""
    last = "\n".join(output.splitlines()[-15:])
    if code >= 0:
        return f"it left with exit code {code}", True, Failure("machine", f"its worker left with exit code {code}, three times", log=last)
    name = signal.Signals(-code).name
    own = signal.Signals(-code) in FAULTS
    return f"killed by {name}", own, Failure("machine", f"its worker was killed by {name}, too often", log=last)
