"""dlrun: train a network from YAML, prove the set-up sane, never lose a result.

Public names are resolved on first use (PEP 562): `from dlrun import register` in a plugin costs no torch until a name needs it.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as good as typing's own for mypy, without its 8 ms
if TYPE_CHECKING:
    from typing import Any

    from dlrun.batch import Batch as Batch
    from dlrun.config import defaults as defaults
    from dlrun.inspect import inspect_data as inspect_data
    from dlrun.loading import load as load
    from dlrun.noise import Noise as Noise
    from dlrun.registry import register as register
    from dlrun.task import LossTask as LossTask
    from dlrun.task import Task as Task
    from dlrun.types import DataSpec as DataSpec
    from dlrun.types import Look as Look
    from dlrun.types import Mean as Mean
    from dlrun.types import Objective as Objective
    from dlrun.types import Splits as Splits

__version__ = "0.1.0"

_HOMES = {
    "Batch": "dlrun.batch",
    "DataSpec": "dlrun.types",
    "Look": "dlrun.types",
    "LossTask": "dlrun.task",
    "Mean": "dlrun.types",
    "Noise": "dlrun.noise",
    "Objective": "dlrun.types",
    "Splits": "dlrun.types",
    "Task": "dlrun.task",
    "defaults": "dlrun.config",
    "inspect_data": "dlrun.inspect",
    "load": "dlrun.loading",
    "register": "dlrun.registry",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dlrun' has no attribute {name!r}; it has {', '.join(_HOMES)}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
