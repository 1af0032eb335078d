"""A process that imports torch once and becomes the workers of a driver: each is a fork of it, there in 10 ms and sharing its memory.

It computes nothing: no thread has begun when it forks (OpenMP's would be missing in the fork), and no accelerator is in use.
Stdin is a socket. A message `fork` brings a worker's stdin, stdout and stderr; a number is a worker whose exit code is asked for; its end
says that the driver is gone.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
import traceback
from collections.abc import Sequence


def main() -> None:
    """Get warm, then fork and reap until the driver leaves."""
    with socket.socket(fileno=0) as control:
        warm_up()
        while True:
            message, files, _, _ = socket.recv_fds(control, 64, 3)
            if not message:
                os._exit(0)  # leaving Python after torch takes 0.4 s
            if files:
                fork(control, files)
            else:
                control.send(str(os.waitstatus_to_exitcode(os.waitpid(int(message), 0)[1])).encode())


def fork(control: socket.socket, files: Sequence[int]) -> None:
    """A worker with these files; where it cannot be, they are closed, and so it has ended."""
    try:
        pid = os.fork()
    except OSError as error:
        print(f"cannot fork: {error.strerror}", file=sys.stderr)
        pid = -1
    if pid == 0:
        try:
            become(control, files)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    for file in files:
        os.close(file)


def warm_up() -> None:
    """Import what each worker needs whatever the study is."""
    gc.disable()  # imports leave no garbage, and looking for it costs 0.3 s
    import torch  # noqa: F401

    import dlrun.study.trainer
    import dlrun.study.worker  # noqa: F401

    gc.freeze()  # the workers share it: they do not look through it either
    gc.enable()


def become(control: socket.socket, files: Sequence[int]) -> None:
    """Be a worker from here on, as if newly started."""
    import numpy as np

    from dlrun.study.worker import main as work

    os.setsid()
    control.detach()
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    random.seed()
    np.random.seed()
    work(forked=True)
