"""What asks for a probe, in words: `probes:` and `measures:` of a config, and overrides on the command line, checked against its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dlrun.config.kinds import MisfitError, show_value
from dlrun.config.library import Library, Part
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import printable
from dlrun.config.reach import names_files
from dlrun.errors import UsageError

TAKES = {"run": "one", "runs": "any", "first": "two"}
"""What a probe's first parameter says of how many runs it measures."""


class Request(NamedTuple):
    """A probe with its options, every one of them given a value that fits; `takes` is one, two or any (runs)."""

    name: str
    options: dict[str, Any]
    takes: str

    def refused(self, runs: int) -> str:
        """Why it cannot measure so many runs; "" where it can."""
        wanted = {"one": "one run", "two": "two runs", "any": "one run or more"}[self.takes]
        fits = runs == {"one": 1, "two": 2}.get(self.takes, runs) and runs > 0
        return "" if fits else f"probe {self.name} measures {wanted}, found {runs}"


def request(library: Library, name: str, given: Mapping[str, Any], typed: bool = False) -> Request:
    """The probe `name` with the options `given` in place of its defaults; `typed`: they come from the command line.

    Raises UsageError with a line for everything that is wrong.
    """
    part = library.part("probe", name)
    errors = [_unknown(part, key) for key in given if key not in part.source.options]
    options = {key: value for key, value in part.values.items() if key != "name"}
    errors += [f"{part.where(key)}: {key}: probe {name} has no such option" for key in options if key not in part.source.options]
    for key, option in part.source.options.items():
        try:
            if key not in given and (key not in options or options[key] == "???"):
                errors.append(f"probe {name}: missing {key}: give it, {key}=... ({option.kind.says})")
            elif key in given and names_files(option.kind) and not typed and given[key] is not None:
                errors.append(f"probe {name}: {key}: a path has to be typed: dlrun probe RUN {name} {key}=...")
            else:
                options[key] = option.kind.convert(given.get(key, options.get(key)))
        except MisfitError as misfit:
            place = f"{key}{misfit.where}"
            errors.append(f"probe {name}: {printable(place)}: expected {misfit.expected}, found {show_value(misfit.value)}{_guess(misfit)}")
    if errors:
        raise UsageError(errors)
    return Request(name, {key: options[key] for key in part.source.options}, takes(part))


def _guess(misfit: MisfitError) -> str:
    words = [choice for choice in misfit.choices if isinstance(choice, str)]
    return hint(nearest(misfit.value, words)) if isinstance(misfit.value, str) and words else ""


def _unknown(part: Part, key: str) -> str:
    known = list(part.source.options)
    return f"probe {part.name}: no option {printable(repr(key), 60)}; it has {listing(known) or 'none'}{hint(nearest(str(key), known))}"


def takes(part: Part) -> str:
    """one, two or any: how many runs the probe measures. UsageError where its parameters do not say."""
    wiring = [name for name in part.source.wiring if name != "noise"]
    found = TAKES.get(wiring[0]) if wiring else None
    if found is None or wiring != {"one": ["run"], "two": ["first", "second"], "any": ["runs"]}[found]:
        raise UsageError(
            f"probe {part.name}: left of `*` there may stand run (one run), first, second (two) or runs (a list), and noise; "
            f"found {listing(part.source.wiring) or 'nothing'}"
        )
    return found


def split_entry(entry: Any) -> tuple[str, dict[str, Any]]:
    """(name, options) of an entry of `probes:`: a name, or {name: .., option: ..}. Raises UsageError."""
    if isinstance(entry, str):
        return entry, {}
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise UsageError(f"expected a probe's name, or {{name: ..., option: ...}}; found {show_value(entry)}")
    return name, {key: value for key, value in entry.items() if key != "name"}


def probe_errors(library: Library, entries: list[Any]) -> Iterator[str]:
    """What is wrong in `probes:`, which run at the end of one training."""
    for entry in entries:
        try:
            name, given = split_entry(entry)
            asked = request(library, name, given)
        except UsageError as error:
            yield from (line.replace("did you mean probe=", "did you mean ") for line in error.lines)
            continue
        if asked.refused(1):
            yield f"{asked.refused(1)}, the one just trained: dlrun probe RUN RUN {name}, or name the arms under measures:"


def measure_errors(library: Library, measures: Mapping[str, Any], arms: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(measure, what is wrong with it) in `measures:`, each {probe: NAME, runs: [arms], option: ..}."""
    for name, entry in measures.items():
        try:
            asked, runs = measure_request(library, entry)
            absent = next((run for run in runs if run not in arms), None)
            if absent is not None:
                known = listing(list(arms)) or "none"
                raise UsageError(f"runs: no arm {printable(repr(absent), 60)}; there are {known}{hint(nearest(str(absent), arms))}")
            if asked.refused(len(runs)):
                raise UsageError(f"runs: {asked.refused(len(runs))}")
        except UsageError as error:
            yield from ((name, line) for line in error.lines)


def measure_request(library: Library, entry: Any) -> tuple[Request, list[str]]:
    """(probe, names of arms) of one measure. Raises UsageError."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("probe"), str):
        raise UsageError(f"expected {{probe: NAME, runs: [arms], option: ...}}, found {show_value(entry)}")
    runs = entry.get("runs", [])
    runs = [runs] if isinstance(runs, str) else runs
    if not isinstance(runs, list) or not runs or not all(isinstance(run, str) for run in runs):
        raise UsageError(f"runs: expected names of arms, as in [a, b]; found {show_value(entry.get('runs'))}")
    given = {key: value for key, value in entry.items() if key not in ("probe", "runs")}
    return request(library, entry["probe"], given), runs
