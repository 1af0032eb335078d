"""`dlrun ls`: parts, experiments and runs. Names come from listing directories, texts from the first comment or docstring line."""

from __future__ import annotations

import os
import sys

from dlrun.cli.arguments import Arguments
from dlrun.cli.plain import first_comment, first_docstring, read_text, tags_of
from dlrun.config.places import GROUPS, experiment_names, find_yaml, part_names, plugin_parts, printable, search_dirs, source_file
from dlrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FILES = ("experiment", "sweep")
KINDS = (*GROUPS, *FILES, "runs")


def run(arguments: Arguments) -> int:
    """List what was asked for; without a kind every group with its names."""
    if len(arguments.positional) > 1:
        raise UsageError(f"dlrun ls takes one kind; found {printable(' '.join(arguments.positional), 80)}")
    if arguments.plugins:
        from dlrun.plugins import load_plugins

        load_plugins(arguments.plugins)
    folder = arguments.text("config-dir")
    dirs = search_dirs(os.path.expanduser(folder) if folder else None)
    kind = arguments.positional[0] if arguments.positional else None
    kind = {"experiments": "experiment", "sweeps": "sweep", "run": "runs"}.get(str(kind), kind)
    if kind == "runs":
        from dlrun.cli.runs import list_runs

        return list_runs(arguments)
    if arguments.overrides:
        raise UsageError(f"dlrun ls takes no overrides; found {printable(arguments.overrides[0], 80)}")
    if kind is not None:
        kind = kind if kind in KINDS else kind.removesuffix("s")
        if kind not in KINDS:
            _unknown(arguments.positional[0])
    return _parts(arguments, kind, dirs)


def _unknown(kind: str) -> None:
    from dlrun.config.messages import hint, nearest

    guess = hint(nearest(kind, KINDS), "dlrun ls ")
    raise UsageError(f"no kind {printable(repr(kind), 60)}; there are {', '.join(KINDS)}{guess}")


def _parts(arguments: Arguments, kind: str | None, dirs: list[str]) -> int:
    tag = arguments.text("tag")
    kinds = [kind] if kind else ["experiment"] if tag else [*GROUPS, *FILES]
    found = {each: list(_entries(each, dirs, tag)) for each in kinds}
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json(found)
    elif kind or tag:
        for entry in found[kinds[0]]:
            tags = f"  [{', '.join(map(printable, entry['tags']))}]" if entry.get("tags") else ""
            sys.stdout.write(f"{entry['name']:<20} {printable(entry['summary'], 140)}{tags}\n")
        if not found[kinds[0]]:
            sys.stdout.write(f"no {kinds[0]}{f' has the tag {printable(tag)}' if tag else ''}\n")
    else:
        for each, entries in found.items():
            sys.stdout.write(f"{each:<12} {', '.join(entry['name'] for entry in entries) or '-'}\n")
        sys.stdout.write("dlrun ls KIND says what each is, dlrun show KIND/NAME what it can be told, dlrun ls runs what was trained\n")
    return 0


def _entries(kind: str, dirs: list[str], tag: str | None) -> Iterator[dict[str, Any]]:
    if kind in FILES and not (kind == "sweep" and tag):
        for name in experiment_names(dirs, kind):
            path = find_yaml(kind, name, dirs)
            text = read_text(path) if path else ""
            tags = tags_of(text)
            if tag is None or tag in tags:
                yield {"name": name, "summary": first_comment(text), **({"tags": tags} if kind == "experiment" else {})}
        return
    if tag is not None:
        raise UsageError(f"--tag: experiments and runs have tags, a {kind} has none")
    for name in part_names(kind):
        yield {"name": name, "summary": _summary(kind, name, dirs)}


def _summary(group: str, name: str, dirs: list[str]) -> str:
    plugin = plugin_parts(group).get(name)
    if plugin is not None:
        return ((plugin.__doc__ or "").strip().splitlines() or [""])[0] + " (plugin)"
    path = find_yaml(group, name, dirs)
    return (first_comment(read_text(path)) if path else "") or first_docstring(read_text(source_file(group, name)))
