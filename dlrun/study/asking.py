"""From a command line to a question and its frozen cells: what `dlrun sweep` does before anything is run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from dlrun.config.composing import Config
from dlrun.config.messages import hint, listing, nearest, whole_number
from dlrun.config.places import printable
from dlrun.errors import UsageError
from dlrun.study import sheet
from dlrun.study.freezing import Freezer, advised, freeze, probe
from dlrun.study.plan import Cell, Goal, Question
from dlrun.study.space import Space, read_words

SEARCHES = ("grid", "random", "qmc", "tpe", "gp")
PRUNERS = ("none", "halving")
OPTIONS = ("goal", "search", "trials", "timeout", "prune")
MAX_TRIALS = 10_000


@dataclass(frozen=True)
class Asked:
    """The question, the cells of a grid (none where the space is searched), and what later cells are made with."""

    question: Question
    cells: list[Cell]
    space: Space
    freezer: Freezer
    first: Config


def ask(
    words: Sequence[str],
    options: Mapping[str, str],
    *,
    plugins: Sequence[tuple[str, str]] = (),
    config_dir: str | None = None,
    from_file: str | None = None,
) -> Asked:
    """The study that `words` (overrides, `sweep=NAME|FILE` among them) and `options` (as typed) ask for.

    Raises UsageError with everything that is wrong; then nothing was run or written.
    """
    space, given = space_of(words, config_dir)
    if errors := _own_folders(space):
        raise UsageError(errors)
    settings = read_options({**given, **options}, space)
    freezer = Freezer(space.words, config_dir, from_file, space.seeds)
    try:
        cells = freeze(freezer, space.grid()) if settings["search"] == "grid" else probe(freezer, space)
    except UsageError as error:
        raise UsageError(advised(error.lines, space)) from None
    first = freezer.compose(next(iter(space.corners()), ()), *(f"seed={seed}" for seed in space.seeds[:1]))
    seeds = space.seeds or (int(first.resolved["seed"]),)
    question = Question(space.words, space.described(), seeds, plugins=tuple(plugins), **settings)
    return Asked(question, cells, space, replace(freezer, seeds=seeds), first)


def space_of(words: Sequence[str], config_dir: str | None) -> tuple[Space, dict[str, Any]]:
    """The axes of the YAML with those of the command line in their place, or behind them; and the YAML's options."""
    files = [word.partition("=")[2] for word in words if word.startswith("sweep=")]
    typed = read_words([word for word in words if not word.startswith("sweep=")])
    if not files:
        if not typed.axes and len(typed.seeds) < 2:
            raise UsageError(
                "nothing varies: list values, e.g. optimizer.lr=1e-4,1e-3 or seed=range(5), or name a sweep=FILE; one run is `dlrun train`"
            )
        return typed, {}
    if len(files) > 1:
        raise UsageError(f"sweep: given {len(files)} times: keep one")
    written = sheet.read(sheet.find(files[0], config_dir))
    single = {_key(word) for word in typed.words}
    replaced = {key for axis in typed.axes for key in axis.keys} | single
    conditions = {axis.keys: axis.when for axis in written.axes if not replaced & set(axis.when)}
    kept = [axis for axis in written.axes if not replaced & set(axis.keys)]
    if cut := [axis for axis in written.axes if replaced & set(axis.keys) and len(axis.keys) > 1]:
        raise UsageError(f"{', '.join(cut[0].keys)} go together in {printable(files[0], 80)}: set all of them, or none")
    if missing := [(axis, key) for axis in kept for key in axis.when if key in replaced]:
        raise UsageError(
            f"{missing[0][0].keys[0]} depends on {missing[0][1]} in {printable(files[0], 80)}: it cannot be set on the command line"
        )
    new = [replace(axis, when=conditions.get(axis.keys, {})) for axis in typed.axes]
    shared = tuple(word for word in written.words if _key(word) not in replaced)
    there = dict.fromkeys([*shared, *(word for axis in kept for point in axis.ends() for word in point.words)], files[0])
    space = Space((*shared, *typed.words), (*kept, *new), typed.seeds or written.seeds, there)
    return space, dict(written.options)


