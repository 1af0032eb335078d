"""Rules on parts as built: YAML holds the options with their values, the signature their types. Each gives its findings as lines.

Values are checked here against the live annotations; `dlrun.config` reads the same annotations from source text. Both must agree.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import OmegaConf

from dlrun import registry
from dlrun.cli.plain import top_level
from dlrun.ranges import Range

NOT_OPTIONS = {"name", "slots", "defaults"}
GROUPS = [group for group in registry.FOLDERS if group != "check"]


def options_of(path: Path) -> dict[str, Any]:
    """The content of a part's YAML as plain values, interpolations as written."""
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(content, dict)
    return typing.cast("dict[str, Any]", content)


def yaml_files(conf: Path) -> Iterator[tuple[str, str, Path]]:
    """(group, name, path) of every part's YAML below `conf`."""
    for group in GROUPS:
        yield from ((group, path.stem, path) for path in sorted((conf / group).glob("*.yaml")))


def _container_fits(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in value.items())
    if not isinstance(value, list):
        return False
    if origin is list or arguments[1:] == (...,):
        return all(fits(item, arguments[0]) for item in value)
    return len(value) == len(arguments) and all(fits(item, hint) for item, hint in zip(value, arguments, strict=True))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML may be handed to a parameter annotated `hint`; int passes for float, nothing else is converted."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        return fits(value, arguments[0]) and all(mark.holds(value) for mark in arguments[1:] if isinstance(mark, Range))
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin in (list, tuple, dict):
        return _container_fits(value, origin, arguments)
    if hint in (None, type(None)):
        return value is None
    if hint is Path:
        return isinstance(value, str)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float)) if hint is float else isinstance(value, hint)


def _parameters(part: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(part).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY}


def yaml_is_the_signature(label: str, values: Mapping[str, Any], part: Callable[..., Any]) -> list[str]:
    """The YAML's keys are the parameters right of the star, which have annotations that its values fit, and no defaults of their own."""
    parameters = _parameters(part)
    options = {key: value for key, value in values.items() if key not in NOT_OPTIONS}
    found = [f"{label}: {key} stands in the YAML, not in the signature" for key in options.keys() - parameters.keys()]
    found += [f"{label}: {key} stands in the signature, not in the YAML" for key in parameters.keys() - options.keys()]
    owner = part.__init__ if inspect.isclass(part) else part  # type: ignore[misc]
    hints = typing.get_type_hints(owner, include_extras=True) if parameters else {}
    for name, parameter in parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            found.append(f"{label}: {name} has the default {parameter.default!r} in Python, values stand in YAML")
        if name not in hints:
            found.append(f"{label}: {name} has no annotation")
        elif name in options and not fits(options[name], hints[name]):
            found.append(f"{label}: {name}: {options[name]!r} does not fit {parameter.annotation}")
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in inspect.signature(part).parameters.values()):
        found.append(f"{label}: takes any keyword, so a mistyped one would go unseen")
    return found


def _slots(written: Mapping[str, Any] | None) -> dict[str, tuple[str, ...] | None]:
    return {group: None if names in (None, "none") else tuple(names) for group, names in (written or {}).items()}


def slots_are_the_codes(label: str, values: Mapping[str, Any], task: Any) -> list[str]:
    """A task's YAML declares the slots that its class has."""
    said, has = _slots(values.get("slots")), _slots(task.slots)
    return [] if said == has else [f"{label}: the YAML has slots {said}, the class {has}"]


def yaml_explains_its_options(label: str, text: str, values: Mapping[str, Any]) -> list[str]:
    """Every option has a comment behind its value: `dlrun show` prints it, the JSON Schema carries it."""
    comments = {key: comment for key, (_, comment) in top_level(text).items()}
    return [
        f"{label}: {key} has no comment that explains it: `{key}: ...  # what it is, its unit, what null means`"
        for key in values
        if key not in NOT_OPTIONS and len(comments.get(key, "").split()) < 2
    ]


def yaml_says_its_name(label: str, name: str, text: str, values: Mapping[str, Any]) -> list[str]:
    """A part's YAML begins with a comment that says what it is and holds `name: <file's name>`."""
    found = [] if text.startswith("# ") else [f"{label}: its first line is not a comment that says what the part is"]
    return found if values.get("name") == name else [*found, f"{label}: name is {values.get('name')!r}"]
