"""A shell in a terminal of its own, for tests that press TAB: keys go in, what the finished line's words are comes out."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from architecture_rules import ROOT

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(dlrun completion bash)"),
    "zsh": (["zsh", "-f", "-i"], "source <(dlrun completion zsh)"),
    "fish": (["fish", "--no-config", "-i"], "dlrun completion fish | source"),
}
DEVICE_QUERY, DEVICE = b"\x1b[c", b"\x1b[?62;c"
TO_START, RETURN, CANCEL = "\x01", "\r", "\x15"
MARK = "end of words"


def command(folder: Path) -> Path:
    """A `dlrun` in `folder` that runs this checkout; its folder is what PATH begins with."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "dlrun"
    script.write_text(f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -m dlrun \"$@\"\n")
    script.chmod(0o755)
    return script


class Terminal:
    """One interactive shell with dlrun's completion loaded."""

    def __init__(self, shell: str, folder: Path, home: Path) -> None:
        words, load = SHELLS[shell]
        path = f"{command(home / 'bin').parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8", "EDITOR": ""}
        self.seen = b""
        self.process, self.descriptor = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.execvpe(words[0], words, environment)
        self.send(f"{load}; echo rea''dy{RETURN}")
        self.wait_for("ready")

    def send(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def read(self, seconds: float) -> bool:
        """Take what comes within `seconds`; whether anything did."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return False
        new = os.read(self.descriptor, 65536)
        self.seen += new
        if DEVICE_QUERY in new or b"\x1b[0c" in new:
            os.write(self.descriptor, DEVICE)
        return True

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """What was printed, up to and with `text`."""
        end = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < end, f"{text!r} never came; there is {self.seen.decode(errors='replace')!r}"
            self.read(0.2)
        found, _, self.seen = self.seen.partition(text.encode())
        return found.decode(errors="replace")

    def quiet(self) -> None:
        """Wait until nothing more comes: a TAB was dealt with."""
        seconds = 1.5
        while self.read(seconds):
            seconds = 0.6

    def words(self, *keys: str) -> list[str]:
        """The words of the line that `keys` make, as the shell would hand them to a command (nothing on the line runs)."""
        self.quiet()
        for key in keys:
            self.send(key)
            self.quiet()
        self.send(f"{TO_START}printf '<%s>\\n' {RETURN}")
        self.quiet()
        self.send(f"echo end 'of' words{RETURN}")
        return [word for word in re.findall(r"<([^<>\x1b\r\n]*)>", self.wait_for(MARK)) if word != "%s"]

    def close(self) -> None:
        os.close(self.descriptor)
        os.waitpid(self.process, 0)


def tab(keys: Sequence[str]) -> list[str]:
    """The keys, each with a TAB behind it."""
    return [f"{key}\t" for key in keys]
