"""A sweep written down: `conf/sweep/<name>.yaml`, or any file that the command line names with `sweep=FILE`.

space:                                   # key: values, as on the command line or as a list
  optimizer.lr: tag(log, interval(1e-4, 1e-1))
  model: [mlp, linear]
  model.width: [64, 128]
pairs:                                   # values that go together, one axis each
  - {train.batch_size: [32, 128], train.steps: [400, 100]}
when: {model.width: {model: mlp}}        # an axis that is there only beside these values of others
words: [dataset=digits]                  # overrides of every cell; the command line's come after them
seeds: 3                                 # or a list
goal: val/accuracy:max
search: tpe
trials: 20
timeout: 3600                            # seconds
prune: halving
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dlrun.config import reading
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import experiment_names, find_yaml, is_experiment_name, printable, search_dirs
from dlrun.errors import UsageError
from dlrun.study.space import Axis, Point, read_axis, text_of

KEYS = ("space", "pairs", "when", "words", "seeds", "goal", "search", "trials", "timeout", "prune")


@dataclass(frozen=True)
class Sheet:
    """What a YAML says of a sweep; `options` are goal, search, trials, timeout and prune as they stand there."""

    axes: tuple[Axis, ...]
    words: tuple[str, ...]
    seeds: tuple[int, ...]
    options: Mapping[str, Any]


def find(name: str, config_dir: str | None) -> str:
    """The file of `sweep=NAME|FILE`. Raises UsageError."""
    if os.sep in name or name.endswith((".yaml", ".yml")):
        return os.path.expanduser(name)
    folders = search_dirs(config_dir)
    path = find_yaml("sweep", name, folders) if is_experiment_name(name) else None
    if path is not None:
        return path
    known = experiment_names(folders, "sweep")
    there = f"there are {listing(known)}" if known else "there is none in the configs"
    raise UsageError(
        f"sweep={printable(name, 80)}: no such sweep; {there}{hint(nearest(name, known), 'sweep=')}; or name a file: sweep=./mine.yaml"
    )


def read(path: str) -> Sheet:
    """The sweep that stands in `path`. Raises UsageError with every error there is."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    document, errors = reading.read(path), list[str]()
    values, parser = document.values, OverridesParser.create()
    for key in values.keys() - set(KEYS):
        errors.append(
            f"{document.where((key,))}: {printable(str(key), 60)}: no such key; there are {listing(KEYS)}{hint(nearest(str(key), KEYS))}"
        )

    def told(key: str, make: Callable[[], Any], otherwise: Any) -> Any:
        """What `make` gives; its errors are told with the place of `key`."""
        try:
            return make()
        except UsageError as error:
            errors.extend(f"{document.where((key,))}: {line}" for line in error.lines)
            return otherwise

    axes = told("space", lambda: list(_space(parser, _mapping(values, "space"))), [])
    axes += told("pairs", lambda: list(_pairs(parser, values.get("pairs") or [])), [])
    axes = told("when", lambda: _conditioned(axes, _mapping(values, "when")), axes)
    seeds = told("seeds", lambda: seeds_from(values.get("seeds")), ())
    words = told("words", lambda: _words(values.get("words") or []), ())
    if errors:
        raise UsageError(errors)
    return Sheet(tuple(axes), words, seeds, {key: values[key] for key in ("goal", "search", "trials", "timeout", "prune") if key in values})


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key) or {}
    if not isinstance(found, dict):
        raise UsageError(f"{key}: expected a mapping `key: values`")
    return found


def _words(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(word, str) and ("=" in word or word.startswith("~")) for word in found):
        raise UsageError("words: expected a list of overrides such as dataset=digits")
    return tuple(found)


def _space(parser: Any, space: Mapping[str, Any]) -> Iterator[Axis]:
    """One axis a key."""
    for key, values in space.items():
        if key == "seed":
            raise UsageError("space: seed: repetitions are not an axis: seeds: 5")
        yield _axis(parser, f"space: {key}", str(key), values)


