"""`dlrun sync RUN...`: upload what W&B does not have of runs: offline, killed, resumed, or sent in part. Nothing is sent twice.

`log.wandb.project=...` and the like say where to, `--fresh` uploads under a new id.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.config.places import printable
from dlrun.errors import DlrunError, MissingError, UsageError
from dlrun.plain_files import only_plain

SETTABLE = ("mode", "project", "entity", "group", "name", "tags", "notes", "log_model")


def run(arguments: Arguments) -> int:
    """One line a run; 0 if W&B has all of them, 3 if something is missing."""
    if not arguments.positional:
        raise UsageError("dlrun sync takes run directories: dlrun sync outputs/default/*")
    changed = changes(arguments)
    results: list[dict[str, Any]] = []
    for result in synced(list(dict.fromkeys(arguments.positional)), changed, fresh=bool(arguments.flag("fresh"))):
        results.append(result)
        if not arguments.flag("json"):
            _tell(result)
    code = 0 if all(result["ok"] for result in results) else 3
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json({"ok": not code, "runs": results, "exit_code": code})
    return code


def synced(words: Sequence[str], changed: dict[str, Any], *, fresh: bool = False) -> Iterator[dict[str, Any]]:
    """Upload runs one after another, in one process; what came of each: {"run", "ok", "message", ...}."""
    from dlrun.sinks.uploading import upload_all

    results = [{"run": word, **_job(Path(word).expanduser(), changed, fresh)} for word in words]
    answers = upload_all([result["job"] for result in results if "job" in result])
    for result in results:
        result.update(next(answers) if result.pop("job", None) else {})
        yield result


def _tell(result: dict[str, Any]) -> None:
    from dlrun.sinks.terminal import clean

    for note in result.pop("notes", ()):
        print(f"{clean(result['run'])}: {clean(note)}", file=sys.stderr)
    line = f"{clean(result['run'])}: {clean(result['message'])}"
    print(line if result["ok"] else f"error: {line}", file=sys.stdout if result["ok"] else sys.stderr, flush=True)


def changes(arguments: Arguments) -> dict[str, Any]:
    """What the command line says of `log.wandb`; UsageError for anything else."""
    import yaml

    from dlrun.config.kinds import MisfitError, kind_of, show_value
    from dlrun.config.schema import settings

    kinds = {key: kind_of(annotation) for key, annotation in settings().classes["Wandb"].items()}
    found: dict[str, Any] = {}
    errors = []
    for word in arguments.overrides:
        path, _, text = word.partition("=")
        key = path.removeprefix("log.wandb.")
        if key not in SETTABLE or key == path:
            errors.append(f"{printable(word, 80)}: dlrun sync takes log.wandb.{', log.wandb.'.join(SETTABLE)}")
            continue
        try:
            found[key] = kinds[key].convert(yaml.safe_load(text))
        except MisfitError as misfit:
            errors.append(f"{printable(word, 80)}: expected {misfit.expected}, found {show_value(misfit.value)}")
        except yaml.YAMLError:
            errors.append(f"{printable(word, 80)}: cannot be read as a value")
    if errors:
        raise UsageError(errors)
    return found


def _job(directory: Path, changed: dict[str, Any], fresh: bool) -> dict[str, Any]:
    """What the uploading process needs for one run, or the answer where it is not to be asked."""
    try:
        saved = _saved(directory)
        configured = changed.get("mode") or saved["log"]["wandb"]["mode"]
        if configured == "disabled":
            return {"ok": True, "rows": 0, "message": "left alone, W&B was disabled for it; to upload it: log.wandb.mode=online"}
        options, notes = _options(saved, changed, directory)
    except (DlrunError, OSError) as error:
        return {"ok": False, "message": str(error).split("\n")[0]}
    return {"notes": notes, "job": {"run_dir": str(directory.absolute()), "options": options, "fresh": fresh}}


def _saved(directory: Path) -> dict[str, Any]:
    """The run's saved config, as data; MissingError where there is none or a process is at work on the run."""
    from dlrun.config.reading import read

    if not (directory / "config.yaml").is_file():
        raise MissingError("no run directory: it has no config.yaml")
    only_plain(directory)
    saved = read(str(directory / "config.yaml")).values
    if not isinstance(saved.get("log"), dict) or not isinstance(saved["log"].get("wandb"), dict):
        raise MissingError("config.yaml has no log.wandb: it is not one of dlrun's")
    if (owner := _owner(directory)) is not None:
        raise MissingError(f"in use by {owner}: W&B gets it once that has ended")
    return saved


def _owner(directory: Path) -> str | None:
    """Who holds the run's lock, None where nobody does."""
    import fcntl

    try:
        with open(directory / ".lock", "r+", encoding="utf-8", errors="replace") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return printable(lock.read(200).strip() or "another process", 200)
    except FileNotFoundError:
        return None
    return None


def _options(saved: dict[str, Any], changed: dict[str, Any], directory: Path) -> tuple[dict[str, Any], list[str]]:
    """As `wandb_options` for a training, from the saved config with `changed` on top; WANDB_MODE says nothing here."""
    from dlrun.config.kinds import MisfitError, kind_of
    from dlrun.config.schema import settings
    from dlrun.sinks.wandb_options import resolve_own, study_of, wandb_options

    kinds = {key: kind_of(annotation) for key, annotation in settings().classes["Wandb"].items()}
    defaults = {"tags": [], "log_model": False}
    written = {key: changed.get(key, saved["log"]["wandb"].get(key, defaults.get(key))) for key in kinds} | {"mode": "online"}
    try:
        values = {key: kinds[key].convert(resolve_own(value, os.environ)) for key, value in written.items()}
    except MisfitError as misfit:
        raise MissingError(f"config.yaml: log.wandb holds {printable(str(misfit.value), 60)}, expected {misfit.expected}") from None
    tags = [tag for tag in saved.get("tags") or [] if isinstance(tag, str)]
    about = {"tags": tags, "experiment": saved.get("experiment") if isinstance(saved.get("experiment"), str) else None}
    environ = {name: value for name, value in os.environ.items() if name not in ("WANDB_MODE", "WANDB_DISABLED")}
    return wandb_options({"log": {"wandb": written}}, {"log": {"wandb": values}, **about}, environ, study_of(directory))
