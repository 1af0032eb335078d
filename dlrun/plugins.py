"""Plugins: a user's own file, or an installed package's entry point in the group `dlrun.plugins`, that registers parts when imported.

Only the command line (or a Python caller) names one; nothing in YAML, a checkpoint or a study can.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import TracebackType
from typing import Any

from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import builtin_names, is_name, printable
from dlrun.errors import UsageError
from dlrun.registry import PLUGINS

GROUP = "dlrun.plugins"
_loaded: dict[str, dict[str, Any]] = {}


class PluginError(UsageError):
    """The user's file failed; `report` is the traceback through it, `cause` what it raised."""

    def __init__(self, line: str, cause: BaseException, report: str) -> None:
        super().__init__(line)
        self.cause, self.report = cause, report


class _Finder:
    """Finds modules of plugin files by the names dlrun gave them, so that they are imported like any other."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of the plugin called `name`, None for every other module."""
        return spec_from_file_location(name, self.files[name]) if name in self.files else None


_finder = _Finder()


def loaded() -> list[dict[str, Any]]:
    """Plugins loaded so far, for the manifest: name, path, sha256, parts."""
    return list(_loaded.values())


def load_plugins(names: Sequence[str]) -> list[dict[str, Any]]:
    """Import each plugin (a path to a file, or the name of an entry point) once. Raises UsageError, PluginError."""
    return [_load(name) for name in names]


def _load(name: str) -> dict[str, Any]:
    path = Path(name).expanduser()
    is_file = name.endswith(".py") or "/" in name or path.is_file()
    module = _module_of_file(name, path) if is_file else _module_of_entry_point(name)
    if module in _loaded:
        return _loaded[module]
    before = {group: dict(parts) for group, parts in PLUGINS.items()}
    try:
        _import(name, module, path if is_file else None)
        parts = list(_new_parts(name, before))
        if not parts:
            raise UsageError(f"--plugin {printable(name)}: registers no part; put @register.model (or .dataset, .loss ...) above yours")
    except UsageError:
        for group, known in before.items():
            PLUGINS[group] = known
        sys.modules.pop(module, None)
        raise
    spec = sys.modules[module].__spec__
    origin = Path(spec.origin) if spec and spec.origin else path
    _loaded[module] = {"name": name, "path": str(origin), "sha256": sha256(origin.read_bytes()).hexdigest(), "parts": parts}
    return _loaded[module]


def _module_of_file(name: str, path: Path) -> str:
    """The module name of a plugin file: its stem and a hash of where it stands, so that two files of one name can both be loaded."""
    if not path.is_file():
        raise UsageError(f"--plugin {printable(name)}: no such file")
    path = path.resolve()
    module = f"dlrun_plugin_{''.join(c if c.isalnum() else '_' for c in path.stem)}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    _finder.files[module] = path
    return module


def _module_of_entry_point(name: str) -> str:
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        guess = hint(nearest(name, found), "--plugin ")
        there = listing(list(found)) or "none"
        raise UsageError(f"--plugin {printable(name)}: neither a file nor an installed plugin; installed are {there}{guess}")
    return found[name].module


def _import(name: str, module: str, path: Path | None) -> None:
    """Import the plugin; whatever it raises becomes a PluginError with the traceback through the user's code."""
    folder = str(path.resolve().parent) if path else None
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)  # a file may import its neighbours; last, so that it hides nobody's modules
    try:
        if path is None and find_spec(module) is None:
            raise UsageError(f"--plugin {printable(name)}: its module {module} cannot be found")
        import_module(module)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        head = printable(f"{type(error).__name__}: {error}", 200)
        report = "".join(traceback.format_exception(type(error), error, _from_user(error.__traceback__)))
        raise PluginError(f"--plugin {printable(name)}: {head}", error, report) from error


def _from_user(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is neither this file's nor the import system's."""
    start = trace
    while start is not None and ("importlib" in start.tb_frame.f_code.co_filename or start.tb_frame.f_code.co_filename == __file__):
        start = start.tb_next
    return start


def _new_parts(name: str, before: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What the plugin registered, as `group/name`; refuses names that are taken or that a config could not hold."""
    for group, parts in PLUGINS.items():
        for part, value in parts.items():
            if value is before[group].get(part):
                continue
            if part in before[group] or part in builtin_names(group):
                owner = "another plugin" if part in before[group] else "dlrun"
                raise UsageError(f"--plugin {printable(name)}: {owner} has a {group} {part} already: give yours another name")
            if not is_name(part):
                raise UsageError(f"--plugin {printable(name)}: {printable(repr(part))} cannot name a part: letters, digits and _")
            yield f"{group}/{part}"
