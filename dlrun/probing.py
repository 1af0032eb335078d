"""Probes on trained runs: an answer is looked up among results, else runs are opened, the probe is called and its numbers are kept.

A result lies in the first run's folder: probes/<name>.json with figures/probe-<name>*.png. It is used again only where probe, its code,
options, steps and the weights of all runs are equal; one that differs is moved aside, to <name>-<key>.json, before another takes its
place. Torch is loaded only to measure.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrun import registry
from dlrun.config.library import Library
from dlrun.config.places import printable, source_file
from dlrun.config.requests import Request, measure_request, request, split_entry
from dlrun.errors import DlrunError, MissingError, UsageError
from dlrun.plain_files import only_plain
from dlrun.rundir import jsonable, read_json, write_atomic

if TYPE_CHECKING:
    from dlrun.loading import Loaded
    from dlrun.session import Session
    from dlrun.types import Look

EQUAL = ("probe", "options", "step", "weights_sha256", "overrides", "code")
"""What a result depends on."""
SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def measure(entry: Mapping[str, Any], paths: Sequence[Path], config_dir: Path | None = None) -> dict[str, float]:
    """The numbers of a measure, {probe: NAME, runs: .., option: ..}, on the last weights of the runs in `paths` (one for each of `runs`).

    Raises UsageError where the entry is wrong, MissingError where a run is.
    """
    asked, _ = measure_request(Library(config_dir), entry)
    return numbers_of(Question(asked, tuple(Path(path) for path in paths)).answer())


@dataclass(frozen=True)
class Question:
    """A probe with its options, and the runs it is to measure; `overrides` change their configs, as where their data lie."""

    asked: Request
    paths: tuple[Path, ...]
    step: str | int = "last"
    overrides: tuple[str, ...] = ()

    def answer(self) -> dict[str, Any]:
        """The result's document: as it was kept, else measured now. Raises UsageError, MissingError."""
        reason = self.asked.refused(len(self.paths))
        if reason:
            raise UsageError(reason)
        quick = [finished(path) if self.step == "last" else None for path in self.paths]
        if all(quick) and (found := kept(self.paths[0], self.facts([fact for fact in quick if fact]))):
            return found
        runs = open_runs(self.paths, self.step, self.overrides)
        from dlrun.checkpoint import weights_sha256

        facts = self.facts([(run.step, weights_sha256(run.modules)) for run in runs])
        return kept(self.paths[0], facts) or record(self.paths[0], facts, self.asked, runs)

    def facts(self, seen: Sequence[tuple[int, str]]) -> dict[str, Any]:
        """What the result depends on, given step and weights of each run."""
        steps = [step for step, _ in seen]
        return {
            "probe": self.asked.name,
            "options": self.asked.options,
            "step": steps[0] if len(steps) == 1 else steps,
            "weights_sha256": [sha for _, sha in seen],
            "runs": [str(path) for path in self.paths],
            "overrides": list(self.overrides),
            "code": code(self.asked.name),
        }


def finished(path: Path) -> tuple[int, str] | None:
    """(step, weights) of a finished run's last checkpoint as its summary has them, without reading a tensor."""
    if not (path / "config.yaml").is_file():
        raise MissingError(f"{printable(str(path), 200)} is no run directory: it has no config.yaml")
    only_plain(path)
    try:
        summary = read_json(path / "summary.json")
    except MissingError:
        return None
    step, sha = summary.get("step"), summary.get("weights_sha256")
    fine = summary.get("status") == "finished" and type(step) is int and isinstance(sha, str)
    return (step, sha) if fine and (path / "checkpoints" / f"step-{step:08d}").is_dir() else None  # type: ignore[return-value]


def open_runs(paths: Sequence[Path], step: str | int, overrides: Sequence[str]) -> list[Loaded]:
    """The runs with the process set up as the first one wants it."""
    from dlrun.environment import set_up
    from dlrun.loading import load

    runs = [load(path, step, overrides=overrides) for path in paths]
    set_up({**runs[0].settings, "compile": False}, runs[0].device)
    return runs


