"""`dlrun resume RUN`: go on in place from the newest whole checkpoint. Steps, time, logging and device may change; nothing else."""

from __future__ import annotations

import sys
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import saved_config, saved_run
from dlrun.cli.train import open_console, print_summary, start_copies
from dlrun.errors import UsageError
from dlrun.rundir import read_json

MAY_CHANGE = ("train.steps", "train.max_seconds", "device")


def run(arguments: Arguments) -> int:
    """Resume one run; a finished one is left alone unless more steps are asked for."""
    path = saved_run(arguments)
    changed = changes(arguments)
    config = saved_config(arguments, path)
    summary = read_json(path / "summary.json") if (path / "summary.json").exists() else {}
    done, wanted = summary.get("step", 0), config.resolved["train"]["steps"]
    if summary.get("status") == "finished" and (wanted is None or "train.steps" not in changed or wanted <= done):
        beyond = f", beyond train.steps={wanted}" if "train.steps" in changed and wanted is not None and wanted < done else ""
        print(f"{path} is finished at step {done}{beyond}: nothing to do", file=sys.stderr if arguments.flag("json") else sys.stdout)
        return print_summary(arguments, {**summary, "run_dir": str(path)}, 0)
    background = start_copies(config)
    from dlrun.train import resume

    with open_console(arguments) as console:
        summary, code = resume(path, config, changed, console, background)
    return print_summary(arguments, summary, code)


def changes(arguments: Arguments) -> dict[str, Any]:
    """The keys set anew; UsageError for any that would make it another run."""
    found = dict(text.lstrip("+").split("=", 1) for text in arguments.overrides if "=" in text)
    refused = [text for text in arguments.overrides if "=" not in text]
    refused += [key for key in found if key not in MAY_CHANGE and not key.startswith("log.")]
    if refused:
        may = ", ".join(MAY_CHANGE)
        raise UsageError(
            [f"{key}: a resumed run keeps it; {may} and log.* may change; say dlrun train --from RUN/config.yaml" for key in refused]
        )
    return found
