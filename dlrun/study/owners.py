"""Who holds a job: a process, named so that others on its machine can tell whether it still lives.

A lease alone would make a study wait half a minute after every kill; a process that is gone cannot come back, so its jobs are free at once.
"""

from __future__ import annotations

import os
import socket
from functools import cache


@cache
def place() -> str:
    """Where process numbers mean what they mean here: host, boot, and name space of processes."""
    boot, space = "", ""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()[:8]
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        pass
    return f"{socket.gethostname()[:60]}.{boot}.{space}".replace("/", "_")


def _begun(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None where it is gone, "" where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if os.path.isdir("/proc/self"):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def owner_of(pid: int) -> str:
    """The name of a living process of this machine."""
    return f"{place()}/{pid}/{_begun(pid) or ''}"


def is_gone(owner: str) -> bool:
    """Whether the process was one of this machine and lives no more; of others nothing is known."""
    where, _, rest = owner.partition("/")
    pid, _, begun = rest.partition("/")
    return where == place() and pid.isdecimal() and _begun(int(pid)) != begun
