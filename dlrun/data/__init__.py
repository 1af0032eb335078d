"""Data as the loop gets it: any dataset becomes `Data`, whose batches are a pure function of (seed, step)."""

from __future__ import annotations

from dlrun.data.core import Data, prepare

__all__ = ["Data", "prepare"]