def _axis(parser: Any, place: str, key: str, values: Any) -> Axis:
    if isinstance(values, str):
        axis = read_axis(parser, f"{key}={values}")
        if axis is not None:
            return axis
        values = [values]
    if not isinstance(values, list) or not values:
        raise UsageError(f"{place}: expected a list of values, or text such as 1e-4,1e-3 or interval(0, 1)")
    points = tuple(Point((f"{key}={text_of(value)}",), {key: value}) for value in values)
    if len({point.words for point in points}) < len(points):
        raise UsageError(f"{place}: the same value twice: repetitions are seeds")
    return Axis((key,), points)


def _pairs(parser: Any, pairs: Any) -> Iterator[Axis]:
    """Several keys that move together."""
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) and len(pair) > 1 for pair in pairs):
        raise UsageError(
            "pairs: expected a list of mappings with two keys or more, e.g. - {train.batch_size: [32, 128], train.steps: [400, 100]}"
        )
    for pair in pairs:
        axes = [_axis(parser, f"pairs: {key}", str(key), values) for key, values in pair.items()]
        if any(not axis.listed for axis in axes) or len({len(axis.points) for axis in axes}) != 1:
            lengths = ", ".join(f"{axis.keys[0]} has {len(axis.points) or 'an interval'}" for axis in axes)
            raise UsageError(f"pairs: expected as many values of each key; {lengths}")
        rows = zip(*(axis.points for axis in axes), strict=True)
        points = [Point(sum((p.words for p in row), ()), {k: v for p in row for k, v in p.values.items()}) for row in rows]
        yield Axis(tuple(axis.keys[0] for axis in axes), tuple(points))


def _conditioned(axes: list[Axis], when: Mapping[str, Any]) -> list[Axis]:
    """The axes with their conditions, each behind those it asks for."""
    for key, condition in when.items():
        if not isinstance(condition, dict):
            raise UsageError(f"when: {key}: expected a mapping such as {{model: mlp}}")
        number = next((number for number, axis in enumerate(axes) if key in axis.keys), None)
        if number is None:
            raise UsageError(f"when: {key}: no axis of this key{hint(nearest(str(key), [k for axis in axes for k in axis.keys]))}")
        wanted = {name: tuple(text_of(v) for v in (value if isinstance(value, list) else [value])) for name, value in condition.items()}
        for name, allowed in wanted.items():
            _possible(axes, key, name, allowed)
        axes[number] = replace(axes[number], when=wanted)
    return _ordered(axes)


def _possible(axes: list[Axis], key: str, name: str, allowed: tuple[str, ...]) -> None:
    axis = next((axis for axis in axes if name in axis.keys), None)
    if axis is None or not axis.listed:
        raise UsageError(f"when: {key}: {name} is no listed axis, so nothing can depend on it")
    there = {text_of(point.values[name]) for point in axis.points}
    if strange := [value for value in allowed if value not in there]:
        raise UsageError(f"when: {key}: {name} never is {strange[0]}; it is {listing(sorted(there))}")


def _ordered(axes: list[Axis]) -> list[Axis]:
    placed: list[Axis] = []
    left = list(axes)
    while left:
        keys = {key for axis in placed for key in axis.keys}
        ready = next((axis for axis in left if set(axis.when) <= keys), None)
        if ready is None:
            raise UsageError("when: the conditions depend on each other in a circle")
        placed.append(ready)
        left.remove(ready)
    return placed


def seeds_from(found: Any) -> tuple[int, ...]:
    """`3` is 0, 1, 2; a list is itself; nothing is the config's own seed."""
    if found is None:
        return ()
    if type(found) is int and 0 < found <= 1000:
        return tuple(range(found))
    if isinstance(found, list) and found and all(type(seed) is int and seed >= 0 for seed in found) and len(set(found)) == len(found):
        return tuple(found)
    raise UsageError(f"seeds: expected a number from 1 to 1000 or a list of whole numbers, each once; found {printable(str(found), 60)}")
