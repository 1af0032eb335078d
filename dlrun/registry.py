"""Registries: a name in YAML is a file `dlrun/<group>s/<name>.py` that defines `<name>`, or a part a plugin registered.

Built-in parts are found by name and imported when first used; nothing else in a config can cause an import.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDERS = {
    "dataset": "datasets",
    "augment": "augments",
    "model": "models",
    "task": "tasks",
    "loss": "losses",
    "metric": "metrics",
    "optimizer": "optimizers",
    "schedule": "schedules",
    "probe": "probes",
    "check": "checks",
}
"""Group -> folder under `dlrun/` that holds its parts."""

PACKAGE = Path(__file__).parent
PLUGINS: dict[str, dict[str, Any]] = {group: {} for group in FOLDERS}
"""Parts that plugins brought: group -> name -> the function or class."""


@functools.cache
def builtin_names(group: str) -> tuple[str, ...]:
    """Names of the parts dlrun brings for `group`, by directory listing (imports nothing), looked up once."""
    return tuple(sorted(path.stem for path in (PACKAGE / FOLDERS[group]).glob("*.py") if not path.stem.startswith("_")))


def names(group: str) -> list[str]:
    """Every name that `group` knows: dlrun's own and those of plugins."""
    return sorted({*builtin_names(group), *PLUGINS[group]})


def get(group: str, name: str) -> Any:
    """The function or class called `name` in `group`; KeyError where there is none."""
    if name in PLUGINS[group]:
        return PLUGINS[group][name]
    if name not in builtin_names(group):
        raise KeyError(f"no {group} {name!r}; there are: {', '.join(names(group))}")
    return getattr(import_module(f"dlrun.{FOLDERS[group]}.{name}"), name)


def wiring(part: Callable[..., Any]) -> list[str]:
    """What `part` asks the builder for, by name: the parameters left of its star."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in inspect.signature(part).parameters.items() if parameter.kind in kinds]


def wire(label: str, part: Callable[..., Any], available: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Call `part` with what it asks for out of `available`, by name, and with its `options`.

    `label` ("model my_net") stands in the error where a part asks for something that does not exist.
    """
    wanted = wiring(part)
    unknown = [name for name in wanted if name not in available and name not in options]
    if unknown:
        raise TypeError(
            f"{label} asks for {', '.join(unknown)}: left of `*` there may stand {', '.join(sorted(available))}; options stand right of it"
        )
    return part(**{name: available[name] for name in wanted if name in available}, **options)


class Register:
    """`@register.model`, `@register.metric(best="max")` ...: how a plugin brings its parts. The name is the function's or class's own."""

    def __getattr__(self, group: str) -> Callable[..., Any]:
        if group not in FOLDERS:
            raise AttributeError(f"register has no {group!r}; there are: {', '.join(FOLDERS)}")

        def decorate(part: Any = None, **facts: Any) -> Any:
            if part is None:
                return lambda later: decorate(later, **facts)
            for fact, value in facts.items():
                setattr(part, fact, value)
            PLUGINS[group][part.__name__] = part
            return part

        return decorate


register = Register()


def facts(**named: Any) -> Callable[[Any], Any]:
    """Decorator: note facts about a built-in part on it (`@facts(best="max")` on a metric)."""

    def note(part: Any) -> Any:
        for name, value in named.items():
            setattr(part, name, value)
        return part

    return note
