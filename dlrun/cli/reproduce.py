"""`dlrun reproduce`: train what an experiment's claims need and is not there, judge them, and say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.as_json import print_json
from dlrun.cli.common import config_dir, load_named_plugins
from dlrun.cli.train import open_console
from dlrun.config.messages import hint, nearest, whole_number
from dlrun.config.places import experiment_names, find_yaml, printable, search_dirs
from dlrun.errors import UsageError

MOST_SEEDS = 1000


def run(arguments: Arguments) -> int:
    """Say what it will cost, run what is missing, judge."""
    names, seeds = _names(arguments), _seeds(arguments)
    load_named_plugins(arguments)
    from dlrun.reproduce.leader import Runs, check_all
    from dlrun.reproduce.work import STOPPED, Work

    sheets = _sheets(arguments, names, seeds)
    root = Path(sheets[0].config["output_root"]).expanduser()
    runs = Runs(sheets, root, fresh=bool(arguments.flag("fresh")))
    runs.look()
    check_all(runs)
    with open_console(arguments) as console:
        work = Work(runs, console)
        work.announce()
        for line in _announced(runs):
            console.line(line)
        code = work.train(tuple(arguments.plugins), _text(config_dir(arguments)))
        found = work.judge_all(stopped=code in STOPPED)
        if code not in STOPPED:
            _copies(runs, console)
    if arguments.flag("json"):
        print_json(found)
    if code in STOPPED:
        return code
    from dlrun.reproduce.outcome import code as verdict_code

    return verdict_code(found)


def _announced(runs: Any) -> dict[str, None]:
    """What is said of copies of runs that are to be trained, each line once."""
    from dlrun.cli.sweep_copies import announced

    names = {wanted.experiment for wanted in runs.missing}
    return dict.fromkeys(line for name in sorted(names) for line in announced(runs.sheets[name].base, None, str(runs.root / name)))


def _copies(runs: Any, console: Any) -> None:
    """W&B gets the runs of this call, a group an experiment, where the config says online."""
    from dlrun.cli.sweep_copies import upload

    for name, sheet in runs.sheets.items():
        mine = [str(runs.state[each].path) for each in runs.trained if each.experiment == name and runs.state[each].done]
        upload(sheet.base, mine, None, str(runs.root / name), console)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _sheets(arguments: Arguments, names: Sequence[str], seeds: int | None) -> list[Any]:
    """The sheets of all experiments. UsageError with everything that is wrong in any."""
    from dlrun.reproduce.outcome import claims_of
    from dlrun.reproduce.sheet import read_sheet

    errors: dict[str, None] = {}
    sheets = []
    for name in names:
        try:
            sheets.append(read_sheet(name, arguments.overrides, seeds, _text(config_dir(arguments))))
            claims_of(sheets[-1])
        except UsageError as error:
            errors.update(dict.fromkeys(error.lines))
    if errors:
        raise UsageError(list(errors))
    return sheets


def _seeds(arguments: Arguments) -> int | None:
    text = arguments.text("seeds")
    return None if text is None else whole_number("--seeds", text, 1, MOST_SEEDS)


def _names(arguments: Arguments) -> list[str]:
    """The experiments that were named, by name, by tag, or all that claim something."""
    folder = config_dir(arguments)
    dirs = search_dirs(None if folder is None else str(folder))
    known = experiment_names(dirs, "experiment")
    reserved = [
        word for word in arguments.overrides if word.lstrip("+").partition("=")[0] in ("experiment", "arm", "seed", "seeds", "run_dir")
    ]
    errors = [
        f"{printable(word, 60)}: reproduce runs the experiments it names, with their own arms and seeds (--seeds N)" for word in reserved
    ]
    found: dict[str, None] = {}
    for word in arguments.positional:
        if word.startswith("tag:"):
            tagged = [name for name in known if word[4:] in _tags(name, dirs)]
            errors += [] if tagged else [f"no experiment has the tag {printable(word[4:], 60)}; dlrun ls experiment shows them"]
            found.update(dict.fromkeys(tagged))
        elif word in known:
            found[word] = None
        else:
            errors.append(f"no experiment {printable(repr(word), 60)}; there are {', '.join(known)}{hint(nearest(word, known))}")
    if arguments.flag("all"):
        found.update(dict.fromkeys(name for name in known if "\nclaims:" in _yaml(name, dirs)))
    if not found and not errors:
        errors.append("which experiment? name one, tag:TAG, or --all; dlrun ls experiment shows them")
    if errors:
        raise UsageError(errors)
    return list(found)


def _yaml(name: str, dirs: list[str]) -> str:
    from dlrun.cli.plain import read_text

    path = find_yaml("experiment", name, dirs)
    return read_text(path) if path else ""


def _tags(name: str, dirs: list[str]) -> list[str]:
    from dlrun.cli.plain import tags_of

    return list(tags_of(_yaml(name, dirs)))
