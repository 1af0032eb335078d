"""`dlrun resume RUN`: go on in place from the newest whole checkpoint. Steps, time, logging and device may change; nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import saved_config, saved_run
from dlrun.cli.train import open_console, print_summary, start_copies
from dlrun.config.reading import read
from dlrun.errors import UsageError
from dlrun.rundir import read_json

MAY_CHANGE = ("train.steps", "train.max_seconds", "device")


def run(arguments: Arguments) -> int:
    """Resume one run; a finished one is left alone unless more steps are asked for."""
    path = saved_run(arguments)
    changed = changes(arguments, path)
    config = saved_config(arguments, path)
    summary = read_json(path / "summary.json") if (path / "summary.json").exists() else {}
    done, wanted = summary.get("step", 0), config.resolved["train"]["steps"]
    if summary.get("status") == "finished" and (wanted is None or "train.steps" not in changed or wanted <= done):
        beyond = f", beyond train.steps={wanted}" if "train.steps" in changed and wanted is not None and wanted < done else ""
        print(f"{path} is finished at step {done}{beyond}: nothing to do", file=sys.stderr if arguments.flag("json") else sys.stdout)
        return print_summary(arguments, {**summary, "run_dir": str(path)}, 0)
    background = start_copies(config, path)
    from dlrun.train import resume

    with open_console(arguments) as console:
        summary, code = resume(path, config, changed, console, background)
    return print_summary(arguments, summary, code)


def changes(arguments: Arguments, run: Path) -> dict[str, Any]:
    """The keys set anew; UsageError for any that would make it another run. To say again what the run has is no change."""
    found = dict(text.lstrip("+").split("=", 1) for text in arguments.overrides if "=" in text)
    saved = read(str(run / "config.yaml")).values
    found = {key: text for key, text in found.items() if not _has(saved, key, text)}
    refused = [text for text in arguments.overrides if "=" not in text]
    refused += [key for key in found if key not in MAY_CHANGE and not key.startswith("log.")]
    if refused:
        may = ", ".join(MAY_CHANGE)
        raise UsageError(
            [f"{key}: a resumed run keeps it; {may} and log.* may change; say dlrun train --from RUN/config.yaml" for key in refused]
        )
    return found


def _has(saved: Any, key: str, text: str) -> bool:
    """Whether the saved config holds this very text (a path, which may have to be said again)."""
    for name in key.split("."):
        saved = saved.get(name) if isinstance(saved, dict) else None
    return isinstance(saved, str) and saved == text
