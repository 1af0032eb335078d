"""Where configuration stands: folders, groups and names of parts, found by listing directories. Imports nothing heavy: `ls` needs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent
GROUPS = ("dataset", "augment", "model", "task", "loss", "metric", "optimizer", "schedule", "probe")
"""Groups of parts that a config may name; `check` parts are chosen by `checks:`, never one by one."""
SLOT_GROUPS = GROUPS[:-1]
"""Groups with a place in the config tree (probes are a list of names)."""
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def conf_dir() -> Path:
    """The folder with dlrun's own YAML: `dlrun/conf` in an installed wheel, `conf` beside the package in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def search_dirs(config_dir: Path | None) -> list[Path]:
    """Folders to look for YAML in, the user's own first."""
    return [conf_dir()] if config_dir is None else [config_dir, conf_dir()]


def folder(group: str) -> str:
    """The folder under `dlrun/` with the Python files of `group` (equal to `registry.FOLDERS`, without its imports)."""
    return group + ("es" if group.endswith("s") else "s")


def source_file(group: str, name: str) -> Path:
    """The Python file of a built-in part, whether it exists or not."""
    return PACKAGE / folder(group) / f"{name}.py"


def is_name(text: Any) -> bool:
    """Whether `text` can name a part, a slot or a plugin's part: letters, digits, `_`, not starting with a digit, at most 60 long."""
    return isinstance(text, str) and 0 < len(text) <= 60 and NAME_CHARACTERS.issuperset(text) and not text[0].isdigit()


def is_experiment_name(text: Any) -> bool:
    """Whether `text` can name an experiment: like a part, but `-` and `.` may stand inside."""
    return isinstance(text, str) and text[:1] not in ("", ".", "-") and is_name("x" + text.replace("-", "_").replace(".", "_"))


def plugin_parts(group: str) -> dict[str, Any]:
    """Parts of `group` that plugins registered; empty (and nothing imported) where none was loaded."""
    registry = sys.modules.get("dlrun.registry")
    return registry.PLUGINS[group] if registry else {}


def stems(directory: Path, suffix: str) -> list[str]:
    """Names of the files `*<suffix>` in `directory`, sorted, without those that start with `_` or `.`; [] where there is no such folder."""
    try:
        entries = os.listdir(directory)
    except OSError:
        return []
    return sorted(entry[: -len(suffix)] for entry in entries if entry.endswith(suffix) and entry[0] not in "_.")


def builtin_names(group: str) -> list[str]:
    """Names of dlrun's own parts of `group`."""
    return stems(PACKAGE / folder(group), ".py")


def part_names(group: str) -> list[str]:
    """Every part of `group` there is: dlrun's own and those of plugins."""
    return sorted({*builtin_names(group), *plugin_parts(group)})


def experiment_names(dirs: list[Path]) -> list[str]:
    """Every experiment in `dirs`."""
    return sorted({name for directory in dirs for name in stems(directory / "experiment", ".yaml")})


def find_yaml(group: str, name: str, dirs: list[Path]) -> Path | None:
    """The first `<dir>/<group>/<name>.yaml` there is; whether it can be read is found out when it is read."""
    for directory in dirs:
        path = directory / group / f"{name}.yaml"
        if os.path.lexists(path):
            return path
    return None


def shown(path: Path) -> str:
    """`path` as messages show it: from `conf/` on for dlrun's own files, else as it was given."""
    own = conf_dir()
    try:
        return str(Path("conf") / path.relative_to(own))
    except ValueError:
        return str(path)


def printable(text: str, limit: int = 300) -> str:
    """`text` on one line for a terminal: control characters (and those that reverse or hide text) escaped, cut at `limit` characters."""
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text[: limit + 1])
    return clean if len(text) <= limit else clean[:limit] + "..."