def _key(word: str) -> str:
    """The key that an override sets."""
    return word.partition("=")[0].strip().lstrip("+")


def _own_folders(space: Space) -> list[str]:
    """What a study cannot be told, for it has one folder, and each run one in it."""
    varied = {key for axis in space.axes for key in axis.keys} & {"run_dir", "output_root"}
    written = {_key(word) for word in space.places} & {"run_dir", "output_root"}
    errors = [f"{key}: a study has one folder, and each of its runs one in it: output_root=FOLDER, one value" for key in sorted(varied)]
    return errors + [f"{key}: belongs on the command line, not into a file" for key in sorted(written - varied)]


def read_options(given: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """`goal search trials timeout prune`, read and held against the space. Raises UsageError."""
    errors: list[str] = []
    found: dict[str, Any] = {}
    for name, read in (("goal", _goal), ("search", _search), ("trials", _trials), ("timeout", _timeout), ("prune", _prune)):
        try:
            found[name] = read(given.get(name))
        except UsageError as error:
            errors += error.lines
            found[name] = None
    if not errors:
        errors += _fit(found, space)
    if errors:
        raise UsageError(errors)
    return found


def _fit(found: dict[str, Any], space: Space) -> list[str]:
    """Settle search and trials; what does not go together is told."""
    intervals = [axis.keys[0] for axis in space.axes if not axis.listed]
    if found["search"] is None:
        found["search"] = "grid" if not intervals and (found["trials"] is None or found["trials"] >= space.size()) else "tpe"
    if found["search"] == "grid":
        if intervals:
            return [f"{intervals[0]} is an interval, which has no points for a grid: list values, or say --search tpe --trials N"]
        if found["trials"] is not None and found["trials"] < space.size():
            return [f"--trials {found['trials']} of a grid of {space.size()} cells: leave --trials away, or say --search random"]
        found["trials"] = None
    elif found["trials"] is None and found["timeout"] is None:
        why = f"{intervals[0]} is an interval" if intervals else f"search {found['search']}"
        return [f"{why}: how many trials? say --trials N (or --timeout SECONDS)"]
    return []


def _goal(text: Any) -> Goal | None:
    """`val/accuracy:max`; the direction may be left out of losses and errors."""
    if text is None:
        return None
    metric, colon, direction = str(text).partition(":")
    split, _, name = metric.partition("/")
    if split == "test" or split.startswith("test_"):
        raise UsageError(f"goal {printable(metric, 80)}: the test split never chooses; take val/{name or 'loss'}")
    if split not in ("val", "val_ema", "train") or not name:
        raise UsageError(f"goal {printable(str(text), 80)}: expected val/METRIC:max or val/METRIC:min, e.g. val/accuracy:max")
    if not colon and (name == "loss" or name.endswith(("_loss", "error", "perplexity"))):
        direction = "min"
    if direction not in ("max", "min"):
        raise UsageError(f"goal {printable(str(text), 80)}: which is better? say {metric}:max or {metric}:min")
    return Goal(metric, direction)


def _choice(name: str, text: Any, known: Sequence[str]) -> str | None:
    if text is None:
        return None
    if text not in known:
        raise UsageError(f"{name} {printable(str(text), 60)}: there are {listing(known)}{hint(nearest(str(text), known))}")
    return str(text)


def _search(text: Any) -> str | None:
    return _choice("search", text, SEARCHES)


def _prune(text: Any) -> str:
    return _choice("prune", text, PRUNERS) or "none"


def _trials(text: Any) -> int | None:
    return None if text is None else whole_number("trials", text, 1, MAX_TRIALS)


def _timeout(text: Any) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise UsageError(f"timeout {printable(str(text), 40)}: expected seconds above 0")
    return seconds


def identity(question: Question) -> str:
    """The sum of what was asked, equal for equal commands: how many trials and how long may change, workers and order do not count."""
    plain = asdict(question)
    plain["words"] = sorted(plain["words"])
    del plain["trials"], plain["timeout"]
    return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
