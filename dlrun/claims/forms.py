"""What is wrong with an experiment's claims and with all they speak of (arms, axes, tune, events, baseline, figure), before anything runs.

Of `measures` the probe's options are checked in `config/requests.py`. Imports no torch.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlrun.claims.functions import FACTS, SPLITS
from dlrun.claims.language import expression, parse
from dlrun.claims.names import Names
from dlrun.config.kinds import show_value
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import is_name, printable
from dlrun.errors import UsageError
from dlrun.events import parse as parse_event

Path = tuple[str, ...]
Fault = tuple[Path, str]
WHOLE = "run"
"""What the one arm of an experiment without arms is called."""
MOST_CLAIMS, MOST_POINTS = 100, 10_000
DRAWN = ("steps", "seconds", "parameters")
SPOKEN = ("claims", "axes", "tune", "events", "baseline", "figure")


def names_of(config: Mapping[str, Any]) -> Names:
    """What the claims of a config may speak of. A point of an axis goes by its first key's value; an axis that is tuned is gone."""
    tuned = (config.get("tune") or {}).get("axis")
    axes = {name: tuple(next(iter(keys.values()))) for name, keys in (config.get("axes") or {}).items() if name != tuned}
    return Names(tuple(config.get("arms") or ()) or (WHOLE,), axes, tuple(config.get("events") or ()), tuple(config.get("measures") or ()))


def check_claims(config: Mapping[str, Any]) -> list[str]:
    """What is wrong with a config's claims and what they speak of, one line each, with the key before it."""
    return [f"{'.'.join(path)}: {message}" for path, message in faults(config)]


def faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """(key, what is wrong with it); claims are looked at once everything they speak of is in order."""
    if not any(config.get(key) for key in SPOKEN):
        return
    found = [*_axes(config.get("axes") or {}), *_tune(config), *_events(config.get("events") or {})]
    found += _names(config) if not found else []
    yield from found
    if found:
        return
    names = names_of(config)
    claims = config.get("claims") or []
    if len(claims) > MOST_CLAIMS:
        yield ("claims",), f"{len(claims)} claims, at most {MOST_CLAIMS}"
        return
    for entry in claims:
        yield from _wrong(("claims",), parse, entry, names)
    yield from _baseline(config.get("baseline"), names)
    yield from _figure(config.get("figure"), names)


def _wrong(path: Path, read: Any, *arguments: Any) -> Iterator[Fault]:
    """What `read` objects to."""
    try:
        read(*arguments)
    except UsageError as error:
        yield from ((path, line) for line in error.lines)


def _axes(axes: Mapping[str, Any]) -> Iterator[Fault]:
    points = 1
    for name, keys in axes.items():
        rows = list(keys.values()) if isinstance(keys, dict) else []
        if not rows or not all(isinstance(row, list) and row for row in rows):
            form = "{key: [values]}, such as {model.width: [32, 64]}"
            yield ("axes", name), f"expected {form}; found {show_value(keys)}"
        elif len({len(row) for row in rows}) > 1:
            sizes = ", ".join(f"{printable(key, 40)} {len(row)}" for key, row in keys.items())
            yield ("axes", name), f"keys that go together need lists of equal length; found {sizes}"
        elif len(set(map(repr, rows[0]))) < len(rows[0]):
            yield ("axes", name), f"the same value twice in {printable(next(iter(keys)), 60)}, which its points go by: keep one"
        points *= max([len(row) for row in rows if isinstance(row, list)], default=1)
    if points > MOST_POINTS:
        yield ("axes",), f"{points} points, at most {MOST_POINTS}"


def _tune(config: Mapping[str, Any]) -> Iterator[Fault]:
    tune, axes = config.get("tune"), config.get("axes") or {}
    if not tune:
        return
    for key in tune:
        if key not in ("axis", "by", "seeds"):
            yield (
                ("tune",),
                f"unknown key {printable(str(key), 40)}; there are axis, by, seeds{hint(nearest(str(key), ('axis', 'by', 'seeds')))}",
            )
    axis, by, seeds = tune.get("axis"), tune.get("by", "val/loss"), tune.get("seeds", [])
    if axis not in list(axes):
        yield ("tune",), f"axis: no axis {show_value(axis)}; there are {listing(tuple(axes)) or 'none'}{hint(nearest(str(axis), axes))}"
    metric, _, way = by.partition(":") if isinstance(by, str) else ("", "", "")
    split = metric.partition("/")[0]
    if split not in ("val", "val_ema", "train", "train_ema") or "/" not in metric or way not in ("", "min", "max"):
        why = "the test split never chooses" if split.startswith("test") else "expected a metric, with :min or :max behind it if need be"
        yield ("tune",), f"by: {show_value(by)}: {why}, such as val/loss or val/accuracy:max"
    counted = isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0
    listed = isinstance(seeds, list) and all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not counted and not (listed and len(set(seeds)) == len(seeds)):
        yield ("tune",), f"seeds: expected different seeds in a list; found {show_value(seeds)}"
        return
    judging, tuning = ({*range(found)} if isinstance(found, int) else {*found} for found in (config.get("seeds") or [], seeds))
    if both := sorted(judging & tuning):
        yield (
            ("tune",),
            f"seeds: seed {both[0]} judges as well (seeds): what was tuned on a seed is not judged on it; say [100, 101, 102]",
        )


