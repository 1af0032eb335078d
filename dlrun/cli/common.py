"""What several commands begin with: plugins, the composed config, a run directory that is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.config.places import printable
from dlrun.errors import MissingError, UsageError

LARGEST_JSON = 64 << 20


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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a run directory as data; MissingError where it is damaged, not there, or too large."""
    import json

    try:
        if path.stat().st_size > LARGEST_JSON:
            raise MissingError(f"{path} is larger than {LARGEST_JSON >> 20} MiB: it is not one of dlrun's")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MissingError(f"{path} cannot be read: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise MissingError(f"{path} holds a {type(found).__name__}, expected an object")
    return found


def saved_config(arguments: Arguments, run: Path) -> Any:
    """The config of a run with the command line's overrides on top; plugins it used must be named again."""
    from dlrun.config import compose

    load_named_plugins(arguments)
    named = {Path(name).name for name in arguments.plugins}
    missing = [entry for entry in read_json(run / "manifest.json").get("plugins") or [] if Path(str(entry["name"])).name not in named]
    if missing:
        say = " ".join(f"--plugin {printable(str(entry['name']), 200)}" for entry in missing)
        raise UsageError(f"{run} was trained with a plugin, and a run never brings code: add {say}")
    return compose(arguments.overrides, config_dir=config_dir(arguments), from_file=run / "config.yaml")
