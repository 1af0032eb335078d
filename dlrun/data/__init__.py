"""Data as the loop gets it: any dataset becomes `Data`, whose batches are a pure function of (seed, step)."""

from __future__ import annotations

from pathlib import Path

from dlrun.config import places
from dlrun.data.core import Data, prepare

__all__ = ["Data", "cache_root", "prepare"]


def cache_root() -> Path:
    """The data cache, one folder a dataset: `$DLRUN_CACHE`, else `~/.cache/dlrun`."""
    return Path(places.cache_root())
