"""`dlrun new KIND NAME`: a plugin to start from, NAME.py with test_NAME.py beside it. Both work as written; nothing is overwritten."""

from __future__ import annotations

import os
import sys

from dlrun.cli.arguments import Arguments
from dlrun.cli.plain import read_text
from dlrun.config.places import NAME_CHARACTERS, PACKAGE, builtin_names, is_name, printable
from dlrun.errors import MissingError, UsageError

KINDS = ("model", "dataset", "task", "loss", "metric", "optimizer", "schedule", "augment", "probe", "check")
HERE = ("conftest", "setup")
"""Modules that pytest or pip would take for their own."""
CUT = "# ---- test ----\n"


def run(arguments: Arguments) -> int:
    """Write both files into the current folder and say what to do with them."""
    words = arguments.positional
    if len(words) != 2 or arguments.overrides:
        raise UsageError(f"dlrun new takes a kind and a name, like dlrun new model my_net; kinds are {', '.join(KINDS)}")
    kind, name = words
    if kind not in KINDS:
        from dlrun.config.messages import hint, nearest

        raise UsageError(f"no kind {printable(repr(kind), 60)} to start from; there are {', '.join(KINDS)}{hint(nearest(kind, KINDS))}")
    check_name(kind, name)
    plugin, _, test = read_text(os.path.join(PACKAGE, "cli", "templates", f"{kind}.txt")).partition(CUT)
    files = {f"{name}.py": plugin.replace("NAME", name), f"test_{name}.py": test.replace("NAME", name)}
    write_new(files)
    command = {"check": "check", "probe": f"probe RUN {name}"}.get(kind, "train")
    use = f"dlrun {command} --plugin {name}.py{_choice(kind, name)}"
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json({"kind": kind, "name": name, "files": list(files), "use": use})
    else:
        sys.stdout.write(f"wrote {' and '.join(files)}\n  {use}\n  pytest test_{name}.py\n")
    return 0


def _choice(kind: str, name: str) -> str:
    return "" if kind in ("check", "probe") else f" augment.{name}={name}" if kind == "augment" else f" {kind}={name}"


def check_name(kind: str, name: str) -> None:
    """UsageError unless `name` can be that of a part, of a Python module and of nothing that is there already."""
    import keyword
    from importlib.machinery import PathFinder

    said = printable(repr(name), 80)
    if not is_name(name) or name.startswith("_") or name == "NAME":
        odd = "".join(dict.fromkeys(c for c in name if c not in NAME_CHARACTERS))
        why = f" (found {printable(odd, 20)!r})" if odd and name else ""
        raise UsageError(f"{said} cannot name a part: letters, digits and _, not first a digit or _, at most 60{why}")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise UsageError(f"{said} is a word of Python: take another name")
    if name in builtin_names(kind) or (kind == "check" and os.path.isfile(os.path.join(PACKAGE, "checks", f"{name}.py"))):
        raise UsageError(f"dlrun has a {kind} {name} already: take another name, or edit a copy of it: dlrun eject {kind}/{name}")
    here = [path for path in sys.path if path not in ("", os.getcwd())]
    taken = name in HERE or name in sys.stdlib_module_names or PathFinder.find_spec(name, here) is not None
    if taken:
        raise UsageError(f"{said} is the name of an installed Python module, which a file {name}.py would hide: take another name")


def write_new(files: dict[str, str]) -> None:
    """Write files that are not there yet, whole or not at all: all of them or none. Raises UsageError, MissingError."""
    there = [path for path in files if os.path.lexists(path)]
    if there:
        raise UsageError(
            [f"{printable(path, 200)} is there already, and nothing is overwritten: take another name or folder" for path in there]
        )
    written = []
    try:
        for path, text in files.items():
            if os.path.dirname(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            os.unlink(path)
        if isinstance(error, FileExistsError):
            raise UsageError(f"{printable(str(error.filename), 200)} is there already, and nothing is overwritten") from None
        raise MissingError(f"cannot write {printable(str(error.filename), 200)}: {error.strerror}") from None
