"""Beginning a W&B run, offline or online, and saying in few words why one cannot go online. Source: W&B's reference, `init`, `Settings`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dlrun.sinks.terminal import clean
from dlrun.sinks.wandb_query import NotOnlineError

INIT_SECONDS = 12.0


class ConflictError(NotOnlineError):
    """W&B holds something else under this run's id."""


def lighten(wandb: Any) -> None:
    """Leave out what W&B does when a run is ready for jobs of W&B Launch, which none of ours is: loading that takes 0.3 s CPU."""
    kind = wandb.sdk.wandb_run.Run
    if hasattr(kind, "_detect_and_apply_job_inputs"):
        kind._detect_and_apply_job_inputs = lambda run: None


def account(wandb: Any) -> str | None:
    """The API key from the environment or the netrc file; None where W&B has another way to sign in. Nobody is asked for one.

    NotOnlineError where there is no account.
    """
    try:
        from wandb.sdk.lib.wbauth import authenticate_session

        found = authenticate_session(host=server_of(wandb), source="dlrun", prompt=False, update_session=False)
    except (ImportError, TypeError):  # not W&B's public interface: `init` will say the same, later
        return os.environ.get("WANDB_API_KEY") or None
    if not found:
        raise NotOnlineError("no W&B account is set up: run `wandb login`, or set WANDB_API_KEY")
    return getattr(found, "api_key", None)


def server_of(wandb: Any) -> str:
    """The address of the W&B server, from WANDB_BASE_URL or W&B's own settings."""
    return str(wandb.setup().settings.base_url)


def begin(wandb: Any, mode: str, directory: Path, values: Mapping[str, Any], options: Mapping[str, Any], about: Mapping[str, Any]) -> Any:
    """A running W&B run; NotOnlineError, with nothing left behind, where `mode` is online and that does not work.

    values: the id and where the run is filed; options: `dir`, `seconds` for the last upload; about: `name`, `config` as a file.
    """
    folder = home(directory, options)
    before = set((folder / "wandb").glob("run-*"))
    try:
        return _init(wandb, mode, folder, values, options, about)
    except Exception as error:
        if mode != "online":
            raise
        wandb.teardown()  # else its service holds the run's id
        for path in set((folder / "wandb").glob(f"run-*-{values['id']}")) - before:
            shutil.rmtree(path, ignore_errors=True)
        raise error if isinstance(error, NotOnlineError) else NotOnlineError(why(error)) from error


def _init(wandb: Any, mode: str, folder: Path, values: Mapping[str, Any], options: Mapping[str, Any], about: Mapping[str, Any]) -> Any:
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_code=True,
        save_code=False,
        disable_git=True,
        x_disable_stats=True,
        x_save_requirements=False,
        symlink=False,
        program="dlrun",
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT") or INIT_SECONDS),
        finish_timeout=options["seconds"],
        finish_timeout_raises=True,
    )
    taken = values.get("id_given") and not values.get("online") and not os.environ.get("WANDB_SWEEP_ID")
    return wandb.init(
        mode=mode,
        dir=str(folder),
        id=values["id"],
        project=values["project"],
        entity=values["entity"],
        group=values["group"],
        name=values["name"] or clean(about["name"]),
        tags=values["tags"] or None,
        notes=values["notes"],
        config=saved_config(Path(about["config"])),
        resume=("never" if taken else "allow") if mode == "online" else None,  # an id from the environment may be another run's
        settings=settings,
    )


def home(directory: Path, options: Mapping[str, Any]) -> Path:
    """Where W&B's files go: WANDB_DIR, or the run's directory (W&B itself would fall back to a temporary folder without a word)."""
    if not options.get("dir"):
        return directory
    folder = Path(options["dir"]).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"WANDB_DIR={folder} cannot be written to")
    return folder


def why(error: BaseException) -> str:
    """What W&B said, as one short line that says what to do where we know."""
    text = clean(str(error).strip().split("\n")[0])
    if "API key" in text and "No " in text:
        return "no W&B account is set up: run `wandb login`, or set WANDB_API_KEY"
    if "401" in text or "not logged in" in text:
        return "W&B does not accept the API key (401): run `wandb login`, or set WANDB_API_KEY"
    if "403" in text or "ermission denied" in text:
        return "W&B says that this account may not write there (403): see log.wandb.entity and log.wandb.project"
    return text[:200] or type(error).__name__


def saved_config(path: Path) -> dict[str, Any]:
    """The saved config as plain JSON values: secrets in it are unresolved, and stay so."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(json.loads(json.dumps(config, default=str)))
