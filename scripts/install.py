"""Makes `.venv/` in the checkout and installs dlrun into it: `install.py CHECKOUT [EXTRA]`. Standard library only.

Two at once: the second waits for the first (a lock the kernel drops with its holder). Interrupted: the next one starts from an empty
environment, for pip cannot tell a half-unpacked package from a whole one. An environment that somebody else made is used, never emptied.
Everything written lies in `.venv/`; what pip says goes to `.venv/dlrun-install.log`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

BROKEN = 3


def say(line: str) -> None:
    """One line on stderr: stdout belongs to the command that is about to run."""
    print(line, file=sys.stderr, flush=True)


class Venv:
    """The checkout's `.venv/` and the files by which its state is known.

    `dlrun-made`: this script made it and may empty it. `dlrun-incomplete`: an installation began and has not ended. `dlrun-stamp`,
    `dlrun-stamp-EXTRA`: what is installed.
    """

    def __init__(self, root: Path, extra: str) -> None:
        self.root, self.extra, self.path = root, extra, root / ".venv"
        self.python, self.log, self.lock = self.path / "bin" / "python", self.path / "dlrun-install.log", self.path / "dlrun-lock"
        self.made, self.incomplete, self.stamp = self.path / "dlrun-made", self.path / "dlrun-incomplete", self.path / "dlrun-stamp"
        self.stamps = [self.stamp, *([self.path / f"dlrun-stamp-{extra}"] if extra else [])]

    def wanted(self) -> str:
        """What a stamp holds: the place, then both files that say what is to be installed."""
        return f"{self.root}\n" + "".join((self.root / name).read_text("utf-8") for name in ("pyproject.toml", "constraints.txt"))

    def runs(self) -> bool:
        """Whether it can be used: its Python is there and it was not moved (its scripts name their Python by its full path)."""
        moved = self.stamp.exists() and self.stamp.read_text("utf-8").split("\n", 1)[0] != str(self.root)
        return self.python.exists() and not moved

    def current(self) -> bool:
        """Whether another process has just finished the same work."""
        stamp = self.stamps[-1]
        return self.runs() and (self.path / "bin" / "dlrun").exists() and stamp.exists() and stamp.read_text("utf-8") == self.wanted()

    def clear(self) -> None:
        """Empty the folder, but for what this process is using."""
        for entry in self.path.iterdir():
            if entry not in (self.lock, self.log):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def packages(self) -> list[str]:
        """What lies in site-packages: pip failed before it changed anything if this stays the same."""
        return sorted(str(entry) for folder in self.path.glob("lib/python*/site-packages") for entry in folder.iterdir())

    def finish(self) -> None:
        """Note what is installed; a stamp of an extra that was not asked for may be out of date."""
        for stale in self.path.glob("dlrun-stamp-*"):
            stale.unlink()
        for stamp in self.stamps:
            part = self.path / "dlrun-stamp.part"
            part.write_text(self.wanted(), "utf-8")
            part.replace(stamp)
        self.incomplete.unlink(missing_ok=True)


@contextmanager
def locked(venv: Venv):
    """Hold the lock on the environment; waits for whoever holds it."""
    venv.path.mkdir(exist_ok=True)
    with venv.lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"dlrun: another process is installing into {venv.path}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            say(f"dlrun: this file system cannot lock {venv.lock} ({error.strerror}); do not start two first uses at once")
        yield


def call(venv: Venv, *command: str) -> int:
    """Run `command` in the checkout with its output in the log."""
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    with venv.log.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        quiet = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        return subprocess.run(command, cwd=venv.root, env=environment, check=False, **quiet).returncode


def failed(venv: Venv, what: str, code: int) -> int:
    """Show the end of the log, then say in one line what failed and where the rest is."""
    lines = venv.log.read_text("utf-8", errors="replace").splitlines()
    for line in lines[-15:]:
        say(f"    {line}")
    reason = next((line for line in reversed(lines) if line.lower().lstrip().startswith("error")), "")
    said = f": {reason}" if reason else ""
    say(f"error: {what} failed with exit code {code}{said}; the whole log is {venv.log}; the same command tries again")
    return BROKEN


def make(venv: Venv) -> int:
    """A new, empty environment."""
    venv.clear()
    venv.made.touch()
    venv.incomplete.touch()
    if code := call(venv, sys.executable, "-m", "venv", str(venv.path)):
        return failed(venv, f"making {venv.path} with {sys.executable} (on Debian and Ubuntu it needs python3-venv)", code)
    return 0


def install(venv: Venv) -> int:
    """Bring the environment to what is wanted; returns the exit code."""
    venv.log.write_text("")
    foreign = (venv.path / "pyvenv.cfg").exists() and not venv.made.exists()
    if foreign and not venv.runs():
        say(f"error: {venv.path} was not made by this script and its Python does not start from here; remove it and try again")
        return BROKEN
    if foreign:
        say(f"dlrun: installing into the environment that is already at {venv.path}")
    elif (venv.incomplete.exists() or not venv.runs()) and (code := make(venv)):
        return code
    before, changing = venv.packages(), not venv.incomplete.exists()
    venv.incomplete.touch()
    target = f".[{venv.extra}]" if venv.extra else "."
    if code := call(venv, str(venv.python), "-m", "pip", "install", "-c", "constraints.txt", "-e", target):
        if changing and venv.packages() == before:
            venv.incomplete.unlink()
        return failed(venv, "pip install", code)
    venv.finish()
    return 0


def main(root: Path, extra: str) -> int:
    """Install unless it is done; returns the exit code."""
    venv, start = Venv(root.resolve(), extra), time.monotonic()
    try:
        with locked(venv):
            if venv.current():
                return 0
            there = venv.runs() and venv.stamp.exists() and not venv.incomplete.exists()
            much = "what changed: seconds, unless PyTorch did" if there else "PyTorch included: 1 to 10 minutes, once"
            say(f"dlrun: installing into {venv.path}, {much} (progress in {venv.log.name} there)")
            if not (code := install(venv)):
                say(f"dlrun: installed in {time.monotonic() - start:.0f} s")
            return code
    except KeyboardInterrupt:
        say("dlrun: installation interrupted; the next start begins it anew")
        return 130
    except OSError as error:
        say(f"error: cannot install into {venv.path}: {error.strerror} ({error.filename}); it has to be writable")
        return BROKEN


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