def _events(events: Mapping[str, str]) -> Iterator[Fault]:
    for name, text in events.items():
        try:
            metric, _, _ = parse_event(name, text)
        except UsageError as error:
            yield ("events", name), error.lines[0].removeprefix(f"events.{name}: ")
            continue
        split = metric.partition("/")[0]
        if split not in SPLITS:
            yield ("events", name), f"{text!r}: no split {split}; there are {', '.join(SPLITS)}{hint(nearest(split, SPLITS))}"


def _names(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Names that claims could not say, or that would mean two things."""
    groups = {key: list(config.get(key) or ()) for key in ("arms", "measures", "axes", "events")}
    if not config.get("claims"):
        return
    for key, names in groups.items():
        for name in names:
            if not is_name(name) or keyword.iskeyword(name):
                yield (
                    (key, name),
                    f"claims cannot say {printable(repr(name), 60)}: a name has letters, digits and _, such as {_plain(name)}",
                )
    owners: dict[str, str] = {}
    for key in ("arms", "measures", "axes"):
        for name in groups[key]:
            if name in owners:
                yield (key, name), f"{owners[name]} has the name {printable(name, 60)} too: take another"
            owners.setdefault(name, key)
    for name in groups["events"]:
        if name in FACTS:
            yield ("events", name), f"an arm has .{name} already, which is no event: take another name"


def _plain(name: str) -> str:
    """A name like `name` that can be said."""
    kept = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in str(name))[:40]
    return kept if is_name(kept) and not keyword.iskeyword(kept) else f"a_{kept}"


def _baseline(baseline: Any, names: Names) -> Iterator[Fault]:
    if not baseline:
        return
    if set(baseline) != {"ours", "is"}:
        yield ("baseline",), f"expected {{ours: expression, is: expression or number}}; found {show_value(baseline)}"
        return
    for key, value in baseline.items():
        if isinstance(value, str):
            yield from _wrong(("baseline", key), expression, value, names)
        elif key == "ours" or isinstance(value, bool) or not isinstance(value, (int, float)):
            wanted = "an expression in quotes" + (" or a number" if key == "is" else "")
            yield ("baseline", key), f"expected {wanted}; found {show_value(value)}"


def _figure(figure: Any, names: Names) -> Iterator[Fault]:
    if not figure:
        return
    for key in figure:
        if key not in ("y", "x", "log", "from"):
            yield ("figure",), f"unknown key {printable(str(key), 40)}; there are y, x, log, from"
    if type(start := figure.get("from", 0)) is not int or start < 0:
        yield ("figure",), f"from: expected the step that curves begin at, a whole number from 0 on; found {show_value(start)}"
    x = figure.get("x", "step")
    log, shown = ([found] if isinstance(found, str) else found for found in (figure.get("log", []), figure.get("y", [])))
    if x != "step" and x not in list(names.axes):
        yield ("figure",), f"x: expected step or an axis; found {show_value(x)}; axes are {listing(tuple(names.axes)) or 'none'}"
    if not isinstance(log, list) or not all(side in ("x", "y") for side in log):
        yield ("figure",), f"log: expected a list of x and y; found {show_value(log)}"
    if not isinstance(shown, list) or (not shown and "y" in figure):
        yield ("figure",), f"y: expected a list of metrics; found {show_value(shown)}"
        return
    for text in shown:
        yield from ((("figure",), f"y: {message}") for message in _not_drawn(text, names))


def _not_drawn(text: Any, names: Names) -> Iterator[str]:
    """Why an entry of figure.y cannot be drawn: it is split/metric, EVENT.step, MEASURE.NUMBER or a fact."""
    first, dot, last = text.partition(".") if isinstance(text, str) else ("", "", "")
    split, slash, _ = text.partition("/") if isinstance(text, str) else ("", "", "")
    happening = first in (names.events or ()) and last == "step"
    if (slash and split in SPLITS) or text in DRAWN or happening or (first in names.measures and dot and last):
        return
    near: Sequence[str] = SPLITS if slash else [*(names.events or ()), *names.measures, *DRAWN]
    close = hint(nearest(split if slash else first, near))
    yield f"{show_value(text)}: expected split/metric, EVENT.step, MEASURE.NUMBER, or one of {', '.join(DRAWN)}{close}"
