"""`dlrun sweep`: many runs as one study. The same command again, or in another terminal, joins it and goes on where it stands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import config_dir, load_named_plugins
from dlrun.cli.train import open_console
from dlrun.config.places import is_experiment_name, printable
from dlrun.errors import UsageError

MAX_WORKERS = 1024


def run(arguments: Arguments) -> int:
    """Ask and freeze while the workers import torch; then run what is missing, and show what came out."""
    workers = _workers(arguments)
    load_named_plugins(arguments)
    from dlrun.study.pool import make_pool

    device = next((word.partition("=")[2] for word in arguments.overrides if word.startswith("device=")), "auto")
    pool = make_pool(workers, device)
    try:
        pool.start()  # before anything slow is imported here
        from dlrun.study.engine import Means, run_study

        asked = _asked(arguments)
        name = _name(arguments, asked)
        folder = Path(asked.first.resolved["output_root"]).expanduser() / "sweeps" / name
    except BaseException:
        pool.close()
        raise
    with open_console(arguments) as console:
        for note in asked.first.notes:
            console.line(note)
        jobs = sum(len(cell.jobs) for cell in asked.cells)
        seeds = len(asked.question.seeds)
        console.line(
            f"study {name}: {len(asked.cells)} cells x {seeds} seed{'s' * (seeds != 1)} = {jobs} runs on {pool.count} workers, in {folder}"
        )
        folder_of = config_dir(arguments)
        means = Means(tuple(arguments.plugins), None if folder_of is None else str(folder_of))
        found, code = run_study(asked.question, asked.cells, folder, arguments.text("storage"), workers, console, means=means, pool=pool)
    if arguments.flag("json"):
        from dlrun.rundir import jsonable

        sys.stdout.write(json.dumps(jsonable({**found, "exit_code": code}), indent=1, allow_nan=False) + "\n")
    return code


def _asked(arguments: Arguments) -> Any:
    """The question and its cells. Raises UsageError with everything that is wrong."""
    from dlrun.plugins import loaded
    from dlrun.study.asking import OPTIONS, ask

    errors = [f"{printable(word, 80)}: expected an override such as optimizer.lr=1e-4,1e-3" for word in arguments.positional]
    backend = arguments.text("backend") or "local"
    if backend not in ("local", "ray", "slurm"):
        errors.append(f"--backend {printable(backend, 40)}: expected local, ray or slurm")
    elif backend != "local":
        errors.append(f"--backend {backend} is not part of this version: local workers, or the same command on several terminals")
    errors += [
        "run_dir: a study gives every run a folder of its own; output_root=FOLDER says where the study lies"
        for word in arguments.overrides
        if word.lstrip("+").startswith("run_dir=")
    ]
    if errors:
        raise UsageError(errors)
    typed = {name: text for name in OPTIONS if (text := arguments.text(name)) is not None}
    pins = [(str(entry["name"]), str(entry["sha256"])) for entry in loaded()]
    folder, saved = config_dir(arguments), arguments.text("from")
    asked = ask(arguments.overrides, typed, plugins=pins, config_dir=None if folder is None else str(folder), from_file=saved)
    if asked.question.search != "grid":
        raise UsageError(f"search {asked.question.search} is not part of this version: list values, e.g. 1e-4,1e-3,1e-2 or range(...)")
    if asked.question.prune != "none":
        raise UsageError(f"prune {asked.question.prune} is not part of this version: leave it out")
    return asked


def _workers(arguments: Arguments) -> int | None:
    """The number of `--workers`; None: one for every core."""
    text = arguments.text("workers")
    if text is None:
        return None
    if not text.isdigit() or not 0 < int(text) <= MAX_WORKERS:
        raise UsageError(f"--workers {printable(text, 40)}: expected a whole number from 1 to {MAX_WORKERS}")
    return int(text)


def _name(arguments: Arguments, asked: Any) -> str:
    """`--name`, or one that equal commands share."""
    from dlrun.study.asking import identity

    text = arguments.text("name")
    if text is not None:
        if not is_experiment_name(text):
            raise UsageError(f"--name {printable(text, 60)}: expected letters, digits, _, - and dots, at most 59, not a dot or - in front")
        return text
    config = asked.first.resolved
    return f"{config['experiment'] or _parts(config)}-{identity(asked.question)[:8]}"


def _parts(config: dict[str, Any]) -> str:
    """`digits-mlp`."""
    names = [config[group]["name"] for group in ("dataset", "model") if isinstance(config.get(group), dict) and "name" in config[group]]
    return "-".join(names) or str(config["task"]["name"])
