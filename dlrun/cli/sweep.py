"""`dlrun sweep`: many runs as one study. The same command again, or in another terminal, joins it and goes on where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.as_json import print_json
from dlrun.cli.common import config_dir, load_named_plugins
from dlrun.cli.sweep_copies import announced, runs_of, upload
from dlrun.cli.train import open_console
from dlrun.config.messages import whole_number
from dlrun.config.places import is_experiment_name, printable
from dlrun.errors import UsageError

MAX_WORKERS = 1024


def run(arguments: Arguments) -> int:
    """Ask and freeze while the workers import torch; then run what is missing, and show what came out."""
    storage, workers, backend = _storage(arguments), _workers(arguments), _backend(arguments)
    load_named_plugins(arguments)
    from dlrun.study.pool import make_pool

    device = next((word.partition("=")[2] for word in arguments.overrides if word.startswith("device=")), "auto")
    pool = make_pool(workers, device)
    try:
        if backend == "local":
            pool.start()  # before anything slow is imported here
        from dlrun.config.memory import packed
        from dlrun.study.engine import Means, run_study
        from dlrun.study.guide import Guide

        decide = _decide(arguments)
        asked = _asked(arguments)
        guide = Guide(asked, decide)
        name = _name(arguments, asked)
        folder = Path(asked.first.resolved["output_root"]).expanduser() / "sweeps" / name
        pool = _ray(arguments, workers, device) if backend == "ray" else pool
    except BaseException:
        pool.close()
        raise
    with open_console(arguments) as console:
        place = str(folder.absolute() / "runs")
        for note in (*asked.first.notes, *announced(asked.first, folder.name, place)):
            console.line(note)
        console.line(f"study {name}: {_size(asked)} on {_hands(pool.count)}{' of Ray' * (backend == 'ray')}, in {folder}")
        means = Means(*_named(arguments), guide=guide, composed=packed(asked.freezer.memory))
        found, code = run_study(asked.question, asked.cells, folder, storage, workers, console, means=means, pool=pool)
    if arguments.flag("json"):
        print_json({**found, "exit_code": code})
    if code not in (130, 143):
        from dlrun.study.aftermath import tidy

        with open_console(arguments) as console:
            tidy(found, folder.absolute(), storage, asked.space, console, draw=not arguments.flag("json"), said=guide.said)
            upload(asked.first, runs_of(found), folder.name, place, console)
    return code


def _named(arguments: Arguments) -> tuple[tuple[str, ...], str | None]:
    """Plugins and the folder of one's own YAML."""
    folder = config_dir(arguments)
    return tuple(arguments.plugins), None if folder is None else str(folder)


def _size(asked: Any) -> str:
    """How much there is to run, in words."""
    question = asked.question
    seeds = f"{len(question.seeds)} seed{'s' * (len(question.seeds) != 1)}"
    if question.search == "grid":
        return f"{len(asked.cells)} cells x {seeds} = {sum(len(cell.jobs) for cell in asked.cells)} runs"
    if question.trials is None:
        return f"{question.search}, cells of {seeds} for {question.timeout:g} s"
    return f"{question.search}, {question.trials} cells x {seeds} = {question.trials * len(question.seeds)} runs"


def _hands(count: int) -> str:
    return f"{count} worker{'s' * (count != 1)}"


def _storage(arguments: Arguments) -> str | None:
    """The address of `--storage`, its password out of everyone's sight."""
    storage = arguments.text("storage")
    if storage is not None:
        from dlrun.study.address import conceal, read_address

        conceal(storage)
        read_address(storage)
    return storage


def _backend(arguments: Arguments) -> str:
    """Where workers run. Raises UsageError for a backend that is not there."""
    backend, address = arguments.text("backend") or "local", arguments.text("ray-address")
    if backend not in ("local", "ray", "slurm"):
        raise UsageError(f"--backend {printable(backend, 40)}: expected local or ray")
    if backend == "slurm":
        raise UsageError("--backend slurm is not part of this version: put the same command with --storage into the tasks of a job array")
    if address is not None and backend != "ray":
        raise UsageError("--ray-address has no effect without --backend ray")
    return backend


def _ray(arguments: Arguments, workers: int | None, device: str) -> Any:
    """Actors of the Ray cluster that the command line names, or of a Ray of one's own."""
    from dlrun.study.ray_pool import make_ray_pool

    storage = arguments.text("storage")
    return make_ray_pool(workers, device, arguments.text("ray-address"), server=storage is not None and not storage.startswith("sqlite"))


def _asked(arguments: Arguments) -> Any:
    """The question and its cells. Raises UsageError with everything that is wrong."""
    from dlrun.plugins import loaded
    from dlrun.study.asking import OPTIONS, ask
    from dlrun.study.measured import refuse_unmeasured

    errors = [f"{printable(word, 80)}: expected an override such as optimizer.lr=1e-4,1e-3" for word in arguments.positional]
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
    refuse_unmeasured(asked.question.goal, asked.first)
    return asked


def _workers(arguments: Arguments) -> int | None:
    """The number of `--workers`; None: one for every core."""
    text = arguments.text("workers")
    return None if text is None else whole_number("--workers", text, 1, MAX_WORKERS)


def _decide(arguments: Arguments) -> int | None:
    """The most seeds that `--decide` may give a cell; None: the seeds asked for."""
    from dlrun.study.decide import MOST

    text = arguments.text("decide")
    return None if text is None else whole_number("--decide", text, 3, MOST, "the most seeds a cell may get, a whole number")


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
