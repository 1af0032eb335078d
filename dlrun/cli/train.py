"""`dlrun train`: one run. Everything wrong with the config is said before torch is loaded; W&B starts while torch is being imported."""

from __future__ import annotations

import sys
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import compose_for


def run(arguments: Arguments) -> int:
    """Compose, then train."""
    config = compose_for(arguments)
    background = start_copies(config)
    from dlrun.train import train

    with open_console(arguments) as console:
        summary, code = train(config, console, background)
    return print_summary(arguments, summary, code)


def start_copies(config: Any) -> Any:
    """The process that copies metrics to W&B and TensorBoard: started now, told later which run it is for."""
    from dlrun.sinks.background import start

    log = config.resolved["log"]
    wandb = {**log["wandb"], "group": log["wandb"]["group"] or config.resolved["experiment"]}
    return start(None, None, wandb, log["tensorboard"])


def open_console(arguments: Arguments) -> Any:
    """The console on stdout; on stderr where stdout is for one JSON document."""
    from dlrun.sinks.console import Console

    return Console(stream=sys.stderr if arguments.flag("json") else None)


def print_summary(arguments: Arguments, summary: dict[str, Any], code: int) -> int:
    """With --json the summary on stdout; `run_dir` in it says where the run lies."""
    if arguments.flag("json"):
        import json

        from dlrun.rundir import jsonable

        sys.stdout.write(json.dumps(jsonable({**summary, "exit_code": code}), indent=1, allow_nan=False) + "\n")
    return code
