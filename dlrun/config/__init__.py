"""Configuration: YAML has the values, Python has the types; everything wrong is refused before torch is loaded.

Hydra's composition and override grammar, through its compose API only; importing this package imports none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrun.config.places import conf_dir

if TYPE_CHECKING:
    from dlrun.config.composing import Config, compose

__all__ = ["Config", "compose", "conf_dir", "defaults"]


def __getattr__(name: str) -> Any:
    if name in ("compose", "Config"):
        from dlrun.config import composing

        return getattr(composing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def defaults(part: str, config_dir: Path | None = None) -> dict[str, Any]:
    """The options of a part with their defaults: `defaults("model/mlp")` -> {"width": 256, ...}, for notebooks and tests.

    Raises UsageError where there is no such part.
    """
    from dlrun.config.library import Library
    from dlrun.errors import UsageError

    group, slash, name = part.partition("/")
    if not slash or group not in (*search_groups(), "probe"):
        raise UsageError(f"{part!r}: expected GROUP/NAME, with GROUP one of {', '.join(search_groups())}")
    values = Library(config_dir).part(group, name).values
    return {key: value for key, value in values.items() if key not in ("name", "slots")}


def search_groups() -> tuple[str, ...]:
    """Groups whose parts stand in a config."""
    from dlrun.config.places import SLOT_GROUPS

    return SLOT_GROUPS
