"""Layers of a config: the root, a saved config, experiments, an arm, the command line. Each holds choices of parts and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dlrun.config.library import Library
from dlrun.config.places import SLOT_GROUPS, printable
from dlrun.config.reading import Document
from dlrun.errors import UsageError

Path = tuple[str, ...]
MAX_CHAIN = 10


class Item(NamedTuple):
    """A value for a path; `origin(path)` says where it (or a part of it) was written, ready to start a message."""

    path: Path
    value: Any
    origin: Callable[[Path], str]


class Choice(NamedTuple):
    """A part chosen for a slot; None takes the slot's part away."""

    slot: Path
    name: str | None
    origin: str


@dataclass
class Layer:
    """One source of choices and values; `consumed` are the paths of items that turned out to be choices, `chosen` the slots they fill."""

    name: str
    items: list[Item] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    consumed: set[Path] = field(default_factory=set)
    chosen: set[Path] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    command_line: bool = False

    def task(self) -> str | None:
        """The task this layer chooses, if it does."""
        named = [choice.name for choice in self.choices if choice.slot == ("task",)]
        for item in self.items:
            if item.path in (("task",), ("task", "name")) and isinstance(item.value, str):
                named.append(item.value)
            elif item.path == ("task",) and isinstance(item.value, dict) and isinstance(item.value.get("name"), str):
                named.append(item.value["name"])
        return named[-1] if named else None


def document_layer(document: Document, name: str) -> Layer:
    """The values of a YAML file as a layer (its defaults list is read separately)."""

    def origin(path: Path) -> str:
        return f"{document.where(path)}: {dotted(path)}"

    return Layer(name, [Item((key,), value, origin) for key, value in document.values.items()])


def dotted(path: Path) -> str:
    """`a.b.c`, safe to print."""
    return printable(".".join(path), 120)


def parse_slot(text: str) -> Path:
    """The slot in `model`, `model.generator`, `/model@model.generator` or `/model@_global_.model.generator`. Raises UsageError."""
    group, _, package = text.partition("@")
    group = group.lstrip("/").replace("/", ".")
    package = package.removeprefix("_global_.") if package else group
    slot = tuple(package.split("."))
    if group.split(".")[0] != slot[0]:
        raise UsageError(f"{printable(text)}: a {printable(group)} cannot stand at {printable(package)}: say {group}@{group}.SLOT")
    if len(slot) > 2:
        raise UsageError(f"{printable(text)}: a slot is GROUP or GROUP.SLOT")
    return slot


def defaults_choices(entries: list[Any], where: str) -> Iterator[Choice | str | UsageError]:
    """The defaults list of a task, an experiment or the root: choices, names of experiments to build on, errors."""
    for entry in entries:
        if entry == "_self_":
            yield "_self_"
        elif isinstance(entry, str):
            yield entry.removeprefix("/").removeprefix("experiment/")
        elif isinstance(entry, dict) and len(entry) == 1:
            ((key, name),) = entry.items()
            yield _entry(key, name, where)
        else:
            yield UsageError(f"{where}: defaults: expected entries `group: name`, found {printable(str(entry), 80)}")


def _entry(key: str, name: Any, where: str) -> Choice | UsageError:
    words = key.split()
    if "optional" in words[:-1]:
        return UsageError(f"{where}: defaults: {printable(key)}: `optional` would hide a missing file; leave it out")
    if not words or (len(words) > 1 and words[:-1] != ["override"]):
        return UsageError(f"{where}: defaults: {printable(key)}: expected `group` or `override group`")
    if name is not None and (not isinstance(name, str) or "${" in name):
        return UsageError(f"{where}: defaults: {printable(key)}: expected a part's name, found {printable(str(name), 80)}")
    try:
        slot = parse_slot(words[-1])
    except UsageError as error:
        return UsageError(f"{where}: defaults: {error}")
    if slot[0] not in (*SLOT_GROUPS, "experiment"):
        return UsageError(f"{where}: defaults: no group {printable(slot[0])}; there are {', '.join(SLOT_GROUPS)}")
    return Choice(slot, name, f"{where}: defaults: {printable(key)}: {name}")


def experiment_layers(name: str, library: Library, origin: str, above: tuple[str, ...] = ()) -> list[Layer]:
    """The layers of the experiment `name`: those it builds on (`defaults: [other]`), then its own. Raises UsageError."""
    if len(above) > MAX_CHAIN:
        raise UsageError(f"{origin}: experiments build on each other more than {MAX_CHAIN} deep")
    if name in above:
        raise UsageError(f"{origin}: experiments build on each other in a circle: {' -> '.join((*above, name))}")
    try:
        document = library.experiment(name)
    except UsageError as error:
        raise UsageError([f"{origin}: {line}" if line.startswith("no experiment") else line for line in error.lines]) from None
    label = f"experiment {name}"
    own = document_layer(document, label)
    found: list[Layer] = []
    for entry in defaults_choices(document.defaults, document.where(("defaults",))):
        if isinstance(entry, UsageError):
            own.errors += entry.lines
        elif isinstance(entry, Choice):
            own.choices.append(entry)
        elif entry != "_self_":
            if len(found) >= MAX_CHAIN:
                raise UsageError(f"{document.where(('defaults',))}: builds on more than {MAX_CHAIN} experiments")
            found += experiment_layers(entry, library, document.where(("defaults",)), (*above, name))
    return [*found, own]
