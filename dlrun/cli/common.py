"""What several commands begin with: plugins, the composed config, a run directory that is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.config.places import printable
from dlrun.errors import MissingError, UsageError


def load_named_plugins(arguments: Arguments) -> None:
    """Import what `--plugin` names; nothing else can bring code."""
    if arguments.plugins:
        from dlrun.plugins import load_plugins

        load_plugins(arguments.plugins)


def config_dir(arguments: Arguments) -> Path | None:
    """The folder of `--config-dir`."""
    folder = arguments.text("config-dir")
    return Path(folder).expanduser() if folder else None


def compose_for(arguments: Arguments) -> Any:
    """The config that the command line asks for; UsageError with everything that is wrong."""
    from dlrun.config import compose

    load_named_plugins(arguments)
    if arguments.positional:
        raise UsageError([f"{printable(word, 80)}: expected an override such as train.steps=100" for word in arguments.positional])
    base = arguments.text("from")
    return compose(arguments.overrides, config_dir=config_dir(arguments), from_file=Path(base).expanduser() if base else None)


def saved_run(arguments: Arguments) -> Path:
    """The one run directory a command was given."""
    if len(arguments.positional) != 1:
        raise UsageError(f"dlrun {arguments.command} takes one run directory, found {len(arguments.positional)}")
    path = Path(arguments.positional[0]).expanduser()
    if not (path / "config.yaml").is_file():
        raise MissingError(f"{printable(str(path), 200)} is no run directory: it has no config.yaml")
    return path


def saved_config(arguments: Arguments, run: Path) -> Any:
    """The config of a run with the command line's overrides on top; plugins it used must be named again."""
    from dlrun.config import compose
    from dlrun.rundir import read_json

    load_named_plugins(arguments)
    named = {Path(name).name for name in arguments.plugins}
    missing = [entry for entry in read_json(run / "manifest.json").get("plugins") or [] if Path(str(entry["name"])).name not in named]
    if missing:
        say = " ".join(f"--plugin {printable(str(entry['name']), 200)}" for entry in missing)
        raise UsageError(f"{run} was trained with a plugin, and a run never brings code: add {say}")
    return compose(arguments.overrides, config_dir=config_dir(arguments), from_file=run / "config.yaml")
