"""Worker processes for a user's Dataset: torch's DataLoader, fed with (epoch, index) pairs, so that who reads cannot change what is read.

Workers run torch with one thread, leave Ctrl-C to the main process, and die with it (Linux: at once; elsewhere within seconds).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any

import torch

from dlrun.batch import Leaf
from dlrun.data.items import Key
from dlrun.data.sources import Items
from dlrun.errors import MissingError

GRACE_SECONDS = 20
"""How long a worker goes on after SIGTERM: a scheduler signals the whole group, and the main process still has to save."""


class _Keyed:
    """A map-style Dataset whose rows are whole batches: the DataLoader hands it a list of keys."""

    def __init__(self, source: Items) -> None:
        self.source = source

    def __getitem__(self, keys: list[Key]) -> dict[str, Leaf] | MissingError:
        try:
            return self.source.keyed(keys)
        except MissingError as error:
            return error  # raised in a worker it would come out wrapped in a traceback


def _last_breath(*_: object) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(GRACE_SECONDS)


def _start_worker(parent: int, bind_to_parent: bool, worker: int) -> None:
    gc.freeze()  # a loader inherited from the main process must not be collected here: it would shut down workers that are not this one's
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _last_breath)
    if bind_to_parent and sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the DataLoader's own watchdog looks every 5 s only
    if os.getppid() != parent:
        os._exit(1)


def make_loader(source: Items, batches: Iterable[list[Key]], workers: int) -> Iterable[Any]:
    """A DataLoader that gives a collated dict for each list of keys in `batches`, read by `workers` processes that stay between passes."""
    from torch.utils.data import DataLoader

    linux = sys.platform == "linux"
    # PR_SET_PDEATHSIG follows the thread that forks: from any other than the main thread it would fire when that thread ends.
    bind = linux and threading.current_thread() is threading.main_thread()
    start: Callable[[int], None] = partial(_start_worker, os.getpid(), bind)
    return DataLoader(
        _Keyed(source),  # type: ignore[arg-type]
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        persistent_workers=True,
        worker_init_fn=start,
        multiprocessing_context="fork" if linux else None,  # a plugin's classes have no importable module that a spawned process could find
        generator=torch.Generator(),  # else the loader draws from torch's default generator and shifts it
    )


def iterate(loader: Iterable[Any], last: bool = False) -> Generator[dict[str, Leaf], None, None]:
    """One pass over `loader`; after the `last` one, or when the generator is closed during it, its workers end."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside other threads (torch's pool, telemetry); workers touch neither.
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*", category=DeprecationWarning)
        iterator: Any = iter(loader)
    try:
        for read in iterator:
            if isinstance(read, MissingError):
                raise read
            yield read
    finally:
        if last:
            end(loader)


def end(loader: Any) -> None:
    """End a loader's workers now: left to the garbage collector it can take torch 5 s a worker."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None and hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
