"""The last look at a config: interpolations, types, ranges, choices, missing and unknown keys at any depth, and what must fit together."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from dlrun.config.kinds import Kind, MisfitError, show_value
from dlrun.config.layers import Path, dotted
from dlrun.config.library import Library, Part
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import is_experiment_name, printable
from dlrun.config.reach import Reach, names_files
from dlrun.config.requests import measure_errors, probe_errors
from dlrun.config.resolve import Resolver, refers
from dlrun.config.sections import COMMAND_LINE_ONLY, MAX_ERRORS, Section
from dlrun.config.slots import Table

CANONICAL = ("seed", "device", "experiment", "arm", "dataset", "augment", "task", "model", "loss", "metric", "optimizer", "schedule")
"""Keys that stand first in a saved config, in this order."""


class Validator:
    """Checks a tree against its schema; `resolved` and `saved` come out, `errors` fill up."""

    def __init__(
        self, tree: dict[str, Any], origins: dict[Path, str], parts: dict[Path, Part], library: Library, reach: Reach, typed: set[Path]
    ) -> None:
        self.tree, self.origins, self.parts, self.library, self.reach, self.typed = tree, origins, parts, library, reach, typed
        self.resolver = Resolver(tree)
        self.errors: list[str] = []

    def where(self, path: Path) -> str:
        """Where the value at `path` was written, ready to start a message."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                inner = dotted(path[end:])
                return self.origins[path[:end]] + (f": {inner}" if inner else "")
        for slot in (path[:1], path[:2]):
            if part := self.parts.get(slot):
                return f"{part.where('.'.join(path[len(slot) : len(slot) + 1]))}: {dotted(path)}"
        beside = next((origin for other, origin in self.origins.items() if len(path) > 1 and other[:-1] == path[:-1]), None)
        return beside or f"{self.library.root().where(path)}: {dotted(path)}"

    def error(self, path: Path, message: str) -> None:
        """Note an error at `path`; a hundred are enough to see what is wrong."""
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(f"{self.where(path)}: {message}")

    def run(self, schema: Section) -> tuple[dict[str, Any], dict[str, Any]]:
        """(resolved, saved): both converted; what the environment gave is left as it was written in `saved`."""
        resolved = self.resolver.resolve()
        self.reach.add_root(resolved.get("output_root"))
        failed = set()
        for path, message in self.resolver.errors:
            self.error(path, message)
            failed.add(path)
        saved = copy.deepcopy(resolved)
        self._section(schema, resolved, saved, self.tree, (), failed)
        return resolved, saved

    def _section(self, node: Section, resolved: Any, saved: Any, raw: Any, path: Path, failed: set[Path]) -> None:
        for key in [key for key in resolved if key not in node.children]:
            if len(self.errors) >= MAX_ERRORS:
                return
            known = [name for name in node.children if name not in ("name", "slots")]
            match = hint(nearest(key, known), "".join(f"{part}." for part in path))
            self.error((*path, key), f"unknown key; {node.label} has {listing(known) or 'no keys'}{match}")
        for key, child in node.children.items():
            here = (*path, key)
            if key not in resolved:
                if child is not None and key not in node.optional:
                    self.error(here, f"missing: {node.label} needs {printable(key)}, say {dotted(here)}=...")
                continue
            raw_value = raw.get(key) if isinstance(raw, dict) else None
            if isinstance(child, Section):
                self._inner(child, resolved, saved, raw_value, here, failed)
            elif child is not None and not any(path_[: len(here)] == here for path_ in failed):
                self._option(child, resolved, saved, raw_value, here)

    def _inner(self, child: Section, resolved: Any, saved: Any, raw: Any, path: Path, failed: set[Path]) -> None:
        value = resolved[path[-1]]
        if isinstance(value, dict):
            self._section(child, value, saved[path[-1]], raw, path, failed)
        elif path not in failed and not (value is None and child.nullable):
            self.error(path, f"expected a mapping, found {self._shown(value, raw, path)}")

    def _option(self, kind: Kind, resolved: Any, saved: Any, raw: Any, path: Path) -> None:
        key = path[-1]
        tainted = any(t[: len(path)] == path for t in self.resolver.tainted) or self._leads_to_environment(raw)
        value = resolved[key]
        if isinstance(value, str) and value == "???":
            self.error(path, f"missing: give it, {dotted(path)}=... ({kind.says})")
            return
        try:
            resolved[key] = kind.convert(value)
        except MisfitError as misfit:
            found = f"{show_value(raw)}: what comes out of the environment is text" if tainted else show_value(misfit.value)
            inner = (*path, *misfit.where.strip(".").split("."))
            if misfit.where and inner in self.origins:
                path, misfit.where = inner, ""
            place = f"{misfit.where}: " if misfit.where else ""
            advice = "" if tainted else self._advice(misfit)
            self.error(path, f"{printable(place)}expected {misfit.expected}, found {found}{advice}")
        saved[key] = copy.deepcopy(raw) if tainted else copy.deepcopy(resolved[key])
        if names_files(kind) and path[0] not in COMMAND_LINE_ONLY:
            self._path(resolved[key], raw, path)

    def _path(self, value: Any, raw: Any, path: Path) -> None:
        """Whether a path-typed option may name what it does; messages show it as it was written."""
        if isinstance(value, (list, dict)):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                written = raw.get(key) if isinstance(raw, dict) else raw[key] if isinstance(raw, list) else raw
                self._path(inner, written, (*path, str(key)))
        elif isinstance(value, str):
            typed = any(path[:end] in self.typed for end in range(1, len(path) + 1)) and not refers(raw)
            reason = None if self._is_arm(path, value) else self.reach.refused(path, value, raw, typed)
            if reason:
                self.error(path, reason)

    def _is_arm(self, path: Path, value: str) -> bool:
        """`start.from` may name an arm of the same experiment."""
        arms = self.tree.get("arms")
        return path == ("start", "from") and isinstance(arms, dict) and value in arms and is_experiment_name(value)

    def _leads_to_environment(self, raw: Any) -> bool:
        return isinstance(raw, str) and "${oc.env" in raw

    def _shown(self, value: Any, raw: Any, path: Path) -> str:
        return show_value(raw if path in self.resolver.tainted else value)

    @staticmethod
    def _advice(misfit: MisfitError) -> str:
        """What to do about a value that does not fit."""
        value = misfit.value
        if isinstance(value, str) and misfit.choices:
            return hint(nearest(value, [choice for choice in misfit.choices if isinstance(choice, str)]))
        if isinstance(value, float) and value.is_integer() and "integer" in misfit.expected and abs(value) < 10**15:
            return f"; say {int(value)}"
        if "text" in misfit.expected and isinstance(value, (int, float)):
            return "; put it in quotes if it is meant as text"
        return ""


