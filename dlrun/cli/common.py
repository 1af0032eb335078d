"""What several commands begin with: plugins, the composed config, a run directory that is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.config.places import printable
from dlrun.errors import MissingError, UsageError
from dlrun.plain_files import only_plain


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
        raise UsageError([f"{_typed(word)}: expected an override such as train.steps=100" for word in arguments.positional])
    return compose(arguments.overrides, config_dir=config_dir(arguments), from_file=_base(arguments))


def _typed(word: str) -> str:
    """A word as a message names it; an empty one (`""`, an unset variable) would be invisible."""
    return printable(word, 80) if word.strip() else f"{printable(word, 80)!r} (an empty word)"


def _base(arguments: Arguments) -> Path | None:
    """The file of `--from`; a folder is no config, but its config.yaml may be what was meant."""
    text = arguments.text("from")
    if not text:
        return None
    path = Path(text).expanduser()
    if path.is_dir():
        inside = (path / "config.yaml").is_file()
        advice = f"say --from {printable(str(path / 'config.yaml'), 200)}" if inside else "it holds no config.yaml"
        raise UsageError(f"--from {printable(text, 200)}: a folder, expected the file of a saved config; {advice}")
    return path


def saved_run(arguments: Arguments) -> Path:
    """The one run directory a command was given."""
    if len(arguments.positional) != 1:
        raise UsageError(f"dlrun {arguments.command} takes one run directory, found {len(arguments.positional)}")
    path = Path(arguments.positional[0]).expanduser()
    if not (path / "config.yaml").is_file():
        raise MissingError(f"{printable(str(path), 200)} is no run directory: it has no config.yaml")
    return only_plain(path)


def saved_config(arguments: Arguments, run: Path) -> Any:
    """The config of a run with the command line's overrides on top; plugins it used must be named again."""
    from dlrun.config import compose

    load_named_plugins(arguments)
    require_plugins(arguments, run)
    return compose(arguments.overrides, config_dir=config_dir(arguments), from_file=run / "config.yaml")


def require_plugins(arguments: Arguments, run: Path) -> None:
    """UsageError where a run was trained with a plugin that the command line does not name."""
    from dlrun.rundir import read_manifest

    named = {Path(name).name for name in arguments.plugins}
    missing = [entry for entry in read_manifest(run)["plugins"] if Path(entry["name"]).name not in named]
    if missing:
        say = " ".join(f"--plugin {printable(entry['name'], 200)}" for entry in missing)
        raise UsageError(f"{run} was trained with a plugin, and a run never brings code: add {say}")
