"""`dlrun ls`: parts, experiments and runs. Names come from listing directories, texts from the first comment or docstring line."""

from __future__ import annotations

import os
import sys
import time

from dlrun.cli.arguments import Arguments
from dlrun.cli.plain import first_comment, first_docstring, read_text, tags_of
from dlrun.config.places import GROUPS, experiment_names, find_yaml, part_names, plugin_parts, printable, search_dirs, source_file
from dlrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

KINDS = (*GROUPS, "experiment", "runs")
MAX_SHOWN = 50
MAX_SUMMARY = 1024 * 1024


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
    kind = {"experiments": "experiment", "run": "runs"}.get(str(kind), kind)
    if kind == "runs":
        return _runs(arguments)
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
    kinds = [kind] if kind else ["experiment"] if tag else [*GROUPS, "experiment"]
    found = {each: list(_entries(each, dirs, tag)) for each in kinds}
    if arguments.flag("json"):
        import json

        sys.stdout.write(json.dumps(found, indent=1) + "\n")
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
    if kind == "experiment":
        for name in experiment_names(dirs):
            path = find_yaml("experiment", name, dirs)
            text = read_text(path) if path else ""
            tags = tags_of(text)
            if tag is None or tag in tags:
                yield {"name": name, "summary": first_comment(text), "tags": tags}
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


def _runs(arguments: Arguments) -> int:
    """Runs, newest first: the newest 50, or all with --all."""
    root = "outputs"
    for override in arguments.overrides:
        key, _, value = override.partition("=")
        if key != "output_root":
            raise UsageError(f"dlrun ls runs takes output_root=FOLDER only; found {printable(override, 80)}")
        root = os.path.expanduser(value)
    limit = None if arguments.flag("all") or arguments.flag("json") else MAX_SHOWN
    names = sorted(_run_names(root), reverse=True)
    shown = []
    looked = 0
    for _, name in names:
        looked += 1
        entry = _run(os.path.join(root, name), arguments.text("tag"))
        shown += [entry] if entry else []
        if limit is not None and len(shown) >= limit:
            break
    left = len(names) - looked
    if arguments.flag("json"):
        import json

        sys.stdout.write(json.dumps(shown, indent=1) + "\n")
        return 0
    for entry in shown:
        sys.stdout.write(_line(entry) + "\n")
    if not shown:
        sys.stdout.write(f"no runs in {printable(root)}\n")
    if left:
        sys.stdout.write(f"... and {left} older: dlrun ls runs --all\n")
    return 0


def _run_names(root: str) -> Iterator[tuple[str, str]]:
    """(start time, path below `root`) of every folder that may be a run; one named by run_dir= may lie in `root` itself."""
    for experiment in _folders(root):
        path = os.path.join(root, experiment)
        if os.path.lexists(os.path.join(path, "config.yaml")):
            yield time.strftime("%Y%m%d-%H%M%S", time.localtime(os.lstat(path).st_mtime)), experiment
            continue
        for name in _folders(path):
            yield name[:15], os.path.join(experiment, name)


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
    except OSError:
        return []


def _run(path: str, tag: str | None) -> dict[str, Any] | None:
    """What a run's summary says, or what is wrong with it; None where it lacks the tag."""
    import json

    if tag is not None and tag not in tags_of(read_text(os.path.join(path, "config.yaml"))):
        return None
    entry: dict[str, Any] = {"run": path}
    text = read_text(os.path.join(path, "summary.json"), MAX_SUMMARY)
    try:
        summary = json.loads(text)
        if not isinstance(summary, dict):
            raise ValueError
    except (ValueError, RecursionError):
        there = os.path.lexists(os.path.join(path, "summary.json"))
        return {**entry, "status": "broken", "reason": "summary.json cannot be read" if there else "no summary.json"}
    return {**entry, **{key: summary.get(key) for key in ("status", "reason", "step", "seconds", "best", "metrics")}}


def _line(entry: dict[str, Any]) -> str:
    words = [printable(str(entry["run"]), 200), printable(str(entry.get("status")), 20)]
    if entry.get("step") is not None:
        words.append(f"step {printable(str(entry['step']), 20)}")
    best, metrics = entry.get("best"), entry.get("metrics")
    if isinstance(best, dict) and best.get("metric") is not None:
        words.append(f"best {printable(str(best['metric']), 60)} {_number(best.get('value'))}")
    if isinstance(metrics, dict):
        words += [f"{printable(str(k), 60)} {_number(v)}" for k, v in metrics.items() if k.startswith("test/")][:3]
    if entry.get("reason"):
        words.append(f"({printable(str(entry['reason']), 120)})")
    return "  ".join(words)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else printable(str(value), 20)