def finish(validator: Validator, schema: Section, table: Table, errors: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Resolve and validate the validator's tree; adds to `errors` and gives (resolved, saved)."""
    resolved, saved = validator.run(schema)
    if not validator.errors:
        for path, message in cross_checks(resolved, table):
            secret = any(tainted[: len(path)] == path for tainted in validator.resolver.tainted)
            validator.error(path, "what the environment gives does not fit here" if secret else message)
    errors += validator.errors
    for key in COMMAND_LINE_ONLY:
        saved.pop(key, None)
    return _ordered(resolved), _ordered(saved)


def _ordered(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: tree[key] for key in (*CANONICAL, *(k for k in tree if k not in CANONICAL)) if key in tree}


def cross_checks(config: dict[str, Any], table: Table) -> Iterator[tuple[Path, str]]:
    """What must fit together across keys: (path, message)."""
    train = config["train"]
    steps, epochs = train["steps"], train["epochs"]
    if steps is None and epochs is None:
        yield ("train", "steps"), "missing: say how long to train, train.steps=N or train.epochs=E"
    if steps is not None and epochs is not None:
        yield ("train", "epochs"), f"train.steps={steps} and train.epochs={epochs} both say how long to train: keep one"
    size, parts = train["batch_size"], train["accumulate"]
    if isinstance(size, int) and size % parts:
        yield ("train", "accumulate"), f"train.batch_size={size} does not divide into {parts} micro-batches of equal size"
    if len(set(train["eval_splits"])) < len(train["eval_splits"]):
        yield ("train", "eval_splits"), "a split stands here twice: keep one"
    if isinstance(config["seeds"], list) and (not config["seeds"] or len(set(config["seeds"])) < len(config["seeds"])):
        yield ("seeds",), "expected a count, or different seeds in a list"
    yield from _device(config["device"])
    yield from ((("probes",), line) for line in probe_errors(table.library, config["probes"]))
    yield from ((("measures", name), line) for name, line in measure_errors(table.library, config["measures"], config["arms"]))
    yield from _claims(config)
    yield from _slots(config, table)


def _claims(config: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    if any(config[key] for key in ("claims", "axes", "tune", "events", "baseline", "figure")):
        from dlrun.claims.forms import faults  # its grammar is read only where there is something to look at

        yield from faults(config)


def _device(device: str) -> Iterator[tuple[Path, str]]:
    kind, colon, index = device.partition(":")
    known = ("auto", "cpu", "cuda", "mps")
    if kind not in known or (colon and (kind != "cuda" or not (index.isascii() and index.isdigit()))):
        yield ("device",), f"expected auto, cpu, mps, cuda or cuda:N, found {show_value(device)}{hint(nearest(kind, known))}"


def _slots(config: dict[str, Any], table: Table) -> Iterator[tuple[Path, str]]:
    optimizers = table.slots("optimizer")
    for slot in table.slots("schedule"):
        if slot not in optimizers:
            have = f"there are optimizers {', '.join(optimizers)}" if optimizers else "there is one optimizer: say schedule=NAME"
            yield ("schedule", slot, "name"), f"a schedule for no optimizer; {have}"
    for group, slots in table.fixed.items():
        for slot in slots or ():
            if (group, slot) not in table.choices:
                yield (group,), f"missing: task {table.task} needs {group}.{slot}"
