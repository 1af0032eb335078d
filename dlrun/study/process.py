"""One worker process as its driver sees it: what it is told, what it says, how it ended. Started anew, or forked from a warm process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from dlrun.study.owners import owner_of
from dlrun.study.setting import Setting

BOOT = "import sys; sys.path.append(sys.argv[1]); from dlrun.study.{} import main; main()"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")
LARGEST_OUTPUT = 1 << 20
Message = dict[str, Any]


def boot(module: str, threads: int, more: Mapping[str, str], **files: Any) -> subprocess.Popen[bytes]:
    """A new Python that runs `main` of a module of this package, with its thread budget in the environment before torch loads."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", BOOT.format(module), str(Path(__file__).parents[2])],
        env={**os.environ, **dict.fromkeys(THREADS, str(threads)), **more},
        start_new_session=True,  # Ctrl-C in the terminal reaches the driver, which asks each worker once
        **files,
    )


def printed(file: IO[bytes]) -> str:
    """What was written to a file of one's own so far, its beginning if it is long."""
    file.seek(0)
    return file.read(LARGEST_OUTPUT).decode("utf-8", "replace")


class Process:
    """A worker that is a new process. `owner` is its name in the ledger; `useful`: it has begun a job."""

    owner = ""

    def __init__(self, threads: int, device: str | None = None) -> None:
        self.threads, self.device = threads, device
        self.told = self.useful = False
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._text = b""
        its_in, to = os.pipe()
        self._from, its_out = os.pipe()
        self._to = os.fdopen(to, "wb")
        try:
            self._begin((its_in, its_out, self.errors.fileno()))
        finally:
            os.close(its_in)
            os.close(its_out)

    def _begin(self, files: Sequence[int]) -> None:
        device = {} if self.device is None else {"CUDA_VISIBLE_DEVICES": self.device}
        stdin, stdout, stderr = files
        self.process = boot("worker", self.threads, device, stdin=stdin, stdout=stdout, stderr=stderr)
        self.owner = owner_of(self.process.pid)

    def tell(self, setting: Setting) -> None:
        """Name the study; a process that is dead already is found out when it is read."""
        self.told = True
        with contextlib.suppress(OSError):
            self._to.write((json.dumps(asdict(replace(setting, owner=self.owner))) + "\n").encode())
            self._to.flush()

    def fileno(self) -> int:
        """What it says comes from here."""
        return self._from

    def read(self) -> list[Message] | None:
        """What it said since; None at its end."""
        chunk = os.read(self._from, 65536)
        *whole, self._text = (self._text + chunk).split(b"\n")
        found = [json.loads(line) for line in whole]
        self.useful = self.useful or any(message["event"] == "began" for message in found)
        return found if chunk else None

    def signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        with contextlib.suppress(OSError):
            self.process.send_signal(number)

    def output(self) -> str:
        """What was printed by it or by parts."""
        return printed(self.errors)

    def close(self) -> int:
        """Wait for its end; its exit code, or minus the signal it died of."""
        with contextlib.suppress(OSError):
            self._to.close()
        os.close(self._from)
        return self._code()

    def _code(self) -> int:
        return self.process.wait()


class Warm:
    """A process that imports torch once and forks workers on request (`warm.py`). It trains nothing itself."""

    def __init__(self, threads: int) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self.process = boot("warm", threads, {}, stdin=its, stdout=self.errors, stderr=self.errors)

    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self.process.poll() is None

    def fork(self, files: Sequence[int]) -> None:
        """Ask for a worker with these as stdin, stdout and stderr. If there is nobody to do it they are closed, as at a worker's end."""
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [b"fork"], files)

    def reap(self, pid: int) -> int:
        """The exit code of a worker that is ending. Killed, where the one process that would know is gone."""
        try:
            self._control.send(str(pid).encode())
            return int(self._control.recv(64) or -signal.SIGKILL)
        except OSError:
            return -signal.SIGKILL

    def close(self) -> None:
        """End it; what it forked goes on."""
        self.process.kill()
        self.process.wait()
        self._control.close()
        self.errors.close()


class Forked(Process):
    """A worker that is a fork of a warm process: there once that is warm, and first says who it is."""

    def __init__(self, warm: Warm) -> None:
        self._warm, self._wish, self._gone = warm, 0, False
        self._pid: int | None = None
        super().__init__(0)

    def _begin(self, files: Sequence[int]) -> None:
        self._warm.fork(files)

    def read(self) -> list[Message] | None:
        """What it said since; None at its end."""
        found = super().read()
        for message in found or ():
            if message["event"] == "here":
                self._pid, self.owner = message["pid"], message["owner"]
                if self._wish:
                    self.signal(self._wish)
        return found

    def signal(self, number: int) -> None:
        """Send a signal, if it lives; to one that is not there yet, once it is."""
        self._wish = number
        if self._pid is not None and not self._gone:
            with contextlib.suppress(OSError):
                os.kill(self._pid, number)

    def output(self) -> str:
        """What was printed by it or by parts; where it never came to be, by the process that should have forked it."""
        return super().output() + ("" if self._pid is not None or self._warm.alive() else printed(self._warm.errors))

    def _code(self) -> int:
        self._gone = True
        if self._pid is not None:
            return self._warm.reap(self._pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._warm.process.wait(0.0 if self._wish else 1.0)
        return 0 if self._wish else 1
