"""`dlrun probe RUN [RUN...] NAME [OPTION=VALUE ...]`: a measurement on trained runs, kept as RUN/probes/NAME.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import config_dir, load_named_plugins, require_plugins
from dlrun.config.places import part_names, printable
from dlrun.errors import MissingError, UsageError

OF_THE_RUN = ("device",)
"""Keys of a run's config, beside those with a dot, that say where it is measured and not how."""


def run(arguments: Arguments) -> int:
    """Measure, or read what was measured before on the same weights and options; print the numbers."""
    paths, name = _words(arguments)
    step = arguments.text("step") or "last"
    if step not in ("best", "last") and not (step.isascii() and step.isdigit()):
        raise UsageError(f"--step {printable(step, 40)}: expected best, last or a number of steps")
    load_named_plugins(arguments)
    from dlrun.config.library import Library
    from dlrun.config.requests import request

    options, overrides = _overrides(arguments.overrides)
    asked = request(Library(config_dir(arguments)), name, options, typed=True)
    if asked.refused(len(paths)):
        raise UsageError(f"{asked.refused(len(paths))}: dlrun probe RUN{' RUN' if asked.takes == 'two' else ''} {name}")
    for path in paths:
        if not (path / "config.yaml").is_file():
            raise MissingError(f"{printable(str(path), 200)} is no run directory: it has no config.yaml")
        require_plugins(arguments, path)
    from dlrun.probing import Question

    document = Question(asked, tuple(paths), step if step in ("best", "last") else int(step), tuple(overrides)).answer()
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json(document)
    else:
        _show(document, paths[0])
    return 0


def _words(arguments: Arguments) -> tuple[list[Path], str]:
    """The run directories and the probe's name, which stands last. Plugins are loaded: they may bring it."""
    words = arguments.positional
    if not words:
        raise UsageError("dlrun probe takes run directories and a probe's name: dlrun probe RUN linear_probe; dlrun ls probe lists them")
    load_named_plugins(arguments)
    *runs, name = words
    if name not in part_names("probe"):
        from dlrun.config.messages import no_such_part

        if Path(name).expanduser().is_dir():
            known = ", ".join(part_names("probe"))
            raise UsageError(f"{printable(name, 200)} is a folder: the probe's name stands last, behind the runs; there are {known}")
        raise UsageError(no_such_part("probe", name).replace("probe=", ""))
    if not runs:
        raise UsageError(f"dlrun probe measures trained runs: dlrun probe RUN {name}")
    return [Path(run).expanduser() for run in runs], name


def _overrides(typed: list[str]) -> tuple[dict[str, Any], list[str]]:
    """(options of the probe, overrides of the runs' config): a key with a dot, or `device`, is the config's."""
    options: dict[str, Any] = {}
    mine = [text for text in typed if "." not in text.partition("=")[0] and text.partition("=")[0] not in OF_THE_RUN]
    if mine:
        from dlrun.config.overrides import command_line

        layer = command_line(mine)
        errors = list(layer.errors)
        errors += [f"command line: {choice.origin.removeprefix('command line: ')}: expected OPTION=VALUE" for choice in layer.choices]
        for item in layer.items:
            if item.path[0] in options:
                errors.append(f"command line: {item.path[0]}: given twice")
            options[item.path[0]] = item.value
        if errors:
            raise UsageError(errors)
    return options, [text for text in typed if text not in mine]


def _show(document: dict[str, Any], path: Path) -> None:
    from dlrun.sinks.console import Console
    from dlrun.sinks.terminal import number

    with Console() as console:
        steps = document["step"] if isinstance(document["step"], list) else [document["step"]]
        console.line(f"probe {document['probe']} at step {', '.join(map(str, steps))}:")
        numbers = document["numbers"]
        width = max(map(len, numbers), default=0)
        for name, value in numbers.items():
            console.line(f"  {printable(name, 60):<{min(width, 60)}}  {number(value, 5)}")
        files = [path / "probes" / document["file"], *(path / "figures" / name for name in document["figures"])]
        console.line(f"in {', '.join(map(str, files))}")
