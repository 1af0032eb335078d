"""Which layers a config is made of: the saved config of `--from` or the experiment, its arm, the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dlrun.config import reading
from dlrun.config.layers import Choice, Item, Layer, Path, defaults_choices, document_layer, experiment_layers
from dlrun.config.library import Library
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.overrides import command_line
from dlrun.config.places import printable, shown
from dlrun.config.sections import COMMAND_LINE_ONLY
from dlrun.errors import UsageError


@dataclass
class Stack:
    """The layers, lowest first; the command line is the last one."""

    library: Library
    root: list[Choice]
    experiment: str | None = None
    arm: str | None = None
    saved: Layer | None = None
    layers: list[Layer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    broken: bool = False


def build_stack(library: Library, overrides: list[str], from_file: str | None) -> Stack:
    """Read every layer there is; what cannot be read is in `errors`."""
    root = [choice for choice in defaults_choices(library.root().defaults, "conf/config.yaml") if isinstance(choice, Choice)]
    stack = Stack(library, root)
    command = command_line(overrides)
    stack.errors += command.errors
    try:
        _saved(stack, from_file)
    except UsageError as error:
        stack.errors += error.lines
    try:
        _experiment(stack, command)
    except UsageError as error:
        stack.errors += error.lines
        stack.broken = True
    _arm(stack, command)
    stack.layers.append(command)
    return stack


def _saved(stack: Stack, path: str | None) -> None:
    """A saved config as the lowest layer; its experiment and arm are what was, their values are in it already."""
    if path is None:
        return
    document = reading.read(path)
    if document.defaults:
        raise UsageError(f"{document.where(('defaults',))}: defaults: a saved config has none; an experiment is chosen by experiment=NAME")
    stack.saved = document_layer(document, shown(path))
    for key in ("experiment", "arm"):
        value = document.values.get(key)
        if value is not None and not isinstance(value, str):
            stack.errors.append(f"{document.where((key,))}: {key}: expected a name, found {printable(str(value), 60)}")
        else:
            setattr(stack, key, value)
    stack.saved.items = [item for item in stack.saved.items if item.path[0] not in ("experiment", "arm")]
    _add(stack, stack.saved)


def _add(stack: Stack, layer: Layer) -> None:
    """Put a layer of YAML on top, without the keys that only the command line may set."""
    stack.errors += layer.errors
    reserved = [item for item in layer.items if item.path[0] in (*COMMAND_LINE_ONLY, "experiment", "arm")]
    stack.errors += [f"{item.origin(item.path)}: only the command line sets this" for item in reserved]
    layer.items = [item for item in layer.items if item not in reserved]
    stack.layers.append(layer)


def _take(stack: Stack, command: Layer, key: str) -> tuple[Any, str] | None:
    """Take what sets `experiment` or `arm` off the command line: (name, origin), or None where nothing does."""
    found = [(item.value, item.origin(item.path)) for item in command.items if item.path == (key,)]
    found += [(choice.name, choice.origin) for choice in command.choices if choice.slot == (key,)]
    command.items = [item for item in command.items if item.path != (key,)]
    if len(found) > 1:
        stack.errors.append(f"{found[1][1]}: given twice, also as {found[0][1].removeprefix('command line: ')}: keep one")
    return found[0] if found else None


def _experiment(stack: Stack, command: Layer) -> None:
    default = next((choice.name for choice in stack.root if choice.slot == ("experiment",)), None)
    name, origin = _take(stack, command, "experiment") or (stack.experiment if stack.saved else default, "conf/config.yaml")
    if stack.saved is not None:
        if name != stack.experiment:
            stack.errors.append(f"{origin}: the config of --from holds the values of experiment {stack.experiment} already: leave one out")
        return
    if name is not None:
        for layer in experiment_layers(name, stack.library, origin):
            _add(stack, layer)
    stack.experiment = name


def _arm(stack: Stack, command: Layer) -> None:
    """The layer of the arm that was asked for."""
    chosen = _take(stack, command, "arm")
    if chosen is None:
        return
    name, origin = chosen
    if stack.saved is not None:
        if name != stack.arm:
            stack.errors.append(f"{origin}: the config of --from holds the values of arm {stack.arm} already: leave one out")
        return
    if name is None or stack.broken:
        return
    sources = [item for layer in stack.layers for item in layer.items if item.path == ("arms",) and isinstance(item.value, dict)]
    arms = sources[-1].value if sources else {}
    if name not in arms:
        owner = f"experiment {stack.experiment}" if stack.experiment else "the config"
        there = f"there are {listing(list(arms))}" if arms else f"{owner} has no arms"
        stack.errors.append(f"{origin}: no arm {printable(repr(name), 60)}; {there}{hint(nearest(str(name), arms), 'arm=')}")
        return
    stack.arm = name
    _add(stack, arm_layer(name, arms[name], sources[-1]))


def arm_layer(name: str, overrides: Any, source: Item) -> Layer:
    """The overrides of an arm as a layer; keys are paths (`model.width: 3`), values may be nested mappings."""
    return overrides_layer(f"arm {printable(name)}", overrides, source, ("arms", name))


def overrides_layer(label: str, overrides: Any, source: Item, place: Path) -> Layer:
    """Overrides that stand at `place` in the config, written by `source`, as a layer."""
    layer = Layer(label)
    if not isinstance(overrides, dict):
        layer.errors.append(f"{source.origin(place)}: expected a mapping of overrides")
        return layer
    for key, value in overrides.items():
        layer.items.append(Item(tuple(key.split(".")), value, _origin_of(source, (*place, key))))
    return layer


def _origin_of(source: Item, place: Path) -> Any:
    return lambda path: source.origin(place)