def code(name: str) -> str:
    """sha256 of the probe's source (and of the helpers beside it): a result of other code is another result."""
    plugin = registry.PLUGINS["probe"].get(name)
    own = Path(source_file("probe", name)) if plugin is None else Path(inspect.getsourcefile(inspect.unwrap(plugin)) or "")
    files = [own, *(sorted(own.parent.glob("_*.py")) if plugin is None else ())]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def key(document: Mapping[str, Any]) -> str:
    """Eight characters that stand for what a result depends on."""
    return hashlib.sha256(json.dumps([document.get(name) for name in EQUAL], sort_keys=True).encode()).hexdigest()[:8]


def kept(path: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result in the run's folder that was measured on exactly this; None where there is none, or it cannot be read."""
    wanted = jsonable(facts)
    for file in (f"{facts['probe']}.json", f"{facts['probe']}-{key(wanted)}.json"):
        try:
            found = read_json(path / "probes" / file)
        except MissingError:
            continue
        numbers = found.get("numbers")
        whole = isinstance(numbers, dict) and all(type(value) in (int, float) or value in SPECIAL for value in numbers.values())
        if whole and all(found.get(name) == wanted[name] for name in EQUAL):
            return {**found, "file": file}
    return None


def numbers_of(document: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result; JSON has "nan", "inf" and "-inf" as texts."""
    return {name: float(SPECIAL.get(value, value)) for name, value in document["numbers"].items()}


def record(path: Path, facts: Mapping[str, Any], asked: Request, runs: Sequence[Loaded]) -> dict[str, Any]:
    """Measure, draw, and keep the result in the run's folder; gives its document."""
    begun = time.perf_counter()
    numbers, looks = call(asked, runs)
    try:
        move_aside(path, asked.name, key(jsonable(facts)))
        (path / "probes").mkdir(exist_ok=True)
        figures = [figure.name for figure in draw(path, asked.name, looks)]
        document: dict[str, Any] = jsonable({**facts, "numbers": numbers, "figures": figures, "seconds": time.perf_counter() - begun})
        write_atomic(path / "probes" / f"{asked.name}.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise MissingError(f"cannot write {error.filename or path}: {error.strerror}") from None
    return {**document, "file": f"{asked.name}.json"}


def call(asked: Request, runs: Sequence[Loaded]) -> tuple[dict[str, float], dict[str, Look]]:
    """(numbers, looks) of the probe. A ValueError of dlrun's own probes is the user's to mend; plugins keep their traceback."""
    from dlrun.checkpoint import weights_sha256
    from dlrun.noise import Noise, seed_generators

    noise = Noise(runs[0].seed, "probe", asked.name)
    seed_generators(*noise.key)
    forms: dict[str, dict[str, Any]] = {"one": {"run": runs[0]}, "two": dict(zip(("first", "second"), runs)), "any": {"runs": [*runs]}}
    supplied = {**forms[asked.takes], "noise": noise}
    before = [weights_sha256(run.modules) for run in runs]
    try:
        given = registry.wire(f"probe {asked.name}", registry.get("probe", asked.name), supplied, asked.options)
    except ValueError as error:
        if isinstance(error, DlrunError) or asked.name in registry.PLUGINS["probe"]:
            raise
        raise UsageError(f"probe {asked.name}: {error}") from error
    if [weights_sha256(run.modules) for run in runs] != before:
        raise TypeError(f"probe {asked.name} changed the weights of the run it measures: let it work on a copy (copy.deepcopy)")
    return checked(asked.name, given)


def checked(name: str, given: Any) -> tuple[dict[str, float], dict[str, Look]]:
    """What a probe returned, numbers as plain ints and floats. TypeError where it is neither numbers nor (numbers, looks)."""
    from dlrun.types import Look

    numbers, looks = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    if not isinstance(numbers, Mapping) or not isinstance(looks, Mapping) or not all(isinstance(look, Look) for look in looks.values()):
        raise TypeError(f"probe {name} returned a {type(given).__name__}, expected numbers by name, or (numbers, looks by name)")
    return {str(each): _plain(name, each, value) for each, value in numbers.items()}, {str(each): look for each, look in looks.items()}


def _plain(probe: str, name: Any, value: Any) -> float:
    try:
        return value if type(value) is int else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"probe {probe} returned {printable(repr(value), 60)} as {printable(str(name), 60)}, expected a number") from None


def draw(path: Path, name: str, looks: Mapping[str, Look]) -> Iterator[Path]:
    """Draw what the probe shows, as figures/probe-<name>[-<look>].png."""
    if not looks:
        return
    from dlrun.rundir import safe_name
    from dlrun.sinks.figures import draw_look

    (path / "figures").mkdir(exist_ok=True)
    for each, look in looks.items():
        stem = f"probe-{name}" if each == name else f"probe-{name}-{safe_name(each)}"
        yield draw_look(path / "figures" / f"{stem}.png", look, "/".join(path.absolute().parts[-2:]))


def move_aside(path: Path, name: str, coming: str) -> None:
    """Give the place of a result on other options or weights free: it goes to <name>-<key>.json, its figures likewise."""
    here = path / "probes" / f"{name}.json"
    try:
        found = read_json(here)
    except MissingError:
        return
    old = key(found)
    figures = found.get("figures")
    if old == coming or not isinstance(figures, list):
        return
    for number, figure in enumerate(figures):
        there = path / "figures" / str(figure)
        if str(figure).startswith(f"probe-{name}") and there.parent == path / "figures" and there.is_file():
            figures[number] = f"{there.stem}-{old}.png"
            there.replace(there.with_name(figures[number]))
    write_atomic(here.with_name(f"{name}-{old}.json"), json.dumps(found, indent=1) + "\n")
    here.unlink()


def after_training(session: Session, say: Callable[..., None]) -> None:
    """Run the probes that the config names on the run just finished. One that fails is reported; the run is whole already."""
    entries = session.run.config.get("probes") or []
    if not entries:
        return
    from dlrun.loading import trained

    path, summary = session.directory.path, session.summary
    run: Loaded | None = None
    for entry in entries:
        name, given = split_entry(entry)
        if session.stop.signal:
            say(f"probe {name} left out ({session.stop.signal}); run it with: dlrun probe {path} {name}", "warning")
            continue
        try:
            run = run or trained(session.run, summary["step"], path)
            asked = request(Library(), name, given)
            facts = Question(asked, (path,)).facts([(summary["step"], summary["weights_sha256"])])
            document = record(path, facts, asked, [run])
            session.directory.event("probe", summary["step"], session.clock.seconds(), probe=name)
            say(line_of(document))
        except Exception as error:  # whatever a probe raises: the result is there, and is not to be lost over it
            said = printable(str(error).splitlines()[0] if str(error) else "", 300)
            session.directory.event("probe", summary["step"], session.clock.seconds(), probe=name, error=f"{type(error).__name__}: {said}")
            what = said.removeprefix(f"probe {name}: ") if isinstance(error, DlrunError) else f"{type(error).__name__}: {said}"
            say(f"probe {name} failed: {what}; the run itself is whole", "warning")


def line_of(document: Mapping[str, Any], most: int = 8) -> str:
    """A result on one line."""
    from dlrun.sinks.terminal import number

    numbers = document["numbers"]
    shown = [f"{printable(name, 60)} {number(value)}" for name, value in list(numbers.items())[:most]]
    return f"probe {document['probe']}:  {' · '.join(shown)}{f' · {len(numbers) - most} more' if len(numbers) > most else ''}"
