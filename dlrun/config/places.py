"""Where configuration stands: folders, groups and names of parts, found by listing directories.

`--help` and `ls` import this, so paths are plain text here: pathlib and typing cost 8 ms each, as much as Python's own start.
"""

from __future__ import annotations

import os
import sys

from dlrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GROUPS = ("dataset", "augment", "model", "task", "loss", "metric", "optimizer", "schedule", "probe")
"""Groups of parts that a config may name; `check` parts are chosen by `checks:`, never one by one."""
SLOT_GROUPS = GROUPS[:-1]
"""Groups with a place in the config tree (probes are a list of names)."""
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def own_conf() -> str:
    """The folder with dlrun's own YAML: `dlrun/conf` in an installed wheel, `conf` beside the package in a checkout."""
    inside = os.path.join(PACKAGE, "conf")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(PACKAGE), "conf")


def cache_root() -> str:
    """The data cache, one folder a dataset: `$DLRUN_CACHE`, else `~/.cache/dlrun`."""
    return os.path.expanduser(os.environ.get("DLRUN_CACHE") or "~/.cache/dlrun")


def search_dirs(config_dir: str | None) -> list[str]:
    """Folders to look for YAML in, the user's own first."""
    return [own_conf()] if config_dir is None else [config_dir, own_conf()]


def folder(group: str) -> str:
    """The folder under `dlrun/` with the Python files of `group` (equal to `registry.FOLDERS`, without its imports)."""
    return group + ("es" if group.endswith("s") else "s")


def source_file(group: str, name: str) -> str:
    """The Python file of a built-in part, whether it exists or not."""
    return os.path.join(PACKAGE, folder(group), f"{name}.py")


def is_name(text: Any) -> bool:
    """Whether `text` can name a part, a slot or a plugin's part: letters, digits, `_`, not starting with a digit, at most 60 long."""
    return isinstance(text, str) and 0 < len(text) <= 60 and NAME_CHARACTERS.issuperset(text) and not text[0].isdigit()


def is_experiment_name(text: Any) -> bool:
    """Whether `text` can name an experiment: like a part, but `-` and `.` may stand inside."""
    return isinstance(text, str) and text[:1] not in ("", ".", "-") and is_name("x" + text.replace("-", "_").replace(".", "_"))


def plugin_parts(group: str) -> dict[str, Any]:
    """Parts of `group` that plugins registered; empty (and nothing imported) where none was loaded."""
    registry = sys.modules.get("dlrun.registry")
    return registry.PLUGINS.get(group, {}) if registry else {}


def stems(directory: str, suffix: str) -> list[str]:
    """Names of the files `*<suffix>` in `directory`, sorted, without those that start with `_` or `.`; [] where there is no such folder."""
    try:
        entries = os.listdir(directory)
    except OSError:
        return []
    return sorted(entry[: -len(suffix)] for entry in entries if entry.endswith(suffix) and entry[0] not in "_.")


def builtin_names(group: str) -> list[str]:
    """Names of dlrun's own parts of `group`."""
    return stems(os.path.join(PACKAGE, folder(group)), ".py")


def part_names(group: str) -> list[str]:
    """Every part of `group` there is: dlrun's own and those of plugins."""
    return sorted({*builtin_names(group), *plugin_parts(group)})


def experiment_names(dirs: list[str], group: str = "experiment") -> list[str]:
    """Every experiment (or sweep) in `dirs`."""
    return sorted({name for directory in dirs for name in stems(os.path.join(directory, group), ".yaml")})


def find_yaml(group: str, name: str, dirs: list[str]) -> str | None:
    """The first `<dir>/<group>/<name>.yaml` there is, whether or not it can be read. UsageError where it is a link that leaves `<dir>`."""
    for directory in dirs:
        path = os.path.join(directory, group, f"{name}.yaml")
        if os.path.lexists(path):
            if (os.path.islink(path) or os.path.islink(os.path.dirname(path))) and not is_inside(path, directory):
                raise UsageError(f"{shown(path)}: a link that leaves {shown(directory)}: copy the file there")
            return path
    return None


def is_inside(path: str, folder: str) -> bool:
    """Whether `path`, links followed, is `folder` or lies in it."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return real == root or real.startswith(os.path.join(root, ""))


def shown(path: str) -> str:
    """`path` as messages show it: from `conf/` on for dlrun's own files, else as it was given."""
    own = own_conf() + os.sep
    return printable(f"conf/{path.removeprefix(own)}" if path.startswith(own) else path)


def printable(text: str, limit: int = 300) -> str:
    """`text` on one line for a terminal: control characters (and those that reverse or hide text) escaped, cut at `limit` characters."""
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text[: limit + 1])
    return clean if len(text) <= limit else clean[:limit] + "..."
