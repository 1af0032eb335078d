"""Configuration: YAML has the values, Python has the types; everything wrong is refused before torch is loaded.

Hydra's composition and override grammar, through its compose API only; importing this package imports none of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path
    from typing import Any

    from dlrun.config.composing import Config, compose

__all__ = ["Config", "compose", "conf_dir", "defaults"]


def __getattr__(name: str) -> Any:
    if name in ("compose", "Config"):
        from dlrun.config import composing

        return getattr(composing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def conf_dir() -> Path:
    """The folder with dlrun's own YAML."""
    from pathlib import Path

    from dlrun.config.places import own_conf

    return Path(own_conf())


def defaults(part: str, config_dir: str | PathLike[str] | None = None) -> dict[str, Any]:
    """The options of a part with their defaults: `defaults("model/mlp")` -> {"width": 256, ...}, for notebooks and tests.

    Raises UsageError where there is no such part.
    """
    from dlrun.config.library import Library
    from dlrun.config.places import GROUPS
    from dlrun.errors import UsageError

    group, slash, name = part.partition("/")
    if not slash or group not in GROUPS:
        raise UsageError(f"{part!r}: expected GROUP/NAME, with GROUP one of {', '.join(GROUPS)}")
    values = Library(config_dir).part(group, name).values
    return {key: value for key, value in values.items() if key not in ("name", "slots")}
