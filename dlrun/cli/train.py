"""`dlrun train`: one run. Everything wrong with the config is said before torch is loaded; W&B starts while torch is being imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import compose_for
from dlrun.errors import MissingError


def run(arguments: Arguments) -> int:
    """Compose, then train."""
    config = compose_for(arguments)
    background = start_copies(config)
    from dlrun.train import train

    with open_console(arguments) as console:
        summary, code = train(config, console, background)
    return print_summary(arguments, summary, code)


def start_copies(config: Any, run_dir: Path | None = None) -> Any:
    """The process that copies metrics to W&B and TensorBoard: started now, told later which run it is for (a new one has no folder yet)."""
    from dlrun.sinks.background import start
    from dlrun.sinks.wandb_options import study_of, wandb_options

    study = None if run_dir is None else study_of(run_dir)
    options, notes = wandb_options(config.saved, config.resolved, os.environ, study)
    tensorboard = config.resolved["log"]["tensorboard"]
    if tensorboard:
        need_tensorboard()
    return start(None, None, options, tensorboard, notes=notes)


def need_tensorboard() -> None:
    """MissingError where the package is not installed; a folder of that name beside the user is none."""
    from importlib.util import find_spec

    spec = find_spec("tensorboard")
    if spec is None or spec.origin is None:
        raise MissingError("log.tensorboard=true needs the package tensorboard: pip install 'dlrun[tensorboard]', or log.tensorboard=false")


def open_console(arguments: Arguments) -> Any:
    """The console on stdout; on stderr where stdout is for one JSON document."""
    from dlrun.sinks.console import Console

    return Console(stream=sys.stderr if arguments.flag("json") else None)


def print_summary(arguments: Arguments, summary: dict[str, Any], code: int) -> int:
    """With --json the summary on stdout; `run_dir` in it says where the run lies."""
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json({**summary, "exit_code": code})
    return code
