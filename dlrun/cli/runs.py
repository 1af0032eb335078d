"""`dlrun ls runs`: what was trained, newest first. Folders are listed, never opened, but for the few runs that are shown."""

from __future__ import annotations

import os
import sys
import time

from dlrun.cli.arguments import Arguments
from dlrun.cli.plain import read_text, tags_of, top_level
from dlrun.config.places import printable
from dlrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_SHOWN = 50
STUDIES = "sweeps"
MAX_SUMMARY = 1024 * 1024
DIGITS = frozenset("0123456789")
AGES = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min"), (0, "s"))


def list_runs(arguments: Arguments) -> int:
    """Print the newest 50 runs, or all with --all; whatever is left out is counted, with --json too."""
    root = _root(arguments)
    limit = None if arguments.flag("all") else MAX_SHOWN
    names = sorted(run_names(root), reverse=True)
    shown: list[dict[str, Any]] = []
    looked = 0
    for started, name in names:
        looked += 1
        entry = _run(os.path.join(root, name), started, arguments.text("tag"))
        shown += [entry] if entry else []
        if limit is not None and len(shown) >= limit:
            break
    left = len(names) - looked
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json({"root": root, "total": len(names), "shown": len(shown), "not_looked_at": left, "runs": shown})
    else:
        _print(shown, root)
    if left:
        print(f"... and {left} older: dlrun ls runs --all", file=sys.stderr if arguments.flag("json") else sys.stdout)
    return 0


def _root(arguments: Arguments) -> str:
    root = "outputs"
    for override in arguments.overrides:
        key, _, value = override.partition("=")
        if key != "output_root" or not value:
            raise UsageError(f"dlrun ls runs takes output_root=FOLDER only; found {printable(override, 80)}")
        root = os.path.expanduser(value)
    return root


def _print(entries: list[dict[str, Any]], root: str) -> None:
    """A run a line, in columns."""
    rows = [_cells(entry) for entry in entries]
    widths = [min(max((len(row[i]) for row in rows), default=0), 80) for i in range(6)]
    for *cells, rest in rows:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths) if width)
        sys.stdout.write(f"{line}  {rest}".rstrip() + "\n")
    if not rows:
        sys.stdout.write(f"no runs in {printable(root)}\n")


def run_names(root: str) -> Iterator[tuple[str, str]]:
    """(start time, path below `root`) of every folder that may be a run; one named by run_dir= may lie in `root` itself,
    those of a study lie in `sweeps/STUDY/runs`."""
    for experiment in _folders(root):
        path = os.path.join(root, experiment)
        if os.path.lexists(os.path.join(path, "config.yaml")):
            yield _started(path, experiment), experiment
            continue
        for name in _folders(path):
            if experiment == STUDIES and os.path.lexists(os.path.join(path, name, "study.yaml")):
                runs = os.path.join(path, name, "runs")
                yield from ((_started(os.path.join(runs, run), run), os.path.join(experiment, name, "runs", run)) for run in _folders(runs))
            else:
                yield _started(os.path.join(path, name), name), os.path.join(experiment, name)


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
    except OSError:
        return []


def _started(path: str, name: str) -> str:
    """`YYYYmmdd-HHMMSS` out of a run's name, or from its folder's time where the user named it."""
    if name[8:9] == "-" and DIGITS.issuperset(name[:8] + name[9:15]) and len(name) >= 15:
        return name[:15]
    try:
        return time.strftime("%Y%m%d-%H%M%S", time.localtime(os.lstat(path).st_mtime))
    except (OSError, ValueError, OverflowError):
        return ""


def _run(path: str, started: str, tag: str | None) -> dict[str, Any] | None:
    """What a run's files say, or what is wrong with them; None where it lacks the tag."""
    import json

    config = read_text(os.path.join(path, "config.yaml"), follow=False)
    if tag is not None and tag not in tags_of(config):
        return None
    values = top_level(config)
    seed, arm = (values.get(key, ("",))[0].strip("'\"")[:80] for key in ("seed", "arm"))
    entry: dict[str, Any] = {"run": path, "started": started, "seed": int(seed) if seed.isdecimal() and len(seed) < 20 else None}
    entry["arm"] = None if arm in ("", "null") else arm
    text = read_text(os.path.join(path, "summary.json"), MAX_SUMMARY, follow=False)
    try:
        summary = json.loads(text)
        if not isinstance(summary, dict):
            raise ValueError
    except (ValueError, RecursionError):
        there = os.path.lexists(os.path.join(path, "summary.json"))
        return {**entry, "status": "broken", "reason": "summary.json cannot be read" if there else "no summary.json"}
    entry |= {key: summary.get(key) for key in ("status", "reason", "step", "seconds", "best", "metrics")}
    return {**entry, "alive": _alive(path)} if entry["status"] == "running" else entry


def _alive(path: str) -> bool | None:
    """Whether the process that holds the run's lock is there; None where it is another machine's."""
    words = read_text(os.path.join(path, ".lock"), 300, follow=False).split()
    if words[:1] != ["process"] or words[2:3] != ["on"] or words[3:4] != [os.uname().nodename] or not words[1].isdecimal():
        return None
    try:
        os.kill(int(words[1]), 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _cells(entry: dict[str, Any]) -> list[str]:
    """Path, status, step, best value, age, seed and arm; then what else there is to say."""
    best, metrics, step = entry.get("best"), entry.get("metrics"), entry.get("step")
    status = "killed" if entry.get("alive") is False else printable(str(entry.get("status")), 20)
    named = best if isinstance(best, dict) and best.get("metric") is not None else None
    rest = (
        [f"{printable(k, 60)} {_number(v)}" for k, v in metrics.items() if k.startswith("test/")][:3] if isinstance(metrics, dict) else []
    )
    reason = "go on with dlrun resume" if entry.get("alive") is False else entry.get("reason")
    return [
        printable(str(entry["run"]), 200),
        status,
        "" if step is None else f"step {printable(str(step), 20)}",
        f"best {printable(str(named['metric']), 60)} {_number(named.get('value'))}" if named else "",
        _age(entry["started"]),
        " ".join(
            [
                *([] if entry["seed"] is None else [f"seed {entry['seed']}"]),
                *([] if entry["arm"] is None else [printable(entry["arm"], 40)]),
            ]
        ),
        "  ".join([*rest, *([f"({printable(str(reason), 120)})"] if reason else [])]),
    ]


def _age(started: str) -> str:
    """How long ago a run began: `12 min ago`; "" where its name holds no time there is."""
    try:
        parts = [int(started[a:b]) for a, b in ((0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15))]
        seconds = time.time() - time.mktime((*parts, 0, 0, -1))  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        return ""
    if seconds < 0:
        return ""
    size, unit = next((size, unit) for size, unit in AGES if seconds >= size)
    return f"{int(seconds // (size or 1))} {unit} ago"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else printable(str(value), 20)
