"""One run from a validated config to its summary: build, look, check, train, keep. `dlrun train` and `dlrun resume` call this."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from dlrun import checkpoint, histograms
from dlrun.autopsy import save_for_replay
from dlrun.build import build, choose_device
from dlrun.config import Config
from dlrun.config.dump import dump
from dlrun.config.reach import seals
from dlrun.environment import set_up, shape_modules
from dlrun.errors import AnswerNo, DlrunError, MissingError
from dlrun.events import Events
from dlrun.finite import NonFinite
from dlrun.hosting import Host
from dlrun.loop import fit
from dlrun.manifest import manifest
from dlrun.plugins import loaded
from dlrun.preflight import preflight
from dlrun.run import Run
from dlrun.rundir import RunDir, new_directory, read_manifest, write_atomic
from dlrun.session import Session, peak_memory
from dlrun.signals import EXIT
from dlrun.sinks.background import Background
from dlrun.sinks.console import Console
from dlrun.unread import unread
from dlrun.wrapup import finish_copies, wrap_up

DISK = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ESTALE, errno.EFBIG)


def build_run(config: Config, *, load_start: bool = True) -> Run:
    """The built run with the process set up for it; nothing is written yet."""
    train = config.resolved["train"]
    Events(config.resolved.get("events") or {})  # a condition that cannot be read is said before anything is written
    lines = unread(config.resolved) + set_up(train, choose_device(config.resolved["device"]))
    try:
        run = build(config, load_start=load_start)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise MissingError("out of memory while the parts were built: a smaller model, or a smaller data set, or train.ema=null") from error
    run.notes += lines + shape_modules(train, run.modules)
    return run


def train(config: Config, console: Console, background: Background | None = None) -> tuple[dict[str, Any], int]:
    """Train a new run; returns its summary and the exit code.

    Its directory is made once the parts are built: a set-up that cannot be built leaves nothing behind.
    """
    run = build_run(config)
    return begin(run, new_directory(config.resolved), config, console, background)


def begin(
    run: Run, path: Path, config: Config, console: Console, background: Background | None = None, host: Host | None = None
) -> tuple[dict[str, Any], int]:
    """Train a built run in the folder `path`; rows of an attempt there that left no checkpoint are cut away."""
    with closing(open_directory(path)) as directory:
        if checkpoint.steps(path):
            raise MissingError(f"{path} holds checkpoints: it is resumed, not begun")
        directory.cut_back(0)
        histograms.cut_back(path / histograms.NAME, -1)
        if not (path / "config.yaml").is_file():  # a study froze it before
            write_atomic(path / "config.yaml", dump(config.saved))
        sealed = seals(config.paths)
        if sealed is None:
            run.notes.append(f"{', '.join(config.paths)}: cannot be remembered (the data cache is not writable): say it again to resume")
        directory.write_json("manifest.json", {**manifest(run), "paths": sealed or {}})
        return drive(Session(run, directory, console, host), background, None, {})


def resume(
    path: Path,
    config: Config,
    changed: Mapping[str, Any],
    console: Console,
    background: Background | None = None,
    host: Host | None = None,
) -> tuple[dict[str, Any], int]:
    """Go on with the run at `path` from its newest whole checkpoint; `changed` are the keys the command line set anew."""
    with closing(open_directory(path)) as directory:
        saved, passed = checkpoint.newest(path)
        for line in passed:
            console.line(f"passed over a damaged checkpoint: {line}", "warning")
        run = build_run(config, load_start=False)
        for line in same_machine(path, run):
            console.line(line, "warning")
        if changed:
            write_atomic(path / "config.yaml", dump(config.saved))
        return drive(Session(run, directory, console, host), background, saved, changed)


def same_machine(path: Path, run: Run) -> list[str]:
    """Use the thread count the run began with; returns lines for what else keeps a resumed run from giving the same bits."""
    before = read_manifest(path)
    lines, threads = [], before.get("threads")
    if run.train["threads"] is None and isinstance(threads, int) and 0 < threads <= 4096 and threads != torch.get_num_threads():
        lines.append(f"threads: {threads}, as when the run began (this machine would take {torch.get_num_threads()})")
        torch.set_num_threads(threads)
    if before.get("device") != str(run.device):
        lines.append(f"device {run.device}, the run began on {before.get('device')}: the same bits are not promised")
    known = {Path(plugin["name"]).name: plugin["sha256"] for plugin in before["plugins"]}
    changed = [plugin["name"] for plugin in loaded() if known.get(Path(plugin["name"]).name, plugin["sha256"]) != plugin["sha256"]]
    lines += [f"plugin {name} has changed since the run began: the same bits are not promised" for name in changed]
    if before["data"].get("fingerprint") != run.data.fingerprint:
        raise MissingError(f"{path}: the data are not those the run began with (fingerprint {run.data.fingerprint[:24]}...): train anew")
    return lines


def open_directory(path: Path) -> RunDir:
    """The run directory, locked; its checkpoints folder exists."""
    try:
        (path / "checkpoints").mkdir(exist_ok=True)
        return RunDir(path)
    except OSError as error:
        raise MissingError(f"cannot write in {path}: {error.strerror}") from None


def drive(
    session: Session, background: Background | None, saved: checkpoint.Checkpoint | None, changed: Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """Train in an open directory and tidy up whatever happens; errors leave a summary that names them."""
    path, console = session.directory.path, session.console
    with open(path / "log.txt", "a", encoding="utf-8") as log, session.stop:
        console.attach(log)
        if background is not None:
            for line in background.attach(path, saved.step if saved else 0):
                console.line(line, "warning")
        try:
            status = attempt(session, saved, changed)
            code = wrap_up(session, status)
            return {**session.summary, "run_dir": str(path)}, code
        except KeyboardInterrupt:
            console.line(f"stopped at once, without saving; go on with: dlrun resume {quote(str(path))}", "warning")
            return {**session.summary, "run_dir": str(path)}, EXIT["SIGINT"]
        finally:
            session.run.data.close()
            finish_copies(console, background)
            console.close()


def attempt(session: Session, saved: checkpoint.Checkpoint | None, changed: Mapping[str, Any]) -> str:
    """Check and train; every failure is written to the summary before it goes up."""
    run, directory = session.run, session.directory
    try:
        if saved is None:
            directory.event("started", 0, 0.0)
            preflight(session)
            session.start()
        else:
            session.go_on(saved, changed)
            session.console.line(f"resumed {directory.path} at step {saved.step} of {run.steps}")
        return session.finish(fit(run, session, session.begin))
    except NonFinite as error:
        batch = save_for_replay(run, directory.path, error)
        fail(session, f"non-finite {error.what}", error.step)
        raise AnswerNo(
            f"step {error.step}: non-finite {error.what}. Batch kept in {batch}; try a lower learning rate or train.clip_norm"
        ) from error
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            fail(session, f"{type(error).__name__}: {error}")
            if "deterministic implementation" in str(error):
                raise MissingError(f"{str(error).split('.')[0]}: say train.deterministic=false") from error
            raise
        fail(session, "out of memory")
        raise MissingError(memory_line(session)) from error
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise MissingError(disk_line(session, error)) from error
    except DlrunError as error:
        fail(session, error.lines[0])
        raise
    except Exception as error:
        fail(session, f"{type(error).__name__}: {error}")
        raise


def out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python could not get memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def memory_line(session: Session) -> str:
    """Peak, batch size and what to try."""
    train, run = session.run.train, session.run
    size, parts = run.data.batch_size, train["accumulate"]
    tries = [f"train.accumulate={parts * 2} (the same batch in {parts * 2} parts)", f"train.batch_size={max(size // 2, 1)}"]
    if train["precision"] == "fp32" and run.device.type == "cuda":
        tries.append("train.precision=bf16")
    peak = peak_memory(run.device) / 2**30
    batch = f"batch of {size} rows in {parts} part(s)"
    return f"out of memory: peak {peak:.2f} GiB on {run.device}, {batch}: try {', or '.join(tries)}, or a smaller model"


def disk_line(session: Session, error: OSError) -> str:
    """Which file could not be written, and what is still whole."""
    path = session.directory.path
    if not path.is_dir():
        return f"cannot write {error.filename or path}: the run directory is gone"
    have = checkpoint.steps(path)
    whole = f"the checkpoint of step {have[-1]} is whole: dlrun resume {quote(str(path))}" if have else "no checkpoint was saved yet"
    return f"cannot write {error.filename or path}: {error.strerror}; {whole}"


def fail(session: Session, reason: str, step: int | None = None) -> None:
    """Record a failure in events and summary, as far as the disk lets us."""
    at = step if step is not None else int(session.summary.get("step", 0))
    try:
        session.telemetry.flush()
        session.directory.event("failed", at, session.clock.seconds(), reason=reason)
        session.write_summary("failed", at, reason)
    except (OSError, RuntimeError, ValueError):
        session.console.line("the failure could not be written to the run directory", "warning")
