"""The parts and experiments a config can name, each file read once: YAML values, options of the source, defaults lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dlrun.config import reading
from dlrun.config.messages import hint, listing, nearest, no_such_part
from dlrun.config.places import (
    experiment_names,
    find_yaml,
    is_experiment_name,
    is_name,
    own_conf,
    plugin_parts,
    printable,
    search_dirs,
    shown,
)
from dlrun.config.schema import MISSING, Source, is_plain, part_source
from dlrun.errors import UsageError

DEFAULT_PARTS = {"model": "mlp", "optimizer": "adamw"}
"""What a plugin's task without YAML gets in its slots, as in conf/task/supervised.yaml."""


class Part(NamedTuple):
    """One part: its values (`name` among them), where they stand, its source and the files its own defaults list brings in."""

    group: str
    name: str
    values: dict[str, Any]
    document: reading.Document | None
    source: Source
    bases: tuple[str, ...] = ()

    def where(self, option: str) -> str:
        """Where the value of `option` stands, for messages."""
        return self.document.where((option,)) if self.document else f"plugin {self.group} {self.name}"


class Library:
    """Reads from `config_dir` first, then from dlrun's own conf; remembers what it read, errors too."""

    def __init__(self, config_dir: str | os.PathLike[str] | None = None) -> None:
        if config_dir is not None and not os.path.isdir(config_dir):
            raise UsageError(f"--config-dir {printable(os.fspath(config_dir))}: no such folder")
        self.dirs = search_dirs(None if config_dir is None else os.fspath(config_dir))
        self.notes: list[str] = []
        self._memory: dict[tuple[str, str], Any] = {}

    def _once(self, key: tuple[str, str], make: Callable[[], Any]) -> Any:
        if key not in self._memory:
            try:
                self._memory[key] = make()
            except UsageError as error:
                self._memory[key] = error
        found = self._memory[key]
        if isinstance(found, UsageError):
            raise found
        return found

    def root(self) -> reading.Document:
        """dlrun's own `conf/config.yaml`."""
        return reading.read(os.path.join(own_conf(), "config.yaml"))

    def part(self, group: str, name: str) -> Part:
        """The part `name` of `group`. Raises UsageError: unknown, or its YAML is refused."""
        found: Part = self._once((group, name), lambda: self._read_part(group, name))
        return found

    def _read_part(self, group: str, name: str) -> Part:
        if not is_name(name):
            raise UsageError(no_such_part(group, name))
        path = find_yaml(group, name, self.dirs)
        source = part_source(group, name)
        if source is None:
            where = f" ({shown(path)} has values, but no part of this name is registered)" if path else ""
            raise UsageError(no_such_part(group, name) + where)
        if name in plugin_parts(group) and (path is None or path.startswith(own_conf() + os.sep)):
            return self._plugin_part(group, name, source)
        if path is None:
            raise UsageError(f"{group} {name}: conf/{group}/{name}.yaml is missing")
        document = reading.read(path)
        values = dict(document.values)
        if values.setdefault("name", name) != name:
            line = f"{document.where(('name',))}: name: expected {name}, the name of the file, found {printable(str(values['name']))}"
            raise UsageError(line)
        for option in source.options.values():
            if option.default is not MISSING and is_plain(option.default):
                values.setdefault(option.name, option.default)
        return Part(group, name, values, document, source, () if group == "task" else self.bases(group, document))

    def bases(self, group: str, document: reading.Document) -> tuple[str, ...]:
        """Names of the files of the same group that the document's defaults list puts before it."""
        bases = []
        for entry in document.defaults:
            base = entry.removeprefix(f"/{group}/") if isinstance(entry, str) else ""
            if base == "_self_":
                continue
            if not is_name(base):
                where = document.where(("defaults",))
                raise UsageError(f"{where}: defaults: expected names of {group} files, found {printable(str(entry))}")
            bases.append(base)
        return tuple(bases)

    def bases_of(self, part: Part) -> dict[str, reading.Document]:
        """Every file the part's defaults list brings in, directly or through another. Raises UsageError."""
        found: dict[str, reading.Document] = {}
        pending: list[tuple[str, tuple[str, ...]]] = [(base, (part.name,)) for base in part.bases]
        while pending:
            name, above = pending.pop()
            if name in above:
                raise UsageError(f"{part.group} {part.name}: its defaults lists run in a circle: {' -> '.join((*above, name))}")
            if name not in found:
                found[name] = self.base(part.group, name)
                pending += [(base, (*above, name)) for base in self.bases(part.group, found[name])]
        return found

    def base(self, group: str, name: str) -> reading.Document:
        """A YAML that another one of the group builds on (it need not be a part itself)."""
        path = find_yaml(group, name, self.dirs)
        if path is None:
            raise UsageError(f"no file {group}/{name}.yaml to build on")
        return reading.read(path)

    def _plugin_part(self, group: str, name: str, source: Source) -> Part:
        values: dict[str, Any] = {"name": name}
        for option in source.options.values():
            if option.default is MISSING:
                values[option.name] = "???"
            elif is_plain(option.default):
                values[option.name] = option.default
            else:
                kind = type(option.default).__name__
                self.notes.append(f"{group} {name}: option {option.name} keeps its Python default, a {kind}: YAML cannot hold one")
        if group == "task":
            values["slots"] = _slots_of_class(plugin_parts(group)[name])
        return Part(group, name, values, None, source)

    def experiment(self, name: str) -> reading.Document:
        """The experiment `name`. Raises UsageError."""
        found: reading.Document = self._once(("experiment", name), lambda: self._read_experiment(name))
        return found

    def _read_experiment(self, name: str) -> reading.Document:
        path = find_yaml("experiment", name, self.dirs) if is_experiment_name(name) else None
        if path is None:
            known = experiment_names(self.dirs)
            guess = hint(nearest(str(name), known), "experiment=")
            raise UsageError(f"no experiment {printable(repr(name), 60)}; there are {listing(known) or 'none'}{guess}")
        document = reading.read(path)
        if document.package not in (None, "_global_"):
            raise UsageError(f"{shown(path)}: package {printable(document.package)}: an experiment is global; leave the header out")
        return document

    def task_slots(self, name: str) -> dict[str, tuple[str, ...] | None]:
        """Groups in which the task has several slots (their names) or none (None)."""
        part = self.part("task", name)
        slots = part.values.get("slots")
        if slots is None or not isinstance(slots, dict):
            return {}
        return {group: tuple(names) if isinstance(names, list) else None for group, names in slots.items()}

    def task_defaults(self, name: str) -> list[Any]:
        """The defaults list a task brings: its networks, optimizers, loss."""
        part = self.part("task", name)
        if part.document is not None:
            return part.document.defaults
        slots = self.task_slots(name)
        entries: list[Any] = []
        for group, default in DEFAULT_PARTS.items():
            if group in slots:
                entries += [{f"/{group}@{group}.{slot}": default} for slot in slots[group] or ()]
            else:
                entries.append({f"/{group}@{group}": default})
        return entries


def _slots_of_class(task: Any) -> dict[str, Any]:
    slots = getattr(task, "slots", {})
    if not isinstance(slots, Mapping):
        return {}
    return {str(group): [str(name) for name in names] if names else "none" for group, names in slots.items()}
